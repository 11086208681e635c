"""Answers calls from stateful servers that run in this process.

A task names its servers (`Task.servers`) and, if it likes, the seed of their worlds; without one
the episode's seed makes the world. A tool is found by its name alone, so the servers of one task
must not share one.
"""

from __future__ import annotations

import hashlib
import json

from orch_env.servers import Server, ServerSession, server_type
from orch_env.types import ErrorType, OrchError, Task, ToolCall, ToolResult, ToolSpec
from orch_env.types.json import JsonObject, escape


class LocalBackend:
    """A `ToolBackend` over the server library; stateless itself, so one serves any task."""

    def tools(self, task: Task) -> tuple[ToolSpec, ...]:
        """The specs the task offers, in its order; all tools of its servers if it names none.

        Raises:
            OrchError: no such server, no such tool, or two servers share a tool's name.
        """
        known = _tools_of(task)
        if not task.tools:
            return tuple(server.tools[name].spec for name, server in known.items())
        specs: list[ToolSpec] = []
        for tool in task.tools:
            name = tool if isinstance(tool, str) else tool.name
            if name not in known:
                raise OrchError(
                    f"task {task.id!r} offers tool {name!r}, which none of its servers has "
                    f"({', '.join(task.servers) or 'it names no server'})"
                )
            specs.append(known[name].tools[name].spec if isinstance(tool, str) else tool)
        return tuple(specs)

    def open(self, task: Task, *, seed: int) -> LocalSession:
        """Start one session of each of the task's servers."""
        offered = frozenset(spec.name for spec in self.tools(task))
        world = seed if task.seed is None else task.seed
        sessions = {
            name: ServerSession(server_type(name), world, task.today) for name in task.servers
        }
        owners = {tool: server.name for tool, server in _tools_of(task).items() if tool in offered}
        return LocalSession(sessions, owners)

    def close(self) -> None:
        """Nothing is held."""


class LocalSession:
    """The servers of one episode.

    Args:
        sessions: server name -> its session.
        owners: name of each offered tool -> the server that has it.
    """

    def __init__(self, sessions: dict[str, ServerSession], owners: dict[str, str]) -> None:
        self._sessions = sessions
        self._owners = owners

    def call(self, call: ToolCall) -> ToolResult:
        """Answer one call; what a server refuses is an error result."""
        if call.error is not None:
            return ToolResult.failure(call.error, "The call could not be read.")
        owner = self._owners.get(call.name)
        if owner is None:
            known = ", ".join(self._owners)
            return ToolResult.failure(
                ErrorType.UNKNOWN_TOOL, f"No tool {call.name[:60]!r}. Tools: {known}."
            )
        return self._sessions[owner].call(call.name, call.arguments)

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


def _tools_of(task: Task) -> dict[str, type[Server]]:
    """Tool name -> the server class that has it, over all servers of the task."""
    owners: dict[str, type[Server]] = {}
    for name in task.servers:
        server = server_type(name)
        for tool in server.tools:
            if tool in owners:
                raise OrchError(
                    f"task {task.id!r}: servers {owners[tool].name!r} and {name!r} both have a "
                    f"tool {tool!r}"
                )
            owners[tool] = server
    return owners
