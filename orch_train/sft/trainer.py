"""Supervised fine-tuning on demonstrations: the warm start before rewards.

Cross-entropy on action tokens only, with the learner's own packing, log-probabilities and
optimizer. What stops the warm start is held-out success at the *training* temperature. A stop at
greedy success would leave a policy that rarely succeeds when it is sampled; a policy that always
succeeds would leave nothing for a reward to teach.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, TypeAlias

import torch
from transformers import PreTrainedModel

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.learner.batch.packing import make_microbatches
from orch_train.learner.logprobs import action_logprobs, check_head
from orch_train.learner.optimizer import MasterAdamW, StepReport
from orch_train.learner.training_mode import prepare_for_training, snapshot
from orch_train.models.load import DTYPES, rescue_parts, save_model
from orch_train.models.small_files import SmallFiles
from orch_train.storage.rescue import first_line, rescue
from orch_train.trajectory.sample import TrainingSample

Metrics: TypeAlias = dict[str, float]
Evaluate: TypeAlias = Callable[[PreTrainedModel], Mapping[str, float]]
"""Measures a model on held-out tasks; the result has ``success`` (0..1) at the training
temperature, and whatever else should be recorded beside it."""


class SFTStop(StrEnum):
    """Why the warm start ended."""

    TARGET = "target"
    """Held-out success lies within the target band."""
    ABOVE_TARGET = "above_target"
    """Held-out success jumped over the band: measure more often to stop within it."""
    MAX_STEPS = "max_steps"
    """The bound on optimizer steps was reached."""
    MAX_EPOCHS = "max_epochs"
    """The bound on passes over the demonstrations was reached."""
    MAX_SECONDS = "max_seconds"
    """The bound on training time was reached."""
    INTERRUPTED = "interrupted"
    """``should_stop`` said so."""


@dataclass(frozen=True)
class SFTSummary:
    """What a warm start did.

    Attributes:
        stop: why it ended.
        steps: optimizer steps taken.
        epochs: passes over the demonstrations.
        seconds: training time, without evaluations.
        eval_seconds: time of the evaluations.
        tokens: tokens trained on, observations included.
        loss_first: mean cross-entropy per action token (nats) of the first step.
        loss_last: the same, mean of the last 10 steps.
        evaluations: one mapping each: ``step``, ``seconds``, and what ``evaluate`` returned; the
            last one is of the final weights, unless a signal ended the warm start.
    """

    stop: SFTStop
    steps: int
    epochs: float
    seconds: float
    eval_seconds: float
    tokens: int
    loss_first: float | None
    loss_last: float | None
    evaluations: tuple[dict[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``summary.json``."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "stop": self.stop.value,
            "evaluations": [dict(e) for e in self.evaluations],
        }


class SFTTrainer:
    """Trains a model on demonstrations, in place.

    To go on from an earlier warm start, load its model folder and train again: the optimizer's
    running means begin anew.

    Args:
        model: a causal language model, best loaded in float32 whatever ``model.dtype`` says.
        settings: the whole configuration; read are ``sft``, ``learners`` and ``model.dtype``.
        files: what lies beside the weights in the model that is saved.

    Raises:
        OrchError: the model's architecture is not supported.
    """

    def __init__(
        self, model: PreTrainedModel, settings: Settings, files: SmallFiles | None = None
    ) -> None:
        self.settings, self._files, learners = settings, files or {}, settings.learners
        if learners.num_cpus_per_learner is not None:
            torch.set_num_threads(learners.num_cpus_per_learner)
        torch.nn.Module.to(model, torch.device(learners.device))
        self.model = model
        check_head(model)
        self._optimizer = MasterAdamW(model, settings.sft, DTYPES[settings.model.dtype])

    @property
    def num_updates(self) -> int:
        """Optimizer steps taken so far."""
        return self._optimizer.num_updates

    def train(
        self,
        demonstrations: Sequence[TrainingSample],
        *,
        evaluate: Evaluate | None = None,
        on_metrics: Callable[[Metrics], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> SFTSummary:
        """Train until a bound or the target is reached.

        Args:
            demonstrations: their token streams.
            evaluate: see :data:`Evaluate`; the model is in evaluation mode while it runs.
            on_metrics: called after each step with ``step``, ``epoch``, ``loss``, ``grad_norm``,
                ``lr``, ``tokens_per_s``, ``seconds``; after an evaluation its results are among
                them, under ``evaluation/NAME``.
            should_stop: asked between steps; true ends training with everything intact.

        Raises:
            OrchError: nothing to train on, a missing ``evaluate``, or gradients that stay
                non-finite.
        """
        samples = [d.weighted(1.0) for d in demonstrations if d.num_actions]
        if not samples:
            raise OrchError("there is no demonstration with an action to train on")
        sft, learners = self.settings.sft, self.settings.learners
        if evaluate is None and (sft.eval_every or sft.eval_at_start):
            raise OrchError("eval_every is set, but there is nothing to evaluate with")
        prepare_for_training(self.model, gradient_checkpointing=learners.gradient_checkpointing)
        try:
            run = _Run(self, samples, evaluate, on_metrics)
            return run.until(should_stop or (lambda: False))
        finally:
            self.model.eval()  # type: ignore[no-untyped-call]

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write a model folder with the float32 weights, whole or not at all.

        Raises:
            OrchError: it cannot be written; the error says where the weights are instead.
        """
        weights = snapshot(self.model, self._optimizer.master_weights())
        try:
            return save_model(self.model, folder, self._files, weights)
        except Exception as problem:  # whatever a library raises must not cost the training
            parts = rescue_parts(self.model, self._files, weights)
            told = rescue(Path(folder).absolute().with_name("rescued"), parts)
            raise OrchError(
                f"model {os.fspath(folder)!r} cannot be written ({first_line(problem)}); {told}"
            ) from problem

    def step(self, samples: Sequence[TrainingSample]) -> tuple[float, StepReport]:
        """One optimizer step; returns the mean cross-entropy per action token, in nats."""
        total = sum(s.num_actions for s in samples)
        learners = self.settings.learners
        loss = 0.0
        for batch in make_microbatches(
            samples,
            learners.max_tokens_per_microbatch,
            layout=learners.layout,
            device=learners.device,
        ):
            logprobs_N = action_logprobs(self.model, batch, temperature=1.0).logprobs_N
            part = -logprobs_N.sum() / total
            part.backward()  # type: ignore[no-untyped-call]
            self._optimizer.accumulate()
            loss += float(part.detach())
        return loss, self._optimizer.step()


