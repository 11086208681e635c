"""Whether a request says what its gold calls need, and gives nothing away.

The checker reads the text alone: it shares no phrase and no table with the writers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from orch_env.provenance.evidence import argument_leaves, pieces_of
from orch_env.provenance.information import folded, is_distinctive, is_void, key_of, occurs_in
from orch_env.provenance.names import key_parts
from orch_env.synthesis.checking.reading import dates_said, numbers_said, times_said
from orch_env.types import Provenance, Task, ToolSpec, ValueRef
from orch_env.types.json import Json, find, parse_json, unescape
from orch_env.values import SchemaRules, stated, values_equal
from orch_env.values.canonical import normal

_ORDINALS = (
    ("first", "1st"),
    ("second", "2nd"),
    ("third", "3rd"),
    ("fourth", "4th"),
    ("fifth", "5th"),
    ("sixth", "6th"),
    ("seventh", "7th"),
    ("eighth", "8th"),
    ("ninth", "9th"),
    ("tenth", "10th"),
)
_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}:\d{2})(?::\d{2})?)?")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::00)?")
_BAD_FORM = re.compile(r"[{}]|\.\.|,,| ,|\s\.|\b(\w+) \1\b(?! \1)|  |\ba [aeio]\w+ [A-Z]|None|null")
_DOUBLED_FINE = frozenset({"that", "had", "new", "bora", "walla", "baden", "sing", "pago"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a request.

    Attributes:
        kind: ``not_said``, ``leaked``, ``not_identified``, ``said_twice`` or ``form``.
        call: number of the gold call, ``None`` for the text as a whole.
        pointer: the argument, where there is one.
        message: what is wrong, in a sentence.
    """

    kind: str
    call: int | None
    pointer: str | None
    message: str


def check_request(
    task: Task,
    results: Sequence[str],
    specs: Mapping[str, ToolSpec],
    words: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Problem]:
    """Everything that is wrong with a task's request.

    Args:
        task: the task; its gold says which arguments come from outputs.
        results: the recorded text of each gold call.
        specs: tool -> spec, for defaults and options.
        words: argument name -> value -> words that say it, from an API's hints.
    """
    return list(_Check(task, results, specs, words or {}).problems())


class _Said:
    """What the user had said by some turn, read once."""

    def __init__(self, text: str, today: date | None) -> None:
        self.folded = folded(text)
        self.dates = dates_said(text, today)
        self.times = times_said(text)
        self.numbers = numbers_said(text)


