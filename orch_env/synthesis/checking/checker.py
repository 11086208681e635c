"""Whether a request says what its gold calls need, and gives nothing away.

The checker reads the text alone: it shares no phrase and no table with the writers.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from orch_env.provenance.evidence import argument_leaves, pieces_of
from orch_env.provenance.information import bits, folded, is_temporal, is_void, occurs_in
from orch_env.provenance.names import key_parts
from orch_env.synthesis.checking.choices import SUPERLATIVES_OF, Choice
from orch_env.synthesis.checking.dates import contradictions, dates_said, without_dates
from orch_env.synthesis.checking.reading import numbers_said, times_said, without_times
from orch_env.types import GoldCall, Provenance, Task, ToolSpec, ValueRef
from orch_env.types.json import Json, find, parse_json
from orch_env.values import SchemaRules, call_key, stated, values_equal
from orch_env.values.canonical import normal

_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}:\d{2})(?::\d{2})?)?")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::00)?")
_BAD_FORM = re.compile(
    r"[{}]|<\w*>|__+|(?<!\.)\.\.(?!\.)|,,|\?\?|!!| [,.;:?!](?!\w)|\(\s*\)|\S  \S|\ba an?\b|\ban a\b"
    r"|\b(?:None|null|undefined|NaN)\b|\b[a-z]+_[a-z_]+\b|\b(\w+ \w+),? and \1\b"
)
_DOUBLED = re.compile(r"\b(\w+) \1\b", re.IGNORECASE)
_START = re.compile(r"[\W_]*[^a-z]")
_OPTION = re.compile(r"[^,;.\n|()]{1,60}")
_CODE_BITS = 16.0
"""A number with five significant digits is no count, price or year."""
_FEW_LETTERS = 4
_STEM = 5


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
    outputs: Sequence[Json] | None = None,
) -> list[Problem]:
    """Everything that is wrong with a task's request.

    Args:
        task: the task; its gold says which arguments come from outputs.
        results: the recorded text of each gold call.
        specs: tool -> spec, for defaults and options.
        words: argument name -> value -> words that say it, from an API's hints.
        outputs: the same results, parsed, where they are at hand.
    """
    if outputs is None:
        outputs = [parse_json(text, text) for text in results]
    return list(_Check(task, results, outputs, specs, words or {}).problems())


class _Said:
    """What the user had said by some turn, read once."""

    def has_family(self, word: str) -> bool:
        """Whether the text has a word that begins like this one: popular, popularity."""
        if any(occurs_in(way, self.folded) for way in SUPERLATIVES_OF.get(word, ())):
            return True
        stem = word.casefold()[:_STEM]
        return re.search(rf"\b{re.escape(stem)}", self.folded) is not None

    def __init__(self, text: str, today: date | None) -> None:
        self.folded = folded(text)
        self.dates = dates_said(text, today)
        self.times = times_said(text)
        self.numbers = numbers_said(without_dates(without_times(text)))


class _Check:
    def __init__(
        self,
        task: Task,
        results: Sequence[str],
        outputs: Sequence[Json],
        specs: Mapping[str, ToolSpec],
        words: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._task = task
        self._texts = results
        self._outputs = outputs
        self._used = self._elements_used()
        self._specs = specs
        self._words = words
        self._today = today = date.fromisoformat(task.today[:10]) if task.today else None
        texts = [task.opening_query, *task.followups]
        self._said = [_Said("\n".join(texts[: n + 1]), today) for n in range(len(texts))]

    def problems(self) -> Iterator[Problem]:
        task = self._task
        yield from self._form()
        for number, call in enumerate(task.gold_calls):
            said = self._said[task.followups_before(number)]
            spec = self._specs.get(call.name)
            for pointer, value in argument_leaves(call.arguments):
                ref = call.provenance.get(pointer)
                if ref is not None and ref.kind in (Provenance.OUTPUT, Provenance.COMPOSITE):
                    yield from self._dependent(number, pointer, value, ref, said)
                elif (
                    (value is True or not is_void(value))
                    and not self._is_said(pointer, value, said, spec)
                    and _counts(call, pointer, spec)
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
        rules = _rules(spec)
        schema = rules.keywords_at(pointer) if rules is not None else {}
        if "default" in schema and values_equal(value, schema["default"], schema):
            return True
        name = next((t for t in reversed(pointer.split("/")) if t and not t.isdigit()), "")
        if isinstance(value, bool):
            words = [*key_parts("/" + name), *_content(str(schema.get("description") or ""))]
            return any(len(w) >= _FEW_LETTERS and said.has_family(w) for w in words)
        if isinstance(value, int | float):
            return float(value) in said.numbers
        if not isinstance(value, str):
            return False
        return self._text_is_said(name, value, said, schema)

    def _text_is_said(self, name: str, value: str, said: _Said, schema: Mapping[str, Json]) -> bool:
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
        if re.fullmatch(r"-?\d+(\.\d+)?", value) and len(value) < _FEW_LETTERS:
            return float(value) in said.numbers
        if occurs_in(value, said.folded):
            return True
        word = self._words.get(name, {}).get(value)
        if word is not None and any(
            occurs_in(option.strip(), said.folded) for option in word.split("|")
        ):
            return True
        pieces = pieces_of(value)
        if pieces and all(self._text_is_said(name, piece, said, schema) for piece in pieces):
            return True
        if re.fullmatch(r"-?\d+(\.\d+)?", value):
            return float(value) in said.numbers
        plain = " ".join(part for part in re.split(r"[\W_]+", value) if part)
        return occurs_in(plain, said.folded) or self._option_is_said(value, said, schema)

    def _option_is_said(self, value: str, said: _Said, schema: Mapping[str, Json]) -> bool:
        """Whether one of a few options is said by its own words or by the schema's for it."""
        described = str(schema.get("description") or "")
        if value not in (schema.get("enum") or ()) and not re.search(
            rf"(?<!\w){re.escape(value)}(?!\w)", described
        ):
            return False
        own = _content(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", value.replace("_", " ")))
        if own and all(said.has_family(word) for word in own):
            return True
        for found in re.finditer(
            rf"(?<!\w){re.escape(value)}(?!\w)[\"'`]*\s*[:=(\u2013-]\s*", described
        ):
            phrase = _OPTION.match(described, found.end())
            words = _content(phrase[0]) if phrase is not None else []
            if words and all(said.has_family(word) for word in words):
                return True
        return False

    # -- dependent arguments -------------------------------------------------------------------

    def _dependent(
        self, number: int, pointer: str, value: Json, ref: ValueRef, said: _Said
    ) -> Iterator[Problem]:
        name = self._task.gold_calls[number].name
        for part, piece in _parts(value, ref):
            if occurs_in(piece, said.folded) and _is_code(piece):
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
        told = False
        for place in range(len(tokens) - 1, 0, -1):
            above = "/".join(tokens[:place])
            whole = find(output, above)
            if not isinstance(whole, list) or not tokens[place].isdigit():
                continue
            choice = Choice(
                whole, int(tokens[place]), "".join(f"/{t}" for t in tokens[place + 1 :])
            )
            if not choice.is_open:
                continue
            if choice.told_by(said.folded, self._used[ref.call, above]):
                told = True
            elif not told:
                return False
        return True

    def _elements_used(self) -> dict[tuple[int, str], set[int]]:
        """(call, list) -> the elements of the list that gold reads."""
        used: dict[tuple[int, str], set[int]] = defaultdict(set)
        refs = [ref for call in self._task.gold_calls for ref in call.provenance.values()]
        for ref in [part for whole in refs for part in (whole, *whole.parts)]:
            if ref.call is not None and ref.path is not None:
                tokens = ref.path.split("/")
                for place in range(1, len(tokens)):
                    if tokens[place].isdigit():
                        used[ref.call, "/".join(tokens[:place])].add(int(tokens[place]))
        return used

    # -- the text as a whole -------------------------------------------------------------------

    def _form(self) -> Iterator[Problem]:
        for text in (self._task.opening_query, *self._task.followups):
            if not text.strip():
                yield Problem("form", None, None, "a user turn is empty")
                continue
            found = _BAD_FORM.search(_without_names(text))
            if found is not None:
                yield Problem("form", None, None, f"the text holds {found[0]!r}")
            for wrong in contradictions(text, self._today):
                yield Problem("form", None, None, wrong)
            for doubled in _DOUBLED.finditer(text):
                if not self._is_a_name(doubled[0]):
                    yield Problem("form", None, None, f"a word stands twice: {doubled[0]!r}")
            if _START.match(text) is None:
                yield Problem("form", None, None, f"it starts in small letters: {text[:20]!r}")

    def _is_a_name(self, words: str) -> bool:
        """Whether doubled words are part of a value or a label: Bora Bora; or fine in English."""
        low = folded(words)
        if low in ("that that", "had had"):
            return True
        values = (v for c in self._task.gold_calls for _, v in argument_leaves(c.arguments))
        return any(isinstance(v, str) and low in folded(v) for v in values) or any(
            low in folded(text) for text in self._texts
        )

    def _repeats(self) -> Iterator[Problem]:
        """The same sentence twice, or two calls that are one: something is asked for twice."""
        seen: set[str] = set()
        for text in (self._task.opening_query, *self._task.followups):
            for sentence in re.split(r"(?<=[.?!])\s+", text):
                key = folded(re.sub(r"^\W*\w+\W+\w+\W+", "", sentence))
                if len(key) > 30 and key in seen:
                    yield Problem("said_twice", None, None, f"asked twice: {sentence!r}")
                seen.add(key)
        read = {n for call in self._task.gold_calls for n in call.depends_on}
        made: dict[bytes, int] = {}
        names = Counter(call.name for call in self._task.gold_calls)
        for number, call in enumerate(self._task.gold_calls):
            if names[call.name] == 1:
                continue
            same = call_key(call.name, call.arguments, _rules(self._specs.get(call.name)))
            first = made.setdefault(same, number)
            if first != number and number not in read:
                message = f"call {number} is call {first} again: the request asks for it twice"
                yield Problem("said_twice", number, None, message)


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


def _counts(call: GoldCall, pointer: str, spec: ToolSpec | None) -> bool:
    """Whether an argument says more than its absence would."""
    given = stated(call.arguments, _rules(spec))
    return normal(pointer) in {at for at, _ in argument_leaves(given)}


def _is_code(value: Json) -> bool:
    """Whether a value is an id, a token or a coordinate, not what a person calls a thing."""
    if isinstance(value, str) and re.search(r"[^\W\d_]", value):
        if re.search(r"\s", value) or is_temporal(value):
            return False
        return re.search(r"[\d_=:]", value) is not None and len(value) > 2
    return not is_temporal(value) and bits(value) >= _CODE_BITS


def _content(text: str) -> list[str]:
    """The words of a text that mean something."""
    return [w for w in re.findall(r"[^\W\d_]+", text.casefold()) if len(w) >= _FEW_LETTERS]


def _without_names(text: str) -> str:
    return re.sub(r"\"[^\"]*\"|\([^)]*\)", "x", text)
