"""One run in one folder: the loop around the algorithm that writes everything down.

    RUN/config.yaml  metrics.jsonl  tensorboard/  rollouts.db  checkpoints/step_N/  summary.json
    RUN/trace.json: the newest steps on a time line
    RUN/config.to_step_N.yaml: what held up to step N, where a resume has changed settings
    RUN/owner.json: the process that runs in the folder, while it does

Resuming cuts results and rollouts back to the newest checkpoint, so that after any crash the folder
holds each step exactly once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orch_env.types import OrchError
from orch_train.algorithms.checkpoint import (
    checkpoint_folder,
    drop_checkpoints_after,
    newest_checkpoint,
    prune_checkpoints,
    read_metadata,
    refuse_no_run,
    with_stored,
)
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.algorithms.resume import resume_changes
from orch_train.config import ReportingSettings
from orch_train.metrics.rollouts import Result
from orch_train.run.metrics_file import (
    MetricsWriter,
    WandbLog,
    plain,
    read_metrics,
    truncate_metrics,
)
from orch_train.run.stop_signal import stop_signal
from orch_train.run.trace import TraceFile
from orch_train.runners.runner_group import SamplingStopped
from orch_train.storage.run_folder import own, own_new, write_text
from orch_train.trajectory.store import RolloutStore

if TYPE_CHECKING:
    from orch_train.algorithms.grpo import GRPO
    from orch_train.run.display import PlainDisplay

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        folder: the run's folder.
        result: the last training step's result; empty if none was finished.
        interrupted: whether a signal ended it early.
        checkpoint: the newest checkpoint.
    """

    folder: Path
    result: Result
    interrupted: bool
    checkpoint: Path | None


