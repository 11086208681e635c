"""The recorded calls of a cache, and the traces that were recorded on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from orch_env.cache import ResponseCache
from orch_env.provenance import Trace, TraceCall
from orch_env.provenance.evidence import argument_leaves
from orch_env.types import OrchError, Task, ToolSpec, error_of_text
from orch_env.types.json import Json, JsonObject, parse_json
from orch_env.values import SchemaRules, stated

_KEPT_RESPONSES = 4096
"""Responses that stay in memory, as texts and parsed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One recorded answer of one call: what draws are made of.

    Attributes:
        number: its place in :attr:`Corpus.rows`.
        tool: the tool's canonical name.
        arguments: the arguments, with the types that the tool's schema asks for.
        digest: the recorded response, as in :attr:`~orch_env.types.GoldCall.response`.
        key: the call's key in the cache; variants of a call share it.
    """

    number: int
    tool: str
    arguments: JsonObject
    digest: str
    key: bytes


class Corpus:
    """Recorded calls without error, and traces over them.

    Args:
        cache: where the responses are.
        rows: the calls; renumbered by position.
        traces: recorded conversations, each with the row number of every call in flattened order.
        errors: recorded answers that were left out because they are errors.

    Attributes:
        tools: canonical name -> spec, for every tool that has a row.
        rows_of: canonical name -> numbers of its rows.
    """

    def __init__(
        self,
        cache: ResponseCache,
        rows: Iterable[Row],
        traces: Sequence[tuple[Trace, tuple[int, ...]]] = (),
        errors: int = 0,
    ) -> None:
        self.cache = cache
        self.rows = tuple(
            Row(number, row.tool, row.arguments, row.digest, row.key)
            for number, row in enumerate(rows)
        )
        self.traces = tuple(trace for trace, _ in traces)
        self.trace_rows = tuple(numbers for _, numbers in traces)
        self.errors = errors
        rows_of: dict[str, list[int]] = defaultdict(list)
        for row in self.rows:
            rows_of[row.tool].append(row.number)
        self.rows_of: Mapping[str, tuple[int, ...]] = {
            tool: tuple(numbers) for tool, numbers in sorted(rows_of.items())
        }
        self.tools: Mapping[str, ToolSpec] = {tool: cache.catalogue[tool] for tool in self.rows_of}
        self._rules: dict[str, SchemaRules | None] = {}
        self._stated: dict[int, frozenset[str]] = {}
        self._remember()

    def _remember(self) -> None:
        self._texts = lru_cache(maxsize=_KEPT_RESPONSES)(self._read)
        self._parsed = lru_cache(maxsize=_KEPT_RESPONSES)(self._parse)

    def __getstate__(self) -> JsonObject:
        return {k: v for k, v in vars(self).items() if k not in ("_texts", "_parsed")}

    def __setstate__(self, state: JsonObject) -> None:
        vars(self).update(state)
        self._remember()

    def text(self, number: int) -> str:
        """The recorded text of a row, byte for byte."""
        return self._texts(number)

    def _read(self, number: int) -> str:
        row = self.rows[number]
        found = self.cache.get_variant(row.key, bytes.fromhex(row.digest))
        if found is None:
            raise OrchError(
                f"the cache no longer holds the response of {row.tool}; was it changed?"
            )
        return found.text

    def response(self, number: int) -> Json:
        """The parsed response of a row; a text that is no JSON stays a string. Do not change it."""
        return self._parsed(number)

    def rules(self, tool: str) -> SchemaRules | None:
        """What a tool's schema says of its arguments."""
        if tool not in self._rules:
            self._rules[tool] = SchemaRules.of(self.tools[tool].parameters)
        return self._rules[tool]

    def stated(self, number: int) -> frozenset[str]:
        """Pointers of a row's arguments that are more than left-out ones or defaults."""
        if number not in self._stated:
            row = self.rows[number]
            given = stated(row.arguments, self.rules(row.tool))
            self._stated[number] = frozenset(leaf for leaf, _ in argument_leaves(given))
        return self._stated[number]

    def _parse(self, number: int) -> Json:
        text = self.text(number)
        return parse_json(text, text)

    def only(self, numbers: Collection[int], traces: Collection[int] | None = None) -> Corpus:
        """The corpus of some rows, renumbered, and of the traces whose calls are all among them.

        Args:
            numbers: rows to keep.
            traces: traces to keep, of those; ``None`` keeps all.
        """
        kept = sorted(set(numbers))
        place = {number: at for at, number in enumerate(kept)}
        inside = [
            (trace, tuple(place[number] for number in rows))
            for index, (trace, rows) in enumerate(zip(self.traces, self.trace_rows, strict=True))
            if (traces is None or index in traces) and all(number in place for number in rows)
        ]
        return Corpus(self.cache, (self.rows[number] for number in kept), inside, self.errors)


