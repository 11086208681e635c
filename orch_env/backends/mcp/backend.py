"""`McpBackend`: any MCP server as the tools of an environment.

A task's servers are those that it names (`Task.servers`), or all of the file. A tool is known by
its own name; where two of a task's servers share one, both tools are called ``server__tool``.

Each episode has servers of its own, started for it in a folder of its own. Calls of one message
are asked at the same time. A call that breaks the tool's schema is refused here, as everywhere in
this package; what the schema allows is the server's to judge.

Where a server's tools change in the middle of an episode, the new ones can be called at once. The
last result that is no error, of this message or of the next one with such a result, ends with a
line that says what changed::

    [tools changed] {"added": [{"name": ..., "description": ..., "parameters": ...}],
    "changed": [...], "removed": ["name", ...]}
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from orch_env.backends.arguments import ArgumentChecker, checker_of
from orch_env.backends.mcp.config import read_file
from orch_env.backends.mcp.errors import ServerFailure
from orch_env.backends.mcp.pool import ServerPool, ServerSet
from orch_env.servers.framework.episode import names_of_tools
from orch_env.tasks.resolved import OfferedTool, ResolvedTask, TaskResolver, offered_tool
from orch_env.types import ErrorType, OrchError, Task, ToolCall, ToolResult, ToolSpec
from orch_env.types.json import JsonObject

ANNOUNCEMENT = "[tools changed] "

_opening = threading.Lock()


def _after_fork() -> None:
    global _opening
    _opening = threading.Lock()  # another thread may have held it


os.register_at_fork(after_in_child=_after_fork)


class _Owner(NamedTuple):
    """Where a tool lives: the server, and the tool's name there."""

    server: str
    tool: str


@dataclass(frozen=True, slots=True, eq=False)
class _McpTask(ResolvedTask):
    """A resolved task with its servers.

    Attributes:
        named: the servers whose tools it offers.
        owners: name of each offered tool, as the model sees it -> where it lives.
        unoffered: names of tools that its servers have, and that it does not offer.
    """

    named: tuple[str, ...] = ()
    owners: Mapping[str, _Owner] = field(default_factory=dict)
    unoffered: frozenset[_Owner] = frozenset()


class McpBackend:
    """A `ToolBackend` over the servers of an ``mcpServers`` file.

    Servers are started on first use, in whichever process that is. After :meth:`close` it can be
    used again.

    Args:
        path: the file, see :mod:`orch_env.backends.mcp.config`.

    Raises:
        OrchError: the file is wrong, or MCP's SDK is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = read_file(path)
        _require_sdk()
        self._pool: ServerPool | None = None
        self._tools: dict[str, dict[str, ToolSpec]] = {}
        self._resolve = TaskResolver(self._resolved)

    @property
    def servers(self) -> tuple[str, ...]:
        """Names of the file's servers, in its order."""
        return tuple(self._file.servers)

    def tools(self, servers: Iterable[str] | None = None) -> dict[str, ToolSpec]:
        """The tools of servers, by the name that a model uses; all of the file's by default.

        Raises:
            OrchError: there is no such server, or it cannot be started.
        """
        chosen = self.servers if servers is None else tuple(servers)
        return {name: spec for name, (_, spec) in self._named(chosen).items()}

    def resolve(self, task: Task) -> ResolvedTask:
        """The task with the specs it offers, in its order; all of its servers' if it names none.

        Raises:
            OrchError: no such server, no such tool, or a server cannot be started.
        """
        return self._resolve(task)

    def open(self, task: Task, *, seed: int) -> McpSession:
        """Start an episode on servers of its own. They know no seed.

        Raises:
            OrchError: as :meth:`resolve`.
            ServerFailure: a server does not start, although it did before.
        """
        resolved = self._resolve(task)
        pool = self._open_pool()
        session = McpSession(pool, pool.take(resolved.named), resolved, self._tools)
        session.backend = self
        return session

    def close(self) -> None:
        """End all servers and remove all folders; may be called twice."""
        with _opening:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _open_pool(self) -> ServerPool:
        with _opening:
            if self._pool is None or not self._pool.usable:
                self._pool = ServerPool(self._file)
                weakref.finalize(self, self._pool.close)
            return self._pool

    def _resolved(self, task: Task) -> _McpTask:
        named = task.servers or self.servers
        known = self._named(named)
        specs: list[ToolSpec] = []
        for tool in task.tools or known:
            name = tool if isinstance(tool, str) else tool.name
            if name not in known:
                raise OrchError(
                    f"task {task.id!r} offers tool {name!r}, which no server of "
                    f"{self._file.path} that it uses has ({', '.join(named)})"
                )
            spec = known[name][1]
            if isinstance(tool, ToolSpec):
                spec = replace(tool, read_only=spec.read_only)  # the server knows, not the task
            specs.append(spec)
        owners = {spec.name: known[spec.name][0] for spec in specs}
        return _McpTask.of(
            task,
            map(offered_tool, specs),
            named=tuple(dict.fromkeys(named)),
            owners=owners,
            unoffered=frozenset(owner for owner, _ in known.values()) - set(owners.values()),
        )

    def _named(self, servers: Sequence[str]) -> dict[str, tuple[_Owner, ToolSpec]]:
        """Name as the model sees it -> where the tool lives, and its spec."""
        for name in servers:
            if name not in self._file.servers:
                raise OrchError(
                    f"{self._file.path} has no server {name!r} (servers: {', '.join(self.servers)})"
                )
        if not all(name in self._tools for name in servers):
            self._discover(servers)
        named = names_of_tools({name: self._tools[name] for name in servers})
        return {
            shown: (_Owner(server, tool), replace(self._tools[server][tool], name=shown))
            for shown, (server, tool) in named.items()
        }

    def _discover(self, servers: Sequence[str]) -> None:
        """Start servers for the first time, to read their tools."""
        pool = self._open_pool()
        try:
            found = pool.take(servers)
        except ServerFailure as failure:
            raise OrchError(f"{self._file.path}: {failure}") from None
        for name, connection in found.connections.items():
            self._tools.setdefault(name, dict(connection.tools))
        pool.keep(found)


