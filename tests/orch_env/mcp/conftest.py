"""Files, backends and processes of the tests on MCP servers."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from orch_env.backends.mcp import McpBackend, McpSession
from orch_env.types import Task, ToolCall, ToolResult

RAW = Path(__file__).with_name("raw_server.py")

MakeBackend = Callable[..., McpBackend]


def raw(*arguments: str, **more: Any) -> dict[str, Any]:
    """An entry of the file for the server of raw_server.py."""
    return {"command": sys.executable, "args": ["-I", "-S", str(RAW), *arguments], **more}


def task(*servers: str, tools: tuple[Any, ...] = ()) -> Task:
    return Task(id="t", messages=({"role": "user", "content": "?"},), tools=tools, servers=servers)


def call(session: McpSession, name: str, **arguments: Any) -> ToolResult:
    (result,) = session.answer([ToolCall(name, arguments)])
    return result


_older: set[psutil.Process] = set()
"""What ran before the test began: other tests of the same process leave helpers of Python's."""


def children() -> list[psutil.Process]:
    """Processes of this test that descend from this one and still run."""
    found = psutil.Process().children(recursive=True)
    running = [process for process in found if process.status() != psutil.STATUS_ZOMBIE]
    return [process for process in running if process not in _older]


@pytest.fixture(autouse=True)
def _own_processes() -> None:
    _older.clear()
    _older.update(psutil.Process().children(recursive=True))


@pytest.fixture
def mcp_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of servers."""

    def write(servers: dict[str, Any], **more: Any) -> Path:
        path = tmp_path / "mcp.json"
        path.write_text(json.dumps({"mcpServers": servers, **more}))
        return path

    return write


@pytest.fixture
def backend(mcp_file: Callable[..., Path]) -> Iterator[MakeBackend]:
    """Makes backends, and holds that they leave no process, thread or folder."""
    made: list[McpBackend] = []
    before = {process.pid for process in children()}, set(threading.enumerate())

    def make(servers: dict[str, Any], *, ahead: int = 0, **more: Any) -> McpBackend:
        made.append(McpBackend(mcp_file(servers, orch={"ahead": ahead}, **more)))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert {process.pid for process in children()} <= before[0]
    for thread in set(threading.enumerate()) - before[1]:
        thread.join(10)  # one that was told to end may still be on its way out
        assert not thread.is_alive(), thread


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Episodes' folders of a test are made in one place, which is empty in the end."""
    place = tmp_path / "folders"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    yield place
    assert list(place.iterdir()) == []
