"""Serving by MCP: what clients get, what they cannot reach, and how it ends."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp import Client, MCPError, stdio_client

from orch_env.cli.main import main
from orch_env.servers import (
    Access,
    Chance,
    Server,
    ServerSession,
    open_session,
    read,
    server_names,
    server_type,
    write,
)
from orch_env.servers.framework.episode import ServerEpisode
from orch_env.servers.mcp.http import http_app, listen, serve_http
from orch_env.servers.mcp.protocol import CONTROL, Serving, control
from tests.orch_env.servers.served import (
    ENVIRONMENT,
    INITIALIZE,
    PATIENCE_S,
    SERVE,
    Answers,
    Calls,
    listening,
    natural_calls,
    play,
    post,
    stdio,
    streaming,
)

NAMES = server_names()
ODD: Calls = [
    ("no_such_tool", {}),
    ("find_ship", {}),
    ("find_ship", {"name": 7}),
    ("find_ship", {"name": "Überfahrt 🚢", "colour": "red"}),
    ("find_ship", {"name": "x" * 10_000}),
]
"""Calls that are refused before any server's own code."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """All servers on a port of this machine."""
    with listening(*NAMES) as (found, _):
        yield found


def every_call() -> Calls:
    """Natural calls of all servers under the names that they have together."""
    shown = ServerEpisode([server_type(name) for name in NAMES]).tools
    calls: Calls = []
    for name in NAMES:
        for tool, arguments in natural_calls(name):
            calls.append((tool if tool in shown else f"{name}__{tool}", arguments))
    return calls + ODD


def in_process(calls: Calls, seed: int = 0) -> tuple[Answers, dict[str, str]]:
    episode = ServerEpisode([server_type(name) for name in NAMES], seed)
    results = [episode.call(name, arguments) for name, arguments in calls]
    return [(r.text, r.error is not None) for r in results], episode.state_hash()


# -- the same bytes ----------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["http", "stdio", "stdio without sessions"])
def test_the_same_calls_give_the_same_bytes_and_states_by_every_transport(
    transport: str, url: str
) -> None:
    calls = every_call()
    expected, hashes = in_process(calls)
    assert any(error for _, error in expected) and not all(error for _, error in expected)
    start = ServerEpisode([server_type(name) for name in NAMES]).state_hash()
    assert all(hashes[name] != start[name] for name in NAMES)

    async def run() -> None:
        mode = "auto" if transport == "stdio without sessions" else "legacy"
        target = url if transport == "http" else stdio_client(stdio(*NAMES))
        async with Client(target, mode=mode) as client:
            assert await play(client, calls) == expected
            assert await control(client, "orch/state_hash") == {"state_hash": hashes}

    anyio.run(run)


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_of_one_server_is_a_session_of_it(name: str) -> None:
    episode, session = ServerEpisode([server_type(name)], 5), open_session(name, 5)
    for tool, arguments in [*natural_calls(name, 5), *ODD]:
        assert episode.call(tool, arguments) == session.call(tool, arguments)
    assert episode.state_hash() == {name: session.state_hash()}
    assert episode.now == session.clock.now.isoformat(timespec="minutes")


def test_tools_are_listed_with_their_schemas_and_true_hints(url: str) -> None:
    async def run() -> list[types.Tool]:
        async with Client(url) as client:
            return list((await client.list_tools()).tools)

    listed = anyio.run(run)
    known = ServerEpisode([server_type(name) for name in NAMES]).tools
    assert [tool.name for tool in listed] == list(known)
    for tool in listed:
        own, hints = known[tool.name], tool.annotations
        assert tool.input_schema == own.spec.to_openai()["function"]["parameters"]
        assert hints is not None and hints.open_world_hint is False
        assert hints.read_only_hint == (own.access is Access.READ)
        assert (hints.destructive_hint, hints.idempotent_hint) == (own.destructive, own.idempotent)


# -- sessions ----------------------------------------------------------------------------------


def test_two_clients_do_not_see_each_other(url: str) -> None:
    calls = every_call()
    expected, hashes = in_process(calls)
    start = ServerEpisode([server_type(name) for name in NAMES]).state_hash()

    async def run() -> None:
        async with Client(url) as one, Client(url) as other:
            for part in range(0, len(calls), 7):
                some = slice(part, part + 7)
                assert await play(one, calls[some]) == expected[some]
                assert (await control(other, "orch/state_hash"))["state_hash"] == start
            assert (await control(one, "orch/state_hash"))["state_hash"] == hashes
            assert await play(other, calls) == expected

    anyio.run(run)


class Lamp(Server):
    """A lamp that counts how often it was switched."""

    name = "lamp"

    def populate(self, chance: Chance) -> None:
        pass

    @read
    def status(self) -> dict[str, Any]:
        """What it does."""
        return {"is": "a lamp"}


