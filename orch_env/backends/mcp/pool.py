"""Servers for episodes: started ahead, used by one episode each, and ended after it.

Stateless servers are the exception: one of each answers all episodes, and is replaced when it fails
or does not answer a ping.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from orch_env.backends.mcp.background import acquire, release
from orch_env.backends.mcp.config import McpFile
from orch_env.backends.mcp.connection import Connection
from orch_env.backends.mcp.errors import ServerFailure
from orch_env.backends.mcp.folder import EpisodeFolder

T = TypeVar("T")

_ATTEMPTS = 3
"""Times that servers which started before are tried before the failure is told."""


class ServerSet:
    """The servers of one episode.

    Args:
        own: server -> a connection of its own.
        folder: the episode's folder, ``None`` where no server uses one.

    Attributes:
        shared: server -> a connection that other episodes use too.
    """

    def __init__(self, own: Mapping[str, Connection], folder: EpisodeFolder | None) -> None:
        self.own = own
        self.folder = folder
        self.shared: dict[str, Connection] = {}

    @property
    def connections(self) -> dict[str, Connection]:
        """All of them, by the server's name."""
        return {**self.own, **self.shared}


class ServerPool:
    """Starts and ends the servers of one file. Its public methods may be called from any thread.

    Args:
        file: the servers.
    """

    def __init__(self, file: McpFile) -> None:
        self._file = file
        self._pid = os.getpid()
        self._closing = threading.Lock()
        self._closed = False
        self._background = acquire()
        self._guardian = self._background.guardian
        # In the event loop alone:
        self._ready: dict[tuple[str, ...], deque[asyncio.Task[ServerSet]]] = {}
        self._shared: dict[str, asyncio.Task[ServerSet]] = {}
        self._sets: set[ServerSet] = set()
        self._seen: set[tuple[str, ...]] = set()
        self._work: set[asyncio.Task[Any]] = set()
        self._places = asyncio.Semaphore(max(2, os.cpu_count() or 1))

    @property
    def usable(self) -> bool:
        """Whether it is open, and this is the process that made it."""
        return not self._closed and self._pid == os.getpid()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine where the connections live, and wait for its value.

        Raises:
            ServerFailure: the pool was closed, or is that of another process.
        """
        if not self.usable:
            work.close()
            raise ServerFailure("the MCP servers of this episode were closed")
        return self._background.run(work)

    def take(self, names: Iterable[str]) -> ServerSet:
        """Servers of these names for one episode, with a folder of their own.

        Raises:
            ServerFailure: one does not start.
        """
        return self.run(self._take(tuple(names)))

    def keep(self, servers: ServerSet) -> None:
        """Take back servers that no episode has used, for the next one."""
        if servers.own:
            self.run(self._keep(servers))

    def retire(self, servers: ServerSet) -> None:
        """End an episode's servers and remove its folder, without waiting; may be called twice."""
        if self.usable:
            self._background.loop.call_soon_threadsafe(lambda: self._begin(self._retire(servers)))

    def close(self) -> None:
        """End everything that was started, and wait for it; may be called twice."""
        if self._pid != os.getpid():
            return
        with self._closing:
            if self._closed:
                return
            self._closed = True
        if self._background.here:  # the garbage collector may run in the loop's own thread
            self._background.loop.create_task(self._close()).add_done_callback(
                lambda _: release(self._background)
            )
        else:
            self._background.run(self._close())
            release(self._background)

    # -- in the event loop -------------------------------------------------------------------

    async def _take(self, names: tuple[str, ...]) -> ServerSet:
        stateless = {name for name in names if self._file.servers[name].stateless}
        shared = {name: await self._share(name) for name in sorted(stateless)}
        servers = await self._take_own(tuple(name for name in names if name not in stateless))
        servers.shared.update(shared)
        return servers

    async def _take_own(self, own: tuple[str, ...]) -> ServerSet:
        ready = self._ready.setdefault(own, deque())
        try:
            while True:
                ahead = bool(ready)
                started = ready.popleft() if ready else self._begin(self._start(own))
                try:
                    servers = await asyncio.shield(started)
                    if await _answer(servers):
                        return servers
                    self._begin(self._retire(servers))
                except ServerFailure:
                    if not ahead:
                        raise
                except asyncio.CancelledError:  # an interrupt: the next episode takes them
                    ready.append(started)
                    raise
        finally:
            while own and not self._closed and len(ready) < self._file.ahead:
                ready.append(self._begin(self._start(own)))

    async def _keep(self, servers: ServerSet) -> None:
        async def unused() -> ServerSet:
            return servers

        servers.shared.clear()
        self._ready[tuple(servers.own)].appendleft(self._begin(unused()))

    async def _share(self, name: str) -> Connection:
        """The one connection of a stateless server."""
        while True:
            starting = self._shared.get(name)
            if starting is None:
                starting = self._shared[name] = self._begin(self._start((name,)))
            try:
                servers = await asyncio.shield(starting)
                if await _answer(servers):
                    return servers.own[name]
                self._begin(self._retire(servers))
            except ServerFailure:
                self._forget_shared(name, starting)
                raise
            self._forget_shared(name, starting)

    def _forget_shared(self, name: str, starting: asyncio.Task[ServerSet]) -> None:
        if self._shared.get(name) is starting:
            del self._shared[name]

    async def _start(self, own: tuple[str, ...]) -> ServerSet:
        """Start servers; where they started before, a failure is tried again, in a new folder."""
        attempts = _ATTEMPTS if own in self._seen else 1
        for attempt in range(1, attempts + 1):
            async with self._places:
                folder = None if self._closed else await self._new_folder(own)
                servers = ServerSet({name: self._connection(name, folder) for name in own}, folder)
                self._sets.add(servers)
                if not self._closed:
                    try:
                        await _start_all(servers)
                        self._seen.add(own)
                        return servers
                    except ServerFailure:
                        if attempt == attempts and not self._closed:
                            raise
                    finally:
                        if not _all_started(servers):
                            await self._retire(servers)
            if self._closed:
                await self._retire(servers)
                break
        raise ServerFailure("the MCP servers were closed while they started")

    def _connection(self, name: str, folder: EpisodeFolder | None) -> Connection:
        config = self._file.servers[name]
        mine = folder if config.folder else None
        return Connection(config, mine, self._file.secrets, self._guardian)

    async def _new_folder(self, names: Iterable[str]) -> EpisodeFolder | None:
        configs = [self._file.servers[name] for name in names]
        if not any(config.folder for config in configs):
            return None
        templates = [config.template for config in configs if config.template is not None]
        folder = await _aside(lambda: EpisodeFolder(templates))
        self._guardian.add("folder", folder.root)
        return folder

    async def _retire(self, servers: ServerSet) -> None:
        if servers not in self._sets:
            return
        self._sets.discard(servers)
        await asyncio.gather(*(connection.close() for connection in servers.own.values()))
        if servers.folder is not None:
            await _aside(servers.folder.remove)
            self._guardian.forget("folder", servers.folder.root)

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._work.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever takes the servers, if anybody does

    async def _close(self) -> None:
        while self._sets or self._work:
            for servers in list(self._sets):
                self._begin(self._retire(servers))
            await asyncio.wait(set(self._work))


async def _answer(servers: ServerSet) -> bool:
    return all(await asyncio.gather(*(c.answers() for c in servers.own.values())))


async def _start_all(servers: ServerSet) -> None:
    started = await asyncio.gather(
        *(connection.start() for connection in servers.own.values()), return_exceptions=True
    )
    for problem in started:
        if problem is not None:
            raise problem


def _all_started(servers: ServerSet) -> bool:
    return all(connection.problem is None for connection in servers.own.values())


async def _aside(call: Callable[[], T]) -> T:
    """Run a slow call in another thread, where there can still be one."""
    try:
        return await asyncio.to_thread(call)
    except RuntimeError:  # the interpreter ends, and lets no thread begin
        return call()
