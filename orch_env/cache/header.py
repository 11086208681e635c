"""Checks a cache file by its first 100 bytes, before SQLite opens it.

A file that is truncated, newer or no cache is refused here with one clear line, not by a driver
error in the middle of an episode.
"""

from __future__ import annotations

from pathlib import Path

from orch_env.types import OrchError

APPLICATION_ID = 0x4F524348
"""``ORCH`` in ASCII, SQLite's ``application_id`` of every cache file."""
KEY_VERSIONS = (1, 2)
"""The versions of call keys that are read, and SQLite's ``user_version`` of such files: a release
that does not know a version refuses the file instead of finding nothing in it."""

_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100


def check_file(path: Path) -> None:
    """Check that ``path`` is a complete cache file that this version can read.

    Raises:
        OrchError: the file is missing, a folder, empty, no SQLite file, truncated, of another
            application, or of another schema version. The message says what to do.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        size = path.stat().st_size
    except FileNotFoundError as problem:
        raise OrchError(
            f"cache {str(path)!r} does not exist (make one with `orch cache import SRC --out DB`)"
        ) from problem
    except OSError as problem:
        raise OrchError(f"cache {str(path)!r} cannot be read: {problem.strerror}") from problem
    if not header:
        raise OrchError(f"cache {str(path)!r} is empty: import it again")
    if not header.startswith(_MAGIC):
        raise OrchError(
            f"{str(path)!r} is no cache: it is not a SQLite file "
            "(import recordings with `orch cache import SRC --out DB`)"
        )
    _check_size(path, header, size)
    application, version = _number(header, 68), _number(header, 60)
    if application != APPLICATION_ID:
        raise OrchError(
            f"{str(path)!r} is a SQLite file of another application (id {application:#x}), no cache"
        )
    if version > KEY_VERSIONS[-1]:
        raise too_new(path, version)
    if version < KEY_VERSIONS[0]:
        raise OrchError(
            f"cache {str(path)!r} has schema {version}, which no release ever wrote: import again"
        )


def too_new(place: object, version: int) -> OrchError:
    """What to say of a cache that a later release wrote."""
    return OrchError(
        f"cache {str(place)!r} has schema {version}, newer than this version of orch-rl reads "
        f"({KEY_VERSIONS[-1]}): upgrade orch-rl, or import the recordings again"
    )


def _check_size(path: Path, header: bytes, size: int) -> None:
    if len(header) < _HEADER_BYTES:
        raise OrchError(f"cache {str(path)!r} is truncated ({size} bytes): import it again")
    page = int.from_bytes(header[16:18], "big")
    expected = _number(header, 28) * (65536 if page == 1 else page)
    if expected != size:
        what = "is truncated" if size < expected else "has bytes after its end"
        raise OrchError(
            f"cache {str(path)!r} {what}: {size} bytes where its header says {expected}; "
            "copy it or import it again"
        )


def _number(header: bytes, offset: int) -> int:
    return int.from_bytes(header[offset : offset + 4], "big")
