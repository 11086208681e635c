"""Answers calls from recordings: `ReplayBackend` over a `ResponseCache`.

Order of the checks, for each call:

1. a call that could not be read -> ``malformed_call``;
2. a tool that this task does not offer -> ``unknown_tool``, with the nearest names;
3. a call that was recorded -> the recording, byte for byte, in the variant that the task pins,
   *even where the tool's schema disagrees*: the recording is the truth;
4. arguments that break the schema -> ``invalid_arguments``, with what to repair;
5. else ``not_recorded``: a valid call of which nothing is known.

The hard decision: a task may make the same call twice and have recorded two answers. The session
then serves them in recorded order, and how often each such call was made is its whole state.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import replace

from orch_env.backends.arguments import ArgumentChecker
from orch_env.cache import ResponseCache
from orch_env.types import ErrorType, OrchError, Task, ToolCall, ToolResult, ToolSpec
from orch_env.types.json import JsonObject
from orch_env.values import call_key

_SHOWN_CHARS = 80


class ReplayBackend:
    """Recorded responses as a backend; sessions share the cache's handle and compiled schemas.

    Args:
        cache: an open cache. It is closed by :meth:`close`.

    Example:
        >>> backend = ReplayBackend(open_cache("cache.db"))
        >>> session = backend.open(task, seed=0)
        >>> session.call(ToolCall("Search_Car_Location", {"query": "Oslo"})).text
    """

    def __init__(self, cache: ResponseCache) -> None:
        self.cache = cache
        self._checkers: dict[str, ArgumentChecker] = {}

    def tools(self, task: Task) -> tuple[ToolSpec, ...]:
        """The offered specs in the task's order; names come from the cache's catalogue.

        Raises:
            OrchError: the catalogue does not have a tool that the task names.
        """
        return tuple(self._spec(task, tool) for tool in task.tools)

    def _spec(self, task: Task, tool: str | ToolSpec) -> ToolSpec:
        if isinstance(tool, ToolSpec):
            return tool
        name = self.cache.resolve(tool)
        if name is None:
            near = difflib.get_close_matches(tool, self.cache.catalogue, n=1)
            hint = f"; nearest: {near[0]}" if near else ""
            raise OrchError(
                f"task {task.id!r} names tool {tool!r}, which cache {self.cache.path!r} does not "
                f"have ({len(self.cache.catalogue)} tools{hint})"
            )
        spec = self.cache.catalogue[name]
        return spec if name == tool else replace(spec, name=tool)

    def open(self, task: Task, *, seed: int) -> ReplaySession:
        """Start a session. Recordings do not depend on the seed.

        Raises:
            OrchError: a tool is not in the catalogue, its schema cannot be used, or the task pins
                a response that this cache does not hold.
        """
        self._check_pins(task)
        offered: dict[str, ArgumentChecker] = {}
        for spec in self.tools(task):
            checker = self._checker(spec)
            for name in (*spec.aliases, spec.name):
                offered[name] = checker
        return ReplaySession(self.cache, task, offered)

    def _check_pins(self, task: Task) -> None:
        """Another recording than the pinned one would be another task: refuse, never replace."""
        for key, digests in self.cache.pins_of(task).items():
            for digest in digests:
                if not self.cache.holds(key, digest):
                    raise OrchError(
                        f"task {task.id!r} pins response {digest.hex()}, which cache "
                        f"{self.cache.path!r} does not hold for that call: use the cache that the "
                        "tasks were imported with (`orch tasks validate` lists all such tasks)"
                    )

    def _checker(self, spec: ToolSpec) -> ArgumentChecker:
        shape = json.dumps([spec.name, spec.parameters], sort_keys=True)
        checker = self._checkers.get(shape)
        if checker is None:
            checker = self._checkers[shape] = ArgumentChecker(spec)
        return checker

    def close(self) -> None:
        """Close the cache's handles."""
        self.cache.close()


class ReplaySession:
    """The recorded tools of one episode."""

    def __init__(
        self, cache: ResponseCache, task: Task, offered: Mapping[str, ArgumentChecker]
    ) -> None:
        self._cache = cache
        self._offered = offered
        self._names = tuple(task.tool_names)
        self._canonical = {name: cache.resolve(name) or name for name in offered}
        self._pins = cache.pins_of(task)
        self._served: dict[str, int] = {}

    def call(self, call: ToolCall) -> ToolResult:
        """Answer one call; see the module's docstring for the order of the checks."""
        if call.error is not None:
            return ToolResult.failure(call.error, "the call could not be read")
        checker = self._offered.get(call.name)
        if checker is None:
            return self._unknown_tool(call.name)
        try:
            key = call_key(self._canonical[call.name], call.arguments)
        except (RecursionError, ValueError, OverflowError):
            return ToolResult.failure(
                ErrorType.INVALID_ARGUMENTS,
                f"{call.name}: the arguments are nested too deeply or hold a number out of range",
            )
        recorded = self._cache.get_variant(key, self._next_pin(key))
        if recorded is not None:
            self._cache.hits += 1
            error = ErrorType.TOOL_ERROR if recorded.is_error else None
            return ToolResult(recorded.text, error)
        problem = checker.problem(call.arguments)
        if problem is not None:
            return problem
        self._cache.misses[call.name] += 1
        return ToolResult.failure(
            ErrorType.NOT_RECORDED,
            f"{call.name} was called correctly, but its response to these arguments was never "
            "recorded. Check each value against the request and the earlier results.",
        )

    def _next_pin(self, key: bytes) -> bytes | None:
        pins = self._pins.get(key)
        if pins is None:
            return None
        if len(pins) == 1:
            return pins[0]
        name = key.hex()
        count = self._served.get(name, 0)
        self._served[name] = count + 1
        return pins[min(count, len(pins) - 1)]

    def _unknown_tool(self, name: str) -> ToolResult:
        near = difflib.get_close_matches(name[:200], self._names, n=3)
        shown = name if len(name) <= _SHOWN_CHARS else name[:_SHOWN_CHARS] + "..."
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        return ToolResult.failure(
            ErrorType.UNKNOWN_TOOL,
            f"there is no tool {shown!r} here.{hint} Available: {', '.join(self._names)}.",
            did_you_mean=near,
            available=list(self._names),
        )

    def snapshot(self) -> JsonObject:
        """How often each call with several pinned answers was made."""
        return {"served": dict(self._served)}

    def restore(self, state: JsonObject) -> None:
        """Go back to a snapshot."""
        self._served = dict(state["served"])

    def final_state(self) -> None:
        """Recordings hold no state."""

    def close(self) -> None:
        """Nothing to free: the cache belongs to the backend."""
