"""Generated tasks with every feature that a gold trace can have, as a hypothesis strategy.

Parallel steps; tools called several times, some with equal arguments; nested and composite
arguments; data and state edges; optional calls that nothing needs; a final state and an answer;
tools with and without schemas; values told in the query as well as shown by a result.

Every value that flows from call to call is a word or number of its own, so "visible", "hidden"
and "fresh" mean what they say. An optional call obeys the rule of ``orch tasks validate``: what
another call takes from it stands in the query too, and nobody needs the state that it makes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from orch_env.types import GoldCall, Provenance, Task, ToolSpec, ValueRef
from orch_env.types.json import Json, JsonObject
from tests.orch_env.reward_world import OTHER_TOOL, TOOLS, World, merged, output_of

MOST_CALLS = 8

_STRING: JsonObject = {"type": "string"}
_SET: JsonObject = {"type": "string", "x-orch-set": ","}
_ID: JsonObject = {"type": ["string", "integer", "number"]}
PROPERTIES: JsonObject = {
    "key": _STRING,
    "note": _STRING,
    "of": _ID,
    "legs": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["cabin"],
            "properties": {
                "from": _ID,
                "seats": {"type": "integer"},
                "cabin": {"type": "string", "enum": ["eco", "first"], "default": "eco"},
            },
        },
    },
    "ids": _SET,
    "near": {"type": "object", "properties": {"spot": {"type": "object"}, "km": {}}},
    "page": {"type": "integer"},
    "price": {"type": "number"},
    "code": _STRING,
    "tags": _SET,
    "route": _STRING,
    "limit": {"type": "integer", "default": 10},
    "sort": {"type": ["string", "null"], "default": "price"},
    "unit": {"type": "string", "enum": ["km"]},
    "extra": {"type": ["boolean", "null", "object", "array"]},
}
"""The arguments that all tools take."""


def tool_specs() -> tuple[ToolSpec, ...]:
    """Every tool with its whole schema."""
    schema: JsonObject = {"type": "object", "properties": PROPERTIES}
    return tuple(ToolSpec(name, f"To {name}.", schema) for name in (*TOOLS, OTHER_TOOL))


@dataclass
class _Draft:
    """A world while it is being drawn."""

    draw: st.DrawFn
    keyed: bool
    calls: list[GoldCall] = field(default_factory=list)
    results: list[JsonObject] = field(default_factory=list)
    query: list[str] = field(default_factory=list)
    copy_of: dict[int, int] = field(default_factory=dict)

    def add(self, before: int) -> GoldCall:
        """Draw the next call; it may depend on calls below ``before``."""
        number = len(self.calls)
        if number and not self.keyed and self.draw(st.integers(0, 5)) == 0:
            twin = self.draw(st.integers(0, number - 1))
            call = self.calls[twin]
            self.copy_of[number] = twin
        else:
            call = self._new_call(number, before)
        self.calls.append(call)
        self.results.append(self._result(number))
        return call

    def _result(self, number: int) -> JsonObject:
        if number in self.copy_of and self.draw(st.booleans()):
            return self.results[self.copy_of[number]]  # the same call, answered the same
        name: Json = self.draw(st.sampled_from([f"id{number}x", 70001 + number, 0.125 + number]))
        result = {
            "status": True,
            "id": name,
            "data": [{"ref": f"ref{number}x", "n": 1000 + number}],
        }
        if self.draw(st.integers(0, 3)) == 0:
            result["asked"] = self.calls[number].arguments  # as services do
        return result

    def _new_call(self, number: int, before: int) -> GoldCall:
        arguments, sources = self._told(number)
        depends: set[int] = set()
        if before:
            for add in (self._plain, self._nested, self._deep, self._composite):
                if self.draw(st.integers(0, 2)) == 0:
                    add(before, arguments, sources)
            if self.draw(st.integers(0, 2)) == 0:
                depends.add(self.draw(st.integers(0, before - 1)))  # of state, if no value is taken
        if number and self.draw(st.integers(0, 3)) == 0:  # a search like an earlier one
            name = self.calls[self.draw(st.integers(0, number - 1))].name
        else:
            name = self.draw(st.sampled_from(TOOLS))
        depends = depends.union(*(ref.producers() for ref in sources.values()))
        return GoldCall(
            name,
            arguments,
            depends_on=tuple(sorted(depends)),
            provenance=sources,
        )

    def _told(self, number: int) -> tuple[JsonObject, dict[str, ValueRef]]:
        """Arguments that the query gives, or that are constants."""
        arguments: JsonObject = {}
        sources: dict[str, ValueRef] = {}
        if self.keyed or self.draw(st.integers(0, 9)) > 0:
            arguments["key"] = f"word{number}x"
            sources["/key"] = ValueRef(Provenance.QUERY)
            self.query.append(f"word{number}x")
        for name, values in _CONSTANTS:
            if self.draw(st.integers(0, 3)) == 0:
                arguments[name] = self.draw(st.sampled_from(values))
                if self.draw(st.booleans()):
                    sources[f"/{name}"] = ValueRef(Provenance.CONSTANT)
        return arguments, sources

    def _take(self, before: int) -> tuple[Json, ValueRef]:
        """A value of an earlier output, which the query may tell as well."""
        producer = self.draw(st.integers(0, before - 1))
        path = self.draw(st.sampled_from(["/id", "/data/0/ref"]))
        shown = self.results[producer]
        value = shown["id"] if path == "/id" else shown["data"][0]["ref"]
        if self.draw(st.integers(0, 4)) == 0:
            self.query.append(str(value))
        return value, output_of(producer, path)

    def _plain(self, before: int, arguments: JsonObject, sources: dict[str, ValueRef]) -> None:
        arguments["of"], sources["/of"] = self._take(before)

    def _nested(self, before: int, arguments: JsonObject, sources: dict[str, ValueRef]) -> None:
        value, sources["/legs/0/from"] = self._take(before)
        arguments["legs"] = [
            {"from": value, "seats": 2, "cabin": "eco"},
            {"from": "home", "cabin": "first"},
        ]

    def _deep(self, before: int, arguments: JsonObject, sources: dict[str, ValueRef]) -> None:
        value, sources["/near/spot/at"] = self._take(before)
        arguments["near"] = {"spot": {"at": value}, "km": 2.5}

    def _composite(self, before: int, arguments: JsonObject, sources: dict[str, ValueRef]) -> None:
        taken = {str(v): ref for v, ref in (self._take(before) for _ in range(3))}
        words = [word for word in taken if not word.startswith("0.")]
        if len(words) > 1:
            arguments["ids"] = ",".join(words)
            parts = tuple(taken[word] for word in words)
            sources["/ids"] = ValueRef(Provenance.COMPOSITE, parts=parts)


_CONSTANTS: tuple[tuple[str, list[Json]], ...] = (
    ("page", [0, 1, 2, -3]),
    ("price", [2.0, 2.5, 1e3]),
    ("code", ["7", "12.5", "007", ""]),
    ("tags", ["pool,bar", "bar,pool,spa", "sea view, bar"]),
    ("extra", [True, False, None, [], {}, [1, "two"], [[1], [2]]]),
    ("route", ["48,2", "OSL,LHR", "oslo,bergen,tromso"]),
    ("limit", [10, 25]),
    ("sort", [None, "price", "rating"]),
    ("unit", ["km"]),
    ("note", ["2024-10-13", "Late arrival", "10:00", "Z\u00fcrich", "1.10"]),
)


@st.composite
def worlds(
    draw: st.DrawFn,
    *,
    min_calls: int = 1,
    most_calls: int = MOST_CALLS,
    goals: bool = True,
    optional: bool = True,
    keyed: bool = False,
) -> World:
    """Tasks with gold calls.

    Args:
        draw: hypothesis' own.
        min_calls: fewest gold calls.
        most_calls: most gold calls.
        goals: some tasks have an answer, some a final state.
        optional: some calls may be left out.
        keyed: every call has an argument that only the query gives.
    """
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    while sum(sizes) < min_calls:
        sizes.append(1)
    while sum(sizes) > most_calls:
        sizes.pop()
    draft, steps = _Draft(draw, keyed), []
    for size in sizes or [1]:
        before = len(draft.calls)
        steps.append([draft.add(before) for _ in range(size)])
    if optional and len(draft.calls) > 1 and draw(st.booleans()):
        steps = _with_optional(draft, steps)
    whole = draw(st.booleans())
    task = Task(
        "t",
        ({"role": "user", "content": " ".join(draft.query)},),
        tool_specs() if whole else (*TOOLS, OTHER_TOOL),
        tuple(map(tuple, steps)),
    )
    results = tuple(json.dumps(result) for result in draft.results)
    return _with_goals(draw, World(task, results)) if goals else World(task, results)


def _with_optional(draft: _Draft, steps: list[list[GoldCall]]) -> list[list[GoldCall]]:
    """Up to two calls may be left out, such that the rule of ``orch tasks validate`` holds."""
    numbers = range(len(draft.calls))
    needed = {n for call in draft.calls for n in call.state_dependencies()}
    # Of equal calls nobody could say which one is optional: only a call without a twin may be.
    twins = {n for pair in draft.copy_of.items() for n in pair} | _without_arguments(draft.calls)
    free = [n for n in numbers if n not in needed | twins]
    if not free:
        return steps
    chosen = set(draft.draw(st.lists(st.sampled_from(free), min_size=1, max_size=2)))
    for call in draft.calls:  # what others take from an optional call is told in the query as well
        for ref in call.provenance.values():
            for part in ref.parts or (ref,):
                if part.call in chosen:
                    shown = draft.results[part.call]
                    word = shown["id"] if part.path == "/id" else shown["data"][0]["ref"]
                    draft.query.append(str(word))
    at = iter(numbers)
    return [[replace(call, optional=next(at) in chosen) for call in step] for step in steps]


def _without_arguments(calls: list[GoldCall]) -> set[int]:
    return {n for n, call in enumerate(calls) if "key" not in call.arguments}


def _with_goals(draw: st.DrawFn, world: World) -> World:
    """Perhaps an answer; perhaps required calls that change the state of a server."""
    task = replace(world.task, answer=draw(st.sampled_from([None, None, 42, "Grand Hotel", 12.5])))
    writes: dict[int, JsonObject] = {}
    if draw(st.integers(0, 2)) == 0:
        required = [n for n, call in enumerate(task.gold_calls) if not call.optional]
        for number in required:
            if draw(st.booleans()):
                writes[number] = draw(_records(number))
    if writes:
        changes = merged([writes[n] for n in sorted(writes)])
        task = replace(task, final_state=changes, servers=("desk",))
    return replace(world, task=task, writes=writes)


def _records(number: int) -> st.SearchStrategy[JsonObject]:
    record = st.sampled_from([{"seats": 2, "names": ["A", "B"]}, {"paid": 10.5}, None])
    return record.map(lambda body: {"desk": {"bookings": {f"b{number}": body}}})


@st.composite
def abstentions(draw: st.DrawFn) -> World:
    """Tasks that need no call."""
    text = draw(st.text(alphabet="abc 12", max_size=20))
    whole = draw(st.booleans())
    task = Task(
        "none",
        ({"role": "user", "content": text},),
        tool_specs() if whole else (*TOOLS, OTHER_TOOL),
    )
    return World(replace(task, answer=draw(st.sampled_from([None, None, 42]))), ())
