"""Answers calls from recordings: `ReplayBackend` over a `ResponseCache`.

Order of the checks, for each call:

1. a tool that this task does not offer -> ``unknown_tool``, with the nearest names;
2. a call that was recorded -> the recording, byte for byte, in the variant that the task pins,
   *even where the tool's schema disagrees*: the recording is the truth;
3. arguments that break the schema -> ``invalid_arguments``, with what to repair;
4. else ``not_recorded``: a valid call of which nothing is known.

A task may make the same call twice and have recorded two answers. The session then serves them in
recorded order, and how often each such call was made is its whole state.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from orch_env.backends.arguments import ArgumentChecker, checker_of
from orch_env.cache import ResponseCache
from orch_env.tasks.resolved import OfferedTool, ResolvedTask, TaskResolver, offered_tool
from orch_env.types import ErrorType, OrchError, Task, ToolCall, ToolResult, ToolSpec
from orch_env.types.bounded_store import BoundedStore
from orch_env.types.json import JsonObject
from orch_env.types.text import nearest

MEMORY_MB = 128
"""Megabytes of recorded responses that a backend keeps, with what rewards derive from them."""

_INDEX_BYTES = 4
"""An index of a response takes two to four bytes a character beside the text (measured)."""
_SHOWN_CHARS = 80


class _RecordedTool(NamedTuple):
    """A tool as the cache knows it."""

    offered: OfferedTool
    canonical: str
    checker: ArgumentChecker


@dataclass(frozen=True, slots=True, eq=False)
class _RecordedTask(ResolvedTask):
    """A resolved task with its recordings.

    Attributes:
        recorded: the offered tools, by name and alias.
    """

    recorded: Mapping[str, _RecordedTool] = field(default_factory=dict)


class ReplayBackend:
    """Recorded responses as a backend; sessions share the cache's handle and what was read.

    Args:
        cache: an open cache. It is closed by :meth:`close`.
        memory_mb: megabytes of responses kept in memory. A set that does not fit is read again
            from the cache, at the speed of a first pass.

    Example:
        >>> backend = ReplayBackend(open_cache("cache.db"))
        >>> session = backend.open(task, seed=0)
        >>> session.answer([ToolCall("Search_Car_Location", {"query": "Oslo"})])[0].text
    """

    def __init__(self, cache: ResponseCache, *, memory_mb: int = MEMORY_MB) -> None:
        if isinstance(memory_mb, bool) or not isinstance(memory_mb, int) or memory_mb < 0:
            raise OrchError(f"memory_mb must be a whole number of at least 0, got {memory_mb!r}")
        self.cache = cache
        self._responses: BoundedStore[bytes, ToolResult] = BoundedStore(memory_mb << 20)
        self._tools: dict[str, _RecordedTool] = {}
        self._resolve = TaskResolver(self._resolved)

    def resolve(self, task: Task) -> ResolvedTask:
        """The task with its specs; names come from the cache's catalogue.

        Raises:
            OrchError: a tool is not in the catalogue, or its schema cannot be used.
        """
        return self._resolve(task)

    def open(self, task: Task, *, seed: int) -> ReplaySession:
        """Start a session. Recordings do not depend on the seed.

        Raises:
            OrchError: as :meth:`resolve`, or the task pins a response that this cache lacks.
        """
        resolved = self._resolve(task)
        return ReplaySession(self, resolved, resolved.derived(self._pins))

    def response(self, key: bytes, digest: bytes | None) -> ToolResult | None:
        """A recorded response, one object while it is kept; ``None`` if there is none.

        Args:
            key: 16 bytes, of the call.
            digest: 16 bytes of the wanted variant; ``None`` means variant 0.
        """
        kept = None if digest is None else self._responses.get(digest)
        if kept is not None:
            return kept
        row = self.cache.row(key, digest)
        if row is None:
            return None
        content = bytes(row[0])  # not every database's driver gives bytes
        found = self._responses.get(content)
        if found is None:
            recorded = self.cache.decode(row)
            found = ToolResult(recorded.text, ErrorType.TOOL_ERROR if recorded.is_error else None)
            cost = sys.getsizeof(found.text) + _INDEX_BYTES * len(found.text)
            self._responses.put(content, found, cost)
        return found

    def _resolved(self, task: Task) -> _RecordedTask:
        tools = [self._tool(task, tool) for tool in task.tools]
        recorded = {
            name: tool
            for tool in tools
            for name in (*tool.offered.spec.aliases, tool.offered.spec.name)
        }
        return _RecordedTask.of(task, (tool.offered for tool in tools), recorded=recorded)

    def _pins(self, task: Task) -> Mapping[bytes, list[bytes]]:
        """Call key -> digests of the pinned variants, in the order of the gold calls."""
        pins = self.cache.pins_of(task)
        # Another recording than the pinned one would be another task: refuse, never replace.
        for key, digests in pins.items():
            for digest in digests:
                if not self.cache.holds(key, digest):
                    raise OrchError(
                        f"task {task.id!r} pins response {digest.hex()}, which cache "
                        f"{self.cache.path!r} does not hold for that call: use the cache that the "
                        "tasks were imported with (`orch tasks validate` lists all such tasks)"
                    )
        return pins

    def _tool(self, task: Task, tool: str | ToolSpec) -> _RecordedTool:
        if isinstance(tool, ToolSpec):
            offered = offered_tool(tool)
            canonical = self.cache.resolve(tool.name) or tool.name
            return _RecordedTool(offered, canonical, checker_of(offered))
        found = self._tools.get(tool)
        if found is None:
            spec, canonical = self._catalogue_entry(task, tool)
            offered = offered_tool(spec)
            found = self._tools[tool] = _RecordedTool(offered, canonical, checker_of(offered))
        return found

    def _catalogue_entry(self, task: Task, tool: str) -> tuple[ToolSpec, str]:
        name = self.cache.resolve(tool)
        if name is None:
            near = nearest(tool, self.cache.catalogue)
            hint = f"; nearest: {near[0]}" if near else ""
            raise OrchError(
                f"task {task.id!r} names tool {tool!r}, which cache {self.cache.path!r} does not "
                f"have ({len(self.cache.catalogue)} tools{hint})"
            )
        spec = self.cache.catalogue[name]
        return spec if name == tool else replace(spec, name=tool), name

    def close(self) -> None:
        """Close the cache's handles."""
        self.cache.close()


