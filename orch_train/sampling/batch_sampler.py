"""From the order of tasks to a batch of groups, with bounded replacement of uniform ones.

``resample`` is DAPO's dynamic sampling (arXiv 2503.14476, section 3.2) with a bound: groups whose
rewards are all equal teach nothing, so as many further tasks are drawn, at most so many times;
then the batch simply has less to learn from. What was drawn is trained or counted, never hidden.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orch_train.config import Settings
from orch_train.metrics.rollouts import is_flat
from orch_train.rollouts.env_runner import SampleRequest
from orch_train.rollouts.episode import GroupRequest
from orch_train.runners.runner_group import RunnerGroup
from orch_train.sampling.observer import Observer
from orch_train.sampling.task_order import TaskDraw, TaskOrder, stable_seed
from orch_train.trajectory.trajectory import Group

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SampledBatch:
    """The groups of one training step.

    Attributes:
        groups: in the order in which they were drawn; uniform ones included.
        resampled: groups that were drawn to replace uniform ones.
        rounds: rounds of sampling beyond the first.
        metrics: further parts of the step's result, by their top-level names.
    """

    groups: list[Group]
    resampled: int = 0
    rounds: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """For ``env_runners/groups/*``."""
        return {"resampled": self.resampled, "resample_rounds": self.rounds}


class BatchSampler:
    """Draws tasks and samples their groups.

    Args:
        settings: the whole configuration.
        runners: where the groups are sampled.
    """

    def __init__(self, settings: Settings, runners: RunnerGroup) -> None:
        self._training = settings.training
        self._settings = settings
        self._runners = runners

    def sample(
        self,
        order: TaskOrder,
        observer: Observer,
        should_stop: Callable[[], bool],
        *,
        training_step: int = 0,
    ) -> SampledBatch:
        """Sample one batch, advancing the order.

        Args:
            order: the tasks.
            observer: told of every group.
            should_stop: True abandons the batch.
            training_step: number of training steps done, for rewards that follow a schedule.

        Raises:
            SamplingStopped: ``should_stop`` said so.
            OrchError: a group failed too often, or no runner is left.
        """

        def more(count: int) -> list[Group]:
            draws = order.draw(count)
            observer.expect(len(draws))
            requests = [sample_request(self._settings, order, d, training_step) for d in draws]
            return self._runners.sample(
                requests, on_group=observer.sampled, should_stop=should_stop
            )

        groups = more(self._training.groups_per_batch)
        if self._training.zero_variance != "resample":
            return SampledBatch(groups)
        resampled = rounds = 0
        while rounds < self._training.max_resample_rounds:
            missing = self._training.groups_per_batch - sum(not is_flat(g) for g in groups)
            if missing <= 0:
                break
            groups += more(missing)
            resampled, rounds = resampled + missing, rounds + 1
        informative = sum(not is_flat(g) for g in groups)
        if informative < self._training.groups_per_batch:
            logger.warning(
                "only %d of %d groups have a spread of rewards after %d further rounds",
                informative,
                self._training.groups_per_batch,
                rounds,
            )
        return SampledBatch(groups, resampled, rounds)


def sample_request(
    settings: Settings, order: TaskOrder, draw: TaskDraw, training_step: int
) -> SampleRequest:
    """The request of one drawn task: it depends on nothing but the seed and the draw.

    Args:
        settings: the whole configuration.
        order: where it was drawn from.
        draw: the task.
        training_step: training steps that are done, for rewards that follow a schedule.
    """
    group = GroupRequest(
        id=draw.group,
        task_id=draw.task_id,
        env_seed=order.group_seed(draw),
        sample_seed=stable_seed("sample", settings.debugging.seed),
        size=settings.training.group_size,
        training_step=training_step,
    )
    return SampleRequest(group, settings.rollouts.temperature)
