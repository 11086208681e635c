"""Stateful tool servers by name, and the small framework that they use."""

from __future__ import annotations

from orch_env.servers.framework.arguments import Format, Length, Pattern, Range
from orch_env.servers.framework.chance import Chance, words
from orch_env.servers.framework.clock import Clock
from orch_env.servers.framework.errors import InvalidArguments, NotFound, ToolRefusal
from orch_env.servers.framework.records import Stamp
from orch_env.servers.framework.server import Access, Server, Tool, World, read, write
from orch_env.servers.framework.session import ServerSession
from orch_env.servers.framework.table import Table
from orch_env.types import OrchError
from orch_env.types.user_code import load_own

# name -> module:class; a server is imported when a task asks for it.
SERVERS = {
    "banking": "orch_env.servers.domains.banking:Banking",
    "calendar": "orch_env.servers.domains.calendar:Calendar",
    "filesystem": "orch_env.servers.domains.filesystem:Filesystem",
    "harbour": "orch_env.servers.domains.harbour:Harbour",
    "shopping": "orch_env.servers.domains.shopping:Shopping",
    "vehicle": "orch_env.servers.domains.vehicle:Vehicle",
}


def server_names() -> tuple[str, ...]:
    """The names of the servers, sorted."""
    return tuple(sorted(SERVERS))


def server_type(name: str) -> type[Server]:
    """The server class of a name.

    Raises:
        OrchError: there is no such server.
    """
    if name not in SERVERS:
        raise OrchError(f"there is no server {name!r} (servers: {', '.join(server_names())})")
    return _imported(SERVERS[name])


def register_server(path: str) -> str:
    """Make a server of your own known in this process.

    Only the user calls this, or names the path where a server is asked for on the command line or
    in ``gym.make(servers=...)``: a task file can name registered servers and nothing else.

    Args:
        path: ``"package.module:Class"``, or the name of a known server.

    Returns:
        The server's name.

    Raises:
        OrchError: it cannot be imported, is no server, or takes the name of another one.
    """
    if path in SERVERS or ":" not in path:
        return server_type(path).name
    name = _imported(path).name
    if SERVERS.setdefault(name, path) != path:
        raise OrchError(f"{path!r} is called {name!r}, and so is {SERVERS[name]!r}")
    return name


def _imported(path: str) -> type[Server]:
    found = load_own(path, f"the server {path!r}", "a server of your own is named module:Class")
    if not (isinstance(found, type) and issubclass(found, Server)):
        raise OrchError(f"{path!r} is no server: it must be a subclass of orch_env.servers.Server")
    return found


def open_session(name: str, seed: int = 0, today: str | None = None) -> ServerSession:
    """A new session of a server.

    Args:
        name: the server's name.
        seed: the world's seed.
        today: the session's date or date and time, ISO 8601; ``None`` for the server's own.

    Raises:
        OrchError: there is no such server, or ``today`` is no date.

    Examples:
        >>> session = open_session("harbour")
        >>> session.call("find_pilot", {"name": "Nobody"}).error.value
        'not_found'
    """
    return ServerSession(server_type(name), seed, today)


__all__ = [
    "SERVERS",
    "Access",
    "Chance",
    "Clock",
    "Format",
    "InvalidArguments",
    "Length",
    "NotFound",
    "Pattern",
    "Range",
    "Server",
    "ServerSession",
    "Stamp",
    "Table",
    "Tool",
    "ToolRefusal",
    "World",
    "open_session",
    "read",
    "register_server",
    "server_names",
    "server_type",
    "words",
    "write",
]