class ReplaySession:
    """The recorded tools of one episode."""

    def __init__(
        self, backend: ReplayBackend, task: _RecordedTask, pins: Mapping[bytes, list[bytes]]
    ) -> None:
        self._backend = backend
        self._task = task
        self._pins = pins
        self._served: dict[str, int] = {}

    def answer(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """Answer each call; see the module's docstring for the order of the checks."""
        return [self._answer(call) for call in calls]

    def _answer(self, call: ToolCall) -> ToolResult:
        tool = self._task.recorded.get(call.name)
        if tool is None:
            return self._unknown_tool(call.name)
        try:
            key = self._backend.cache.key(tool.canonical, call.arguments)
        except (RecursionError, ValueError, OverflowError):
            return ToolResult.failure(
                ErrorType.INVALID_ARGUMENTS,
                f"{call.name}: the arguments are nested too deeply or hold a number out of range",
            )
        cache = self._backend.cache
        recorded = self._backend.response(key, self._next_pin(key))
        if recorded is not None:
            cache.hits += 1
            return recorded
        problem = tool.checker.problem(call.arguments)
        if problem is not None:
            return problem
        cache.misses[call.name] += 1
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
        names = self._task.source.tool_names
        near = nearest(name, names, most=3)
        shown = name if len(name) <= _SHOWN_CHARS else name[:_SHOWN_CHARS] + "..."
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        return ToolResult.failure(
            ErrorType.UNKNOWN_TOOL,
            f"there is no tool {shown!r} here.{hint} Available: {', '.join(names)}.",
            did_you_mean=near,
            available=list(names),
        )

    def snapshot(self) -> JsonObject:
        """How often each call with several pinned answers was made."""
        return {"served": dict(self._served)}

    def restore(self, state: JsonObject) -> None:
        """Go back to a snapshot."""
        self._served = dict(state["served"])

    def close(self) -> None:
        """Nothing to free: the cache belongs to the backend."""
