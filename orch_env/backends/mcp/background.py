"""The thread with the event loop in which all servers of this process are talked to.

It lives while a pool uses it. A fork does not copy threads: the child makes its own.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Literal, TypeVar

from orch_env.backends.mcp import guardian

T = TypeVar("T")


class Guardian:
    """Our end of the process of :mod:`orch_env.backends.mcp.guardian`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=os.sep,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._lines = self._process.stdin.fileno()

    def add(self, kind: Literal["group", "folder"], what: object) -> None:
        """Have it removed if this process ends before :meth:`forget`."""
        self._tell(f"+{kind} {what}\n")

    def forget(self, kind: Literal["group", "folder"], what: object) -> None:
        """It is gone."""
        self._tell(f"-{kind} {what}\n")

    def close(self) -> None:
        """Let it clean up what is left, and end."""
        self._process.communicate()

    def leave(self) -> None:
        """Close this process's copy of the pipe, after a fork."""
        with suppress(OSError):
            os.close(self._lines)

    def _tell(self, line: str) -> None:
        with suppress(BrokenPipeError):  # somebody killed it: there is no second one
            os.write(self._lines, line.encode())


class Background:
    """An event loop in a thread, with the guardian of its processes."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.guardian = Guardian()
        self.users = 0
        self._thread = threading.Thread(target=self._work, name="mcp-servers", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for its value."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except BaseException:  # an interrupt while waiting: nobody wants the value any more
            future.cancel()
            raise

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine in the loop and wait for nothing."""
        asyncio.run_coroutine_threadsafe(work, self.loop)

    @property
    def here(self) -> bool:
        """Whether the caller is in the loop's own thread."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """End the thread and the guardian."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        if not self.here:
            self._thread.join()
        self.guardian.close()

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


_lock = threading.Lock()
_current: Background | None = None


def acquire() -> Background:
    """The background of this process, started if there is none; :func:`release` it."""
    global _current
    with _lock:
        if _current is None:
            _current = Background()
        _current.users += 1
        return _current


def release(background: Background) -> None:
    """Give it back; the last one ends its thread."""
    global _current
    with _lock:
        background.users -= 1
        if background.users:
            return
        _current = None
    background.close()


def _after_fork() -> None:
    global _current, _lock
    if _current is not None:
        _current.guardian.leave()
    _current, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
