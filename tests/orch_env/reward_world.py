"""A task with what its tools answer, for reward tests that need no environment.

`World.play` turns a trajectory into an episode: a gold call returns its own result, any other call
an empty one, so that the rewards alone are tested.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orch_env.types import (
    Episode,
    GoldCall,
    Provenance,
    StopReason,
    Task,
    ToolCall,
    ToolResult,
    Turn,
    ValueRef,
)
from orch_env.types.json import JsonObject
from orch_env.values import stated, values_equal

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

    def same(self, one: GoldCall | ToolCall, other: GoldCall | ToolCall) -> bool:
        """Whether two calls are one call by the tool's schema, where the task has it."""
        schema = self.schema(one.name)
        return one.name == other.name and values_equal(one.arguments, other.arguments, schema)

    def schema(self, tool: str) -> JsonObject | None:
        """The schema of a tool's arguments, ``None`` where the task has none."""
        spec = self.task.tool_spec(tool)
        return None if spec is None else spec.parameters

    def stated(self, call: GoldCall | ToolCall) -> JsonObject:
        """A call's arguments without those that are as good as left out."""
        given: JsonObject = stated(call.arguments, self.schema(call.name))
        return given

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
            made.append(Turn.of("", tuple(calls), results, "\n".join(results)))
        if final is not None:
            made.append(Turn.of(final))
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
                if self.same(call, other):
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
            if self.same(call, gold):
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


def answered(episode: Episode, results: Sequence[str | None]) -> Episode:
    """The episode in which the calls, in order, returned these texts; ``None`` keeps one."""
    texts = iter(results)
    turns = tuple(
        replace(
            turn,
            exchanges=tuple(
                e if text is None else replace(e, result=ToolResult(text, e.result.error))
                for e, text in ((e, next(texts)) for e in turn.exchanges)
            ),
        )
        for turn in episode.turns
    )
    return replace(episode, turns=turns)


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
