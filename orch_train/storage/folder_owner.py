"""A folder has one owner: the process that holds the lock on its ``owner.json``.

    FOLDER/owner.json    {host, pid, started, born} of its owner, as long as it has one

The operating system locks that file (``flock``) and unlocks it when the process ends, however it
ends: a file that was left behind is taken over. Some network file systems have no locks. There the
file alone says who owns the folder, which is said once: an owner on another machine is believed,
one on this machine if that process lives.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from orch_env.types import OrchError

logger = logging.getLogger(__name__)

OWNER = "owner.json"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
_PATIENCE_S = 0.3
"""How long a lock is tried: who only looks at an owner holds it for a moment."""


class FolderOwner:
    """This process as the owner of a folder, until `close`.

    Args:
        folder: exists.

    Raises:
        FileNotFoundError: the folder is gone.
        OSError: it cannot be written.
        OrchError: another process owns it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / OWNER
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if self._locked():
                    self._write_down()
                    return
                if time.monotonic() > deadline:
                    raise _owned(folder, _read(self._file))
            except BaseException:
                os.close(self._file)
                raise
            os.close(self._file)
            time.sleep(0.01)

    def close(self) -> None:
        """Give the folder up."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)

    def moved(self, folder: Path) -> None:
        """Tell where the folder is now, after a rename."""
        self._path = folder / OWNER

    def _write_down(self) -> None:
        try:
            _write(self._file)
        except OSError:
            self._path.unlink()
            raise

    def _locked(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as problem:
            if problem.errno not in _NO_LOCKS:
                raise
            return self._owned_without_lock()
        # Its owner may have removed the file: a lock on a removed file keeps no one out.
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(self._path.stat(), os.fstat(self._file))
        return False

    def _owned_without_lock(self) -> bool:
        """Of several that write themselves down at the same time, the last one owns the folder."""
        if _lives(_read(self._file)):
            return False
        mine = _write(self._file)
        time.sleep(_PATIENCE_S)
        if _read(self._file) != mine:
            return False
        logger.warning(
            "%s: the file system has no locks, so the folder cannot be guarded well; this file "
            "says that it is in use",
            self._path,
        )
        return True


def refuse_owned(folder: Path) -> None:
    """Refuse a folder that a process owns at the moment, without owning it.

    Raises:
        OrchError: names the process.
    """
    try:
        file = os.open(folder / OWNER, os.O_RDONLY)
    except OSError:
        return  # no owner, or nothing that we may look at
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as problem:
        deadline = time.monotonic() + _PATIENCE_S
        while not (owner := _read(file)) and time.monotonic() < deadline:
            time.sleep(0.01)
        if problem.errno not in _NO_LOCKS or _lives(owner):
            raise _owned(folder, owner) from None
    finally:
        os.close(file)


def _owned(folder: Path, owner: dict[str, Any]) -> OrchError:
    who, hint = "another process", "wait for it, or stop it"
    if owner:
        who = f"process {owner['pid']} on {owner['host']} (since {owner['started']})"
        if owner["host"] != socket.gethostname():
            hint += f"; if that machine is gone, delete {folder / OWNER}"
    return OrchError(f"run folder {str(folder)!r} is in use by {who}: {hint}")


def _lives(owner: dict[str, Any]) -> bool:
    if not owner or owner["host"] != socket.gethostname():
        return bool(owner)
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return bool(owner["born"] == _born(owner["pid"]))


def _born(pid: int) -> str | None:
    """When a process of this machine started, in ticks since boot; ``None`` if it is not known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def _write(file: int) -> dict[str, Any]:
    me = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "born": _born(os.getpid()),
    }
    os.ftruncate(file, 0)
    os.pwrite(file, (json.dumps(me) + "\n").encode(), 0)
    return me


def _read(file: int) -> dict[str, Any]:
    """Who wrote itself down; empty if no one did, or not yet."""
    try:
        found = json.loads(os.pread(file, 4096, 0))
    except ValueError:
        return {}
    known = isinstance(found, dict) and {"host", "pid", "started", "born"} <= found.keys()
    return found if known and isinstance(found["pid"], int) else {}
