"""Remote servers, by HTTP: the same episodes, and failures of HTTP that are infrastructure."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from orch_env.backends.mcp import ServerFailure
from orch_env.types import OrchError, ToolCall
from tests.orch_env.mcp.conftest import MakeBackend, call, task

TOKEN = "Bearer t-84711"
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": []}
TOGETHER_S = 0.3
"""Seconds that a call waits for another one to be there at the same time."""
TOOLS = [
    "meet",
    "meet_and_write",
    "say",
    "tell_session",
    "unauthorised",
    "broken",
    "nothing",
    "page",
    "no_json",
    "flood",
]


class Handler(BaseHTTPRequestHandler):
    """One endpoint that answers with JSON; ids of sessions count up."""

    protocol_version = "HTTP/1.1"
    sessions: ClassVar[list[str]] = []
    ended: ClassVar[list[str]] = []
    meeting: ClassVar[threading.Barrier]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.reply(405)

    def do_DELETE(self) -> None:
        self.ended.append(str(self.headers["Mcp-Session-Id"]))
        self.reply(200)

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method, to = message["method"], message.get("id")
        if self.headers["Authorization"] != TOKEN:
            return self.reply(401)
        if to is None:
            return self.reply(202)
        result: Any = {}
        if method == "initialize":
            self.sessions.append(str(len(self.sessions)))
            result = {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "remote", "version": "1"},
            }
        elif method == "tools/list":
            hint = {"annotations": {"readOnlyHint": False}}
            writes = {"meet_and_write": hint}
            result = {
                "tools": [
                    {"name": name, "inputSchema": SCHEMA, **writes.get(name, {})} for name in TOOLS
                ]
            }
        elif method == "tools/call":
            name = message["params"]["name"]
            if name == "unauthorised":
                return self.reply(401)
            if name == "broken":
                return self.reply(500, b"Internal Server Error t-84711")
            if name == "nothing":
                self.close_connection = True
                return None
            if name == "page":
                return self.reply(200, b"<html>t-84711", "text/html")
            if name == "no_json":
                return self.reply(200, b'{"jsonrpc": t-84711')
            if name == "flood":
                return self.reply(200, b'"' + b"x" * (9 << 20) + b'"')
            text = message["params"].get("arguments", {}).get("text", TOKEN)
            if name.startswith("meet"):
                text = self.met()
            if name == "tell_session":
                text = self.headers["Mcp-Session-Id"]
            result = {"content": [{"type": "text", "text": text}]}
        body = json.dumps({"jsonrpc": "2.0", "id": to, "result": result}).encode()
        return self.reply(200, body, session=method == "initialize")

    def met(self) -> str:
        try:
            self.meeting.wait(TOGETHER_S)
        except threading.BrokenBarrierError:
            self.meeting.reset()
            return "alone"
        return "together"

    def reply(
        self,
        status: int,
        body: bytes = b"",
        kind: str = "application/json",
        *,
        session: bool = False,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if session:
            self.send_header("Mcp-Session-Id", self.sessions[-1])
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving() -> Iterator[tuple[str, type[Handler]]]:
    class Own(Handler):
        sessions: ClassVar[list[str]] = []
        ended: ClassVar[list[str]] = []
        meeting: ClassVar[threading.Barrier] = threading.Barrier(2)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/mcp?key=q-84711", Own
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def remote() -> Iterator[tuple[dict[str, Any], type[Handler]]]:
    """An entry of the file for a remote server, and what it has seen."""
    with serving() as (url, seen):
        yield {"url": url, "headers": {"Authorization": TOKEN}, "orch": {"timeout": 5}}, seen


Remote = tuple[dict[str, Any], type[Handler]]


def test_each_episode_has_a_session_of_its_own(backend: MakeBackend, remote: Remote) -> None:
    made = backend({"far": remote[0]})
    first, second = made.open(task(), seed=0), made.open(task(), seed=0)
    assert call(first, "say", text="hi").text == "hi"
    ids = [call(session, "tell_session").text for session in (first, second)]
    assert len(set(ids)) == 2 and set(ids) <= set(remote[1].sessions)
    made.close()
    assert sorted(remote[1].ended) == sorted(remote[1].sessions)


@pytest.mark.parametrize(
    ("second", "parallel", "found"),
    [
        ("meet", None, "together"),
        ("meet_and_write", None, "alone"),
        ("meet_and_write", True, "together"),
        ("meet", False, "alone"),
    ],
)
def test_calls_keep_their_order_beside_one_that_writes(
    backend: MakeBackend, remote: Remote, second: str, parallel: bool | None, found: str
) -> None:
    far = remote[0]
    if parallel is not None:
        far = {**far, "orch": {**far["orch"], "parallel": parallel}}
    session = backend({"far": far}).open(task(), seed=0)
    results = session.answer([ToolCall("meet", {}), ToolCall(second, {})])
    assert [result.text for result in results] == [found, found]


def test_headers_never_come_back(backend: MakeBackend, remote: Remote) -> None:
    session = backend({"far": remote[0]}).open(task(), seed=0)
    assert call(session, "say").text == "[redacted]"


@pytest.mark.parametrize(
    ("tool", "why"),
    [
        ("unauthorised", "answered with HTTP status 401"),
        ("broken", "answered with HTTP status 500"),
        ("nothing", "could not be reached"),
        ("page", "did not answer page"),
        ("no_json", "did not answer no_json"),
        ("flood", "wrote more than 8 MB at once"),
    ],
)
def test_failures_of_http_are_infrastructure(
    backend: MakeBackend, remote: Remote, caplog: pytest.LogCaptureFixture, tool: str, why: str
) -> None:
    caplog.set_level("DEBUG")
    made = backend({"far": remote[0]})
    session = made.open(task(), seed=0)
    with pytest.raises(ServerFailure, match=f"MCP server 'far' {why}") as failure:
        call(session, tool)
    assert "84711" not in str(failure.value) and "84711" not in caplog.text
    assert call(made.open(task(), seed=0), "say", text="again").text == "again"


def test_a_server_that_cannot_be_reached_is_told_in_one_line(backend: MakeBackend) -> None:
    with serving() as (url, _):
        pass
    with pytest.raises(OrchError, match=r"MCP server 'far' could not be reached") as problem:
        backend({"far": {"url": url}}).resolve(task())
    assert "84711" not in str(problem.value) and "\n" not in str(problem.value)
