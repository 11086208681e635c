"""A cache and the operating system: odd paths, changed folders, handles, full disks, locks."""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from orch_env.cache import ResponseCache, open_cache
from orch_env.env import ToolOrchestrationEnv
from orch_env.tasks import save_tasks
from orch_env.types import GoldCall, OrchError, Task, ToolSpec
from orch_env.types.file_lock import FileLock

ODD_FOLDERS = [
    "q?d",
    "q?a=b",
    "p%20d",
    "%",
    "a#b",
    "a;b",
    "a b",
    "x@y:z",
    "[b]",
    "ü",
    "'",
    "&",
    "+",
]


def small_cache(path: Path | str) -> None:
    with open_cache(path, write=True) as cache:
        cache.put_tool(ToolSpec("find"))
        cache.put("find", {"q": "x"}, "first")


def text_of(cache: ResponseCache) -> str | None:
    found = cache.get("find", {"q": "x"})
    return None if found is None else found.text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- paths ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD_FOLDERS)
@pytest.mark.parametrize("absolute", [False, True])
def test_a_cache_lies_where_its_path_says(folder: Path, name: str, absolute: bool) -> None:
    users = folder / name.partition("?")[0]
    if users.name != name:  # the user's own database, which a URL would name instead
        with sqlite3.connect(users) as connection:
            connection.execute("CREATE TABLE mine (a)")
        connection.close()
    before = users.read_bytes() if users.is_file() else None
    (folder / name).mkdir()
    path = str(folder / name / "c.db") if absolute else f"{name}/c.db"
    small_cache(path)
    assert text_of(open_cache(path)) == "first"
    assert open_cache(path).verify()["ok"]
    small_cache(path)  # a second writer copies and replaces it
    assert [p.name for p in (folder / name).iterdir()] == ["c.db"]
    assert (users.read_bytes() if users.is_file() else None) == before


def test_a_sqlite_url_names_the_file_that_it_says(folder: Path) -> None:
    (folder / "p d").mkdir()
    for url in ("sqlite:///c.db", f"sqlite:///{folder}/d.db", "sqlite+pysqlite:///e.db"):
        small_cache(url)
        assert text_of(open_cache(url)) == "first"
    assert {p.name for p in folder.iterdir()} == {"p d", "c.db", "d.db", "e.db"}


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("sqlite:///q?d/c.db", "by its path"),
        ("sqlite://", "by its path"),
        ("sqlite:///:memory:", "by its path"),
        ("nothing://x/y", "cannot be opened"),
        ("mysql+nodriver://u:secret@h/db", "cannot be opened"),
        ("://", "cannot be opened"),
    ],
)
@pytest.mark.parametrize("write", [False, True])
def test_a_url_that_names_no_database_is_one_clear_line(
    folder: Path, url: str, what: str, write: bool
) -> None:
    with pytest.raises(OrchError, match=what) as problem:
        open_cache(url, write=write)
    assert "\n" not in str(problem.value) and "secret" not in str(problem.value)
    assert not list(folder.iterdir())


def test_a_relative_path_is_meant_from_where_it_was_given(folder: Path) -> None:
    small_cache("c.db")
    fresh, used, pickled = open_cache("c.db"), open_cache("c.db"), open_cache("c.db")
    assert text_of(used) == "first"
    (folder / "elsewhere").mkdir()
    os.chdir("elsewhere")
    assert text_of(fresh) == text_of(used) == "first"
    seen: list[str | None] = []
    thread = threading.Thread(target=lambda: seen.append(text_of(used)))
    thread.start()
    thread.join()
    assert seen == ["first"]
    assert text_of(pickle.loads(pickle.dumps(pickled))) == "first"
    used.close()
    assert text_of(used) == "first" and used.stats()["bytes"] > 0 and used.verify()["ok"]


def test_a_writer_commits_where_it_began(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    with open_cache("c.db", write=True) as cache:
        os.chdir("elsewhere")
        cache.put("find", {"q": "x"}, "first")
    assert text_of(open_cache("../c.db")) == "first"
    assert not list((folder / "elsewhere").iterdir())


def test_an_environment_finds_its_files_after_a_change_of_folder(folder: Path) -> None:
    small_cache("c.db")
    message = {"role": "user", "content": "x"}
    gold = ((GoldCall("find", {"q": "x"}),),)
    save_tasks([Task(id="t", messages=(message,), tools=("find",), gold=gold)], "t.jsonl")
    env = ToolOrchestrationEnv("t.jsonl", "c.db")
    (folder / "elsewhere").mkdir()
    os.chdir("elsewhere")
    call = '<tool_call>\n{"name": "find", "arguments": {"q": "x"}}\n</tool_call>'
    for again in (env, pickle.loads(pickle.dumps(env)), env):
        again.reset(seed=0)
        assert "first" in again.step(call)[0]
        again.close()


@pytest.mark.parametrize("tasks", [[], 5, True, 1.5])
def test_tasks_that_are_named_by_no_text_are_one_clear_line(tasks: object) -> None:
    with pytest.raises(OrchError, match="is named by text"):
        ToolOrchestrationEnv(tasks)  # type: ignore[arg-type]


# -- handles -------------------------------------------------------------------------------


def test_threads_that_ended_leave_no_handle_behind(tmp_path: Path) -> None:
    small_cache(tmp_path / "c.db")
    cache = open_cache(tmp_path / "c.db")
    assert text_of(cache) == "first"
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(40):
        thread = threading.Thread(target=text_of, args=(cache,))
        thread.start()
        thread.join()
    assert len(os.listdir("/proc/self/fd")) == before


class Meeting(sqlite3.Connection):
    """Waits in each look-up until another thread is in one too."""

    both = threading.Barrier(2)
    used: ClassVar[list[int]] = []

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql.startswith("SELECT p.digest"):
            self.both.wait(timeout=20)
            self.used.append(id(self))
        return super().execute(sql, *arguments)


def test_look_ups_side_by_side_have_a_connection_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_cache(tmp_path / "c.db")
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Meeting))
    cache = open_cache(tmp_path / "c.db")
    assert cache.resolve("find") == "find"  # one connection is free
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(text_of, [cache] * 2)) == ["first"] * 2
    assert len(set(Meeting.used)) == 2


