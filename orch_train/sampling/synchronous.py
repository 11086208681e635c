"""Where the algorithm gets its batches from: in step with the learner, or ahead of it.

`GRPO.training_step` reads the same either way: take a batch, learn, hand back the new weights.
This module has the protocol of it and the form in step; `streamed_sampling` is the other. The hard
decision of the synchronous form: tasks count as consumed only once the learner is done with them,
so that a step that was abandoned never happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from orch_train.config import Settings
from orch_train.rollouts.env_runner import SampleRequest
from orch_train.runners.runner_group import GroupSource, OnGroup, RunnerGroup, ShouldStop
from orch_train.sampling.batch_sampler import BatchSampler, SampledBatch
from orch_train.sampling.observer import Observer
from orch_train.sampling.task_order import TaskOrder
from orch_train.sampling.untrained_groups import SampledAhead
from orch_train.trajectory.trajectory import Group
from orch_train.weight_sync.protocol import NewWeights


class Sampling(GroupSource, Protocol):
    """Batches for the learner, and the runners' only caller; `sample` is for evaluation."""

    wait_phase: str
    """What ``timers/*`` calls the time that the learner spends in `next_batch`."""

    @property
    def epoch(self) -> int:
        """The epoch that tasks are being drawn from."""
        ...

    def next_batch(
        self, step: int, observer: Observer, should_stop: Callable[[], bool]
    ) -> SampledBatch:
        """The groups to learn from in this step.

        Args:
            step: training steps that are done.
            observer: told of the groups.
            should_stop: looked at several times a second; True abandons the step.

        Raises:
            SamplingStopped: ``should_stop`` said so; nothing has changed.
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

    def frontier(self) -> tuple[Mapping[str, Any], SampledAhead | None]:
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
    """

    wait_phase = "sample"

    def __init__(self, settings: Settings, runners: RunnerGroup, order: TaskOrder) -> None:
        self._runners = runners
        self._sampler = BatchSampler(settings, runners)
        self._order = self._drawn = order

    @property
    def epoch(self) -> int:
        """See `Sampling.epoch`."""
        return self._order.epoch

    def next_batch(
        self, step: int, observer: Observer, should_stop: Callable[[], bool]
    ) -> SampledBatch:
        """See `Sampling.next_batch`."""
        self._drawn = self._order.copy()
        return self._sampler.sample(self._drawn, observer, should_stop, training_step=step)

    def step_done(self, weights: NewWeights | None, version: int) -> None:
        """See `Sampling.step_done`."""
        self._order = self._drawn
        if weights is not None:
            self._runners.sync_weights(weights, version)

    def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        on_group: OnGroup | None = None,
        should_stop: ShouldStop | None = None,
    ) -> list[Group]:
        """See `GroupSource.sample`."""
        return self._runners.sample(requests, on_group=on_group, should_stop=should_stop)

    def frontier(self) -> tuple[Mapping[str, Any], SampledAhead | None]:
        """See `Sampling.frontier`."""
        return self._order.state(), None

    def stop(self) -> None:
        """Nothing runs between two calls."""
