"""Run folders, each with one owner, and files that are written whole. Imports without torch."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from orch_env.tasks.files import write_whole
from orch_env.types import OrchError
from orch_train.storage.folder_owner import TRACES, FolderOwner, refuse_owned


@contextlib.contextmanager
def own_new(folder: Path, advice: str = "", *, numbered: bool = False) -> Iterator[Path]:
    """Make a folder and own it inside the block; if nothing is written there, it is removed again.

    Args:
        folder: must not exist, or be empty.
        advice: what to do if it is used already, unless that is to go on with a training run.
        numbered: if the name is taken, make ``NAME-2``, ``NAME-3``, ... instead.

    Yields:
        The folder.

    Raises:
        OrchError: it is used, or another process owns it, or it cannot be written.
    """
    parents = [parent for parent in folder.parents if not parent.exists()]
    while True:
        if numbered:
            chosen, made = make_numbered(folder.parent, folder.name), True
        else:
            chosen, made = folder, _make(folder)
            refuse_used(chosen, advice)
        try:
            owner = _owner(chosen)
        except FileNotFoundError:
            continue  # another process had no use for it and has just removed it
        except BaseException:
            _remove_empty([chosen, *parents] if made else [])
            raise
        break
    try:
        refuse_used(chosen, advice, owned=True)
        yield chosen
    finally:
        owner.close()
        _remove_empty([chosen, *parents] if made else [])


@contextlib.contextmanager
def own(folder: Path) -> Iterator[Path]:
    """Own an existing folder inside the block.

    Yields:
        The folder.

    Raises:
        OrchError: there is none, another process owns it, or it cannot be written.
    """
    try:
        owner = _owner(folder)
    except FileNotFoundError as problem:
        raise OrchError(f"folder {str(folder)!r} does not exist") from problem
    with contextlib.closing(owner):
        yield folder


def refuse_used(folder: Path, advice: str = "", *, owned: bool = False) -> None:
    """Refuse a folder that holds anything.

    Args:
        folder: need not exist.
        advice: what to do if it is used already, unless that is to go on with a training run.
        owned: by this process.

    Raises:
        OrchError: there is a file of that name, a folder that is not empty, or one with an owner.
    """
    if not owned:
        refuse_owned(folder)
    found: list[str] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        found = os.listdir(folder)
    if not set(found) - TRACES and not folder.is_file():
        return
    advice = advice or f"go on with --resume {folder}, or set another reporting.run_name"
    raise OrchError(f"run folder {str(folder)!r} is used already: {advice}")


def refuse_unwritable(folder: Path) -> None:
    """Refuse a folder, which need not exist yet, in which nothing can be made; nothing stays.

    Raises:
        OrchError: names the obstacle.
    """
    existing = folder.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".orch-") as tried:
            Path(tried, folder.name).mkdir(exist_ok=True)  # not every name can be given
    except OSError as problem:
        raise _unwritable(folder, problem) from problem


def set_aside(folder: Path) -> Path | None:
    """Rename a folder to ``NAME-2``, ``NAME-3``, ...; return its new name, ``None`` if it is gone.

    Raises:
        OrchError: a process owns it, or a folder in it, or it cannot be renamed.
    """
    if not folder.exists():
        return None
    try:
        owner = _owner(folder)
    except FileNotFoundError:
        return None
    with contextlib.closing(owner):
        for inner in folder.iterdir():
            refuse_owned(inner)
        aside = make_numbered(folder.parent, folder.name)
        try:
            folder.rename(aside)
        except OSError as problem:
            aside.rmdir()
            raise OrchError(f"{str(folder)!r} cannot be set aside: {problem}") from problem
        owner.moved(aside)
    return aside


def make_numbered(parent: Path, name: str) -> Path:
    """Make ``PARENT/NAME``, or ``NAME-2``, ``NAME-3``, ... if that is taken.

    Raises:
        OrchError: it cannot be made.
    """
    number, folder = 1, parent / name
    while not _make(folder):
        number += 1
        folder = parent / f"{name}-{number}"
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; it ends with a newline unless it is empty.

    Raises:
        OrchError: it cannot be written.
    """
    text = text if text.endswith("\n") or not text else text + "\n"
    write_whole(text.encode(), path)


def _make(folder: Path) -> bool:
    """Make a folder and its parents; False if there is something of that name."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise _unwritable(folder, problem) from problem
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    except OSError as problem:
        raise _unwritable(folder, problem) from problem
    return True


def _owner(folder: Path) -> FolderOwner:
    try:
        return FolderOwner(folder)
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise _unwritable(folder, problem) from problem


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, the innermost first, up to the first one that holds something."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _unwritable(folder: Path, problem: OSError) -> OrchError:
    where = Path(problem.filename or folder).parent
    return OrchError(
        f"run folder {str(folder)!r} cannot be made or written ({problem.strerror or problem}, in "
        f"{str(where)!r}): choose another place"
    )
