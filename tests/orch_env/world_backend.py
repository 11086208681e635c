"""A generated world as a backend, so that real environments can play it.

Every tool answers every call without an error, which is kind to exploits; gold's calls get gold's
results and change the state as gold does.
"""

from __future__ import annotations

from collections.abc import Sequence

from orch_env.tasks.resolved import ResolvedTask, offered_tool
from orch_env.types import Task, ToolCall, ToolResult
from orch_env.types.json import JsonObject
from orch_env.values import call_key
from tests.orch_env.reward_world import World, merged
from tests.orch_env.reward_worlds import tool_specs


class WorldBackend:
    """Answers the calls of one world's task."""

    def __init__(self, world: World) -> None:
        self._world = world

    def resolve(self, task: Task) -> ResolvedTask:
        known = {spec.name: spec for spec in tool_specs()}
        specs = [known[tool] if isinstance(tool, str) else tool for tool in task.tools]
        return ResolvedTask.of(task, map(offered_tool, specs))

    def open(self, task: Task, *, seed: int) -> WorldSession:
        return WorldSession(self._world)

    def close(self) -> None:
        pass


class WorldSession:
    """One episode: the k-th call that equals a gold call is the k-th gold call that is equal."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers: dict[bytes, list[int]] = {}
        for number, gold in enumerate(world.task.gold_calls):
            self._numbers.setdefault(
                call_key(gold.name, gold.arguments, world.schema(gold.name)), []
            ).append(number)
        self._served: dict[bytes, int] = {}
        self._done: set[int] = set()

    def answer(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        return [self._answer(call) for call in calls]

    def _answer(self, call: ToolCall) -> ToolResult:
        key = call_key(call.name, call.arguments, self._world.schema(call.name))
        numbers = self._numbers.get(key)
        if numbers is None:
            return ToolResult('{"data": []}')
        count = self._served[key] = self._served.get(key, 0) + 1
        number = numbers[min(count, len(numbers)) - 1]
        self._done.add(number)
        return ToolResult(self._world.results[number])

    def final_state(self) -> JsonObject | None:
        writes = self._world.writes
        if self._world.task.final_state is None and not writes:
            return None
        return merged([writes[number] for number in sorted(self._done) if number in writes])

    def snapshot(self) -> JsonObject:
        return {"served": dict(self._served), "done": sorted(self._done)}

    def restore(self, state: JsonObject) -> None:
        self._served, self._done = dict(state["served"]), set(state["done"])

    def close(self) -> None:
        pass
