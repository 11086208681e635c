"""Results in Weights & Biases, if a setting asks for it.

The package ``wandb`` is no dependency; it is imported when a project is set and at no other time.
The hard decision: a run never ends because of its log. W&B that cannot *start* is an error at
once, before the first step; W&B that fails later is warned about once and let go, since every
number stands in ``metrics.jsonl`` anyway.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orch_env.types import OrchError
from orch_train.storage.run_folder import write_text

logger = logging.getLogger(__name__)
_ID_FILE = "wandb_id.txt"


class WandbLog:
    """One W&B run for one run folder; a resumed run goes on in the same one.

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
        except ImportError as problem:
            raise OrchError(
                "reporting.wandb_project: the package wandb is not installed: pip install wandb, "
                "or set reporting.wandb_project to null"
            ) from problem
        try:
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
        except Exception as problem:  # see the module's hard decision
            logger.warning("Weights & Biases failed, the run goes on without it: %s", problem)
            self._run = None

    def close(self) -> None:
        """Finish the W&B run."""
        if self._run is None:
            return
        try:
            self._run.finish()
        except Exception as problem:  # see the module's hard decision
            logger.warning("Weights & Biases could not finish its run: %s", problem)


def _run_id(folder: Path) -> str:
    """The id of the folder's W&B run, made up once."""
    path = folder / _ID_FILE
    if not path.exists():
        write_text(path, uuid.uuid4().hex[:12])
    return path.read_text(encoding="utf-8").strip()
