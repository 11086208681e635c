"""A reward: a pure function of (task, episode)."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Component:
    """One named part of a reward, as its breakdown reports it.

    Attributes:
        name: key in ``RewardBreakdown.components``.
        equation: how it is computed, one line of plain text.
        source: paper and equation or section, or ``"ours"``.
        low: least value; ``-inf`` where there is none.
        high: greatest value; ``inf`` where there is none.
    """

    name: str
    equation: str
    source: str = "ours"
    low: float = 0.0
    high: float = 1.0
