"""The seal of a cache file: a digest of all its bytes, stored in the file itself.

SQLite pages have bytes that no table shows (free space, bookkeeping), so a hash of the tables would
not notice every damaged byte. The digest is taken with a placeholder where the seal is, both when
it is written and when it is checked.
"""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

from orch_env.types import OrchError

MARK = "orch-seal:"
_HEX = 32
PLACEHOLDER = MARK + "0" * _HEX
_CHUNK = 1 << 20


def seal(path: Path) -> None:
    """Compact a finished file that holds ``PLACEHOLDER``, and replace that by the seal."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("VACUUM")  # leaves no second copy of the placeholder in free pages
    finally:
        connection.close()
    at = _find(path, PLACEHOLDER.encode())
    if at is None:
        raise OrchError(f"cache {str(path)!r} cannot be sealed: it changed while it was written")
    digest = _digest(path, at)
    with path.open("rb+") as file:
        file.seek(at)
        file.write((MARK + digest).encode())


def seal_problem(path: Path, stored: str | None) -> str | None:
    """What is wrong with a file's seal; ``None`` if no byte has changed since it was written.

    Args:
        path: the file.
        stored: the seal as the file's meta table gives it.
    """
    if stored is None or not stored.startswith(MARK) or len(stored) != len(PLACEHOLDER):
        return "the file has no seal"
    at = _find(path, stored.encode())
    if at is None:
        return "the file's seal stands nowhere in it"
    if MARK + _digest(path, at) != stored:
        return "the file's bytes are not those that were written (its seal is broken)"
    return None


def _find(path: Path, wanted: bytes) -> int | None:
    """Offset of the first occurrence of some bytes."""
    with path.open("rb") as file:
        tail, offset = b"", 0
        while chunk := file.read(_CHUNK):
            window = tail + chunk
            at = window.find(wanted)
            if at >= 0:
                return offset - len(tail) + at
            tail = window[-len(wanted) :]
            offset += len(chunk)
    return None


def _digest(path: Path, at: int) -> str:
    """Digest of the file with the placeholder instead of the seal at ``at``."""
    total = hashlib.blake2b(digest_size=_HEX // 2)
    with path.open("rb") as file:
        left = at
        while left and (chunk := file.read(min(_CHUNK, left))):
            total.update(chunk)
            left -= len(chunk)
        file.seek(len(PLACEHOLDER), 1)
        total.update(PLACEHOLDER.encode())
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()
