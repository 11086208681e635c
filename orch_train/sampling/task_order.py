"""The order in which tasks are trained: one seeded shuffle per epoch, and the frontier within it.

The frontier is a set of consumed ids and no position, so that a resumed run repeats no task and
skips none even if the task file grew or shrank in between. A stable hash seeds each shuffle:
Python's own differs from process to process.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.trajectory.requests import SampleRequest, hashed_seed


@dataclass(frozen=True, slots=True)
class TaskDraw:
    """One task, drawn in one epoch."""

    epoch: int
    task_id: str

    @property
    def group(self) -> str:
        """Id of the group that samples it; unique within a run."""
        return f"{self.epoch}:{self.task_id}"


def stable_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on all parts, equal on every machine."""
    return hashed_seed("\x1f".join(f"{type(part).__name__}:{part}" for part in parts))


class TaskOrder:
    """Draws tasks without replacement, epoch after epoch.

    Args:
        task_ids: the tasks, each id once.
        seed: base seed of the run.
        weights: task id -> the chance that an epoch has it, above 0; tasks that are not in it are
            in every epoch.

    Raises:
        OrchError: there is no task.
    """

    def __init__(
        self, task_ids: Sequence[str], seed: int, weights: Mapping[str, float] | None = None
    ) -> None:
        if not task_ids:
            raise OrchError("there is no task to train on: the task file is empty")
        self._task_ids = sorted(set(task_ids))
        self._seed = seed
        self._weights = dict(weights or {})
        self._epoch = 0
        self._consumed: set[str] = set()

    @property
    def epoch(self) -> int:
        """The current epoch, from 0."""
        return self._epoch

    def copy(self) -> TaskOrder:
        """A frontier of its own at the same place: draws on it are dropped unless it is kept."""
        twin = TaskOrder(self._task_ids, self._seed, self._weights)
        twin._epoch, twin._consumed = self._epoch, set(self._consumed)
        return twin

    def draw(self, count: int) -> list[TaskDraw]:
        """The next ``count`` tasks; runs over into further epochs if it must."""
        drawn: list[TaskDraw] = []
        while len(drawn) < count:
            rest = [task for task in self._shuffled() if task not in self._consumed]
            taken = rest[: count - len(drawn)]
            drawn += [TaskDraw(self._epoch, task) for task in taken]
            self._consumed.update(taken)
            if len(taken) == len(rest):
                self._epoch, self._consumed = self._epoch + 1, set()
        return drawn

    def requests(self, count: int, settings: Settings, step: int) -> list[SampleRequest]:
        """Draw tasks and say how their groups are sampled: that depends on seed and draw alone.

        Args:
            count: number of tasks.
            settings: the whole configuration.
            step: training steps that are done, for rewards that follow a schedule.
        """
        return [
            SampleRequest(
                id=draw.group,
                task_id=draw.task_id,
                env_seed=stable_seed("group", self._seed, draw.epoch, draw.task_id),
                sample_seed=stable_seed("sample", settings.debugging.seed),
                size=settings.training.group_size,
                training_step=step,
                temperature=settings.rollouts.temperature,
            )
            for draw in self.draw(count)
        ]

    def state(self) -> dict[str, Any]:
        """The frontier, as plain data."""
        return {"seed": self._seed, "epoch": self._epoch, "consumed": sorted(self._consumed)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a stored frontier; its seed replaces this one's.

        Raises:
            OrchError: it is damaged.
        """
        try:
            self._seed, self._epoch = int(state["seed"]), int(state["epoch"])
            # Tasks that are no longer in the file must not keep an epoch from ending.
            self._consumed = set(state["consumed"]) & set(self._task_ids)
        except (LookupError, TypeError, ValueError) as problem:
            why = f"{type(problem).__name__}: {problem}"
            raise OrchError(f"the checkpoint's task_order is damaged ({why})") from problem
        if set(self._shuffled()) <= self._consumed:
            self._epoch, self._consumed = self._epoch + 1, set()

    def _shuffled(self) -> list[str]:
        order = [task for task in self._task_ids if self._takes_part(task)] or list(self._task_ids)
        random.Random(stable_seed("order", self._seed, self._epoch)).shuffle(order)
        return order

    def _takes_part(self, task: str) -> bool:
        """Whether an epoch has a task."""
        weight = self._weights.get(task, 1.0)
        return weight >= 1.0 or (
            random.Random(stable_seed("weight", self._seed, self._epoch, task)).random() < weight
        )
