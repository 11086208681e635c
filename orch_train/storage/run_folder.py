"""Names of run folders, and files in them that are written whole. Imports without torch."""

from __future__ import annotations

from pathlib import Path

from orch_env.tasks.files import write_whole
from orch_env.types import OrchError


def new_folder(parent: Path, name: str) -> Path:
    """``PARENT/NAME``, or ``NAME-2``, ``NAME-3``, ... if that is taken."""
    number, folder = 1, parent / name
    while folder.exists():
        number += 1
        folder = parent / f"{name}-{number}"
    return folder


def refuse_used(folder: Path, advice: str) -> None:
    """Refuse a folder that holds anything.

    Raises:
        OrchError: there is a file of that name, or a folder that is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OrchError(f"run folder {str(folder)!r} is used already: {advice}")


def make_folder(folder: Path) -> Path:
    """Make a folder and its parents.

    Raises:
        OrchError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise OrchError(f"folder {str(folder)!r} cannot be made: {problem}") from problem
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; it ends with a newline unless it is empty.

    Raises:
        OrchError: it cannot be written.
    """
    text = text if text.endswith("\n") or not text else text + "\n"
    write_whole(text.encode(), path)
