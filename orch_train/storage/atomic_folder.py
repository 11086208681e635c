"""Folders that are written whole or not at all.

Plain renames cannot replace a folder in one step: the old folder is moved aside first, and put back
if the swap fails. A reader sees the old folder, the new one, or (between two renames) none, never a
half-written one. Of several processes that write one folder the last to end stands.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from orch_env.types import OrchError


@contextlib.contextmanager
def written_whole(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder beside ``folder`` and swap it in when the block ends well.

    Raises:
        OrchError: the target is a file, or its parent cannot be written.
    """
    target = Path(folder).absolute()
    if target.exists() and not target.is_dir():
        raise OrchError(f"cannot write folder {str(folder)!r}: a file of that name is in the way")
    # Processes in two containers may have one number, so a number does not do as a name.
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as problem:
        raise OrchError(f"cannot write folder {str(folder)!r}: {problem}") from problem
    try:
        yield partial
        _swap_in(partial, target)
    except OSError as problem:
        raise OrchError(f"cannot write folder {str(folder)!r}: {problem}") from problem
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap_in(partial: Path, target: Path) -> None:
    aside = partial.with_suffix(".replaced")
    while True:
        with contextlib.suppress(FileNotFoundError):
            target.rename(aside)
        try:
            partial.rename(target)
            break
        except OSError as problem:
            if problem.errno in (errno.ENOTEMPTY, errno.EEXIST):
                # Another process was quicker. Its folder is newer than the one aside.
                _remove(aside)
                continue
            if aside.exists():
                aside.rename(target)
            raise
    _remove(aside)


def _remove(folder: Path) -> None:
    """Remove a folder, or a link to one."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
