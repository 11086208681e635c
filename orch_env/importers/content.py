"""The bytes of a source file, gzipped or plain; the content decides, not the name."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from orch_env.types import OrchError


def read_content(path: Path) -> bytes:
    """Read a file and unpack it if it is gzipped.

    Raises:
        OrchError: the file is missing, a folder, or damaged gzip.
    """
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except FileNotFoundError as problem:
        raise OrchError(f"file {str(path)!r} does not exist") from problem
    except (OSError, EOFError, zlib.error) as problem:
        raise OrchError(f"file {str(path)!r} cannot be read: {problem}") from problem
