"""Reads a source of recordings in any known format. The content decides, not the file's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orch_env.importers import complexfuncbench, reference_cache, reference_pkl
from orch_env.importers.recording import Recordings
from orch_env.tasks.files import read_content, read_json, read_text, refuse_pipe
from orch_env.types import OrchError
from orch_env.types.json import parse_whole

FORMATS = (complexfuncbench.FORMAT, reference_cache.FORMAT, reference_pkl.FORMAT)
TASK_FORMATS = (complexfuncbench.FORMAT, reference_pkl.FORMAT)


def read_source(
    path: Path, format: str = "auto", progress: Callable[[int, int], None] | None = None
) -> Recordings:
    """Read a file of recordings.

    Args:
        path: the file, plain or gzipped.
        format: one of ``FORMATS``, or ``auto``.
        progress: called with (done, total) where the format allows it.

    Raises:
        OrchError: the file is missing, damaged, a pipe, or of no known format.
    """
    refuse_pipe(path)
    kind = detect(path) if format == "auto" else format
    if kind == complexfuncbench.FORMAT:
        return complexfuncbench.read(path, progress)
    if kind == reference_pkl.FORMAT:
        return reference_pkl.read(path)
    if kind != reference_cache.FORMAT:
        raise OrchError(f"unknown format {kind!r} (known: auto, {', '.join(FORMATS)})")
    whole = read_json(path)
    if not reference_cache.looks_like(whole):
        raise OrchError(
            f"{str(path)!r} is not of the layout {{function: [{{arguments, response}}]}}"
        )
    return reference_cache.read(whole)


def detect(path: Path) -> str:
    """The format of a file, by its content.

    Raises:
        OrchError: it has none of the known formats.
    """
    data = read_content(path)
    if not data.strip():
        raise OrchError(f"{str(path)!r} is empty")
    if reference_pkl.looks_like(data):
        return reference_pkl.FORMAT
    whole = read_text(path)
    problem: ValueError | None = None
    for text in (whole, whole.lstrip().split("\n", 1)[0]):
        try:
            value = parse_whole(text)
        except ValueError as found:
            problem = found
            continue
        problem = None
        if complexfuncbench.looks_like(value):
            return complexfuncbench.FORMAT
        if reference_cache.looks_like(value):
            return reference_cache.FORMAT
    raise OrchError(
        f"{str(path)!r} is of no known format: expected ComplexFuncBench JSON Lines, a response "
        "cache {function: [{arguments, response}]}, or a reference task .pkl (or name one with "
        "--format)" + (f"; its first line is no JSON: {problem}" if problem else "")
    )