class Door(Server):
    """A door that asks to be knocked at."""

    name = "door"

    def populate(self, chance: Chance) -> None:
        pass

    @read
    def status(self) -> dict[str, Any]:
        """What it does."""
        return {"is": "a door", "at": self.now.isoformat()}

    @write(destructive=True)
    def break_open(self) -> dict[str, Any]:
        """Break it open."""
        return {}


def with_clients(serving: Serving, use: Callable[[Client], Awaitable[None]]) -> None:
    """Use a client of an episode in this process."""
    episode = serving.episode()

    async def run() -> None:
        async with Client(serving.mcp_server(lambda ctx: episode), mode="legacy") as client:
            await use(client)

    anyio.run(run)


def test_tools_of_one_name_get_their_server_s_name_and_share_a_clock() -> None:
    async def use(client: Client) -> None:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == ["lamp__status", "door__status", "break_open"]
        calls: Calls = [("lamp__status", {}), ("status", {}), ("door__status", {})]
        lamp, unknown, door = await play(client, calls)
        assert lamp == ('{"is": "a lamp"}', False)
        assert unknown[1] and "lamp__status, door__status, break_open" in unknown[0]
        assert door == ('{"is": "a door", "at": "2025-01-01T09:02:00"}', False)
        assert "It is 2025-01-01 09:00 there" in (client.instructions or "")
        assert "door: A door that asks to be knocked at." in (client.instructions or "")

    with_clients(Serving([Lamp, Door]), use)


def test_an_idle_session_ends_and_its_episode_with_it() -> None:
    opened: list[weakref.ref[ServerEpisode]] = []

    class Watched(Serving):
        def episode(self) -> ServerEpisode:
            made = super().episode()
            opened.append(weakref.ref(made))
            return made

    listener = listen("127.0.0.1", 0)
    found = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    app = http_app(Watched([server_type("harbour")]), idle_s=0.3)
    threading.Thread(target=serve_http, args=(app, listener), daemon=True).start()
    session = post(found, "initialize", INITIALIZE)[2]
    assert session is not None
    asked = {"name": "find_ship", "arguments": {"name": "Nobody"}}
    status, answer, _ = post(found, "tools/call", asked, mcp_session_id=session)
    assert status == 200 and answer["result"]["isError"]
    waited, pause = 0.0, threading.Event()
    while opened[-1]() is not None and waited < PATIENCE_S:
        waited += 0.05
        pause.wait(0.05)
        gc.collect()
    assert opened[-1]() is None
    assert post(found, "tools/call", asked, mcp_session_id=session)[0] == 404
    assert post(found, "tools/call", asked)[0] == 400


def test_a_request_without_a_session_is_told_to_begin_one(url: str) -> None:
    """Protocol 2026-07-28 has no sessions over HTTP, and state without one would be lost."""

    async def run() -> None:
        async with Client(url, mode="2026-07-28") as client:
            with pytest.raises(MCPError, match="begin with initialize") as refused:
                await client.call_tool("find_ship", {"name": "Nobody"})
            assert "2025-11-25" in refused.value.error.data["supported"]
        async with Client(url) as client:
            assert client.protocol_version == "2025-11-25"

    anyio.run(run)


# -- the control channel -----------------------------------------------------------------------


def test_an_episode_is_reset_to_a_seed_and_a_day_and_goes_back_to_a_snapshot() -> None:
    harbour = server_type("harbour")
    calls = natural_calls("harbour", 3)

    async def use(client: Client) -> None:
        there = await control(client, "orch/reset", seed=3, today="2025-06-01T10:30")
        assert there == {"seed": 3, "now": "2025-06-01T10:30"}
        session = ServerSession(harbour, 3, "2025-06-01T10:30")
        for name, arguments in calls[:5]:
            session.call(name, arguments)
        await play(client, calls[:5])
        kept = (await control(client, "orch/snapshot"))["snapshot"]
        assert kept == {"seed": 3, "servers": {"harbour": session.snapshot()}}
        first = await play(client, calls[5:])
        end = await control(client, "orch/state_hash")
        assert await control(client, "orch/reset") == {"seed": 0, "now": "2025-03-03T09:00"}
        back = await control(client, "orch/restore", snapshot=json.loads(json.dumps(kept)))
        assert back == {"seed": 3, "now": "2025-06-01T10:35"}
        assert await play(client, calls[5:]) == first
        assert await control(client, "orch/state_hash") == end

    with_clients(Serving([harbour]), use)


