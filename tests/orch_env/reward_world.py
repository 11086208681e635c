"""Tasks for reward tests: generated ones with every feature that a gold trace can have.

A task is built call by call. Values that flow from call to call are unique words, so "visible" and
"fresh" mean what they say. `play` turns a trajectory into an episode without an environment: a
gold call returns its own result, any other call an empty one, so that the rewards alone are tested.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from orch_env.types import (
    Episode,
    ErrorType,
    GoldCall,
    Provenance,
    StopReason,
    Task,
    ToolCall,
    Turn,
    ValueRef,
)
from orch_env.types.json import JsonObject
from orch_env.values import calls_equal

TOOLS = ("find", "list", "book", "pay")
OTHER_TOOL = "weather"
"""A tool that no gold trace uses."""


COLLATERAL: JsonObject = {"side": {"log": {"77": {"touched": True}}}}
"""A change of state that no gold call makes."""


@dataclass(frozen=True, repr=False)
class World:
    """A task with what its tools answer and change.

    Attributes:
        task: the task.
        results: the result of each gold call, by number.
        writes: gold call number -> what it changes, in the form of ``Episode.state``.
    """

    task: Task
    results: tuple[str, ...]
    writes: Mapping[int, JsonObject] = field(default_factory=dict)

    def __repr__(self) -> str:
        if sum(map(len, self.results)) > 4000:
            return f"World({self.task.id!r})"  # a recorded task: its id says all
        return f"World({self.task!r}, {self.results!r}, {dict(self.writes)!r})"

    def gold_turns(self) -> list[list[ToolCall]]:
        return [[ToolCall(c.name, c.arguments) for c in step] for step in self.task.gold]

    def play(
        self,
        turns: Sequence[Sequence[ToolCall]],
        final: str | None = "done",
        *,
        shown: Mapping[str, str] | None = None,
        collateral: bool = False,
    ) -> Episode:
        """The episode in which the model makes these calls; ``error`` of a call is kept.

        The k-th successful call that equals a gold call has the result (and the effect) of the
        k-th gold call that is equal to it.

        Args:
            turns: the calls of each message.
            final: the closing answer.
            shown: tool -> result of a call that gold does not hold.
            collateral: also change something that gold leaves alone.
        """
        left = [list(numbers) for numbers in self._twins()]
        done: list[int] = []
        made = []
        for calls in turns:
            results = tuple(self._result(call, left, done, shown or {}) for call in calls)
            made.append(Turn("", tuple(calls), results, "\n".join(results)))
        if final is not None:
            made.append(Turn(final))
        return Episode(
            self.task.id,
            turns=tuple(made),
            final=final,
            stop_reason=StopReason.ANSWERED if final is not None else None,
            state=self._state(done, collateral),
        )

    def gold_final(self) -> str:
        """The closing message of gold."""
        answer = self.task.answer
        return "done" if answer is None else str(answer)

    def gold_episode(self) -> Episode:
        return self.play(self.gold_turns(), self.gold_final())

    def _twins(self) -> list[list[int]]:
        """Numbers of the gold calls, equal ones together."""
        groups: list[list[int]] = []
        calls = self.task.gold_calls
        for number, call in enumerate(calls):
            for group in groups:
                other = calls[group[0]]
                if calls_equal(call.name, call.arguments, other.name, other.arguments):
                    group.append(number)
                    break
            else:
                groups.append([number])
        return groups

    def _result(
        self, call: ToolCall, left: list[list[int]], done: list[int], shown: Mapping[str, str]
    ) -> str:
        if call.error is not None:
            return json.dumps({"error": {"type": call.error.value, "message": "no"}})
        calls = self.task.gold_calls
        for group in left:
            gold = calls[group[0]]
            if calls_equal(call.name, call.arguments, gold.name, gold.arguments):
                number = group.pop(0) if len(group) > 1 else group[0]
                done.append(number)
                return self.results[number]
        return shown.get(call.name, '{"data": []}')

    def _state(self, done: Sequence[int], collateral: bool) -> JsonObject | None:
        if self.task.final_state is None and not self.writes:
            return None
        state = merged([self.writes[n] for n in sorted(set(done)) if n in self.writes])
        return (
            merged([state, {"side": {"log": {"77": {"touched": True}}}}]) if collateral else state
        )


def merged(changes: Sequence[JsonObject]) -> JsonObject:
    """Several changes of ``{server: {table: {id: record}}}`` as one."""
    whole: JsonObject = {}
    for change in changes:
        for server, tables in change.items():
            for table, records in tables.items():
                whole.setdefault(server, {}).setdefault(table, {}).update(records)
    return whole


def make_world(
    gold: Sequence[Sequence[GoldCall]],
    results: Sequence[str],
    query: str = "",
    answer: Any = None,
) -> World:
    task = Task("t", ({"role": "user", "content": query},), TOOLS, tuple(map(tuple, gold)))
    return World(replace(task, answer=answer), tuple(results))


def output_of(call: int, path: str = "/id") -> ValueRef:
    return ValueRef(Provenance.OUTPUT, call=call, path=path)


@st.composite
def worlds(draw: st.DrawFn, *, min_calls: int = 1) -> World:
    """Tasks with parallel steps, repeated tools, nested and composite arguments, data and state
    edges, and optional calls that nothing depends on."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    while sum(sizes) < min_calls:
        sizes.append(1)
    steps: list[list[GoldCall]] = []
    query: list[str] = []
    made = 0
    for size in sizes:
        before = made  # calls of earlier steps are the ones that a call may depend on
        step = []
        for _ in range(size):
            step.append(_call(draw, made, before, query))
            made += 1
        steps.append(step)
    steps = _with_optional(draw, steps)
    results = [
        json.dumps({"status": True, "id": f"id{n}x", "data": [{"ref": f"ref{n}x", "n": 1000 + n}]})
        for n in range(made)
    ]
    return make_world(steps, results, " ".join(query))


