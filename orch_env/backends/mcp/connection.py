"""One server, started or connected to: its tools, its calls, and whether it is still of use."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Awaitable, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from orch_env.backends.mcp.background import Guardian
from orch_env.backends.mcp.config import ServerConfig
from orch_env.backends.mcp.errors import ServerFailure
from orch_env.backends.mcp.folder import EpisodeFolder
from orch_env.backends.mcp.results import result_text, tool_result
from orch_env.backends.mcp.secrets import Secrets
from orch_env.backends.mcp.transport import ChildProcess, find_program, open_remote
from orch_env.tasks.resolved import OfferedTool
from orch_env.types import ErrorType, OrchError, ToolResult, ToolSpec
from orch_env.types.json import JsonObject

if TYPE_CHECKING:
    from mcp import ClientSession

T = TypeVar("T")

_MOST_PAGES = 100
_SHOWN = 300
_INVALID_PARAMS = -32602
_NO_ANSWER = (-32000, -32600, -32700)
"""Codes that the SDK makes up where an HTTP server answered with no message."""


class Connection:
    """A session with one server; used within the event loop alone.

    Args:
        config: the server.
        folder: the episode's folder, if it has one.
        secrets: what no text may show.
        guardian: ends its process if this one dies.

    Attributes:
        config: the server.
        tools: what it offers now, by name.
        problem: why it is of no further use, ``None`` while it is.
    """

    def __init__(
        self,
        config: ServerConfig,
        folder: EpisodeFolder | None,
        secrets: Secrets,
        guardian: Guardian,
    ) -> None:
        self.config = config
        self.tools: dict[str, ToolSpec] = {}
        self.problem: str | None = None
        self._folder = folder
        self._secrets = secrets
        self._child = (
            None if config.command is None else ChildProcess(config, self._report, guardian)
        )
        self._session: ClientSession | None = None
        self._announces_changes = False
        self._changed = False
        self._one_at_a_time = asyncio.Lock() if config.parallel is False else None
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it and read its tools.

        Raises:
            ServerFailure: it did not start, or not in time.
        """
        self._life = asyncio.ensure_future(self._live())
        ready = asyncio.ensure_future(self._ready.wait())
        limit = self.config.start_timeout_s
        await asyncio.wait({self._life, ready}, timeout=limit, return_when="FIRST_COMPLETED")
        ready.cancel()
        if self._ready.is_set() and self.problem is None:
            return
        self._report(f"was not ready within {limit:g} s (orch.start_timeout)")
        said = "" if self._child is None else " ".join(self._child.errors.split())[-_SHOWN:]
        await self.close()
        raise self._failure(f"; it said: {said}" if said else "")

    def keeps_order(self, tools: Iterable[str]) -> bool:
        """Whether calls of these tools in one message must be asked one after the other."""
        if self.config.parallel is not None or self.config.url is None:
            return False  # decided, or one stream that keeps their order by itself
        return any(t in self.tools and self.tools[t].read_only is False for t in tools)

    async def call(self, tool: str, arguments: JsonObject) -> ToolResult:
        """Call a tool; what the server answers is the result, its errors too.

        Raises:
            ServerFailure: it did not answer in time, died, or answered no result.
        """
        if self._one_at_a_time is None:
            return await self._call(tool, arguments)
        async with self._one_at_a_time:
            return await self._call(tool, arguments)

    async def answers(self) -> bool:
        """Whether it still answers; asked before an episode gets it."""
        if self.problem is None:
            with suppress(ServerFailure):
                await self._within(self._running().send_ping(), "a ping")
        return self.problem is None

    async def follow_changes(self, *, called: bool) -> None:
        """Read its tools again if it said that they changed.

        Args:
            called: whether it was just called. Then it is asked for a sign of life first: messages
                keep their order, so nothing that it said before is still on its way.

        Raises:
            ServerFailure: as for :meth:`call`.
        """
        if called and self._announces_changes:
            await self._within(self._running().send_ping(), "a ping")
        if self._changed:
            await self._within(self._read_tools(self._running()), "its list of tools")

    async def close(self) -> None:
        """End it; may be called twice, and while it starts."""
        self._report("was closed")
        self._stop.set()
        if self._life is None:
            return
        if not self._ready.is_set():
            self.kill()
            self._life.cancel()
        await asyncio.wait({self._life})

    def kill(self) -> None:
        """End its process now, if it has one."""
        if self._child is not None:
            self._child.kill()

    # -- the session -------------------------------------------------------------------------

    async def _live(self) -> None:
        """Hold the session open until it is stopped: it has to be closed where it was opened."""
        import mcp_types
        from mcp import ClientSession

        me = mcp_types.Implementation(name="orch-rl", version="1")
        try:
            # Without callbacks, requests for sampling, elicitation and roots are refused, and the
            # server is told at the start that it need not ask.
            async with (
                self._streams() as (read, write),
                ClientSession(read, write, message_handler=self._hear, client_info=me) as session,
            ):
                try:
                    await self._begin(session)
                except Exception as problem:
                    self._report(_told(problem))  # before the end of its process is a reason
                    raise
                self._session = session
                self._ready.set()
                await self._stop.wait()
        except Exception as problem:  # whatever a server's words make the SDK raise
            self._report(_told(problem))
        except asyncio.CancelledError:
            self._report("was closed")
            raise

    async def _begin(self, session: ClientSession) -> None:
        began = await session.initialize()
        offers = began.capabilities.tools
        self._announces_changes = bool(offers and offers.list_changed)
        if offers is not None:
            await self._read_tools(session)

    def _streams(self) -> AbstractAsyncContextManager[tuple[Any, Any]]:
        config, child = self.config, self._child
        if child is None or config.command is None:
            return open_remote(config, self._report)
        from mcp.client.stdio import get_default_environment

        def filled(text: str) -> str:
            return text if self._folder is None else self._folder.filled(text)

        env = get_default_environment() | {name: filled(v) for name, v in config.env.items()}
        cwd = filled(config.cwd) if config.cwd else None
        if cwd is None and self._folder is not None:
            cwd = self._folder.path
        program = find_program(filled(config.command), env.get("PATH"), cwd)
        if program is None:
            raise OrchError(f"there is no program {config.command!r}")
        return child.open(program, [filled(arg) for arg in config.args], env, cwd)

    async def _read_tools(self, session: ClientSession) -> None:
        import mcp_types

        self._changed = False
        found: dict[str, ToolSpec] = {}
        cursor = None
        for _ in range(_MOST_PAGES):
            page = await session.list_tools(params=mcp_types.PaginatedRequestParams(cursor=cursor))
            for tool in page.tools:
                spec = self._spec(tool.model_dump(by_alias=True, mode="json", exclude_none=True))
                if spec is not None:
                    found[spec.name] = spec
            cursor = page.next_cursor
            if cursor is None:
                break
        self.tools = found

    def _spec(self, tool: JsonObject) -> ToolSpec | None:
        """What the model sees of a tool; ``None``, with a warning, where it cannot be offered."""
        try:
            spec = ToolSpec.from_dict(json.loads(self._shown(json.dumps(tool, ensure_ascii=False))))
            OfferedTool(spec)
            return spec
        except (OrchError, ValueError) as problem:
            warnings.warn(
                f"MCP server {self.config.name!r}: a tool is left out: {self._shown(str(problem))}",
                stacklevel=2,
            )
            return None

    async def _hear(self, message: Any) -> None:
        """What a server says without being asked."""
        import mcp_types

        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._changed = True

    # -- a call ------------------------------------------------------------------------------

    async def _call(self, tool: str, arguments: JsonObject) -> ToolResult:
        import mcp_types

        if self._folder is not None:
            arguments = self._folder.in_arguments(arguments)
        request = mcp_types.CallToolRequest(
            params=mcp_types.CallToolRequestParams(name=tool, arguments=arguments)
        )
        try:
            request.model_dump_json()
            json.dumps(arguments, allow_nan=False)
        except (ValueError, RecursionError):
            return ToolResult.failure(
                ErrorType.INVALID_ARGUMENTS,
                f"{tool}: these arguments cannot be sent: they hold NaN, an infinite number, half "
                "of a character, or are nested too deeply. Write them in another way.",
            )
        try:
            # Not `call_tool`: it judges results by the tool's output schema, and raises.
            answer = await self._within(
                self._running().send_request(request, mcp_types.CallToolResult), tool
            )
        except _Refusal as refusal:
            kind = ErrorType.TOOL_ERROR
            if refusal.code == _INVALID_PARAMS:
                kind = ErrorType.INVALID_ARGUMENTS
            return ToolResult.failure(kind, self._shown(refusal.message))
        return tool_result(self._shown(result_text(answer)), failed=bool(answer.is_error))

    async def _within(self, work: Awaitable[T], what: str) -> T:
        """What the server answers, within its limit.

        Raises:
            _Refusal: it answered with an error of the protocol.
            ServerFailure: it did not answer in time, died, or broke the protocol.
        """
        from mcp import MCPError

        if self._child is not None:
            self._child.begin_request()
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task}, timeout=self.config.timeout_s)
            if not task.done():
                self._report(
                    f"did not answer {what} within {self.config.timeout_s:g} s (orch.timeout)"
                )
                self.kill()
                raise self._failure()
            return task.result()
        except MCPError as error:
            if self._child is None and error.code in _NO_ANSWER:
                self._report(f"did not answer {what} ({error.message})")
            if self._child is not None and await self._child.gone():
                self._report("went away")
            if self.problem is not None:
                raise self._failure() from None
            raise _Refusal(error.code, error.message) from None
        except (ServerFailure, asyncio.CancelledError):
            raise
        except Exception as problem:  # what the SDK raises for an answer that is no result
            self._report(f"answered {what} with no result ({_told(problem)})")
            self.kill()
            raise self._failure() from None
        finally:
            task.cancel()

    def _running(self) -> ClientSession:
        if self._session is None or self.problem is not None:
            raise self._failure()
        return self._session

    # -- problems ----------------------------------------------------------------------------

    def _report(self, problem: str) -> None:
        """Note why it is of no further use; the first reason counts."""
        if self.problem is None:
            self.problem = problem

    def _failure(self, more: str = "") -> ServerFailure:
        said = f"MCP server {self.config.name!r} {self.problem or 'is not running'}{more}"
        return ServerFailure(self._shown(" ".join(said.split())))

    def _shown(self, text: str) -> str:
        """A text of the server as it may leave this module."""
        text = self._secrets.redact(text)
        return text if self._folder is None else self._folder.in_results(text)


class _Refusal(Exception):
    """An error that the server answered with."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def _told(problem: BaseException) -> str:
    """What failed, in a few words."""
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    if isinstance(problem, OrchError):
        return f"cannot be started: {problem}"
    if isinstance(problem, OSError) and problem.strerror:
        return f"cannot be started ({problem.strerror})"
    first_line = str(problem).strip().partition("\n")[0][:_SHOWN]
    return f"failed ({type(problem).__name__}: {first_line})"
