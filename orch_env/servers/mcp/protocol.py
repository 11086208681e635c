"""Servers of ours as one MCP server, whatever the transport.

A result is one text content with the bytes of :meth:`ServerSession.call`. Beside the tools there
are requests for whoever runs the episode (:data:`CONTROL`); they are in no list that a model gets.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeAlias

import mcp_types as types
from mcp import Client
from mcp.server.lowlevel import Server as McpServer
from mcp.shared.exceptions import MCPError
from pydantic import RootModel

from orch_env.servers.framework.clock import PER_CALL
from orch_env.servers.framework.episode import ServerEpisode
from orch_env.servers.framework.server import Access, Server, Tool
from orch_env.types import OrchError
from orch_env.types.json import JsonObject
from orch_env.types.tool_shapes import mcp

CONTROL = ("orch/reset", "orch/state_hash", "orch/snapshot", "orch/restore")
"""Requests of the control channel; each acts on the client's own episode alone."""

Context: TypeAlias = Any  # mcp's ServerRequestContext
EpisodeOf: TypeAlias = Callable[[Context], ServerEpisode]


class ResetParams(types.RequestParams):
    """``orch/reset``: what is left out stays as the server was started."""

    seed: int | None = None
    today: str | None = None


class RestoreParams(types.RequestParams):
    """``orch/restore``: what ``orch/snapshot`` gave."""

    snapshot: dict[str, Any]


class _ControlRequest(types.Request[Any, Any]):
    method: str
    params: dict[str, Any] | None = None


_Plain = RootModel[dict[str, Any]]
_STAMPS = ("_meta", "resultType")
"""What newer versions of the protocol add to every result."""


async def control(client: Client, request: str, **params: Any) -> JsonObject:
    """Send a request of the control channel, from the client's side.

    Args:
        client: a connected client of a server of ours.
        request: one of :data:`CONTROL`.
        params: the request's parameters.

    Raises:
        MCPError: the server refuses it, and says why.
    """
    asked = _ControlRequest(method=request, params=params)
    found = await client.session.send_request(asked, _Plain)
    return {key: value for key, value in found.root.items() if key not in _STAMPS}


@dataclass(frozen=True)
class Serving:
    """What is served.

    Attributes:
        servers: the server classes; tools whose names clash are called ``server__tool``.
        seed: of the worlds in which episodes start.
        today: the date or date and time on which they start; ``None`` for the first server's own.
        control: whether the requests of :data:`CONTROL` are answered.
    """

    servers: Sequence[type[Server]]
    seed: int = 0
    today: str | None = None
    control: bool = True

    def episode(self) -> ServerEpisode:
        """A new episode.

        Raises:
            OrchError: ``today`` is no date.
        """
        return ServerEpisode(self.servers, self.seed, self.today)

    def mcp_server(self, episode_of: EpisodeOf) -> McpServer[Any]:
        """The MCP server.

        Args:
            episode_of: the episode of the client that a request comes from.

        Raises:
            OrchError: as :meth:`episode`.
        """
        first = self.episode()
        listed = types.ListToolsResult(tools=[_tool(tool) for tool in first.tools.values()])

        async def list_tools(
            context: Context, params: types.PaginatedRequestParams | None
        ) -> types.ListToolsResult:
            if params is not None and params.cursor is not None:
                raise MCPError(types.INVALID_PARAMS, "There is no such page: all tools are on one.")
            return listed

        async def call_tool(
            context: Context, params: types.CallToolRequestParams
        ) -> types.CallToolResult:
            result = episode_of(context).call(params.name, params.arguments or {})
            text = types.TextContent(type="text", text=result.text)
            return types.CallToolResult(content=[text], is_error=result.error is not None)

        server: McpServer[Any] = McpServer(
            "orch-" + "-".join(first.sessions),
            version=version("orch-rl"),
            instructions=_instructions(first),
            on_list_tools=list_tools,
            on_call_tool=call_tool,
        )
        if self.control:
            self._add_control(server, episode_of)
        return server

    def _add_control(self, server: McpServer[Any], episode_of: EpisodeOf) -> None:
        async def reset(context: Context, params: ResetParams) -> JsonObject:
            episode = episode_of(context)
            seed = self.seed if params.seed is None else params.seed
            episode.reset(seed, params.today or self.today)
            return {"seed": episode.seed, "now": episode.now}

        async def state_hash(context: Context, params: types.RequestParams) -> JsonObject:
            return {"state_hash": episode_of(context).state_hash()}

        async def snapshot(context: Context, params: types.RequestParams) -> JsonObject:
            return {"snapshot": episode_of(context).snapshot()}

        async def restore(context: Context, params: RestoreParams) -> JsonObject:
            episode = episode_of(context)
            episode.restore(params.snapshot)
            return {"seed": episode.seed, "now": episode.now}

        reset_, state_hash_, snapshot_, restore_ = CONTROL
        server.add_request_handler(reset_, ResetParams, _told(reset))
        server.add_request_handler(state_hash_, types.RequestParams, _told(state_hash))
        server.add_request_handler(snapshot_, types.RequestParams, _told(snapshot))
        server.add_request_handler(restore_, RestoreParams, _told(restore))


def _told(
    handler: Callable[[Context, Any], Awaitable[JsonObject]],
) -> Callable[[Context, Any], Awaitable[JsonObject]]:
    """The handler, with what it refuses as an error that says why."""

    async def answer(context: Context, params: Any) -> JsonObject:
        try:
            return await handler(context, params)
        except OrchError as problem:
            raise MCPError(types.INVALID_PARAMS, problem.message) from problem

    return answer


def _tool(tool: Tool) -> types.Tool:
    hints = {
        "readOnlyHint": tool.access is Access.READ,
        "destructiveHint": tool.destructive,
        "idempotentHint": tool.idempotent,
        "openWorldHint": False,
    }
    return types.Tool.model_validate({**mcp(tool.spec), "annotations": hints})


def _instructions(episode: ServerEpisode) -> str:
    servers = [session.server for session in episode.sessions.values()]
    lines = [f"{s.name}: {(inspect.getdoc(type(s)) or '').partition(chr(10))[0]}" for s in servers]
    minutes = PER_CALL.total_seconds() / 60
    return (
        "Simulated services; what you change stays for this session and concerns nothing outside. "
        f"It is {episode.now.replace('T', ' ')} there, and each call takes {minutes:g} minute. "
        "An error's text says how to repair the call.\n" + "\n".join(lines)
    )
