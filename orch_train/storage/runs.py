"""The runs in a folder, and the one run that a RUN argument means. Imports without torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from orch_env.types import OrchError
from orch_env.types.text import did_you_mean

DEMONSTRATIONS = "demonstrations.json"
"""What a warm start writes first: it tells the two kinds of run apart from the beginning."""
_DEPTH = 3
_STEP = re.compile(r"step_(\d+)")


class RunKind(StrEnum):
    """What made a run."""

    WARM_START = "warm start"
    GRPO = "GRPO"


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run itself; a checkpoint is none, though it has a configuration."""
    if (folder / "metadata.json").is_file():
        return False
    return any((folder / name).is_file() for name in ("config.yaml", "metrics.jsonl"))


def kind_of(run: Path) -> RunKind:
    """What made a run, also before its first result."""
    if (run / DEMONSTRATIONS).is_file():
        return RunKind.WARM_START
    if (run / "checkpoints").is_dir():
        return RunKind.GRPO  # a model beside them was exported to there
    if (run / "model").is_dir():
        return RunKind.WARM_START
    return RunKind.WARM_START if "loss" in _first_result(run) else RunKind.GRPO


def runs_in(folder: Path) -> list[Path]:
    """The folder itself if it is a run, else the runs below it, by name, each once.

    Hidden folders are left out. A link to a run that is found by its own name counts for nothing.

    Raises:
        OrchError: there is no such folder.
    """
    if folder.is_file():
        raise OrchError(f"{str(folder)!r} is a file, no run folder")
    if not folder.is_dir():
        beside = folder.parent if folder.parent.is_dir() else Path()
        near = did_you_mean(folder.name, [path.name for path in beside.iterdir() if path.is_dir()])
        raise OrchError(f"run folder {str(folder)!r} does not exist{near}")
    return sorted(_below(folder, _DEPTH, set()))


def one_run(folder: Path, kind: RunKind = RunKind.GRPO) -> Path:
    """The run that a RUN argument means: that folder, or the one run of a kind below it.

    Args:
        folder: a run's folder, or one that holds runs, such as the quick start's.
        kind: what the command can use.

    Raises:
        OrchError: there is none, or more than one; the message names those that there are.
    """
    found = runs_in(folder)
    if (folder / "metadata.json").is_file():
        raise OrchError(f"{str(folder)!r} is a checkpoint: name its run, {folder.parent.parent}")
    if not found:
        raise OrchError(
            f"{str(folder)!r} is no run folder: it has no config.yaml, and there is no run below it"
        )
    fitting = [run for run in found if kind_of(run) is kind]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise OrchError(
            f"{str(folder)!r} holds {len(fitting)} {kind} runs, name one of them: "
            f"{', '.join(map(str, fitting))}"
        )
    raise OrchError(
        f"{str(folder)!r} holds no {kind} run, but {_listed(found)}"
        + (f"; train its model with: orch train CONFIG model.path={found[0] / 'model'}")
        * (kind is RunKind.GRPO)
    )


def checkpoints(run: Path) -> list[tuple[int, Path]]:
    """The checkpoints of a run as (step, folder), oldest first."""
    folder = run / "checkpoints"
    found = []
    if folder.is_dir():
        for entry in folder.iterdir():
            match = _STEP.fullmatch(entry.name)
            if match and (entry / "metadata.json").is_file():
                found.append((int(match.group(1)), entry))
    return sorted(found)


def trained_run(folder: Path) -> Path:
    """The run or checkpoint whose model a RUN argument means: a warm start where it is alone.

    Raises:
        OrchError: there is none, or more than one.
    """
    if (folder / "metadata.json").is_file():
        return folder
    found = runs_in(folder)
    only_warm = len(found) == 1 and kind_of(found[0]) is RunKind.WARM_START
    return found[0] if only_warm else one_run(folder)


def newest_model(folder: Path) -> Path:
    """The model of `trained_run`, of its newest checkpoint.

    Raises:
        OrchError: there is no such run, or it has no model yet.
    """
    run = trained_run(folder)
    saved = checkpoints(run)
    model = saved[-1][1] / "model" if saved else run / "model"
    if not model.is_dir():
        raise OrchError(f"{str(run)!r} has no model yet: it has written no checkpoint")
    return model


def _below(folder: Path, depth: int, seen: set[Path]) -> Iterator[Path]:
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    if is_run(folder):
        yield folder
    elif depth:
        try:
            entries = sorted(folder.iterdir(), key=Path.is_symlink)
        except OSError as problem:
            if depth < _DEPTH:
                return
            raise OrchError(f"folder {str(folder)!r} cannot be read: {problem}") from problem
        for entry in entries:
            if entry.is_dir() and not entry.name.startswith("."):
                yield from _below(entry, depth - 1, seen)


def _first_result(run: Path) -> dict[str, object]:
    try:
        with (run / "metrics.jsonl").open(encoding="utf-8") as lines:
            first = json.loads(lines.readline())
    except (OSError, ValueError, RecursionError):
        return {}
    return first if isinstance(first, dict) else {}


def _listed(runs: list[Path]) -> str:
    return ", ".join(f"a {kind_of(run)} ({run})" for run in runs)
