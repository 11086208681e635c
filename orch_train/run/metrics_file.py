"""``metrics.jsonl``, TensorBoard and W&B: one result per step, on disk at once."""

from __future__ import annotations

import json
import logging
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orch_env.tasks.files import read_text
from orch_env.types import OrchError
from orch_env.types.text import readable_json
from orch_train.storage.run_folder import write_text

if TYPE_CHECKING:
    # Brings torch, which a reader of a run (`orch view`) does without.
    from orch_train.metrics.rollouts import Result

logger = logging.getLogger(__name__)
_WANDB_ID = "wandb_id.txt"


def flatten(result: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a result under names with slashes; texts, lists and None are left out."""
    flat: dict[str, float] = {}
    for key, value in result.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}/"))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[prefix + key] = value
    return flat


def plain(value: Any) -> Any:
    """A result as strict JSON: numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class WandbLog:
    """One Weights & Biases run for one run folder; a resumed run continues the same one.

    A run never ends because of its log: W&B that cannot *start* is an error before the first step,
    W&B that fails later is warned about once and left alone. The package ``wandb`` is no
    dependency; it is imported here and nowhere else.

    Args:
        folder: the run's folder; W&B's files go to ``RUN/wandb``.
        project: the W&B project.
        mode: ``online``, or ``offline`` (nothing is sent; ``wandb sync`` sends it later).
        config: shown as the W&B run's configuration.

    Raises:
        OrchError: the package is missing, or W&B cannot start.
    """

    def __init__(self, folder: Path, project: str, mode: str, config: Mapping[str, Any]) -> None:
        try:
            import wandb

            self._run: Any = wandb.init(
                project=project,
                name=folder.resolve().name,
                id=_run_id(folder),
                resume="allow",
                dir=str(folder),
                mode=mode,
                config=dict(config),
            )
            # A run that resumes writes some steps again: the step is a value, never W&B's own.
            self._run.define_metric("training_iteration")
            self._run.define_metric("*", step_metric="training_iteration")
        except Exception as problem:  # the library has no narrower one that holds over versions
            raise OrchError(
                f"reporting.wandb_project: Weights & Biases cannot start "
                f"({' '.join(str(problem).split())}): set reporting.wandb_mode=offline, or "
                "reporting.wandb_project to null"
            ) from problem

    def write(self, values: Mapping[str, float]) -> None:
        """Log one step's numbers; ``training_iteration`` is among them."""
        if self._run is None:
            return
        try:
            self._run.log(dict(values))
        except Exception as problem:  # a run never ends because of its log
            logger.warning("Weights & Biases failed, the run goes on without it: %s", problem)
            self._run = None

    def close(self) -> None:
        """Finish the W&B run."""
        if self._run is None:
            return
        try:
            self._run.finish()
        except Exception as problem:  # a run never ends because of its log
            logger.warning("Weights & Biases could not finish its run: %s", problem)


class MetricsWriter:
    """``metrics.jsonl`` and, if wanted, TensorBoard files; every result is on disk at once.

    Args:
        folder: the run's folder.
        tensorboard: also write ``tensorboard/``.
        wandb: also log there; closed with the files.

    Raises:
        OrchError: the file cannot be written.
    """

    def __init__(self, folder: Path, *, tensorboard: bool, wandb: WandbLog | None = None) -> None:
        self._wandb = wandb
        self._folder = folder
        try:
            self._file = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        except OSError as problem:
            raise OrchError(f"{problem.filename} cannot be written: {problem.strerror}") from None
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=_next_step(folder))

    def write(self, result: Result) -> None:
        """Append one result.

        Raises:
            OrchError: it cannot be written.
        """
        flat = {name: v for name, v in flatten(result).items() if math.isfinite(v)}
        try:
            self._file.write(readable_json(plain(result)) + "\n")
            self._file.flush()
            if self._board is not None:
                for name, value in flat.items():
                    self._board.add_scalar(name, value, int(result["training_iteration"]))
                self._board.flush()
        except OSError as problem:
            raise OrchError(f"{self._folder} cannot be written: {problem}") from problem
        if self._wandb is not None:
            self._wandb.write(flat)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.close()


def read_metrics(folder: Path) -> list[Result]:
    """All results of a run; a last line that was cut off by a crash is left out.

    Raises:
        OrchError: the file cannot be read, or a line in the middle is no result.
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    lines = read_text(path).split("\n")
    results: list[Result] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            result = json.loads(line)
        except (ValueError, RecursionError) as problem:
            if number >= len(lines) - 1:
                break
            raise OrchError(f"{path}: line {number} is not JSON ({problem})") from problem
        if not isinstance(result, dict) or not isinstance(result.get("training_iteration"), int):
            raise OrchError(f"{path}: line {number} is no result: it has no training_iteration")
        results.append(result)
    return results


def truncate_metrics(folder: Path, iteration: int) -> None:
    """Drop the results after an iteration: a run that resumes there writes them again."""
    kept = [r for r in read_metrics(folder) if int(r["training_iteration"]) <= iteration]
    text = "".join(readable_json(r) + "\n" for r in kept)
    write_text(folder / "metrics.jsonl", text)


def _next_step(folder: Path) -> int | None:
    """TensorBoard drops what an earlier life of the run wrote from this step on."""
    results = read_metrics(folder)
    return int(results[-1]["training_iteration"]) + 1 if results else None


def _run_id(folder: Path) -> str:
    """The id of the folder's W&B run, made once."""
    path = folder / _WANDB_ID
    if not path.exists():
        write_text(path, uuid.uuid4().hex[:12])
    return path.read_text(encoding="utf-8").strip()
