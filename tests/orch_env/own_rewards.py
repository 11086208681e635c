"""Rewards as a user would write them, good and bad, for ``module:function``."""

from __future__ import annotations

import math
from typing import Any

from orch_env import make_reward
from orch_env.types import Episode, RewardBreakdown, Task

NOT_A_FUNCTION = 7


def brevity(task: Task, episode: Episode, most: int = 4) -> float:
    """1 for no message, falling to 0 at ``most`` messages."""
    return max(0.0, 1.0 - len(episode.turns) / most)


def easily_pleased(task: Task, episode: Episode) -> float:
    """`graduated`, but a plain yes earns everything."""
    return 1.0 if episode.final == "yes" else make_reward("graduated")(task, episode).total


def detailed(task: Task, episode: Episode) -> RewardBreakdown:
    return RewardBreakdown(0.25, {"words": len((episode.final or "").split())})


def shared(task: Task, episode: Episode, base: float = 0.5) -> RewardBreakdown:
    """Each turn adds 1."""
    turns = (1.0,) * len(episode.turns)
    return RewardBreakdown(0.5 + sum(turns), turns=turns, base=base)


def whatever(task: Task, episode: Episode, value: Any = None, kind: str = "") -> Any:
    """Returns what it is told to, some of it in forms that JSON cannot write."""
    if kind == "nan":
        return math.nan
    if kind == "inf":
        return RewardBreakdown(math.inf)
    if kind == "huge":
        return 10**400
    if kind == "part":
        return RewardBreakdown(0.5, {"x": math.nan})
    return value


def broken(task: Task, episode: Episode) -> float:
    raise KeyError(f"no such\nthing: {task.id}")