class TrainingRun:
    """Trains in a folder until the configured number of steps is done.

    Args:
        config: the configuration.
        folder: the run's folder; it must not hold a run yet, unless this one is to go on.
        display: shows what happens.
        resume: go on from the folder's newest checkpoint (from the start if there is none).
        numbered: take ``NAME-2``, ``NAME-3``, ... if the folder's name is taken.
    """

    def __init__(
        self,
        config: GRPOConfig,
        folder: Path,
        display: PlainDisplay,
        *,
        resume: bool = False,
        numbered: bool = False,
    ) -> None:
        self._config, self._folder, self._display = config, folder, display
        self._settings = config.settings
        self._reporting: ReportingSettings = self._settings.reporting
        self._resume, self._numbered, self._rescued = resume, numbered, False
        self._source: Path | None = None
        self._checkpoint: Path | None = None
        self._saved = self._recorded = 0

    def execute(self) -> RunOutcome:
        """Train; the checkpoint and ``summary.json`` are written however it ends.

        This process owns the folder until then. A start that fails leaves no new folder behind.

        Raises:
            OrchError: the configuration or the data is not usable, or the run cannot go on; or the
                folder is used or cannot be written, which is found before the model is loaded.
        """
        with self._own_folder() as self._folder:
            self._identity = self._folder.stat()
            changed = self._find_checkpoint() if self._resume else False
            return self._execute(changed=changed)

    def _own_folder(self) -> AbstractContextManager[Path]:
        folder = self._folder
        if self._resume:
            refuse_no_run(folder)
            return own(folder)
        return own_new(folder, numbered=self._numbered)

    def _find_checkpoint(self) -> bool:
        """Only now, when no other process can write one; whether settings have changed since."""
        self._source = self._checkpoint = newest_checkpoint(self._folder)
        if self._checkpoint is None:
            self._display.note(f"{self._folder} has no checkpoint: starting from the first step")
            return False
        metadata = read_metadata(self._checkpoint)
        changes = resume_changes(self._config, self._checkpoint, metadata)
        self._saved = self._recorded = metadata.training_iteration
        self._display.note(f"resuming {self._folder} after step {self._saved}")
        for line in changes.lines():
            self._display.note(line)
        self._note_schedule(self._checkpoint, self._saved)
        return bool(changes.learned or changes.harmless)

    def _execute(self, *, changed: bool) -> RunOutcome:
        from orch_train.algorithms.grpo import GRPO

        display, iterations = self._display, self._settings.training.iterations
        if self._saved >= iterations:
            display.note(f"all {iterations} steps are done already")
            return self._outcome(interrupted=False)
        if not self._resume:
            display.note(f"run folder: {self._folder}")
        algo = GRPO(self._config, checkpoint=self._checkpoint, observer=display)
        # Ray installs a SIGTERM handler of its own when it starts: ours comes after.
        with algo, stop_signal(self._announce_stop) as stopped:
            algo.stop_when(stopped)
            self._prepare_folder(changed=changed)
            try:
                with closing(self._open_writer()) as writer, self._open_store() as store, display:
                    self._train(algo, writer, store, stopped)
            except BaseException:
                self._save_in_spite_of_an_error(algo)
                raise
            self._save(algo)
            interrupted = stopped() and algo.iteration < iterations
        prune_checkpoints(self._folder, self._reporting.keep_checkpoints)
        outcome = self._outcome(interrupted=interrupted)
        write_text(self._folder / "summary.json", json.dumps(self._summary(outcome), indent=2))
        return outcome

    def _train(
        self,
        algo: GRPO,
        writer: MetricsWriter,
        store: RolloutStore | None,
        stopped: Callable[[], bool],
    ) -> None:
        interval, traced = self._reporting.checkpoint_interval, self._reporting.trace_steps
        trace = TraceFile(self._folder / "trace.json", traced) if traced else None
        try:
            if algo.iteration == 0 and self._settings.evaluation.evaluation_at_start:
                before = {"training_iteration": 0, "weights_seq_no": 0}
                writer.write({**before, "evaluation": algo.evaluate()})
            while algo.iteration < self._settings.training.iterations and not stopped():
                result = algo.train()
                self._refuse_moved()
                if store is not None:
                    store.add(algo.iteration, algo.last_batch)
                writer.write(result)
                self._recorded = algo.iteration
                phases = self._display.take_phases()
                if trace is not None:
                    trace.add(algo.iteration, phases, algo.last_batch)
                self._display.show(result)
                if interval and algo.iteration % interval == 0:
                    self._save(algo)
        except SamplingStopped:
            logger.debug("the step was abandoned")

    def _refuse_moved(self) -> None:
        """A checkpoint under the folder's old name would lack the rest of the run."""
        with contextlib.suppress(OSError):
            if os.path.samestat(self._identity, self._folder.stat()):
                return
        raise OrchError(
            f"run folder {str(self._folder)!r} was moved, replaced or deleted while the run went "
            f"on, seen from {str(Path.cwd())!r}: go on with --resume where it is now"
        )

    def _save(self, algo: GRPO) -> None:
        """Write the checkpoint of the current step, unless it is there and says the same."""
        if algo.iteration > self._saved or algo.has_sampled_ahead:
            folder = checkpoint_folder(self._folder, algo.iteration)
            try:
                self._refuse_moved()
                self._checkpoint = algo.save_to_path(folder)
            except OrchError as problem:
                raise OrchError(f"{problem}; {self._rescue(algo)}") from problem
            self._saved = algo.iteration
            # A runner that is replaced loads the model that the others were started with.
            prune_checkpoints(self._folder, self._reporting.keep_checkpoints, self._source)

    def _save_in_spite_of_an_error(self, algo: GRPO) -> None:
        """Keep the step that is done; what goes wrong here is a note beside the error."""
        if not algo.between_steps or self._rescued:
            return
        try:
            if algo.iteration == self._recorded:
                self._save(algo)
            elif algo.iteration > self._saved:
                self._display.note(f"step {algo.iteration} is not recorded; {self._rescue(algo)}")
        except OrchError as problem:
            self._display.note(str(problem))

    def _rescue(self, algo: GRPO) -> str:
        """Put the newest weights where they can be put; says where."""
        self._rescued = True
        return algo.rescue_to_path(self._folder / f"rescued-step_{algo.iteration}")

    def _prepare_folder(self, *, changed: bool) -> None:
        """Only now, when all that can be wrong with a configuration was found."""
        if self._resume:
            self._cut_back()
            self._keep_config(changed=changed)
        write_text(self._folder / "config.yaml", self._config.to_yaml())

    def _keep_config(self, *, changed: bool) -> None:
        """Keep what held up to the checkpoint beside what holds from now on."""
        for path in self._folder.glob("config.to_step_*.yaml"):
            step = re.fullmatch(r"config\.to_step_(\d+)\.yaml", path.name)
            if step and int(step.group(1)) >= self._saved:
                path.unlink()  # of steps that were cut off
        if changed and self._checkpoint is not None:
            held = (self._checkpoint / "config.yaml").read_text(encoding="utf-8")
            write_text(self._folder / f"config.to_step_{self._saved}.yaml", held)

    def _cut_back(self) -> None:
        """Drop what was written after the checkpoint."""
        step = self._saved
        truncate_metrics(self._folder, step if self._checkpoint is not None else -1)
        drop_checkpoints_after(self._folder, step)
        path = self._folder / "rollouts.db"
        if path.exists():
            with closing(RolloutStore(path)) as store:
                store.truncate(step)

    def _note_schedule(self, checkpoint: Path, step: int) -> None:
        from orch_train.learner.optimizer import schedule_change

        before = with_stored(GRPOConfig(), checkpoint, checkpoint).settings.training
        if changed := schedule_change(before, self._settings.training, step):
            self._display.note(changed)

    def _open_writer(self) -> MetricsWriter:
        reporting, wandb = self._reporting, None
        if reporting.wandb_project is not None:
            wandb = WandbLog(
                self._folder, reporting.wandb_project, reporting.wandb_mode, self._config.to_dict()
            )
        return MetricsWriter(self._folder, tensorboard=reporting.tensorboard, wandb=wandb)

    def _open_store(self) -> AbstractContextManager[RolloutStore | None]:
        if not self._reporting.store_rollouts:
            return nullcontext()
        return closing(RolloutStore(self._folder / "rollouts.db"))

    def _announce_stop(self, name: str) -> None:
        self._display.note(
            f"{name}: stopping; sampling is abandoned, learning finishes its step, then a "
            "checkpoint is written. Send it again to quit at once."
        )

    def _outcome(self, *, interrupted: bool) -> RunOutcome:
        results = [
            r for r in read_metrics(self._folder) if 0 < r["training_iteration"] <= self._saved
        ]
        return RunOutcome(
            folder=self._folder,
            result=results[-1] if results else {},
            interrupted=interrupted,
            checkpoint=self._checkpoint,
        )

    def _summary(self, outcome: RunOutcome) -> dict[str, Any]:
        results = read_metrics(self._folder)
        measured = [r for r in results if r.get("evaluation")]
        evaluations = {
            name: {"training_iteration": found["training_iteration"], **found["evaluation"]}
            for name, found in zip(("first", "last"), measured[:1] + measured[-1:], strict=False)
        }
        rewards = [r["env_runners"]["episode_return_mean"] for r in results if "env_runners" in r]
        summary = {
            "seed": self._settings.debugging.seed,
            "training_iteration": outcome.result.get("training_iteration", 0),
            "interrupted": outcome.interrupted,
            "seconds": outcome.result.get("time_total_s", 0.0),
            "episode_return_mean": {"first": rewards[0], "last": rewards[-1]} if rewards else {},
            "evaluation": evaluations,
            "checkpoint": outcome.checkpoint and str(outcome.checkpoint.relative_to(self._folder)),
            "fault_tolerance": outcome.result.get("fault_tolerance", {}),
        }
        return dict(plain(summary))
