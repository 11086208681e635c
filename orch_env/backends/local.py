"""Answers calls from stateful servers that run in this process.

A task names its servers (`Task.servers`) and, if it likes, the seed of their worlds; without one
the episode's seed makes the world. A tool is known by its own name. Where two servers of one task
share a name, both tools are called ``server__tool`` in that task, in its ``tools`` and gold too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from orch_env.backends.schemas import usable_schema
from orch_env.servers import Clock, ServerSession, register_server, server_type
from orch_env.servers.framework.episode import names_of_tools, open_sessions
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
    """A `ToolBackend` over the server library; one serves any task.

    Args:
        beside: servers that every episode gets beside those of its task; their tools are
            distractors. A name, or ``"package.module:Class"`` of your own.

    Raises:
        OrchError: there is no such server.
    """

    def __init__(self, beside: Sequence[str] = ()) -> None:
        self._beside = tuple(dict.fromkeys(map(register_server, beside)))
        self._resolve = TaskResolver(self._resolved)

    def resolve(self, task: Task) -> ResolvedTask:
        """The task with the specs it offers, in its order; all of its servers' if it names none.

        Raises:
            OrchError: no such server, no such tool, or a tool's schema cannot be used.
        """
        return self._resolve(task)

    def open(self, task: Task, *, seed: int) -> LocalSession:
        """Start one session of each of the task's servers, all on one clock."""
        resolved = self._resolve(task)
        world = seed if task.seed is None else task.seed
        sessions = open_sessions(map(server_type, resolved.servers), world, task.today or None)
        return LocalSession(sessions, resolved.owners)

    def close(self) -> None:
        """Nothing is held."""

    def _resolved(self, task: Task) -> _ServedTask:
        if task.today:
            Clock(task.today)  # refuses what is no date
        known = _owners(task.servers)
        offered = [_offered(tool, known, task) for tool in task.tools or known]
        beside = [name for name in self._beside if name not in task.servers]
        for name, owner in _owners(beside).items():
            if name in known:  # the task's own tool keeps its name, which its gold uses
                name = f"{owner.server}__{owner.tool}"
            known[name] = owner
            offered.append(_spec(name, owner))
        owners = {spec.name: known[spec.name] for spec in offered}
        servers = (*task.servers, *beside)
        return _ServedTask.of(task, map(offered_tool, offered), owners=owners, servers=servers)


def _owners(servers: Sequence[str]) -> dict[str, _Owner]:
    """Name as the model sees it -> where the tool lives, over all tools of some servers."""
    named = names_of_tools({name: server_type(name).tools for name in servers})
    return {name: _Owner(*owner) for name, owner in named.items()}


def _offered(tool: str | ToolSpec, known: Mapping[str, _Owner], task: Task) -> ToolSpec:
    """The spec of a tool that a task offers."""
    name = tool if isinstance(tool, str) else tool.name
    if name not in known:
        raise OrchError(
            f"task {task.id!r} offers tool {name!r}, which none of its servers has "
            f"({', '.join(task.servers) or 'it names no server'})"
        )
    spec = _spec(name, known[name])
    if isinstance(tool, str):
        return spec
    usable_schema(tool)
    return replace(tool, read_only=spec.read_only)  # the server knows, not the task


def _spec(name: str, owner: _Owner) -> ToolSpec:
    spec = server_type(owner.server).tools[owner.tool].spec
    return spec if name == owner.tool else replace(spec, name=name)


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
            for session in self._sessions.values():
                session.clock.move()  # a call, whatever its outcome; they share the clock
                break
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