def read_corpus(cache: ResponseCache, tasks: Sequence[Task] = ()) -> Corpus:
    """Read the recorded calls of a cache.

    Args:
        cache: the cache, open for reading.
        tasks: recorded tasks on this cache; their gold calls are the traces. A task with a call
            that the cache does not hold without an error gives no trace.

    Raises:
        OrchError: the cache holds no answer without an error.
    """
    rows: list[Row] = []
    number_of: dict[tuple[bytes, str], int] = {}
    errors = 0
    rules = {name: SchemaRules.of(spec.parameters) for name, spec in cache.catalogue.items()}
    for key, call in cache.stored():
        response = cache.get_variant(key, bytes.fromhex(call.digest))
        if response is None or response.is_error or error_of_text(response.text) is not None:
            errors += 1
            continue
        arguments = as_schema_types(call.arguments, rules.get(call.tool))
        number_of[key, call.digest] = len(rows)
        rows.append(Row(len(rows), call.tool, arguments, call.digest, key))
    if not rows:
        raise OrchError(
            f"cache {str(cache.path)!r} holds "
            + (f"{errors} responses, all of them errors" if errors else "no responses")
            + ": there is nothing to make tasks of"
        )
    corpus = Corpus(cache, rows, (), errors)
    traces = [found for task in tasks if (found := _trace(task, corpus, number_of)) is not None]
    return Corpus(cache, rows, traces, errors)


def _trace(
    task: Task, corpus: Corpus, number_of: Mapping[tuple[bytes, str], int]
) -> tuple[Trace, tuple[int, ...]] | None:
    numbers: list[int] = []
    steps: list[tuple[TraceCall, ...]] = []
    for step in task.gold:
        calls = []
        for call in step:
            key = corpus.cache.key(call.name, call.arguments)
            digest = call.response or _first_digest(corpus.cache, key)
            number = number_of.get((key, digest)) if digest else None
            if number is None:
                return None
            numbers.append(number)
            name = corpus.rows[number].tool
            calls.append(TraceCall(name, call.arguments, corpus.response(number)))
        steps.append(tuple(calls))
    if not numbers:
        return None
    opening, followups, after = task.opening_query, task.followups, task.after_followup
    return Trace(opening, tuple(steps), corpus.tools, followups, after), tuple(numbers)


def _first_digest(cache: ResponseCache, key: bytes) -> str | None:
    found = cache.get_variant(key, None)
    return found.digest if found is not None else None


def as_schema_types(value: Json, rules: SchemaRules | None) -> Json:
    """Recorded arguments with the types that their schema asks for.

    A cache stores canonical arguments, in which ``"42"`` is the number 42; where the schema wants a
    string and nothing else, it is a string again.

    Args:
        value: the arguments.
        rules: of the tool's parameters.
    """
    if rules is None:
        return value
    if isinstance(value, dict):
        return {name: as_schema_types(item, rules.member(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [as_schema_types(item, rules.items(n)) for n, item in enumerate(value)]
    if isinstance(value, int | float) and rules.types == {"string"}:
        return str(value).lower() if isinstance(value, bool) else str(value)
    return value
