"""GRPO in RLlib's shape: `GRPO.training_step` is the algorithm, the rest serves it.

Group relative policy optimization (Shao et al. 2024, arXiv 2402.03300, section 4.1): sample a
group of episodes per task, score each against its group, take policy-gradient steps, hand the
weights back to the samplers. Whether sampling goes in step with the learner or ahead of it
(``training.max_staleness``) is the business of `orch_train.sampling`. A step is a transaction:
groups count as trained only once the learner is done with them, so that a step that was abandoned
never happened.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

from orch_env.types import OrchError
from orch_train.algorithms.checkpoint import (
    CheckpointMetadata,
    read_metadata,
    read_untrained,
    run_origin,
    settings_for,
    with_stored,
    write_checkpoint,
)
from orch_train.algorithms.make_learner import AnyLearner, make_learner
from orch_train.algorithms.origin import Origin, kl_reference
from orch_train.chat.renderer import make_chat
from orch_train.config import RunConfig
from orch_train.config.weight_route import shares_weights, weight_sync
from orch_train.evaluation.policy import evaluate_policy, open_benchmark
from orch_train.learner.learner import Learner
from orch_train.learner.objective.statistics import alarms
from orch_train.metrics.rollouts import (
    Result,
    Timers,
    rollout_metrics,
    split_sampling,
    sync_metrics,
)
from orch_train.models.small_files import check_small_files
from orch_train.rollouts.environments import TaskIds, check_data, prompt_lengths, reward_weights
from orch_train.rollouts.rehearsal import rehearse
from orch_train.runners.make_runner_group import make_runner_group
from orch_train.runners.runner_group import RunnerGroup, SamplingStopped
from orch_train.sampling.ahead import StreamedSampling
from orch_train.sampling.observer import Observer, SilentObserver
from orch_train.sampling.synchronous import Sampling, SynchronousSampling
from orch_train.sampling.task_order import TaskOrder
from orch_train.storage.rescue import first_line
from orch_train.trajectory.requests import SampleReply
from orch_train.weight_sync.protocol import NewWeights, manifest_of

logger = logging.getLogger(__name__)


class GRPO:
    """The algorithm with its learner and runners; build it with ``config.build_algo()``.

    Use it as a context manager, or call `stop` at the end.

    Args:
        config: the configuration; it is validated and frozen.
        checkpoint: go on from this checkpoint folder instead of ``config.model``.
        observer: told what is going on, for progress displays.

    Attributes:
        last_batch: what the last training step learned from.

    Raises:
        OrchError: the configuration, its files, the model or a runner is not usable.

    Examples:
        >>> with GRPOConfig().from_yaml("configs/quickstart.yaml").build_algo() as algo:
        ...     result = algo.train()                                         # doctest: +SKIP
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        checkpoint: str | PathLike[str] | None = None,
        observer: Observer | None = None,
    ) -> None:
        source = None if checkpoint is None else Path(checkpoint)
        self.config = config.freeze()
        self.observer: Observer = observer or SilentObserver()
        self._initial = read_metadata(source) if source is not None else None
        self.settings = settings_for(config, source)
        logging.getLogger("orch_train").setLevel(self.settings.debugging.log_level)
        self._stop_requested: Callable[[], bool] = lambda: False
        self._stopped, self._in_use = False, threading.RLock()
        self._tasks: TaskIds = check_data(self.settings)
        chat = make_chat(self.settings)
        prompt_lengths(self.settings, chat)
        rehearse(self.settings, chat)
        check_small_files(self.settings.model.path)
        self._origin = Origin.of(self.settings) if source is None else run_origin(source)
        self._iteration = self._version = 0
        self._lifetime = dict.fromkeys(_LIFETIME, 0.0)
        self._between_steps = True
        self._synced: dict[str, float] = {}
        self.last_batch: list[SampleReply] = []
        with contextlib.ExitStack() as undo:
            self._benchmark = open_benchmark(self.settings, self._tasks)
            if self._benchmark is not None:
                undo.callback(self._benchmark.close)
            self.learner: AnyLearner = make_learner(
                self.settings, kl_reference(self.settings, self._origin)
            )
            undo.callback(self.learner.stop)
            if source is not None:
                self._restore(source)
            self.runners: RunnerGroup = make_runner_group(
                self.settings, self._new_weights(), self._version
            )
            undo.callback(self.runners.stop)
            self.sampling = self._make_sampling(source)
            undo.pop_all()

    # -- the algorithm ----------------------------------------------------------------------

    def training_step(self, timers: Timers) -> dict[str, float]:
        """Take a sampled batch, learn from it, and hand the new weights to the runners.

        Returns:
            The learner's metrics.

        Raises:
            SamplingStopped: a stop was requested; nothing has changed.
        """
        sampling = self.sampling
        with timers.phase(sampling.wait_phase), self.observer.phase("sample"):
            batch = sampling.next_batch()
        with timers.phase("learner_update"), self.observer.phase("learn"):
            self._between_steps = False
            groups = [reply.group for reply in batch]
            learned = self.learner.update(groups, self.observer.learned)
        with timers.phase("synch_weights"), self.observer.phase("sync"):
            weights = None
            if learned["num_optimizer_steps"] > 0:
                self._version, weights = self._version + 1, self._new_weights()
            started = time.perf_counter()
            sampling.step_done(weights, self._version)
        seconds = time.perf_counter() - started
        manifest = None if weights is None else manifest_of(weights)
        self._synced = sync_metrics(manifest, seconds, batch)
        self.last_batch = batch
        return learned

    def train(self) -> Result:
        """Run one training step, and the evaluation if it is due.

        Returns:
            The result in RLlib's shape; see INTERFACE: ``env_runners/*``,
            ``learners/default_policy/*``, ``timers/*``, ``evaluation/*``, ...

        Raises:
            SamplingStopped: a stop was requested; the step was abandoned and nothing has changed.
            OrchError: the step cannot be done (a group fails everywhere, no runner is left, ...),
                or the algorithm was stopped.
        """
        with self._using():
            return self._train()

    def _train(self) -> Result:
        started = time.perf_counter()
        timers = Timers()
        learned = self.training_step(timers)
        _warn(learned, synchronous=self.settings.training.max_staleness == 0)
        weights = reward_weights(self.settings, self._iteration)
        self._iteration += 1
        self._between_steps = True
        # Sampling ahead goes on all the time: its rates are over the whole step.
        sampling_s = timers.seconds.get("sample", time.perf_counter() - started)
        sampled = rollout_metrics(self.last_batch, sampling_s)
        sampled["groups"].update(self.sampling.resampled)
        if weights:
            sampled["reward_weights"] = weights
        result: Result = {
            "training_iteration": self._iteration,
            "weights_seq_no": self._version,
            "epoch": self.sampling.epoch,
            **self._count(sampled),
            "env_runners": sampled,
            "learners": {"default_policy": learned},
            "sync": self._synced,
            "fault_tolerance": dict(self.runners.fault_counts()),
            **self.sampling.metrics,
        }
        if self._evaluation_is_due():
            # The step is done whatever becomes of its evaluation.
            with timers.phase("evaluation"), contextlib.suppress(SamplingStopped):
                result["evaluation"] = self.evaluate()
        seconds = time.perf_counter() - started
        self._lifetime["time_total_s"] += seconds
        result["timers"] = split_sampling(
            timers.seconds, self.last_batch, self.settings.env_runners.num_env_runners
        )
        result["time_this_iter_s"] = seconds
        result["time_total_s"] = self._lifetime["time_total_s"]
        return result

    def evaluate(self) -> dict[str, Any]:
        """Measure the current policy on the held-out tasks; nothing is learned.

        Returns:
            ``evaluation/*``: success, reward, call and turn accuracy, sampled and greedy.

        Raises:
            OrchError: no held-out tasks are configured, or the algorithm was stopped.
            SamplingStopped: a stop was requested.
        """
        with self._using(), self.observer.phase("evaluate"):
            if self._tasks.held_out is None:
                raise OrchError("evaluation.tasks: no held-out tasks are configured")
            return evaluate_policy(
                self.settings,
                self.sampling,
                self._tasks.held_out,
                benchmark=self._benchmark,
                training_step=self._iteration,
                strata=self._tasks.strata,
            )

    # -- state ------------------------------------------------------------------------------

    @property
    def iteration(self) -> int:
        """Training steps that are done."""
        return self._iteration

    @property
    def weights_seq_no(self) -> int:
        """Version of the current weights; 0 is the model that training started from."""
        return self._version

    @property
    def between_steps(self) -> bool:
        """Whether the state is that of a whole number of steps, so that it is worth saving."""
        return self._between_steps

    @property
    def has_sampled_ahead(self) -> bool:
        """Whether there are finished groups that no step has learned from, worth saving."""
        _, untrained = self.sampling.frontier()
        return untrained is not None and bool(untrained.finished)

    def stop_when(self, requested: Callable[[], bool]) -> None:
        """Look at this several times a second while sampling; True abandons the step."""
        self._stop_requested = requested

    def save_to_path(self, path: str | PathLike[str]) -> Path:
        """Write a checkpoint folder, whole or not at all.

        Raises:
            OrchError: it cannot be written, or the algorithm was stopped.
        """
        with self._using():
            order, untrained = self.sampling.frontier()
            metadata = CheckpointMetadata(
                training_iteration=self._iteration,
                weights_seq_no=self._version,
                lifetime=dict(self._lifetime),
                task_order=order,
                origin=self._origin,
            )
            text = self.config.to_yaml()
            return write_checkpoint(Path(path), metadata, text, self.learner.save, untrained)

    def rescue_to_path(self, path: str | PathLike[str]) -> str:
        """Save what can be saved of the learner after `save_to_path` has failed.

        Args:
            path: a new folder; without room there, one among the temporary files is made.

        Returns:
            What was saved and where, for a person.
        """
        try:
            return self.learner.rescue(path)
        except Exception as problem:  # the error that led here must not be lost to this one
            return f"its weights could not be fetched from the learner ({first_line(problem)})"

    @classmethod
    def from_checkpoint(
        cls,
        path: str | PathLike[str],
        *,
        config: RunConfig | None = None,
        observer: Observer | None = None,
    ) -> GRPO:
        """Go on from a checkpoint, with its own configuration or another one.

        Raises:
            OrchError: it is no checkpoint, or does not fit the configuration.
        """
        own = config or with_stored(RunConfig(), Path(path), Path(path))
        return cls(own, checkpoint=path, observer=observer)

    def restore_from_path(self, path: str | PathLike[str]) -> None:
        """Put this algorithm into a checkpoint's state, runners included.

        Raises:
            OrchError: it is no checkpoint, or one of another model, or the algorithm was stopped;
                or its run started from another model than the one that the KL penalty is measured
                against.
        """
        folder = Path(path)
        with self._using():
            self._initial = read_metadata(folder)
            origin = run_origin(folder)
            if kl_reference(self.settings, origin) != kl_reference(self.settings, self._origin):
                raise OrchError(
                    f"{str(folder)!r} belongs to a run that started from another model, which its "
                    "KL penalty is measured against: use GRPO.from_checkpoint"
                )
            self._origin = origin
            self.sampling.stop()
            self._restore(folder)
            self.runners.sync_weights(self._new_weights(), self._version)
            self.sampling = self._make_sampling(folder)

    def stop(self) -> None:
        """End sampling, runners, learners, and Ray if no other run needs it; may be called twice.

        Called from another thread it ends the step that runs: sampling is abandoned, learning
        finishes.
        """
        self._stopped = True
        with self._in_use, contextlib.ExitStack() as rest:
            if self._benchmark is not None:
                rest.callback(self._benchmark.close)
            rest.callback(self.learner.stop)
            rest.callback(self.runners.stop)
            self.sampling.stop()

    def __enter__(self) -> GRPO:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """Hold off `stop` of another thread.

        Raises:
            OrchError: the algorithm was stopped, before or meanwhile.
        """
        stopped = OrchError(
            "this algorithm was stopped: build another one, or go on from its checkpoint with "
            "GRPO.from_checkpoint(folder)"
        )
        with self._in_use:
            if self._stopped:
                raise stopped
            try:
                yield
            except SamplingStopped:
                if self._stopped:
                    raise stopped from None
                raise

    def _should_stop(self) -> bool:
        return self._stopped or self._stop_requested()

    def _restore(self, folder: Path) -> None:
        assert self._initial is not None
        self.learner.load(folder / "learner")
        self._iteration = self._initial.training_iteration
        self._version = self._initial.weights_seq_no
        self._lifetime.update(self._initial.lifetime)

    def _new_weights(self) -> NewWeights:
        """For the runners: in this process, or where a learner actor broadcasts them from."""
        if isinstance(self.learner, Learner) and shares_weights(self.settings):
            return self.learner.live_weights()
        if weight_sync(self.settings) == "host" or isinstance(self.learner, Learner):
            return self.learner.get_weights()
        return self.learner.hold_weights()

    def _make_sampling(self, source: Path | None) -> Sampling:
        """Batches from the first task on, or from where a checkpoint stands."""
        settings, untrained = self.settings, None
        order = TaskOrder(self._tasks.training, settings.debugging.seed, self._tasks.weights)
        if source is not None:
            assert self._initial is not None
            order.restore(self._initial.task_order)
            untrained = read_untrained(source)
        if settings.training.max_staleness > 0:
            return StreamedSampling(
                settings,
                self.runners,
                order,
                step=self._iteration,
                version=self._version,
                observer=self.observer,
                should_stop=self._should_stop,
                untrained=untrained,
            )
        if untrained is not None:
            raise OrchError(
                f"{source} has {len(untrained.requests)} groups that were sampled ahead of the "
                "learner: resume it with the training.max_staleness that it was written with"
            )
        return SynchronousSampling(
            settings,
            self.runners,
            order,
            step=self._iteration,
            observer=self.observer,
            should_stop=self._should_stop,
        )

    def _evaluation_is_due(self) -> bool:
        """At the interval, and after the last step."""
        interval = self.settings.evaluation.evaluation_interval
        last = self._iteration == self.settings.training.iterations
        return interval > 0 and (last or self._iteration % interval == 0)

    def _count(self, sampled: Mapping[str, Any]) -> dict[str, float]:
        for name, key in _LIFETIME.items():
            if key:
                self._lifetime[name] += sampled[key]
        return {name: int(self._lifetime[name]) for name, key in _LIFETIME.items() if key}


# Lifetime counter -> the key of `rollout_metrics` that it adds up.
_LIFETIME = {
    "num_env_steps_sampled_lifetime": "num_env_steps_sampled",
    "num_episodes_lifetime": "num_episodes",
    "num_action_tokens_lifetime": "num_action_tokens",
    "time_total_s": "",
}


def _warn(learned: Mapping[str, float], *, synchronous: bool) -> None:
    for alarm in alarms(learned, synchronous=synchronous):
        logger.warning("%s", alarm)
