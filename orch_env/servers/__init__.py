"""Stateful tool servers by name, and the small framework that they use."""

from __future__ import annotations

import importlib

from orch_env.servers.framework.errors import InvalidArguments, NotFound, ToolRefusal
from orch_env.servers.framework.server import Access, Server, Tool, World, read, write
from orch_env.servers.framework.session import ServerSession
from orch_env.servers.framework.table import Table
from orch_env.types import OrchError

# name -> module:class; a server is imported when a task asks for it.
SERVERS = {"harbour": "orch_env.servers.domains.harbour:Harbour"}


def server_type(name: str) -> type[Server]:
    """The server class of a name.

    Raises:
        OrchError: there is no such server.
    """
    if name not in SERVERS:
        raise OrchError(f"there is no server {name!r} (servers: {', '.join(sorted(SERVERS))})")
    module, _, attribute = SERVERS[name].partition(":")
    found: type[Server] = getattr(importlib.import_module(module), attribute)
    return found


__all__ = [
    "SERVERS",
    "Access",
    "InvalidArguments",
    "NotFound",
    "Server",
    "ServerSession",
    "Table",
    "Tool",
    "ToolRefusal",
    "World",
    "read",
    "server_type",
    "write",
]
