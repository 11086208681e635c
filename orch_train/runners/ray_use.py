"""Ray is one for the whole process: the first run that needs it enters it, the last one leaves it.

A Ray that the user's code entered is used and never left. No process may be forked after Ray has
started (threads and sockets do not survive it); workers start by exec.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import ray

from orch_env.types import OrchError

_OBJECT_STORE_BYTES = 2 << 30
_LOCK = threading.Lock()
_entered: dict[str, int] = {}
"""The session that was entered here, if there is one, and how many runs use it."""


class RayUse:
    """One run's use of Ray.

    Args:
        address: ``env_runners.ray_address``: joined, or started if it is ``local``; a Ray that this
            process is in already is used instead.

    Raises:
        OrchError: there is no cluster at the address, or Ray cannot be started.
    """

    def __init__(self, address: str) -> None:
        with _LOCK:
            if not ray.is_initialized():
                _entered.clear()
                _start_ray(address)
                _entered[_session()] = 0
            self._session, self._left = _session(), False
            if self._session in _entered:
                _entered[self._session] += 1

    @property
    def alive(self) -> bool:
        """Whether Ray is still the one that this run began with."""
        return not self._left and ray.is_initialized() and _session() == self._session

    def leave(self) -> None:
        """End this use, and Ray with the last one if it was entered here; may be called twice."""
        with _LOCK:
            if self._left:
                return
            last = self.alive and _entered.get(self._session) == 1
            self._left = True
            if self._session in _entered:
                _entered[self._session] -= 1
            if last:
                ray.shutdown()
                _entered.clear()


def _session() -> str:
    context = ray.get_runtime_context()
    return f"{context.get_node_id()}-{context.get_job_id()}"


def _start_ray(address: str) -> None:
    # Read when the first ray process starts; a user's own choice wins.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        options |= {
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
            "object_store_memory": _object_store_bytes(),
        }
    try:
        with _hangup_ignored():
            ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as problem:
        first = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise OrchError(
            f"Ray cannot be started or reached at env_runners.ray_address={address!r}: {first}"
        ) from problem


@contextlib.contextmanager
def _hangup_ignored() -> Iterator[None]:
    """Processes that are started inside the block ignore SIGHUP.

    A terminal that closes sends it to every process of a command, and a driver can save its state
    only while its runners and learners live.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python changes no signals here
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _object_store_bytes() -> int:
    """A bounded share of shared memory: weights are the only large thing that is stored."""
    try:
        stat = os.statvfs("/dev/shm")
        free = stat.f_bavail * stat.f_frsize
    except OSError:
        free = _OBJECT_STORE_BYTES
    return max(100 << 20, min(_OBJECT_STORE_BYTES, int(free * 0.5)))
