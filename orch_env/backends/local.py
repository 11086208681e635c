"""Answers calls from stateful servers that run in this process.

A task names its servers (`Task.servers`) and, if it likes, the seed of their worlds; without one
the episode's seed makes the world. A tool is known by its own name. Where two servers of one task
share a name, both tools are called ``server__tool`` in that task, in its ``tools`` and gold too.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from orch_env.backends.schemas import usable_schema
from orch_env.servers import Clock, Server, ServerSession, server_type
from orch_env.tasks.resolved import ResolvedTask, TaskResolver, offered_tool
from orch_env.types import ErrorType, OrchError, Task, ToolCall, ToolResult, ToolSpec
from orch_env.types.json import JsonObject, escape


class _Owner(NamedTuple):
    """Where a tool lives: the server, and the tool's name there."""

    server: str
    tool: str


@dataclass(frozen=True, slots=True, eq=False)
class _ServedTask(ResolvedTask):
    """A resolved task with its servers.

    Attributes:
        owners: name of each offered tool, as the model sees it -> where it lives.
    """

    owners: Mapping[str, _Owner] = field(default_factory=dict)


class LocalBackend:
    """A `ToolBackend` over the server library; one serves any task."""

    def __init__(self) -> None:
        self._resolve = TaskResolver(_resolved)

    def resolve(self, task: Task) -> ResolvedTask:
        """The task with the specs it offers, in its order; all of its servers' if it names none.

        Raises:
            OrchError: no such server, no such tool, or a tool's schema cannot be used.
        """
        return self._resolve(task)

    def open(self, task: Task, *, seed: int) -> LocalSession:
        """Start one session of each of the task's servers."""
        resolved = self._resolve(task)
        world = seed if task.seed is None else task.seed
        clock = Clock(task.today) if task.today else None
        sessions = {}
        for name in task.servers:
            sessions[name] = ServerSession(server_type(name), world, clock=clock)
            clock = sessions[name].clock  # one for all servers of the episode
        return LocalSession(sessions, resolved.owners)

    def close(self) -> None:
        """Nothing is held."""


def _resolved(task: Task) -> _ServedTask:
    known = _tools_of(task)
    if task.today:
        Clock(task.today)
    specs: list[ToolSpec] = []
    for tool in task.tools or known:
        name = tool if isinstance(tool, str) else tool.name
        if name not in known:
            raise OrchError(
                f"task {task.id!r} offers tool {name!r}, which none of its servers has "
                f"({', '.join(task.servers) or 'it names no server'})"
            )
        spec = _spec(name, *known[name])
        if isinstance(tool, ToolSpec):
            usable_schema(tool)
            spec = replace(tool, read_only=spec.read_only)  # the server knows, not the task
        specs.append(spec)
    owners = {s.name: _Owner(known[s.name][0].name, known[s.name][1]) for s in specs}
    return _ServedTask.of(task, map(offered_tool, specs), owners=owners)


def _tools_of(task: Task) -> dict[str, tuple[type[Server], str]]:
    """Name as the model sees it -> server class and the tool's name there, over all servers."""
    servers = [server_type(name) for name in task.servers]
    count = Counter(tool for server in servers for tool in server.tools)
    return {
        tool if count[tool] == 1 else f"{server.name}__{tool}": (server, tool)
        for server in servers
        for tool in server.tools
    }


def _spec(name: str, server: type[Server], tool: str) -> ToolSpec:
    spec = server.tools[tool].spec
    return spec if name == tool else replace(spec, name=name)


class LocalSession:
    """The servers of one episode.

    Args:
        sessions: server name -> its session.
        owners: name of each offered tool -> where it lives.
    """

    def __init__(self, sessions: Mapping[str, ServerSession], owners: Mapping[str, _Owner]) -> None:
        self._sessions = sessions
        self._owners = owners

    def answer(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """Answer the calls one after the other; what a server refuses is an error result."""
        return [self._answer(call) for call in calls]

    def _answer(self, call: ToolCall) -> ToolResult:
        owner = self._owners.get(call.name)
        if owner is None:
            known = ", ".join(self._owners)
            return ToolResult.failure(
                ErrorType.UNKNOWN_TOOL, f"No tool {call.name[:60]!r}. Tools: {known}."
            )
        return self._sessions[owner.server].call(owner.tool, call.arguments)

    def snapshot(self) -> JsonObject:
        """Server name -> its snapshot."""
        return {name: session.snapshot() for name, session in self._sessions.items()}

    def restore(self, state: JsonObject) -> None:
        """Go back to a snapshot taken from a session of the same task.

        Raises:
            OrchError: it was taken from other servers or other worlds.
        """
        if set(state) != set(self._sessions):
            raise OrchError(
                f"the snapshot is of servers {sorted(state)}, this session of "
                f"{sorted(self._sessions)}"
            )
        for name, session in self._sessions.items():
            session.restore(state[name])

    def final_state(self) -> JsonObject | None:
        """What the calls changed, by server; ``None`` for a task without servers."""
        if not self._sessions:
            return None
        changed = {name: session.changes() for name, session in self._sessions.items()}
        return {name: tables for name, tables in changed.items() if tables}

    def created(self) -> tuple[str, ...]:
        """Pointers (``/server/table/id``) of the records in :meth:`final_state` that are new.

        A task whose gold was run in this session keeps them as ``metadata["created"]``.
        """
        return tuple(
            f"/{escape(name)}/{escape(table)}/{escape(key)}"
            for name, session in self._sessions.items()
            for table, key in session.created()
        )

    def state_hash(self) -> str:
        """Hex digest over the states of all servers."""
        text = json.dumps({n: s.state_hash() for n, s in self._sessions.items()}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def close(self) -> None:
        """Nothing is held."""
