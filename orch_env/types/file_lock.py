"""One process at a time: an exclusive lock on a file.

It is held until it is released or its process ends, by ``flock``. Some network file systems
(Lustre, some NFS) have none; there a marker file that names the holder stands in for it, which
a holder that crashed on another machine leaves behind.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import IO

from filelock import SoftFileLock, Timeout

_HELD = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})


class FileLock:
    """An exclusive lock that other processes, and other locks of this one, respect.

    Args:
        path: the lock's own file, made when it is taken and removed when it is released.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._marker: SoftFileLock | None = None

    def take(self) -> bool:
        """Take the lock without waiting. Returns whether it is ours now.

        Raises:
            OSError: the file cannot be made, or the system refuses for another reason than that
                somebody holds the lock.
        """
        import fcntl

        while True:
            file = self.path.open("ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as problem:
                file.close()
                if problem.errno in _UNSUPPORTED:
                    return self._take_marker()
                if problem.errno in _HELD:
                    return False
                raise
            # A holder may have removed the file meanwhile; a lock on a removed file keeps none out.
            if self.path.exists() and os.path.samestat(self.path.stat(), os.fstat(file.fileno())):
                self._file = file
                return True
            file.close()

    def _take_marker(self) -> bool:
        self.path.unlink(missing_ok=True)  # empty: the marker beside it is what counts
        marker = SoftFileLock(self.path.with_name(f"{self.path.name}.holder"), blocking=False)
        try:
            marker.acquire()
        except Timeout:
            return False
        self._marker = marker
        return True

    @property
    def holder(self) -> Path:
        """The file to remove by hand after its holder died, where ``flock`` is missing."""
        marker = self.path.with_name(f"{self.path.name}.holder")
        return marker if marker.exists() else self.path

    def release(self) -> None:
        """Give the lock up and remove its file. A second call does nothing."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None
        if self._marker is not None:
            self._marker.release()
            self._marker = None
