"""Where the algorithm gets its batches from: in step with the learner, or ahead of it.

`GRPO.training_step` reads the same either way: take a batch, learn, hand back the new weights.
This module has the protocol and the form in step; `sampling.ahead` has the other. In step, tasks
count as trained only once the learner is done with them: a step that was abandoned never happened.

``zero_variance: resample`` is DAPO's dynamic sampling (arXiv 2503.14476, section 3.2) with a bound:
groups whose rewards are all equal teach nothing, so as many further tasks are drawn, at most so
many times; then the batch has less to learn from. What was drawn is trained or counted, never
hidden.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from orch_train.config import Settings
from orch_train.runners.runner_group import GroupSource, RunnerGroup, ShouldStop
from orch_train.sampling.observer import Observer
from orch_train.sampling.task_order import TaskOrder
from orch_train.sampling.untrained_groups import UntrainedGroups
from orch_train.trajectory.requests import SampleReply, SampleRequest
from orch_train.weight_sync.protocol import NewWeights

logger = logging.getLogger(__name__)


class Sampling(GroupSource, Protocol):
    """Batches for the learner, and the runners' only caller; `sample` is for evaluation.

    Attributes:
        wait_phase: what ``timers/*`` calls the time that the learner spends in `next_batch`.
        resampled: for ``env_runners/groups/*``: of the last batch, the groups that were drawn to
            replace uniform ones, and the rounds of that.
        metrics: further parts of the last batch's result, by their top-level names.
    """

    wait_phase: str
    resampled: Mapping[str, int]
    metrics: Mapping[str, Any]

    @property
    def epoch(self) -> int:
        """The epoch that tasks are being drawn from."""
        ...

    def next_batch(self) -> list[SampleReply]:
        """The groups to learn from in this step, uniform ones included.

        Raises:
            SamplingStopped: a stop was requested; nothing has changed.
            OrchError: a group failed too often, or no runner is left.
        """
        ...

    def step_done(self, weights: NewWeights | None, version: int) -> None:
        """The batch was learned from.

        Args:
            weights: the new ones, served by every runner before this returns; ``None`` if they
                did not change.
            version: theirs.
        """
        ...

    def frontier(self) -> tuple[Mapping[str, Any], UntrainedGroups | None]:
        """For a checkpoint: the task order, and what was sampled ahead of the learner."""
        ...

    def stop(self) -> None:
        """Sample no more. The runners stay."""
        ...


class SynchronousSampling:
    """Every episode of a batch is sampled by the weights that learn from it.

    Args:
        settings: the whole configuration.
        runners: where groups are sampled.
        order: the tasks; it is advanced.
        step: training steps that are done.
        observer: its methods are called for every group.
        should_stop: looked at several times a second; True abandons the step.
    """

    wait_phase = "sample"

    def __init__(
        self,
        settings: Settings,
        runners: RunnerGroup,
        order: TaskOrder,
        *,
        step: int,
        observer: Observer,
        should_stop: ShouldStop,
    ) -> None:
        self._settings, self._runners, self._step = settings, runners, step
        self._observer, self._should_stop = observer, should_stop
        self._order = self._drawn = order
        self.resampled: Mapping[str, int] = {}
        self.metrics: Mapping[str, Any] = {}

    @property
    def epoch(self) -> int:
        return self._order.epoch

    def next_batch(self) -> list[SampleReply]:
        training = self._settings.training
        self._drawn = self._order.copy()
        batch = self._draw(training.groups_per_batch)
        rounds, missing = 0, _num_flat(batch)
        if training.zero_variance == "resample":
            while missing and rounds < training.max_resample_rounds:
                batch += self._draw(missing)
                rounds += 1
                missing = training.groups_per_batch - len(batch) + _num_flat(batch)
            if missing:
                logger.warning(
                    "only %d of %d groups have a spread of rewards after %d further rounds",
                    training.groups_per_batch - missing,
                    training.groups_per_batch,
                    rounds,
                )
        extra = len(batch) - training.groups_per_batch
        self.resampled = {"resampled": extra, "resample_rounds": rounds}
        return batch

    def step_done(self, weights: NewWeights | None, version: int) -> None:
        self._order = self._drawn
        self._step += 1
        if weights is not None:
            self._runners.sync_weights(weights, version)

    def sample(self, requests: Sequence[SampleRequest]) -> list[SampleReply]:
        self._observer.expect(len(requests))
        return self._runners.sample(
            requests, on_group=self._observer.sampled, should_stop=self._should_stop
        )

    def frontier(self) -> tuple[Mapping[str, Any], UntrainedGroups | None]:
        return self._order.state(), None

    def stop(self) -> None:
        """Nothing runs between two calls."""

    def _draw(self, count: int) -> list[SampleReply]:
        return self.sample(self._drawn.requests(count, self._settings, self._step))


def _num_flat(batch: Sequence[SampleReply]) -> int:
    return sum(reply.group.is_uniform for reply in batch)
