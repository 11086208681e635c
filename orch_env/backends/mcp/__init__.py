"""Any MCP server that exists as a backend: its tools become an environment's."""

from __future__ import annotations

from orch_env.backends.mcp.backend import McpBackend, McpSession
from orch_env.backends.mcp.check import check_servers
from orch_env.backends.mcp.config import read_file
from orch_env.backends.mcp.errors import ServerFailure

__all__ = [
    "McpBackend",
    "McpSession",
    "ServerFailure",
    "check_servers",
    "read_file",
]