@pytest.mark.parametrize(
    ("method", "params", "problem"),
    [
        ("orch/reset", {"today": "soon"}, "'soon' is no date"),
        ("orch/reset", {"seed": "many"}, "Invalid request parameters"),
        ("orch/restore", {}, "Invalid request parameters"),
        ("orch/restore", {"snapshot": {}}, "it has another form"),
        ("orch/restore", {"snapshot": {"seed": 0, "servers": {"x": {}}}}, "other servers: x"),
        (
            "orch/restore",
            {"snapshot": {"seed": 0, "servers": {"harbour": {}}}},
            "the snapshot belongs",
        ),
        ("orch/restore", {"snapshot": {"seed": [], "servers": 1}}, "it has another form"),
    ],
)
def test_a_bad_control_request_says_why_and_changes_nothing(
    method: str, params: dict[str, Any], problem: str
) -> None:
    async def use(client: Client) -> None:
        await play(client, natural_calls("harbour")[:8])
        before = await control(client, "orch/snapshot")
        with pytest.raises(MCPError, match=problem):
            await control(client, method, **params)
        assert await control(client, "orch/snapshot") == before

    with_clients(Serving([server_type("harbour")]), use)


@pytest.mark.parametrize("method", CONTROL)
def test_control_can_be_switched_off_and_is_no_tool(method: str) -> None:
    async def use(client: Client) -> None:
        with pytest.raises(MCPError, match="Method not found"):
            await control(client, method)
        [(text, is_error)] = await play(client, [(method, {})])
        assert is_error and json.loads(text)["error"]["type"] == "unknown_tool"

    with_clients(Serving([server_type("harbour")], control=False), use)


# -- who may come ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:80", "Origin": "http://localhost:3000"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8000"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_foreign_host_or_origin_is_refused(
    url: str, headers: dict[str, str], status: int
) -> None:
    got, _, session = post(url, "initialize", INITIALIZE, **headers)
    assert got == status
    assert (session is not None) == (status == 200)


def test_elsewhere_than_on_this_machine_a_token_is_made_and_needed() -> None:
    with listening("harbour", "--host", "0.0.0.0") as (found, lines):
        [said] = [line for line in lines if "Bearer" in line]
        token = said.rpartition(" ")[2].strip()
        assert len(token) >= 32
        for given in ({}, {"Authorization": "Bearer x"}, {"Authorization": token}):
            status, answer, session = post(found, "initialize", INITIALIZE, **given)
            assert (status, session) == (401, None)
            assert "Bearer TOKEN" in answer["error"]
        allowed = {"Authorization": f"Bearer {token}"}
        assert post(found, "initialize", INITIALIZE, **allowed)[0] == 200
        foreign = {**allowed, "Host": "evil.example"}
        assert post(found, "initialize", INITIALIZE, **foreign)[0] == 421


def test_a_token_file_and_another_host_name_hold_on_loopback_too(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open sesame\n")
    options = ("--token-file", str(tmp_path / "token"), "--allow-host", "agents.example")
    with listening("harbour", *options) as (found, lines):
        assert not any("sesame" in line for line in lines)
        assert post(found, "initialize", INITIALIZE)[0] == 401
        headers = {
            "Authorization": "Bearer open sesame",
            "Host": "agents.example:443",
            "Origin": "https://agents.example",
        }
        assert post(found, "initialize", INITIALIZE, **headers)[0] == 200


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("nowhere",), "there is no server 'nowhere'"),
        (("harbour", "--stdio", "--http", "8000"), "not both"),
        (("harbour", "--today", "soon"), "'soon' is no date"),
        (("harbour", "--http", "0", "--token-file", "/nowhere/token"), "No such file"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_exit_code_two(
    arguments: tuple[str, ...], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["servers", "serve", *arguments]) == 2
    said = capsys.readouterr().err
    assert problem in said and said.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert main(["servers", "serve", "harbour", "--http", port]) == 2
    assert "in use" in capsys.readouterr().err


def test_without_the_sdk_the_command_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['mcp'] = sys.modules['mcp_types'] = None; "
        "from orch_env.cli.main import main; sys.exit(main(['servers', 'serve', 'harbour']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "pip install 'orch-rl[servers]'" in done.stderr


# -- how it ends -------------------------------------------------------------------------------


def asked(method: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": INITIALIZE}).encode()


@pytest.mark.parametrize(("how", "code"), [("stdin", 0), ("SIGINT", 130)])
def test_serving_on_stdio_ends_cleanly(how: str, code: int) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*SERVE, "harbour"], stdin=pipe, stdout=pipe, stderr=pipe, env=ENVIRONMENT
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(asked("initialize") + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["result"]["serverInfo"]
        if how == "stdin":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == code
        assert process.stdout.read() == process.stderr.read() == b""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_serving_on_a_port_ends_cleanly_with_clients_there(number: int, code: int) -> None:
    command = [*SERVE, "harbour", "--http", "0", "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout and process.stderr
        said = json.loads(process.stdout.readline())
        assert said["servers"] == ["harbour"]
        session = post(said["url"], "initialize", INITIALIZE)[2] or ""
        with streaming(said["url"], session):
            process.send_signal(number)
            assert process.wait(PATIENCE_S) == code
        assert "Traceback" not in process.stderr.read()
