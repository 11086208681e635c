"""``orch servers``: list, describe, call, check and serve the stateful tool servers."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orch_env.cli.extras import load
from orch_env.cli.output import emit, json_option, next_command, say
from orch_env.types import OrchError
from orch_env.types.text import readable_json, shortened

if TYPE_CHECKING:
    from orch_env.servers import Server, Tool

TOKEN_VARIABLE = "ORCH_SERVERS_TOKEN"
NAME = "a name of `orch servers list`, or package.module:Class for one of your own"

seed_option = click.option("--seed", default=0, show_default=True, help="Seed of the world.")
today_option = click.option(
    "--today",
    help="Date (2025-03-03) or date and time (2025-03-03T14:30) on which it starts; the world's "
    "own date if not given.",
)


@click.group()
def servers() -> None:
    """List, call, check and serve the stateful tool servers.

    A server is a small simulated service (a bank, a calendar) whose tools change a state. NAME is
    one of `orch servers list`, or package.module:Class for one of your own.
    """


@servers.command("list", short_help="List the servers.", epilog="Example: orch servers list")
@json_option
def list_(as_json: bool) -> None:
    """List the servers with the number of their tools; READ tools change nothing."""
    from orch_env.servers import Access, server_names, server_type

    found = [server_type(name) for name in server_names()]
    total = sum(len(server.tools) for server in found)
    rows = []
    for server in found:
        count = len(server.tools)
        reads = sum(tool.access is Access.READ for tool in server.tools.values())
        rows.append((server.name, count, reads, count - reads, server.category))
    if as_json:
        keys = ("name", "tools", "read", "write", "category")
        entries = [dict(zip(keys, row, strict=True)) for row in rows]
        emit({"servers": entries, "tools": total}, as_json=True)
        return
    _table(
        ("server", ">tools", ">read", ">write", "category", "what it is"),
        [(*row, _first_line(s.__doc__)) for row, s in zip(rows, found, strict=True)],
    )
    say(f"{len(found)} servers, {total} tools")
    next_command("servers", "describe", found[0].name, why="its tools and their arguments")


@servers.command(
    "describe",
    short_help="Show a server's tools.",
    epilog="Example: orch servers describe harbour",
)
@click.argument("name")
@json_option
def describe(name: str, as_json: bool) -> None:
    """Show the tools of the server NAME: arguments, and what a call may do to the state."""
    server = _server(name)
    if as_json:
        tools = [_described(tool) for tool in server.tools.values()]
        about = {"category": server.category, "today": server.epoch}
        emit({"name": server.name, **about, "tools": tools}, as_json=True)
        return
    say(f"{server.name}: {_first_line(server.__doc__)}", bold=True)
    say(f"Its sessions start on {server.epoch} unless told otherwise.")
    _table(
        ("tool", "may", "what it does, and its arguments (* must be given)"),
        ((name, _effect(tool), _about(tool)) for name, tool in server.tools.items()),
    )
    for tool in server.tools.values():
        if not tool.spec.parameters["required"]:
            next_command("servers", "call", name, tool.spec.name, why="a call in a fresh session")
            break


@servers.command(
    "call",
    short_help="Make one call in a fresh session.",
    epilog="""Example: orch servers call harbour find_pilot '{"name": "Ida Falk"}'""",
)
@click.argument("name")
@click.argument("tool")
@click.argument("arguments", metavar="ARGUMENTS_JSON", default="{}")
@seed_option
@today_option
@json_option
@click.pass_context
def call(
    ctx: click.Context,
    name: str,
    tool: str,
    arguments: str,
    seed: int,
    today: str | None,
    as_json: bool,
) -> None:
    """Call TOOL of the server NAME in a fresh session; exit code 1 for an error result.

    The result goes to stdout, what it changed to stderr. Nothing is kept: the next call starts
    from the same world.
    """
    from orch_env.cli.reward.options import json_object
    from orch_env.servers import ServerSession

    session = ServerSession(_server(name), seed, today)
    result = session.call(tool, json_object(arguments, "ARGUMENTS_JSON"))
    error = result.error and result.error.value
    if as_json:
        values = {"text": result.text, "error": error, "state_hash": session.state_hash()}
        emit(values, as_json=True)
    else:
        say(readable_json(json.loads(result.text)))
        for difference in session.diff():
            say(f"changed: {difference}", err=True)
    if error:
        ctx.exit(1)


@servers.command(
    "check",
    short_help="Check servers by using them.",
    epilog="Examples: orch servers check harbour   ·   orch servers check --mcp mcp.json",
)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--mcp",
    "mcp",
    type=click.Path(),
    help="Check the servers of an mcpServers file instead: they start, answer, and play an "
    "episode twice the same.",
)
@json_option
@click.pass_context
def check(ctx: click.Context, names: tuple[str, ...], mcp: str | None, as_json: bool) -> None:
    """Check the servers NAME (all of ours if none is named); exit code 1 if one has a problem.

    Each tool is called many times with arguments from its schema and its world: it must not fail
    by a bug, a READ must leave the state as it was, and so must a call that is refused, an
    idempotent one may be made twice, the laws that a server declares must hold, sessions must not
    see each other, and the same seed must give the same world and the same results, in another
    process too.
    """
    if mcp is not None:
        if names:
            raise OrchError("give NAMEs or --mcp FILE, not both")
        check_servers = load(
            "orch_env.backends.mcp", "check_servers", "`orch servers check --mcp`", "servers"
        )
        result = check_servers(mcp)
    else:
        from orch_env.servers import server_names
        from orch_env.servers.framework.check import check_server

        checked = [_server(name) for name in names or server_names()]
        problems = [f"{s.name}: {problem}" for s in checked for problem in check_server(s)]
        result = {"ok": not problems, "problems": problems}
    if as_json:
        emit(result, as_json=True)
    else:
        for problem in result["problems"]:
            say(problem)
        for differing in result.get("differs", ()):
            texts = " and ".join(shortened(differing[key], 100) for key in ("first", "second"))
            say(f"differs: {differing['tool']}: {texts}")
        say("ok" if result["ok"] else f"{len(result['problems'])} problems")
    if not result["ok"]:
        ctx.exit(1)


@servers.command(
    "serve",
    short_help="Serve servers to other agents by MCP.",
    epilog="Examples: orch servers serve harbour   ·   orch servers serve harbour --http 8000",
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--stdio", is_flag=True, help="Speak on stdin and stdout (the default).")
@click.option(
    "--http",
    "port",
    type=click.IntRange(0, 65535),
    help="Listen on this port by streamable HTTP, at /mcp; 0 takes a free port.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; elsewhere than on this machine alone, clients need a token.",
)
@click.option(
    "--allow-host",
    "allowed",
    multiple=True,
    help="Another name under which clients reach it (Host, Origin); may be repeated.",
)
@click.option(
    "--token-file",
    type=click.Path(),
    help=f"File with the bearer token that clients must send; else {TOKEN_VARIABLE}, else one is "
    "made and printed where it is needed.",
)
@seed_option
@today_option
@click.option(
    "--no-control", is_flag=True, help="Refuse orch/reset, orch/snapshot and the other requests."
)
@json_option
def serve(
    names: tuple[str, ...],
    stdio: bool,
    port: int | None,
    host: str,
    allowed: tuple[str, ...],
    token_file: str | None,
    seed: int,
    today: str | None,
    no_control: bool,
    as_json: bool,
) -> None:
    """Serve the servers NAME as one MCP server until it is stopped.

    Each client gets an episode of its own. Where two servers have a tool of the same name, both
    are called server__tool. Whoever runs the client can send the requests orch/reset,
    orch/state_hash, orch/snapshot and orch/restore; they are no tools, so a model never sees them.
    """
    if stdio and port is not None:
        raise OrchError("give --stdio or --http PORT, not both")
    serving_type = load(
        "orch_env.servers.mcp.protocol", "Serving", "`orch servers serve`", "servers"
    )
    serving = serving_type([_server(n) for n in names], seed, today, control=not no_control)
    if port is None:
        from orch_env.servers.mcp.stdio import serve_stdio

        if sys.stdin.isatty():
            say("speaking MCP on stdin and stdout; --http PORT listens on a port", err=True)
        serve_stdio(serving)
        return
    from orch_env.servers.mcp.http import LOOPBACK, PATH, http_app, listen, serve_http

    token = _token(token_file, needed=host not in LOOPBACK)
    app = http_app(serving, hosts=[*_own_names(host), *allowed], token=token)
    with listen(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}{PATH}"
        if as_json:
            emit({"servers": names, "url": url}, as_json=True)
            sys.stdout.flush()
        say(f"serving {', '.join(names)} at {url} (Ctrl-C stops it)", err=True)
        signal.signal(signal.SIGTERM, lambda *_: None)  # asked to stop, it stops: exit code 0
        serve_http(app, listener)


def _server(name: str) -> type[Server]:
    from orch_env.servers import register_server, server_type

    return server_type(register_server(name))


def _token(path: str | None, *, needed: bool) -> str | None:
    if path is not None:
        token = Path(path).read_text(encoding="utf-8").strip()
        if not token:
            raise OrchError(f"{path!r} holds no token")
        return token
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token and needed:
        token = secrets.token_urlsafe(32)
        say(f"clients must send: Authorization: Bearer {token}", err=True)
    return token or None


def _own_names(host: str) -> list[str]:
    """Under which names clients may reach an address that is not loopback's."""
    import socket

    return [name for name in (host, socket.gethostname()) if name not in ("0.0.0.0", "::")]


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _described(tool: Tool) -> dict[str, Any]:
    effects = {"destructive": tool.destructive, "idempotent": tool.idempotent}
    return {**tool.spec.to_openai(), "access": tool.access.value, **effects}


def _effect(tool: Tool) -> str:
    if tool.access.value == "READ":
        return "read"
    return "write, destroy" if tool.destructive else "write"


def _about(tool: Tool) -> str:
    required = tool.spec.parameters["required"]
    properties = tool.spec.parameters["properties"]
    lines = [tool.spec.description]
    for name, schema in properties.items():
        kind = " | ".join(schema["enum"]) if "enum" in schema else schema["type"]
        lines.append(f"  {'*' if name in required else ''}{name} ({kind}): {schema['description']}")
    return "\n".join(lines)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table as wide as the terminal; ``>`` before a head aligns its column right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in columns:
        right, last = head.startswith(">"), head is columns[-1]
        shown.add_column(
            head.removeprefix(">"), justify="right" if right else "left", no_wrap=not last
        )
    for row in rows:
        shown.add_row(*(Text(str(cell)) for cell in row))
    console = Console(highlight=False)
    # Where nobody looks at a terminal, lines keep their length for grep.
    console.print(shown, width=None if console.is_terminal else 200)
