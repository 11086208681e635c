"""Nothing outlives its user: no process, thread or folder, whatever ends the user."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from orch_env.backends.mcp import McpBackend
from tests.orch_env.mcp.conftest import MakeBackend, call, children, raw, task

ROOT = Path(__file__).resolve().parents[3]

USER = """
    import sys, tempfile
    tempfile.tempdir = sys.argv[2]
    from orch_env.backends.mcp import McpBackend
    from orch_env.types import Task, ToolCall
    backend = McpBackend(sys.argv[1])
    session = backend.open(Task(id="t", messages=()), seed=0)
    session.answer([ToolCall("note", {"text": "x"})])
    print(session.answer([ToolCall("start_a_child", {})])[0].text, flush=True)
    sys.stdin.read()
"""


def runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(done: Callable[[], bool]) -> bool:
    """Wait until something is so, at most 20 seconds."""
    ends = time.monotonic() + 20
    while not done() and time.monotonic() < ends:
        psutil.wait_procs([psutil.Process()], timeout=0.02)
    return done()


@pytest.mark.parametrize(
    "end",
    [
        "",
        pytest.param("raise ValueError('a bug')", marks=pytest.mark.long),
        pytest.param("os.kill(os.getpid(), 2)", marks=pytest.mark.long),
    ],
    ids=["without closing anything", "with an exception", "by an interrupt"],
)
def test_nothing_is_left_when_a_program_ends(end: str, mcp_file: Callable[..., Path]) -> None:
    path = mcp_file({"raw": raw(orch={"folder": True})})
    user = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import os\n{textwrap.dedent(USER)}\n{end}",
            path,
            tempfile.tempdir,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    assert user.stdin is not None and user.stdout is not None
    grandchild = psutil.Process(int(user.stdout.readline()))
    started = [grandchild, *psutil.Process(user.pid).children(recursive=True)]
    assert len(started) >= 4  # also the guardian, a server, and one that was started ahead
    user.communicate()
    assert until(lambda: not any(map(runs, started)))


@pytest.mark.parametrize("end", [signal.SIGKILL, None], ids=["a kill", "an exit at once"])
def test_nothing_is_left_of_a_worker_after(
    end: int | None, mcp_file: Callable[..., Path], own_temporary_folder: Path
) -> None:
    path = mcp_file({"raw": raw(orch={"folder": True})})
    reader, writer = os.pipe()
    worker = os.fork()
    if worker == 0:
        try:
            session = McpBackend(path).open(task(), seed=0)
            call(session, "note", text="x")
            os.write(writer, call(session, "start_a_child").text.encode() + b"\n")
            if end is not None:
                signal.pause()
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as said:
        grandchild = psutil.Process(int(said.readline()))
    started = [grandchild]
    if end is not None:
        started += psutil.Process(worker).children(recursive=True)
        assert len(started) >= 4 and any(own_temporary_folder.iterdir())
        os.kill(worker, end)
    os.waitpid(worker, 0)
    assert until(lambda: not any(map(runs, started)))
    assert until(lambda: not any(own_temporary_folder.iterdir()))


def test_a_child_of_a_server_ends_with_it(backend: MakeBackend) -> None:
    made = backend({"raw": raw()})
    child = psutil.Process(int(call(made.open(task(), seed=0), "start_a_child").text))
    made.close()
    assert until(lambda: not runs(child))


def test_a_session_that_nobody_holds_any_more_ends_its_servers(backend: MakeBackend) -> None:
    made = backend({"raw": raw()})
    session = made.open(task(), seed=0)
    server = psutil.Process(int(call(session, "process_id").text))
    del session
    assert until(lambda: not runs(server))


def test_a_session_holds_its_backend(mcp_file: Callable[..., Path]) -> None:
    session = McpBackend(mcp_file({"raw": raw()})).open(task(), seed=0)
    gc.collect()
    assert call(session, "echo", text="x").text == "x"
    del session
    gc.collect()
    assert children() == []


def test_a_backend_that_nobody_holds_any_more_ends_everything(
    mcp_file: Callable[..., Path],
) -> None:
    made = McpBackend(mcp_file({"raw": raw()}))
    made.resolve(task())
    assert children()
    del made
    gc.collect()
    assert children() == []


def test_a_read_only_folder_is_removed(backend: MakeBackend, own_temporary_folder: Path) -> None:
    made = backend({"raw": raw(orch={"folder": True})})
    session = made.open(task(), seed=0)
    call(session, "note", text="x")
    for root in own_temporary_folder.iterdir():
        os.chmod(root / "workspace", 0o500)
    made.close()
    assert list(own_temporary_folder.iterdir()) == []


def test_a_fork_has_servers_of_its_own(backend: MakeBackend) -> None:
    made = backend({"raw": raw(orch={"folder": True})})
    session = made.open(task(), seed=0)
    call(session, "note", text="parent")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            own = made.open(task(), seed=0)
            call(own, "note", text="child")
            told = [call(own, "read_notes").text, call(own, "process_id").text]
            try:
                call(session, "read_notes")
            except Exception as problem:
                told.append(str(problem))
            made.close()
            os.write(writer, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        notes, process_id, problem = json.load(said)
    os.waitpid(child, 0)
    assert notes == "child\n" and process_id != call(session, "process_id").text
    assert "closed" in problem
    assert call(session, "read_notes").text == "parent\n"
    assert not psutil.pid_exists(int(process_id))