class McpSession:
    """The servers of one episode.

    Args:
        pool: where its servers come from.
        servers: its servers.
        task: what it plays.
        known: server -> tool -> the spec that the model was told at the beginning.

    Attributes:
        backend: kept, because a backend that nobody holds ends its servers.
    """

    backend: McpBackend

    def __init__(
        self,
        pool: ServerPool,
        servers: ServerSet,
        task: _McpTask,
        known: Mapping[str, Mapping[str, ToolSpec]],
    ) -> None:
        self._pool = pool
        self._servers = servers
        self._connections = servers.connections
        self._unoffered = task.unoffered
        self._tools: dict[str, tuple[_Owner, ArgumentChecker | None]] = {
            tool.spec.name: (task.owners[tool.spec.name], _checker(tool)) for tool in task.offered
        }
        self._told = {name: known[name] for name in task.named}
        self._news: JsonObject = {}
        self._failure: ServerFailure | None = None
        weakref.finalize(self, pool.retire, servers)

    def answer(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """Ask the servers, all calls at the same time.

        Raises:
            ServerFailure: a server did not answer; the episode is of no further use.
        """
        if self._failure is not None:
            raise self._failure
        try:
            return self._pool.run(self._answer(calls))
        except ServerFailure as failure:
            self._failure = failure
            self.close()
            raise

    def close(self) -> None:
        """End the servers and remove the folder, without waiting for it; may be called twice."""
        if self._failure is None:
            self._failure = ServerFailure("the MCP servers of this episode were closed")
        self._pool.retire(self._servers)

    async def _answer(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        turns = {
            server: asyncio.Lock()  # which lets the calls in as they came
            for server, tools in self._called(calls).items()
            if self._connections[server].keeps_order(tools)
        }
        asked = await asyncio.gather(*(self._call(c, turns) for c in calls), return_exceptions=True)
        results: list[ToolResult] = []
        for result in asked:
            if isinstance(result, BaseException):
                raise result
            results.append(result)
        called = self._called(calls)
        await asyncio.gather(
            *(c.follow_changes(called=name in called) for name, c in self._connections.items())
        )
        self._note_changes()
        last = max((n for n, result in enumerate(results) if result.error is None), default=None)
        if self._news and last is not None:
            line = ANNOUNCEMENT + json.dumps(self._news, ensure_ascii=False)
            text = results[last].text
            results[last] = ToolResult(f"{text}\n{line}" if text else line)
            self._news = {}
        return results

    def _called(self, calls: Sequence[ToolCall]) -> dict[str, list[str]]:
        """Server -> the tools of it that are called."""
        called: dict[str, list[str]] = {}
        for owner, _ in (self._tools[call.name] for call in calls if call.name in self._tools):
            called.setdefault(owner.server, []).append(owner.tool)
        return called

    async def _call(self, call: ToolCall, turns: Mapping[str, asyncio.Lock]) -> ToolResult:
        owner, checker = self._tools.get(call.name, (None, None))
        if owner is None:
            known = ", ".join(self._tools)
            return ToolResult.failure(
                ErrorType.UNKNOWN_TOOL, f"No tool {call.name[:60]!r}. Tools: {known}."
            )
        if checker is not None:
            problem = checker.problem(call.arguments)
            if problem is not None:
                return problem
        async with turns.get(owner.server) or nullcontext():
            return await self._connections[owner.server].call(owner.tool, call.arguments)

    def _note_changes(self) -> None:
        """Compare the servers' tools with what the model was told, and offer those there are."""
        for server, connection in self._connections.items():
            before, now = self._told[server], connection.tools
            if before == now:
                continue
            self._told[server] = dict(now)
            names = {owner: name for name, (owner, _) in self._tools.items()}
            for tool in dict.fromkeys((*before, *now)):
                owner = _Owner(server, tool)
                if owner in self._unoffered or before.get(tool) == now.get(tool):
                    continue
                name = names.get(owner) or self._free_name(owner)
                if tool not in now:
                    self._tools.pop(name, None)
                    self._news.setdefault("removed", []).append(name)
                    continue
                spec = replace(now[tool], name=name)
                self._tools[name] = (owner, _checker(offered_tool(spec)))
                kind = "changed" if tool in before else "added"
                self._news.setdefault(kind, []).append(_shown(spec))

    def _free_name(self, owner: _Owner) -> str:
        return owner.tool if owner.tool not in self._tools else f"{owner.server}__{owner.tool}"


def _checker(tool: OfferedTool) -> ArgumentChecker | None:
    """What judges a tool's arguments; ``None`` where only the server can read its schema."""
    try:
        return checker_of(tool)
    except OrchError:
        return None


def _shown(spec: ToolSpec) -> JsonObject:
    shown: JsonObject = spec.to_openai()["function"]
    return shown


def _require_sdk() -> None:
    try:
        import mcp.client  # noqa: F401
    except ImportError as problem:
        raise OrchError(
            f"MCP servers need MCP's SDK ({problem}): pip install 'orch-rl[servers]'"
        ) from None