def _call(draw: st.DrawFn, number: int, before: int, query: list[str]) -> GoldCall:
    arguments: dict[str, Any] = {"key": f"word{number}x"}
    query.append(f"word{number}x")
    provenance = {"/key": ValueRef(Provenance.QUERY)}
    depends: set[int] = set()
    if before and draw(st.booleans()):
        producer = draw(st.integers(0, before - 1))
        arguments["of"] = f"id{producer}x"
        provenance["/of"] = output_of(producer)
        depends.add(producer)
    if before and draw(st.booleans()):
        producer = draw(st.integers(0, before - 1))
        arguments["legs"] = [{"from": f"ref{producer}x", "seats": 2}, {"from": "home"}]
        provenance["/legs/0/from"] = output_of(producer, "/data/0/ref")
        depends.add(producer)
    if before and draw(st.booleans()):
        pair = sorted({draw(st.integers(0, before - 1)) for _ in range(2)})
        arguments["ids"] = ",".join(f"id{p}x" for p in pair)
        provenance["/ids"] = ValueRef(Provenance.COMPOSITE, parts=tuple(output_of(p) for p in pair))
        depends.update(pair)
    if before and draw(st.booleans()):
        depends.add(draw(st.integers(0, before - 1)))  # a state edge, unless it carries a value
    if draw(st.booleans()):
        arguments["count"] = draw(st.sampled_from([0, 1, 2.5, True, None, "", []]))
    return GoldCall(
        draw(st.sampled_from(TOOLS)),
        arguments,
        depends_on=tuple(sorted(depends)),
        provenance=provenance,
    )


def _with_optional(draw: st.DrawFn, steps: list[list[GoldCall]]) -> list[list[GoldCall]]:
    calls = [call for step in steps for call in step]
    used = {d for call in calls for d in call.depends_on}
    leaf = [n for n in range(len(calls)) if n not in used]
    if len(calls) < 2 or not draw(st.booleans()):
        return steps
    chosen = draw(st.sampled_from(leaf))
    numbered = iter(range(len(calls)))
    return [[replace(c, optional=next(numbered) == chosen) for c in step] for step in steps]


@dataclass(frozen=True)
class Corruption:
    """One way to spoil one gold call."""

    kind: str
    position: int


KINDS = (
    "dropped",
    "repeated",
    "wrong_value",
    "wrong_type",
    "wrong_tool",
    "missing",
    "unknown",
    "malformed",
    "failed",
)


def corrupt(world: World, corruption: Corruption) -> list[list[ToolCall]]:
    """Gold's turns with one required call spoiled; the other calls stay in their turns."""
    turns: list[list[ToolCall]] = []
    number = 0
    for step in world.gold_turns():
        calls: list[ToolCall] = []
        for call in step:
            calls += _spoil(call, corruption.kind) if number == corruption.position else [call]
            number += 1
        turns.append(calls)
    return [calls for calls in turns if calls]


def _spoil(call: ToolCall, kind: str) -> list[ToolCall]:
    arguments = dict(call.arguments)
    if kind == "dropped":
        return []
    if kind == "repeated":
        return [call, call]
    if kind == "wrong_value":
        arguments["key"] = "freshly invented"
    elif kind == "wrong_type":
        arguments["key"] = [arguments["key"]]
    elif kind == "missing":
        del arguments["key"]
    elif kind == "unknown":
        arguments["unheard_of"] = 1
    elif kind == "wrong_tool":
        return [replace(call, name=OTHER_TOOL)]
    elif kind == "malformed":
        return [ToolCall("", {}, ErrorType.MALFORMED_CALL)]
    elif kind == "failed":
        return [replace(call, error=ErrorType.TOOL_ERROR)]
    return [ToolCall(call.name, arguments)]
