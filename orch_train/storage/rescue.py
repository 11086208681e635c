"""Save what can be saved after a checkpoint could not be written."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

logger = logging.getLogger(__name__)


def rescue(folder: Path, parts: Mapping[str, Callable[[Path], None]]) -> str:
    """Write each part that can be written, here or in the folder for temporary files.

    Args:
        folder: the first choice.
        parts: by name, what matters most first; each writes into the folder that it is given.
            Without the first part a place is given up and the next one is tried.

    Returns:
        What was saved and where, to end an error's line with.
    """
    first, reason = next(iter(parts)), ""
    for place in (folder, Path(tempfile.gettempdir()) / f"orch-{folder.parent.name}-{folder.name}"):
        try:
            place = _new(place)
        except OSError as problem:
            reason = str(problem)
            continue
        lost = {}
        for name, write in parts.items():
            try:
                write(place)
            except Exception as problem:  # whatever a library raises must not cost the other parts
                logger.debug("rescue of %s", name, exc_info=True)
                lost[name] = first_line(problem)
            if first in lost:
                break
        if first not in lost:
            without = "; ".join(f"{name} could not be saved: {why}" for name, why in lost.items())
            return f"{first} was saved in {str(place)!r}" + (f" ({without})" if lost else "")
        reason = lost[first]
        shutil.rmtree(place, ignore_errors=True)
    return f"{first} could not be saved elsewhere either ({reason})"


def first_line(problem: BaseException) -> str:
    """The first line of an error's text, with its class where the text alone says little."""
    lines = str(problem).strip().splitlines()
    if not lines:
        return type(problem).__name__
    plain = isinstance(problem, OSError) or type(problem).__module__.startswith("orch_")
    return lines[0] if plain else f"{type(problem).__name__}: {lines[0]}"


def _new(place: Path) -> Path:
    """A folder that was not there before: another rescue's must not be mixed with this one.

    The folder above it is not made: a run's folder that is gone was moved, and stays so.
    """
    number, folder = 1, place
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = place.with_name(f"{place.name}-{number}")
        else:
            return folder
