"""One isolated session of one server: calls are transactions, and the state can be restored."""

from __future__ import annotations

import hashlib
import json
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orch_env.servers.framework.arguments import problem_with
from orch_env.servers.framework.clock import Clock
from orch_env.servers.framework.errors import ToolRefusal
from orch_env.servers.framework.records import to_json
from orch_env.servers.framework.server import Access, Server, Tool
from orch_env.servers.framework.table import Lock
from orch_env.types import ErrorType, OrchError, ToolResult
from orch_env.types.json import Json, JsonObject, escape
from orch_env.types.text import shortened

MAX_MESSAGE = 600
"""Characters of an error message: a model may write a megabyte as a ship's name."""
MAX_RESULT = 32_000
"""Characters of a result; a tool that finds more is refused, so that the model narrows its call."""


_SHOWN = 80
"""Characters of a value in a line."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two states differ.

    Attributes:
        path: JSON Pointer: table, id, then into the record.
        before: the value there before, ``None`` where there was none.
        after: the value after, ``None`` where there is none.
    """

    path: str
    before: Json
    after: Json

    def __str__(self) -> str:
        return f"{self.path}: {_short(self.before)} -> {_short(self.after)}"


class ServerSession:
    """A server's state in one episode.

    The same (server, seed, start, calls) gives the same bytes everywhere. No session sees what
    another one does.

    Args:
        server: the server class.
        seed: the world's seed.
        today: the session's date or date and time, ISO 8601; ``None`` for the server's own.
        clock: the clock of the episode's other servers, in place of ``today``.

    Raises:
        OrchError: ``today`` is no date.
    """

    def __init__(
        self,
        server: type[Server],
        seed: int,
        today: str | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._lock = Lock()
        self._world = server.world(seed)
        self.clock = clock or Clock(today or server.epoch)
        self.server = server(self._world.tables, self._lock, seed=seed, clock=self.clock)

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The server's tools by name."""
        return self.server.tools

    def call(self, name: str, arguments: Mapping[str, Json]) -> ToolResult:
        """Run one tool. A failure is an error result and does not change the state.

        Each call moves the clock, whatever its outcome. Nothing raises: a bug in a server's code
        is a ``tool_error`` to the model, and a warning with file and line.

        Returns:
            The text of a success is ``json.dumps`` of what the tool returned.
        """
        try:
            return self._call(name, arguments)
        finally:
            self.clock.move()

    def _call(self, name: str, arguments: Mapping[str, Json]) -> ToolResult:
        tool = self.server.tools.get(name) if isinstance(name, str) else None
        if tool is None:
            known = ", ".join(self.server.tools)
            return _failure(ErrorType.UNKNOWN_TOOL, f"No tool {str(name)[:60]!r}. Tools: {known}.")
        if not isinstance(arguments, Mapping):
            problem: str | None = "The arguments must be a JSON object."
        else:
            problem = problem_with(arguments, tool.spec.parameters)
        if problem is not None:
            return _failure(ErrorType.INVALID_ARGUMENTS, problem, tool=name)
        server, writes = self.server, tool.access is Access.WRITE
        # A READ cannot write, so there is nothing to go back to unless time changes something.
        guarded = writes or server.settles
        before = [t.changes() for t in server.tables] if guarded else []
        kept = False
        try:
            if server.settles:
                self._lock.writable = True
                server.settle()
            self._lock.writable = writes
            text = json.dumps(getattr(server, name)(**arguments), allow_nan=False)
            if len(text) > MAX_RESULT:
                return _failure(
                    ErrorType.TOOL_ERROR,
                    f"The result has {len(text)} characters, more than {MAX_RESULT}: ask for less.",
                    reason="result_too_large",
                )
            kept = writes
            return ToolResult(text)
        except ToolRefusal as refusal:
            return _failure(refusal.kind, refusal.message, **refusal.details)
        except Exception as bug:  # a server's own code, on whatever a model wrote
            return _failure_of_code(server.name, name, bug)
        finally:
            self._lock.writable = False
            if guarded and not kept:
                for table, changes in zip(server.tables, before, strict=True):
                    table.reset(changes)

    def snapshot(self) -> JsonObject:
        """The state as plain data: the world, the clock, and what changed since the start."""
        return {
            "server": self.server.name,
            "world": self._world.digest,
            "start": self.clock.start.isoformat(),
            "calls": self.clock.calls,
            "changes": {t.key: t.changes_to_json() for t in self.server.tables},
        }

    def restore(self, state: JsonObject) -> None:
        """Go back to a snapshot.

        Raises:
            OrchError: the snapshot was taken in another world, or is none.
        """
        own = {"server": self.server.name, "world": self._world.digest}
        found = {key: state.get(key) for key in own}
        if found != own:
            raise OrchError(f"the snapshot belongs to {found}, this session to {own}")
        self.clock.start = Clock(state["start"]).start
        self.clock.set(state["calls"])
        for table in self.server.tables:
            table.changes_from_json(state["changes"][table.key])

    def changes(self) -> JsonObject:
        """What differs from the world: table -> id -> record, ``None`` where it was deleted.

        Tables without a change are left out, and so are fields that hold session times.
        """
        found = {t.key: t.lasting_changes() for t in self.server.tables if t.changed}
        return {key: changes for key, changes in found.items() if changes}

    def created(self) -> tuple[tuple[str, str], ...]:
        """(table, id) of each record that the world did not have."""
        return tuple((t.key, key) for t in self.server.tables for key in t.created())

    def diff(self, since: JsonObject | None = None) -> list[Difference]:
        """What changed, with readable paths (``/accounts/AC-1/balance: 5 -> 7``).

        Args:
            since: an earlier snapshot; ``None`` for the start of the world.
        """
        earlier: JsonObject = {} if since is None else since["changes"]
        found: list[Difference] = []
        for table in self.server.tables:
            was, now = earlier.get(table.key, {}), table.changes_to_json()
            base = self._world.tables.get(table.key, {})
            for key in sorted({*was, *now}):
                origin = to_json(base[key]) if key in base else None
                path = f"/{escape(table.key)}/{escape(key)}"
                found += differences(path, was.get(key, origin), now.get(key, origin))
        return found

    def fork(self) -> ServerSession:
        """An independent session in the same state; its cost grows with the changes so far."""
        twin = ServerSession(type(self.server), self.server.seed, self.clock.start.isoformat())
        twin.clock.set(self.clock.calls)
        for table, source in zip(twin.server.tables, self.server.tables, strict=True):
            table.reset(source.changes())
        return twin

    def state_hash(self) -> str:
        """Hex digest of the state; equal iff the states are equal. The clock is not part of it."""
        changes = {t.key: t.changes_to_json() for t in self.server.tables if t.changed}
        text = json.dumps([self.server.name, self._world.digest, changes], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _failure(kind: ErrorType, message: str, **details: Any) -> ToolResult:
    if len(message) > MAX_MESSAGE:
        message = message[:MAX_MESSAGE] + " ..."
    return ToolResult.failure(kind, message, **details)


def _failure_of_code(server: str, tool: str, problem: Exception) -> ToolResult:
    """A bug in a server: the model may go on, and whoever runs the server reads where it is."""
    kind = type(problem).__name__
    at = traceback.extract_tb(problem.__traceback__)[-1]
    warnings.warn(
        f"{tool} of server {server!r} failed at {at.filename}:{at.lineno} "
        f"({kind}: {problem}): the model got a tool_error",
        stacklevel=4,
    )
    return _failure(
        ErrorType.TOOL_ERROR,
        f"{tool} failed on these arguments ({kind}); nothing was changed. Try other arguments.",
    )


def differences(path: str, before: Json, after: Json) -> Iterator[Difference]:
    """Where two values differ, as deep as both have the same shape."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict) and set(before) == set(after):
        for key in before:
            yield from differences(f"{path}/{escape(key)}", before[key], after[key])
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(f"{path}/{place}", one, other)
    else:
        yield Difference(path, before, after)


def _short(value: Json) -> str:
    return "nothing" if value is None else shortened(json.dumps(value), _SHOWN)
