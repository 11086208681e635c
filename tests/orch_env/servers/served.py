"""Our servers as other agents meet them: processes that serve, clients, control requests."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import mcp_types as types
from mcp import Client, StdioServerParameters

from orch_env.servers import open_session
from orch_env.servers.domains.harbour import Harbour
from orch_env.types.json import JsonObject
from tools.server_tasks.chains import fitting, run_chain, templates_of

Calls = list[tuple[str, JsonObject]]
Answers = list[tuple[str, bool]]
PATIENCE_S = 60.0
"""Seconds in which everything ends, on a machine that does much else too."""
SERVE = (sys.executable, "-m", "orch_env.cli.main", "servers", "serve")
ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1"}


def natural_calls(name: str, seed: int = 0) -> Calls:
    """Gold calls of a server's tasks and calls that it refuses, in an order of no meaning."""
    if name == "harbour":
        return harbour_calls(seed)
    found: Calls = []
    templates = templates_of(name)
    for maker in (*templates.chains.values(), *templates.refusals.values()):
        if (fits := fitting(maker, name, seed)) is not None:
            gold = run_chain(*fits).gold
            found += [(call.name, dict(call.arguments)) for step in gold for call in step]
    return found


def harbour_calls(seed: int) -> Calls:
    """Serve a few ships in port by every tool; some of it is refused, as done before."""
    session = open_session("harbour", seed)
    found: Calls = []

    def ask(tool: str, result: str, **arguments: str) -> str:
        found.append((tool, dict(arguments)))
        return str(json.loads(session.call(tool, arguments).text).get(result))

    harbour = session.server
    assert isinstance(harbour, Harbour)
    on_duty = next(pilot for pilot in harbour.pilots.values() if pilot.on_duty)
    for known in list(harbour.ships.values())[:3]:
        ship = ask("find_ship", "ship", name=known.name)
        cargo = ask("ship_cargo", "cargo", ship=ship)
        permit = ask("cargo_permit", "permit", cargo=cargo)
        for _ in range(2):
            ask("renew_permit", "until", permit=permit)
        berth = ask("ship_berth", "berth", ship=ship)
        crane = ask("berth_crane", "crane", berth=berth)
        ask("unload_cargo", "job", cargo=cargo, crane=crane)
        ask("notify_agent", "notice", agent=ask("ship_agent", "agent", ship=ship), berth=berth)
        pilot = ask("find_pilot", "pilot", name=on_duty.name)
        ask(
            "confirm_booking",
            "confirmed",
            booking=ask("book_pilot", "booking", ship=ship, pilot=pilot),
        )
    return found


def stdio(*names: str) -> StdioServerParameters:
    """What a client starts."""
    program, *arguments = (*SERVE, *names)
    return StdioServerParameters(command=program, args=arguments, env=ENVIRONMENT)


@contextmanager
def listening(*arguments: str) -> Iterator[tuple[str, list[str]]]:
    """``orch servers serve ARGUMENTS --http 0`` while it runs: its URL and its lines on stderr."""
    command = [*SERVE, *arguments, "--http", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stderr is not None
        lines: list[str] = []
        try:
            for line in process.stderr:
                lines.append(line)
                if " at http" in line:
                    break
            found = re.search(r"http://\S+", lines[-1])
            assert found, lines
            yield found[0], lines
        finally:
            process.terminate()
            assert process.wait(PATIENCE_S) == 0


async def play(client: Client, calls: Calls) -> Answers:
    """The text of each answer, and whether it is an error."""
    answers: Answers = []
    for name, arguments in calls:
        result = await client.call_tool(name, arguments)
        [content] = result.content
        assert isinstance(content, types.TextContent)
        assert result.structured_content is None
        answers.append((content.text, bool(result.is_error)))
    return answers


INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


def connect(url: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection to a URL's address, and the URL's path."""
    found = re.fullmatch(r"http://(.+):(\d+)(/.*)", url)
    assert found
    address = "127.0.0.1" if found[1] == "0.0.0.0" else found[1]
    return http.client.HTTPConnection(address, int(found[2]), timeout=PATIENCE_S), found[3]


@contextmanager
def streaming(url: str, session: str) -> Iterator[None]:
    """Listen for what a server sends of its own accord, as clients do."""
    connection, path = connect(url)
    headers = {"Accept": "text/event-stream", "Mcp-Session-Id": session}
    with closing(connection):
        connection.request("GET", path, headers=headers)
        assert connection.getresponse().status == 200
        yield


def post(
    url: str, method: str, params: JsonObject | None = None, **headers: str
) -> tuple[int, Any, str | None]:
    """One JSON-RPC request as plain HTTP.

    Args:
        url: of the server.
        method: the request's method.
        params: the request's parameters.
        headers: besides those of the protocol; ``_`` stands for ``-``.

    Returns:
        Status, body, session id.
    """
    connection, path = connect(url)
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    sent = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    with closing(connection):
        connection.request("POST", path, json.dumps(body), sent)
        response = connection.getresponse()
        text = response.read().decode()
        is_json = response.getheader("content-type", "").startswith("application/json")
        read = json.loads(text) if is_json else text
        return response.status, read, response.getheader("mcp-session-id")
