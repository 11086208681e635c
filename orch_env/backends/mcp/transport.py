"""The transports under the SDK's client session: a child process, or HTTP with a watch on it.

The SDK has a transport for child processes too. This one bounds what a server may write, ends the
session at the first line that is no message, keeps the end of what the server wrote to its standard
error, and ends the whole process group.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from orch_env.backends.mcp.background import Guardian
from orch_env.backends.mcp.config import ServerConfig
from orch_env.backends.mcp.guardian import kill_group

if TYPE_CHECKING:
    import httpx2
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.shared.message import SessionMessage

MAX_BYTES = 8 << 20
"""Bytes that a server may write for one message, and between two of our requests."""

_TAIL = 2000
_SHOWN = 120
_ASKED_S, _TOLD_S, _KILLED_S = 0.3, 0.7, 2.0
"""Seconds to end after its input ends, after SIGTERM, and after SIGKILL."""
_POLL_S = 0.005

_REFUSALS = (401, 403, 404, 407, 410, 429)
"""Answers of HTTP below 500 that are no server's word on a call."""

Report = Callable[[str], None]
"""Takes why a server is of no further use."""


class ChildProcess:
    """A server as a child process, and its streams for a client session.

    Args:
        config: what to start; ``args`` and ``env`` are given filled in.
        report: told once, when it ends or breaks the protocol.
        guardian: ends it if this process dies.
    """

    def __init__(self, config: ServerConfig, report: Report, guardian: Guardian) -> None:
        self._name = config.name
        self._report = report
        self._guardian = guardian
        self._process: asyncio.subprocess.Process | None = None
        self._streams: list[Any] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._errors = b""
        self._received = 0
        self._began = False

    @property
    def errors(self) -> str:
        """The end of what it wrote to its standard error."""
        return self._errors.decode(errors="replace")

    @asynccontextmanager
    async def open(
        self, command: str, args: Sequence[str], env: Mapping[str, str], cwd: str | None
    ) -> AsyncIterator[tuple[Any, Any]]:
        """Start it; the pair of streams that a client session takes.

        Raises:
            OSError: it cannot be started.
        """
        import anyio

        self._process = await asyncio.create_subprocess_exec(
            command,
            *args,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            limit=MAX_BYTES,
        )
        self._guardian.add("group", self._process.pid)
        to_session, incoming = anyio.create_memory_object_stream[Any](16)
        outgoing, from_session = anyio.create_memory_object_stream[Any](16)
        self._streams = [to_session, incoming, outgoing, from_session]
        self._tasks = [
            asyncio.ensure_future(self._read(to_session)),
            asyncio.ensure_future(self._write(from_session)),
            asyncio.ensure_future(self._read_errors()),
        ]
        try:
            yield incoming, outgoing
        finally:
            await self._end()

    def begin_request(self) -> None:
        """Count what it writes from here on."""
        self._received = 0

    async def gone(self) -> bool:
        """Whether it has ended or closed a stream; the reason is reported by then."""
        reader, writer = self._tasks[:2]
        assert self._process is not None
        if self._process.returncode is None and not reader.done() and not writer.done():
            return False
        await asyncio.wait({reader}, timeout=_TOLD_S)
        return True

    def kill(self) -> None:
        """End it with its whole group, now."""
        if self._process is not None:
            kill_group(self._process.pid)

    # -- streams -----------------------------------------------------------------------------

    async def _read(self, to_session: MemoryObjectSendStream[SessionMessage]) -> None:
        from mcp.shared.message import SessionMessage

        assert self._process is not None and self._process.stdout is not None
        async with to_session:
            try:
                while line := await self._process.stdout.readline():
                    self._received += len(line)
                    if self._received > MAX_BYTES:
                        raise ValueError
                    message = self._message(line) if line.strip() else None
                    if message is not None:
                        with suppress(*_closed()):  # the session ends; what is read is dropped
                            await to_session.send(SessionMessage(message))
            except _NoMessage as problem:
                self._broke(str(problem))
            except ValueError:  # a line beyond the reader's limit
                self._broke(f"wrote more than {MAX_BYTES >> 20} MB at once")
            except OSError:
                pass
            else:
                await self._died()

    def _message(self, line: bytes) -> Any:
        """The message on a line, ``None`` for what a server prints before its first message.

        Raises:
            _NoMessage: the line is none.
        """
        import mcp_types
        from pydantic import ValidationError

        if not line.endswith(b"\n"):
            return None  # it died while it wrote
        try:
            message = mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValidationError:
            shown = line[:_SHOWN].decode(errors="replace").strip()
            if not self._began and not line.lstrip().startswith((b"{", b"[")):
                return None  # a greeting; hosts pass over it too
            raise _NoMessage(
                f"printed what is no MCP message to its standard output: {shown!r}"
            ) from None
        self._began = True
        return message

    async def _write(self, from_session: MemoryObjectReceiveStream[SessionMessage]) -> None:
        assert self._process is not None and self._process.stdin is not None
        stdin = self._process.stdin
        with suppress(OSError, *_closed()):
            async with from_session:
                async for item in from_session:
                    text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                    stdin.write(text.encode() + b"\n")
                    await stdin.drain()

    async def _read_errors(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        with suppress(OSError):
            while written := await self._process.stderr.read(1 << 16):
                self._errors = (self._errors + written)[-_TAIL:]

    def _broke(self, what: str) -> None:
        self._report(what)
        self.kill()

    async def _died(self) -> None:
        await self._ended_within(_TOLD_S)
        assert self._process is not None
        code = self._process.returncode
        if code is None:
            self._broke("closed its standard output")
        elif code < 0:
            self._report(f"was killed by signal {-code} ({_signal_name(-code)})")
        else:
            self._report(f"ended by itself with exit code {code}")

    # -- the end -----------------------------------------------------------------------------

    async def _end(self) -> None:
        """End the group: close its input, then SIGTERM, then SIGKILL; wait a bounded time each."""
        process = self._process
        assert process is not None and process.stdin is not None
        process.stdin.close()
        if not await self._ended_within(_ASKED_S):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGTERM)
            await self._ended_within(_TOLD_S)
        kill_group(process.pid)  # also what the server started and left behind
        await self._ended_within(_KILLED_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for stream in self._streams:
            stream.close()
        transport = getattr(process, "_transport", None)  # nothing public closes its pipes
        if transport is not None:
            with suppress(PermissionError):
                transport.close()
        self._guardian.forget("group", process.pid)

    async def _ended_within(self, seconds: float) -> bool:
        """Whether the server's own process ends in time; ``wait()`` would wait for its pipes."""
        assert self._process is not None
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._process.returncode is None and loop.time() < until:
            await asyncio.sleep(_POLL_S)
        return self._process.returncode is not None


class _NoMessage(Exception):
    """A line that is no message."""


def _closed() -> tuple[type[Exception], ...]:
    import anyio

    return (anyio.BrokenResourceError, anyio.ClosedResourceError)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def find_program(command: str, path: str | None, cwd: str | None) -> str | None:
    """The program's file, ``None`` if there is none.

    Args:
        command: its name or path.
        path: the ``PATH`` of the server, ``None`` for ours.
        cwd: the folder in which the server runs.
    """
    if os.sep in command:
        command = os.path.join(cwd or os.curdir, os.path.expanduser(command))
    found = shutil.which(command, path=path)
    return found and os.path.abspath(found)


@asynccontextmanager
async def open_remote(config: ServerConfig, report: Report) -> AsyncIterator[tuple[Any, Any]]:
    """Connect to a remote server; the pair of streams that a client session takes.

    Args:
        config: the server.
        report: told when a request was answered by no message at all.
    """
    import httpx2
    from mcp.client.sse import sse_client
    from mcp.client.streamable_http import streamable_http_client

    class Bounded(httpx2.AsyncByteStream):
        """A response's bytes, up to :data:`MAX_BYTES`."""

        def __init__(self, stream: httpx2.AsyncByteStream) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            received = 0
            async for part in self._stream:
                received += len(part)
                if received > MAX_BYTES:
                    report(f"wrote more than {MAX_BYTES >> 20} MB at once")
                    return
                yield part

        async def aclose(self) -> None:
            await self._stream.aclose()

    class Watched(httpx2.AsyncClient):
        """Reports answers that are failures, and bounds those to requests of ours."""

        async def send(self, request: httpx2.Request, **more: Any) -> httpx2.Response:
            try:
                response = await super().send(request, **more)
            except httpx2.HTTPError as problem:
                report(f"could not be reached ({type(problem).__name__})")
                raise
            if request.method == "POST":
                if response.status_code >= 500 or response.status_code in _REFUSALS:
                    report(f"answered with HTTP status {response.status_code}")
                assert isinstance(response.stream, httpx2.AsyncByteStream)
                response.stream = Bounded(response.stream)
            return response

    def client(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        return Watched(
            headers={**(headers or {}), **config.headers, "Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(config.timeout_s, read=None),  # our calls have their own limit
        )

    assert config.url is not None
    async with AsyncExitStack() as stack:
        if config.sse:
            made = sse_client(config.url, httpx_client_factory=client)
        else:
            http = await stack.enter_async_context(client())
            made = streamable_http_client(
                config.url, http_client=http, max_sse_event_size=MAX_BYTES
            )
        yield await stack.enter_async_context(made)
