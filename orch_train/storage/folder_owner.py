"""A folder has one owner: the process that holds the lock in it.

    FOLDER/owner.json    {host, pid, started} of its owner, as long as it has one
           .owner.lock   the lock, see `FileLock`

The lock ends with its process, however that ends: what a dead owner left behind is taken over.
Where the file system has no locks, a marker file stands in for it, which is said once: an owner on
another machine is believed then, one on this machine if that process lives.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from datetime import datetime
from pathlib import Path

from orch_env.types import OrchError
from orch_env.types.file_lock import FileLock

logger = logging.getLogger(__name__)

_OWNER, _LOCK = "owner.json", ".owner.lock"
TRACES = frozenset({_OWNER, _LOCK, f"{_LOCK}.holder"})
"""Names of the files that an owner leaves in its folder until it gives it up."""
_PATIENCE_S = 0.3
"""How long a lock is tried: who only looks for an owner holds it for a moment."""


class FolderOwner:
    """This process as the owner of a folder, until `close`.

    Args:
        folder: exists.

    Raises:
        OrchError: another process owns it.
        OSError: the folder is gone, or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, _take(folder)
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        me = {"host": socket.gethostname(), "pid": os.getpid(), "started": started}
        try:
            (folder / _OWNER).write_text(json.dumps(me) + "\n", encoding="utf-8")
        except OSError:
            self.close()
            raise
        if self._lock.holder != self._lock.path:
            logger.warning(
                "%s: the file system has no locks, so the folder cannot be guarded well; %s says "
                "that it is in use",
                folder,
                self._lock.holder.name,
            )

    def moved(self, folder: Path) -> None:
        """Tell where the folder is now, after a rename."""
        self._folder, self._lock.path = folder, folder / _LOCK
        self._lock.holder.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the folder up."""
        (self._folder / _OWNER).unlink(missing_ok=True)
        self._lock.release()


def refuse_owned(folder: Path) -> None:
    """Refuse a folder that a process owns at the moment, without owning it.

    Raises:
        OrchError: names the process.
    """
    try:
        lock = _take(folder)
    except OSError:
        return  # no such folder, or one in which we may not look
    lock.release()


def _take(folder: Path) -> FileLock:
    lock, deadline = FileLock(folder / _LOCK), time.monotonic() + _PATIENCE_S
    while not lock.take():
        if time.monotonic() > deadline:
            raise _owned(folder, lock)
        time.sleep(0.01)
    return lock


def _owned(folder: Path, lock: FileLock) -> OrchError:
    who, hint = "another process", "wait for it, or stop it"
    try:
        owner = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
        who = f"process {owner['pid']} on {owner['host']} (since {owner['started']})"
        elsewhere = owner["host"] != socket.gethostname()
    except (OSError, ValueError, LookupError, TypeError):
        elsewhere = True
    if elsewhere:
        hint += f"; if it or its machine is gone, delete {lock.holder}"
    return OrchError(f"run folder {str(folder)!r} is in use by {who}: {hint}")
