"""MCP over streamable HTTP: each MCP session is an episode of its own."""

from __future__ import annotations

import hmac
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server.context import CallNext, HandlerResult
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from orch_env.servers.framework.episode import ServerEpisode
from orch_env.servers.mcp.protocol import Context, Serving

PATH = "/mcp"
IDLE_S = 30 * 60.0
"""Seconds without a request after which a client's session and its episode end."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHUTDOWN_S = 1
"""Seconds that open connections get when the server is stopped."""


def http_app(
    serving: Serving,
    *,
    hosts: Sequence[str] = (),
    token: str | None = None,
    idle_s: float = IDLE_S,
) -> Starlette:
    """The ASGI application.

    Args:
        serving: what is served.
        hosts: names and addresses, besides loopback's, under which clients may reach it. A request
            with another ``Host`` or ``Origin`` is refused: a web page could have pointed a name of
            its own at this machine (DNS rebinding).
        token: bearer token that each request must carry; ``None`` for no check.
        idle_s: seconds without a request after which a session ends.

    Raises:
        OrchError: an episode cannot start.
    """

    def episode_of(context: Context) -> ServerEpisode:
        # mcp gives handlers no public way to what lives and ends with a client's session.
        kept = context.session._connection.state
        if "episode" not in kept:
            kept["episode"] = serving.episode()
        found: ServerEpisode = kept["episode"]
        return found

    server = serving.mcp_server(episode_of)
    server.middleware.append(_need_a_session)
    names = [f"[{name}]" if ":" in name else name for name in (*LOOPBACK, *hosts)]
    origins = [f"{scheme}://{name}" for name in names for scheme in ("http", "https")]
    manager = StreamableHTTPSessionManager(
        server,
        json_response=True,
        session_idle_timeout=idle_s,
        security_settings=TransportSecuritySettings(
            allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
            allowed_origins=[form for origin in origins for form in (origin, f"{origin}:*")],
        ),
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            yield

    return Starlette(
        routes=[Route(PATH, endpoint=StreamableHTTPASGIApp(manager))],
        middleware=[Middleware(_Token, token=token)] if token else [],
        lifespan=lifespan,
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    # Connections inherit it; without it an answer waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def serve_http(app: Starlette, listener: socket.socket) -> None:
    """Serve until SIGINT, which raises ``KeyboardInterrupt`` afterwards, or SIGTERM."""
    config = uvicorn.Config(
        app, log_level="warning", timeout_graceful_shutdown=SHUTDOWN_S, lifespan="on"
    )
    uvicorn.Server(config).run(sockets=[listener])


async def _need_a_session(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Refuse what comes without a session (protocol 2026-07-28): its calls would share no state.

    Clients that can speak older versions, which have sessions, then do.
    """
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        known = types.UnsupportedProtocolVersionErrorData(
            supported=list(HANDSHAKE_PROTOCOL_VERSIONS), requested=ctx.protocol_version
        )
        raise MCPError(
            types.UNSUPPORTED_PROTOCOL_VERSION,
            "This server keeps state by session: begin with initialize.",
            data=known.model_dump(mode="json"),
        )
    return await call_next(ctx)


class _Token:
    """ASGI middleware: a request without the bearer token gets 401."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                problem: Any = {"error": "give the token: Authorization: Bearer TOKEN"}
                headers = {"WWW-Authenticate": "Bearer"}
                await JSONResponse(problem, status_code=401, headers=headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)