class _Clock:
    """Seconds of training and of evaluation, apart."""

    def __init__(self) -> None:
        self.training = 0.0
        self.evaluating = 0.0


class _Run:
    """One call of :meth:`SFTTrainer.train`."""

    def __init__(
        self,
        trainer: SFTTrainer,
        samples: list[TrainingSample],
        evaluate: Evaluate | None,
        on_metrics: Callable[[Metrics], None] | None,
    ) -> None:
        self.trainer = trainer
        self.settings = trainer.settings.sft
        self.samples = samples
        self.evaluate = evaluate
        self.on_metrics = on_metrics
        self.order = _shuffled_forever(len(samples), sft_seed(trainer.settings))
        self.clock = _Clock()
        self.steps = self.examples = self.tokens = 0
        self.losses: list[float] = []
        self.evaluations: list[dict[str, float]] = []

    def until(self, should_stop: Callable[[], bool]) -> SFTSummary:
        stop = self._measured({}) if self.settings.eval_at_start else None
        while stop is None:
            stop = SFTStop.INTERRUPTED if should_stop() else self._bound()
            if stop is None:
                metrics = self._step()
                due = self.settings.eval_every and self.steps % self.settings.eval_every == 0
                stop = self._measured(metrics) if due else None
                if self.on_metrics is not None:
                    self.on_metrics(metrics)
        if self.settings.eval_every and stop is not SFTStop.INTERRUPTED and not self._is_measured():
            self._measured({})
        last = self.losses[-10:]
        return SFTSummary(
            stop=stop,
            steps=self.steps,
            epochs=self.examples / len(self.samples),
            seconds=self.clock.training,
            eval_seconds=self.clock.evaluating,
            tokens=self.tokens,
            loss_first=self.losses[0] if self.losses else None,
            loss_last=sum(last) / len(last) if last else None,
            evaluations=tuple(self.evaluations),
        )

    def _is_measured(self) -> bool:
        """Whether the last evaluation is of the weights as they are now."""
        return bool(self.evaluations) and self.evaluations[-1]["step"] == self.steps

    def _bound(self) -> SFTStop | None:
        chosen = self.settings
        if chosen.max_steps is not None and self.steps >= chosen.max_steps:
            return SFTStop.MAX_STEPS
        if chosen.max_epochs is not None and self.examples >= chosen.max_epochs * len(self.samples):
            return SFTStop.MAX_EPOCHS
        if chosen.max_seconds is not None and self.clock.training >= chosen.max_seconds:
            return SFTStop.MAX_SECONDS
        return None

    def _step(self) -> Metrics:
        batch = [self.samples[next(self.order)] for _ in range(self.settings.batch_size)]
        started = perf_counter()
        loss, report = self.trainer.step(batch)
        seconds = perf_counter() - started
        self.clock.training += seconds
        self.steps += 1
        self.examples += len(batch)
        tokens = sum(s.num_trained for s in batch)
        self.tokens += tokens
        self.losses.append(loss)
        return {
            "step": self.steps,
            "epoch": self.examples / len(self.samples),
            "loss": loss,
            "grad_norm": report.grad_norm,
            "lr": report.lr,
            "tokens_per_s": tokens / seconds,
            "seconds": self.clock.training,
        }

    def _measured(self, metrics: Metrics) -> SFTStop | None:
        """Evaluate, add the results to the metrics, and say whether the target was reached."""
        if self.evaluate is None:
            return None
        started = perf_counter()
        self.trainer.model.eval()  # type: ignore[no-untyped-call]
        result = dict(self.evaluate(self.trainer.model))
        self.trainer.model.train()
        self.clock.evaluating += perf_counter() - started
        metrics.update({f"evaluation/{name}": value for name, value in result.items()})
        self.evaluations.append({"step": self.steps, "seconds": self.clock.training, **result})
        if self.settings.target_success is None:
            return None
        low, high = self.settings.target_success
        if result["success"] > high:
            return SFTStop.ABOVE_TARGET
        return SFTStop.TARGET if result["success"] >= low else None


def sft_seed(settings: Settings) -> int:
    """Seed of the order of demonstrations and of their mistakes."""
    return settings.debugging.seed if settings.sft.seed is None else settings.sft.seed


def _shuffled_forever(size: int, seed: int) -> Iterator[int]:
    """Indices in epochs, each in a new order; batches may run across the seam."""
    rng = Random(seed)
    while True:
        order = list(range(size))
        rng.shuffle(order)
        yield from order
