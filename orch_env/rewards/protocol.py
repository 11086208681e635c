"""A reward: a pure function of (task, episode)."""

from __future__ import annotations

from typing import Protocol

from orch_env.types import Episode, RewardBreakdown, Task


class Reward(Protocol):
    """Scores a finished or running episode; never raises on what a model wrote."""

    @property
    def name(self) -> str:
        """The preset's name."""
        ...

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        """Return the total, in the reward's documented range, with everything it is made of."""
        ...
