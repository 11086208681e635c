"""Signals as a request: which ones, what a second one does, and when they are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orch_train.run import stop_signal as module
from orch_train.run.stop_signal import stop_signal


def _send(name: str) -> None:
    os.kill(os.getpid(), signal.Signals[name])


@pytest.fixture
def keeps_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_leave_terminal", lambda: None)


@pytest.mark.usefixtures("keeps_terminal")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_first_is_a_request_and_then_ctrl_c_ends_at_once(name: str) -> None:
    said: list[str] = []
    before = signal.getsignal(signal.Signals[name])
    with pytest.raises(KeyboardInterrupt), stop_signal(said.append) as stopped:
        assert not stopped()
        _send(name)
        assert stopped() and said == [name]
        _send("SIGINT")
    assert said == [name]
    assert signal.getsignal(signal.Signals[name]) == before


@pytest.mark.usefixtures("keeps_terminal")
def test_a_hangup_that_is_told_twice_is_one_request() -> None:
    """By the kernel, and by the shell that the closed terminal ends."""
    said: list[str] = []
    with stop_signal(said.append) as stopped:
        _send("SIGHUP")
        _send("SIGHUP")
        assert stopped() and said == ["SIGHUP"]


def test_under_nohup_a_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signal(lambda name: None) as stopped:
            _send("SIGHUP")
            assert not stopped()
    finally:
        signal.signal(signal.SIGHUP, before)


_TERMINAL = """
import os, pty, signal, sys
from orch_train.run.stop_signal import stop_signal

master, terminal = pty.openpty()
report = os.dup(1)
for stream in (0, 1, 2):
    os.dup2(terminal, stream)
os.close(terminal)
os.close(master)  # nobody reads it any more
try:
    os.write(2, b"x")
except OSError:
    os.write(report, b"gone ")
with stop_signal(lambda name: print(name, file=sys.stderr, flush=True)) as stopped:
    os.kill(os.getpid(), signal.SIGHUP)
    print("more", flush=True)
    os.write(report, b"goes on" if stopped() else b"")
"""


def test_what_is_said_after_the_terminal_is_gone_is_no_error() -> None:
    command = [sys.executable, "-c", _TERMINAL]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.stdout == "gone goes on", done.stderr
    assert done.returncode == 0


def test_files_and_pipes_are_written_to_after_a_hangup(tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "from orch_train.run.stop_signal import stop_signal\n"
        "with stop_signal(lambda name: print(name, flush=True)):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
    )
    root = Path(__file__).parents[2]
    with (tmp_path / "log").open("w") as log:
        subprocess.run([sys.executable, "-c", code], cwd=root, stdout=log, check=True)
    assert (tmp_path / "log").read_text() == "SIGHUP\n"
