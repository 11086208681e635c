"""A run's folder has one owner: of several processes one wins, and the dead keep no one out."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from orch_env.types import OrchError
from orch_train.storage import folder_owner
from orch_train.storage.folder_owner import TRACES, FolderOwner, refuse_owned
from orch_train.storage.run_folder import (
    make_numbered,
    own,
    own_new,
    refuse_unwritable,
    refuse_used,
    set_aside,
)

OWNER = "owner.json"
_ROOT = Path(__file__).resolve().parents[2]
_HOLD = """
import sys
from pathlib import Path
from orch_train.storage.run_folder import own
with own(Path(sys.argv[1])):
    print("owned", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns the folder."""
    command = [sys.executable, "-c", _HOLD, str(folder)]
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "owned\n"
        try:
            yield process
        finally:
            process.kill()


def test_of_two_under_one_name_one_wins_and_the_other_is_told_who(tmp_path: Path) -> None:
    with own_new(tmp_path / "run") as folder:
        assert folder.is_dir()
        me = rf"in use by process {os.getpid()} on {socket.gethostname()} \(since "
        with pytest.raises(OrchError, match=me), own_new(tmp_path / "run"):
            pass
        with pytest.raises(OrchError, match=me), own(tmp_path / "run"):
            pass
        assert folder.is_dir(), "the one that lost takes nothing away"


def test_generated_names_are_taken_one_after_the_other(tmp_path: Path) -> None:
    with (
        own_new(tmp_path / "base", numbered=True) as first,
        own_new(tmp_path / "base", numbered=True) as second,
    ):
        assert (first.name, second.name) == ("base", "base-2")


def test_a_folder_is_found_used_or_new(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with own_new(tmp_path / "empty") as folder:
        (folder / "config.yaml").write_text("x")
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]
    (tmp_path / "file").write_text("x")
    for name in ("empty", "file"):
        for attempt in (own_new(tmp_path / name), own_new(tmp_path / name, "do that")):
            with pytest.raises(OrchError, match="is used already"), attempt:
                pass
    with pytest.raises(OrchError, match="does not exist"), own(tmp_path / "gone"):
        pass


def test_a_folder_without_a_result_is_removed_with_the_parents_that_were_made_for_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("runs/deep/run", "mine"):
        with pytest.raises(ZeroDivisionError), own_new(tmp_path / name) as folder:
            assert (folder / OWNER).is_file()
            raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["mine"], "that was there before"
    assert not list((tmp_path / "mine").iterdir())


def test_a_process_that_was_killed_keeps_no_one_out(tmp_path: Path) -> None:
    with _held_elsewhere(tmp_path) as other:
        with pytest.raises(OrchError, match=f"in use by process {other.pid} on "), own(tmp_path):
            pass
        with pytest.raises(OrchError, match=f"process {other.pid} "):
            refuse_used(tmp_path)
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (tmp_path / OWNER).is_file()
        refuse_owned(tmp_path)
        with own(tmp_path):
            assert json.loads((tmp_path / OWNER).read_text())["pid"] == os.getpid()
    assert not (tmp_path / OWNER).exists()


@pytest.mark.parametrize("left", ['{"host": "gone", "pid": 1, "started": "2020"}', "", "{", "[]"])
def test_what_a_machine_that_is_gone_left_behind_is_taken_over(left: str, tmp_path: Path) -> None:
    for name in (OWNER, ".owner.lock"):
        (tmp_path / name).write_text(left)
    refuse_used(tmp_path)
    with own_new(tmp_path):
        (tmp_path / OWNER).write_text(left)
        with pytest.raises(OrchError, match=r"is in use by (another process|process 1 on gone)"):
            refuse_owned(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_made_and_removed_all_the_time_has_one_owner_at_most(
    tmp_path: Path,
) -> None:
    """Whoever waits for a lock may get that of a file that is gone by then."""
    inside: list[str] = []
    seen: list[int] = []

    def work(name: str) -> int:
        entered = 0
        for _ in range(30):
            try:
                with own_new(tmp_path / "run"):
                    inside.append(name)
                    seen.append(len(inside))
                    inside.remove(name)
                    entered += 1
            except OrchError as problem:
                assert "in use" in str(problem)
        return entered

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(work, "abc")) >= 30
    assert set(seen) == {1}


# -- where nothing can be written ------------------------------------------------------------


@contextmanager
def _full_disk() -> Iterator[None]:
    """No file may grow."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("name", ["/proc/x", "/proc/x/y", "file", "file/run", "dangling/run"])
def test_an_unwritable_place_is_one_clear_error_and_nothing_is_left(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "at all")
    place, before = tmp_path / name, sorted(tmp_path.iterdir())
    with pytest.raises(OrchError, match=r"cannot be made or written|used already"):
        refuse_used(place)
        refuse_unwritable(place)
    for attempt in (own_new(place), own_new(place / "run", numbered=True)):
        with pytest.raises(OrchError, match=r"cannot be made or written|used already"), attempt:
            pass
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_leaves_no_folder(tmp_path: Path) -> None:
    with (
        _full_disk(),
        pytest.raises(OrchError, match=r"cannot be made or written \(File too large"),
        own_new(tmp_path / "runs" / "run"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_to_look_whether_a_place_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "runs" / "run")
    assert not list(tmp_path.iterdir())


# -- where the file system has no locks ------------------------------------------------------


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: int, operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(folder_owner, "_PATIENCE_S", 0.02)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_marker_says_that_the_folder_is_in_use_and_the_user_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with own_new(tmp_path / "run") as folder:
        (line,) = [record.getMessage() for record in caplog.records]
        assert "cannot be guarded" in line and "\n" not in line
        assert {path.name for path in folder.iterdir()} <= TRACES
        with pytest.raises(OrchError, match=f"in use by process {os.getpid()}"):
            refuse_owned(folder)
        with pytest.raises(OrchError, match="in use"), own_new(folder):
            pass
    assert not list(tmp_path.iterdir())
    assert [path.name for path in _set_aside_with_a_file(tmp_path).iterdir()] == ["result"]


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_dead_owner_keeps_no_one_out(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        owner = FolderOwner(tmp_path)
        os._exit(0 if owner else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert {path.name for path in tmp_path.iterdir()} == {OWNER, ".owner.lock.holder"}
    with own_new(tmp_path) as folder:
        assert json.loads((folder / OWNER).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_locks")
def test_without_locks_an_owner_elsewhere_is_believed_and_the_way_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(socket, "gethostname", lambda: "another")
        owner = FolderOwner(tmp_path)
    marker = tmp_path / ".owner.lock.holder"
    marker.write_text(marker.read_text().replace(socket.gethostname(), "another"))
    with pytest.raises(OrchError, match=r"process \d+ on another .*delete .*holder"), own(tmp_path):
        pass
    marker.unlink()
    with own(tmp_path):
        pass
    del owner


# -- an earlier folder is set aside ----------------------------------------------------------


def _set_aside_with_a_file(parent: Path) -> Path:
    (parent / "run").mkdir()
    (parent / "run" / "result").write_text("1")
    aside = set_aside(parent / "run")
    assert aside is not None
    return aside


def test_a_folder_is_set_aside_under_the_next_number(tmp_path: Path) -> None:
    assert set_aside(tmp_path / "run") is None
    for number in (2, 3):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "result").write_text(str(number))
        assert set_aside(tmp_path / "run") == tmp_path / f"run-{number}"
    assert [p.name for p in (tmp_path / "run-2").iterdir()] == ["result"]
    assert (tmp_path / "run-3" / "result").read_text() == "3"
    assert make_numbered(tmp_path, "run").name == "run"
    assert make_numbered(tmp_path, "run").name == "run-4"


@pytest.mark.parametrize("inner", ["", "grpo"])
def test_a_folder_in_which_a_process_runs_is_not_set_aside(inner: str, tmp_path: Path) -> None:
    folder = tmp_path / "quickstart"
    (folder / inner).mkdir(parents=True)
    with (
        _held_elsewhere(folder / inner) as other,
        pytest.raises(OrchError, match=f"in use by process {other.pid}"),
    ):
        set_aside(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["quickstart"]