@contextmanager
def limited(kind: int, value: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def test_too_many_open_files_is_told_as_that_and_passes(tmp_path: Path) -> None:
    small_cache(tmp_path / "c.db")
    cache = open_cache(tmp_path / "c.db")
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    with (
        limited(resource.RLIMIT_NOFILE, lowest_free),
        pytest.raises(OrchError, match="cannot be read: Too many open files"),
    ):
        text_of(cache)
    assert text_of(cache) == "first"


def test_a_file_that_is_gone_is_not_called_damaged(tmp_path: Path) -> None:
    small_cache(tmp_path / "c.db")
    cache = open_cache(tmp_path / "c.db")
    (tmp_path / "c.db").unlink()
    with pytest.raises(OrchError, match="cannot be read: No such file"):
        text_of(cache)


def test_broken_pages_are_called_damage(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    small_cache(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(OrchError, match=r"is damaged \(.*orch cache verify"):
        text_of(open_cache(path))


# -- full disks ----------------------------------------------------------------------------

FULL = """
import resource, sys
from orch_env.cache import open_cache
from orch_env.types import GoldCall, OrchError, Task, ToolSpec
step, path = sys.argv[1:]
try:
    with open_cache(path, write=True) as cache:
        if step == "put": resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        import random
        noise = random.Random(0)
        for number in range(0 if step == "put_tool" else 400):
            words = "".join(map(chr, noise.choices(range(32, 900), k=900)))
            cache.put("t", {"n": number}, words)
        if step != "put": resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        for number in range(400 if step == "put_tool" else 0):
            words = "".join(map(chr, noise.choices(range(32, 900), k=900)))
            cache.put_tool(ToolSpec(f"t{number}", words))
        for number in range(4000 if step == "pin" else 0):
            gold = ((GoldCall("t", {"n": number}, response=f"{number:032x}"),),)
            cache.pin(Task(id=f"{number}" * 50, messages=(), tools=(), gold=gold))
except OrchError as problem:
    print(problem)
"""


@pytest.mark.parametrize("step", ["put", "put_tool", "pin", "commit"])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing_half_written(
    tmp_path: Path, step: str
) -> None:
    path = tmp_path / "c.db"
    small_cache(path)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL, step, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be written" in done.stdout and done.stdout.count("\n") == 1
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.db"]


# -- locks ---------------------------------------------------------------------------------


def failing_flock(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(_file: object, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_flock_still_has_one_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing_flock(monkeypatch, number)
    path = tmp_path / "c.db"
    small_cache(path)
    with open_cache(path, write=True), pytest.raises(OrchError, match="by another process"):
        open_cache(path, write=True)
    small_cache(path)
    assert [p.name for p in tmp_path.iterdir()] == ["c.db"]


def test_a_writer_that_was_killed_on_such_a_file_system_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_flock(monkeypatch, errno.ENOSYS)
    child = os.fork()
    if child == 0:
        lock = FileLock(tmp_path / ".c.db.lock")
        os._exit(0 if lock.take() else 1)  # without a release, as if killed
    assert os.waitpid(child, 0)[1] == 0
    assert list(tmp_path.iterdir())
    small_cache(tmp_path / "c.db")
    assert [p.name for p in tmp_path.iterdir()] == ["c.db"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_another_error_of_the_lock_is_told_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing_flock(monkeypatch, number)
    with pytest.raises(OrchError, match=f"cannot be written: {os.strerror(number)}"):
        open_cache(tmp_path / "c.db", write=True)


@pytest.mark.parametrize("missing", [None, errno.ENOSYS])
def test_a_lock_is_taken_once_and_can_be_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: int | None
) -> None:
    if missing is not None:
        failing_flock(monkeypatch, missing)
    one, other = FileLock(tmp_path / "l"), FileLock(tmp_path / "l")
    assert one.take() and not other.take()
    one.release()
    one.release()
    assert other.take() and not one.take()
    other.release()
    assert not list(tmp_path.iterdir())
