"""MCP over this process's stdin and stdout: one process, one client, one episode."""

from __future__ import annotations

import os
import signal

import anyio
from mcp.server.stdio import stdio_server

from orch_env.servers.mcp.protocol import Serving


def serve_stdio(serving: Serving) -> None:
    """Serve until the client closes stdin; SIGINT ends the process with exit code 130.

    Raises:
        OrchError: the episode cannot start.
    """
    episode = serving.episode()
    server = serving.mcp_server(lambda context: episode)

    async def serve() -> None:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    # A thread waits for a line on stdin; nothing can wake it, and Python would wait for it. Nothing
    # is lost: what was answered is flushed, and the state lives in this process alone.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    anyio.run(serve)
