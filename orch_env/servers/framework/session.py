"""One isolated session of one server: calls are transactions, and the state can be restored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from orch_env.servers.framework.arguments import problem_with
from orch_env.servers.framework.errors import ToolRefusal
from orch_env.servers.framework.server import Access, Server
from orch_env.servers.framework.table import Lock
from orch_env.types import ErrorType, OrchError, ToolResult
from orch_env.types.json import Json, JsonObject


class ServerSession:
    """A server's state in one episode.

    The same (server, seed, today, calls) gives the same bytes everywhere. No session sees what
    another one does.

    Args:
        server: the server class.
        seed: the world's seed.
        today: the session's date, ISO 8601; ``None`` for the server's own.
    """

    def __init__(self, server: type[Server], seed: int, today: str | None = None) -> None:
        self._lock = Lock()
        self._world = server.world(seed)
        self.server = server(self._world.tables, self._lock, seed=seed, today=today)

    def call(self, name: str, arguments: Mapping[str, Json]) -> ToolResult:
        """Run one tool. A failure is an error result and does not change the state.

        The text of a success is ``json.dumps`` of what the tool returned.
        """
        tool = self.server.tools.get(name)
        if tool is None:
            known = ", ".join(self.server.tools)
            return _failure(ErrorType.UNKNOWN_TOOL, f"No tool {name[:60]!r}. Tools: {known}.")
        problem = problem_with(arguments, tool.spec.parameters)
        if problem is not None:
            return _failure(ErrorType.INVALID_ARGUMENTS, problem, tool=name)
        # A tool that was declared READ cannot write, so there is nothing to go back to.
        self._lock.writable = tool.access is Access.WRITE
        before = [t.changes() for t in self.server.tables] if self._lock.writable else []
        try:
            value = getattr(self.server, name)(**arguments)
            return ToolResult(json.dumps(value, allow_nan=False))
        except ToolRefusal as refusal:
            self._roll_back(before)
            return _failure(refusal.kind, refusal.message, **refusal.details)
        except BaseException:
            self._roll_back(before)
            raise
        finally:
            self._lock.writable = False

    def snapshot(self) -> JsonObject:
        """The state as plain data: the world, and what changed since the start."""
        return {
            "server": self.server.name,
            "world": self._world.digest,
            "today": self.server.today,
            "changes": {t.key: t.changes_to_json() for t in self.server.tables},
        }

    def restore(self, state: JsonObject) -> None:
        """Go back to a snapshot.

        Raises:
            OrchError: the snapshot was taken in another world.
        """
        own = {"server": self.server.name, "world": self._world.digest}
        found = {key: state.get(key) for key in own}
        if found != own:
            raise OrchError(f"the snapshot belongs to {found}, this session to {own}")
        self.server.today = state["today"]
        for table in self.server.tables:
            table.changes_from_json(state["changes"][table.key])

    def changes(self) -> JsonObject:
        """What differs from the world: table -> id -> record, ``None`` where it was deleted.

        Tables without a change are left out.
        """
        return {t.key: t.changes_to_json() for t in self.server.tables if t.changed}

    def created(self) -> tuple[tuple[str, str], ...]:
        """(table, id) of each record that the world did not have."""
        return tuple((t.key, key) for t in self.server.tables for key in t.created())

    def fork(self) -> ServerSession:
        """An independent session in the same state; its cost grows with the changes so far."""
        twin = ServerSession(type(self.server), self.server.seed, self.server.today)
        for table, source in zip(twin.server.tables, self.server.tables, strict=True):
            table.reset(source.changes())
        return twin

    def state_hash(self) -> str:
        """Hex digest of the state; equal iff the states are equal."""
        text = json.dumps(self.snapshot(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _roll_back(self, before: list[dict[str, Any]]) -> None:
        for table, changes in zip(self.server.tables, before, strict=False):
            table.reset(changes)


MAX_MESSAGE_CHARS = 600
"""Characters of an error message: a model may write a megabyte as a ship's name."""


def _failure(kind: ErrorType, message: str, **details: Json) -> ToolResult:
    if len(message) > MAX_MESSAGE_CHARS:
        message = message[:MAX_MESSAGE_CHARS] + " ..."
    return ToolResult.failure(kind, message, **details)
