"""Group-relative advantages, in float64.

The hard decision: a group carries no signal exactly when its rewards are *equal*, compared as
numbers, and then every advantage is exactly 0. A threshold on the standard deviation would let
float residue through (divided by itself: advantages of thousands) or swallow real differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from orch_env.types import OrchError

Rewards: TypeAlias = NDArray[np.float64]


def _group_mean(rewards_G: Rewards, eps: float) -> Rewards:
    """``r - mean(r)``: Dr.GRPO's advantage (Liu et al. 2025, arXiv 2503.20783, section 3.1)."""
    return rewards_G - float(rewards_G.mean())


def _group_std(rewards_G: Rewards, eps: float) -> Rewards:
    """``(r - mean(r)) / (std(r) + eps)``, population std: GRPO (arXiv 2402.03300, section 4.1)."""
    return (rewards_G - float(rewards_G.mean())) / (float(rewards_G.std()) + eps)


def _leave_one_out(rewards_G: Rewards, eps: float) -> Rewards:
    """``r_i - mean(r without r_i)``: RLOO (Ahmadian et al. 2024, arXiv 2402.14740)."""
    size = len(rewards_G)
    return (rewards_G - float(rewards_G.mean())) * (size / (size - 1))


ADVANTAGES: dict[str, Callable[[Rewards, float], Rewards]] = {
    "group_mean": _group_mean,
    "group_std": _group_std,
    "leave_one_out": _leave_one_out,
}


def group_advantages(rewards: Sequence[float], kind: str, eps: float = 1e-4) -> list[float]:
    """Advantage of each member of one group.

    Args:
        rewards: the group's rewards in member order, at least 2, all finite.
        kind: a key of :data:`ADVANTAGES`.
        eps: added to the standard deviation (``group_std`` only), above 0. It bounds how much a
            nearly uniform group is blown up.

    Returns:
        One advantage per member; all exactly 0.0 if the rewards are all equal.

    Raises:
        OrchError: unknown kind, fewer than 2 members, or a reward that is not finite.
    """
    if kind not in ADVANTAGES:
        raise OrchError(f"advantage {kind!r} is unknown; use one of {', '.join(ADVANTAGES)}")
    if len(rewards) < 2:
        raise OrchError(
            f"a group of {len(rewards)} has nothing to be compared with; group_size must be >= 2"
        )
    if not all(math.isfinite(r) for r in rewards):
        raise OrchError(f"rewards must be finite, got {list(rewards)}")
    if is_uniform(rewards):
        return [0.0] * len(rewards)
    return [float(a) for a in ADVANTAGES[kind](np.asarray(rewards, dtype=np.float64), eps)]


def is_uniform(rewards: Sequence[float]) -> bool:
    """Whether all rewards are the same number: the group carries no signal."""
    return all(r == rewards[0] for r in rewards)