class _Check:
    def __init__(
        self,
        task: Task,
        results: Sequence[str],
        specs: Mapping[str, ToolSpec],
        words: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._task = task
        self._outputs = [parse_json(text, text) for text in results]
        self._specs = specs
        self._words = words
        today = date.fromisoformat(task.today) if task.today else None
        texts = [task.opening_query, *task.followups]
        self._said = [_Said("\n".join(texts[: n + 1]), today) for n in range(len(texts))]

    def problems(self) -> Iterator[Problem]:
        task = self._task
        yield from self._form()
        for number, call in enumerate(task.gold_calls):
            said = self._said[task.followups_before(number)]
            spec = self._specs.get(call.name)
            given = stated(call.arguments, _rules(spec))
            needed = {pointer for pointer, _ in argument_leaves(given)}
            for pointer, value in argument_leaves(call.arguments):
                ref = call.provenance.get(pointer)
                if ref is not None and ref.kind in (Provenance.OUTPUT, Provenance.COMPOSITE):
                    yield from self._dependent(number, pointer, value, ref, said)
                elif (
                    normal(pointer) in needed
                    and not is_void(value)
                    and not self._is_said(pointer, value, said, spec)
                ):
                    yield Problem(
                        "not_said",
                        number,
                        pointer,
                        f"{call.name} {pointer} = {value!r} cannot be told from the request",
                    )
        yield from self._repeats()

    # -- independent arguments -----------------------------------------------------------------

    def _is_said(self, pointer: str, value: Json, said: _Said, spec: ToolSpec | None) -> bool:
        schema = _schema(spec, pointer)
        if "default" in schema and values_equal(value, schema["default"], schema):
            return True
        if occurs_in(value, said.folded):
            return True
        name = next((t for t in reversed(pointer.split("/")) if t and not t.isdigit()), "")
        if isinstance(value, bool):
            return any(occurs_in(word, said.folded) for word in key_parts("/" + name))
        if isinstance(value, int | float):
            return float(value) in said.numbers
        if not isinstance(value, str):
            return False
        return self._text_is_said(name, value, said)

    def _text_is_said(self, name: str, value: str, said: _Said) -> bool:
        moment = _DATE.fullmatch(value)
        if moment is not None:
            try:
                day = date(int(moment[1]), int(moment[2]), int(moment[3]))
            except ValueError:
                return False
            return day in said.dates and (moment[4] is None or moment[4] in said.times)
        clock = _TIME.fullmatch(value)
        if clock is not None:
            return f"{int(clock[1]):02d}:{clock[2]}" in said.times
        word = self._words.get(name, {}).get(value)
        if word is not None and any(
            occurs_in(option.strip(), said.folded) for option in word.split("|")
        ):
            return True
        pieces = pieces_of(value)
        if pieces and all(self._piece_is_said(name, piece, said) for piece in pieces):
            return True
        if re.fullmatch(r"-?\d+(\.\d+)?", value):
            return float(value) in said.numbers
        plain = value.replace("_", " ").replace("-", " ")
        return occurs_in(plain, said.folded)

    def _piece_is_said(self, name: str, piece: str, said: _Said) -> bool:
        if occurs_in(piece, said.folded):
            return True
        if re.fullmatch(r"\d+", piece):
            return float(piece) in said.numbers
        return self._text_is_said(name, piece, said)

    # -- dependent arguments -------------------------------------------------------------------

    def _dependent(
        self, number: int, pointer: str, value: Json, ref: ValueRef, said: _Said
    ) -> Iterator[Problem]:
        name = self._task.gold_calls[number].name
        for part, piece in _parts(value, ref):
            if is_distinctive(piece) and not _is_words(piece) and occurs_in(piece, said.folded):
                yield Problem(
                    "leaked", number, pointer, f"{name} {pointer}: the request holds {piece!r}"
                )
            if not self._is_identified(part, said):
                yield Problem(
                    "not_identified",
                    number,
                    pointer,
                    f"{name} {pointer}: the request does not say which of several results is meant",
                )

    def _is_identified(self, ref: ValueRef, said: _Said) -> bool:
        """Whether the text tells the element apart from its siblings in every list on the way."""
        if ref.call is None or ref.path is None:
            return True
        output = self._outputs[ref.call]
        tokens = ref.path.split("/")
        for place in range(len(tokens) - 1, 0, -1):
            above = "/".join(tokens[:place])
            whole = find(output, above)
            if not isinstance(whole, list) or not tokens[place].isdigit():
                continue
            below = "/".join(["", *tokens[place + 1 :]]) if place + 1 < len(tokens) else ""
            at = int(tokens[place])
            mine = key_of(find(whole[at], below))
            others = [n for n, e in enumerate(whole) if key_of(find(e, below)) != mine]
            if not others:
                continue
            return self._tells_apart(whole, at, others, said)
        return True

    def _tells_apart(self, whole: list[Json], at: int, others: list[int], said: _Said) -> bool:
        if at < len(_ORDINALS) and any(occurs_in(word, said.folded) for word in _ORDINALS[at]):
            return True
        if at == len(whole) - 1 and occurs_in("last", said.folded):
            return True
        labels = dict(_labels(whole[at]))
        for path, label in sorted(labels.items()):
            if not self._names(label, said):
                continue
            rivals = [dict(_labels(whole[n])).get(path) for n in others]
            if any(rival is not None and folded(rival) == folded(label) for rival in rivals):
                continue
            longer = [
                rival
                for rival in rivals
                if rival is not None
                and folded(label) in folded(rival)
                and occurs_in(rival, said.folded)
            ]
            if not longer:
                return True
        return False

    def _names(self, label: str, said: _Said) -> bool:
        return occurs_in(label, said.folded)

    # -- the text as a whole -------------------------------------------------------------------

    def _form(self) -> Iterator[Problem]:
        for text in (self._task.opening_query, *self._task.followups):
            if not text.strip():
                yield Problem("form", None, None, "a user turn is empty")
                continue
            found = _BAD_FORM.search(_without_names(text))
            if found is not None and not (
                found[1] is not None and found[1].casefold() in _DOUBLED_FINE
            ):
                yield Problem("form", None, None, f"the text holds {found[0]!r}")

    def _repeats(self) -> Iterator[Problem]:
        """The same sentence twice: something is asked for twice."""
        seen: set[str] = set()
        for text in (self._task.opening_query, *self._task.followups):
            for sentence in re.split(r"(?<=[.?!])\s+", text):
                key = folded(re.sub(r"^\W*\w+\W+\w+\W+", "", sentence))
                if len(key) > 30 and key in seen:
                    yield Problem("said_twice", None, None, f"asked twice: {sentence!r}")
                seen.add(key)


_RULES: dict[int, tuple[ToolSpec, SchemaRules | None]] = {}


def _rules(spec: ToolSpec | None) -> SchemaRules | None:
    """The rules of a tool's schema, read once for each spec."""
    if spec is None:
        return None
    if id(spec) not in _RULES:
        if len(_RULES) > 10_000:
            _RULES.clear()
        _RULES[id(spec)] = (spec, SchemaRules.of(spec.parameters))
    return _RULES[id(spec)][1]


def _parts(value: Json, ref: ValueRef) -> Iterator[tuple[ValueRef, Json]]:
    if ref.kind is Provenance.COMPOSITE:
        yield from zip(ref.parts, pieces_of(value), strict=False)
    else:
        yield ref, value


def _labels(element: Json, at: str = "") -> Iterator[tuple[str, str]]:
    """The texts of an element that name it, without those in lists below."""
    if isinstance(element, str):
        if re.search(r"[^\W\d_]{2}", element) and len(element) < 120:
            yield at, element
    elif isinstance(element, dict):
        for name, value in element.items():
            yield from _labels(value, f"{at}/{name}")


def _is_words(value: Json) -> bool:
    """Whether a value is what a thing is called, not a code: a person may say it."""
    return (
        isinstance(value, str)
        and re.search(r"[^\W\d_]{3}", value) is not None
        and re.search(r"[_=:]|\w\d\w", value) is None
    )


def _without_names(text: str) -> str:
    return re.sub(r"\"[^\"]*\"|\([^)]*\)", "x", text)


def _schema(spec: ToolSpec | None, pointer: str) -> Mapping[str, Json]:
    node: Json = spec.parameters if spec is not None else {}
    for token in pointer.split("/")[1:]:
        if not isinstance(node, Mapping):
            return {}
        if token.isdigit() and "items" in node:
            node = node["items"]
        else:
            node = (node.get("properties") or {}).get(unescape(token))
    return node if isinstance(node, Mapping) else {}
