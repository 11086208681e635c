"""Folders that are written whole or not at all.

Plain renames cannot replace a folder in one step: the old folder is moved aside first, and put back
if the swap fails. A reader sees the old folder, the new one, or (between two renames) none, never a
half-written one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
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
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
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
    if not target.exists():
        partial.rename(target)
        return
    aside = target.with_name(f".{target.name}.{os.getpid()}.replaced")
    shutil.rmtree(aside, ignore_errors=True)
    target.rename(aside)
    try:
        partial.rename(target)
    except OSError:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
