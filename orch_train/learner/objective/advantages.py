"""Group-relative advantages in float64, and which tokens get which.

A group carries no signal exactly when its rewards are *equal*, compared as numbers, and then every
advantage is exactly 0. A threshold on the standard deviation would let float residue through
(divided by itself: advantages of thousands) or swallow real differences.

Credit `trajectory` compares total rewards, and every token of an episode gets the same advantage.
`turn` uses what the reward says each turn earned (:class:`~orch_env.types.RewardBreakdown`): the
tokens of message ``t`` are judged by the reward *from turn t on*,

    R_i(t) = reward_i - sum over u < t of share_i(u),      A_i(t) = compare(R_1(t), ..., R_G(t))

since no token can change what was earned before it (reward-to-go, Sutton et al. 2000, "Policy
gradient methods for reinforcement learning with function approximation"; by turns as in
arXiv 2505.11821). A wrong third call then no longer punishes two right ones before it, and a good
answer does not reward the mistake that it repairs. An episode that has ended earns nothing more,
so those that stop early are compared with what the others still earned. The unit is the turn and
not the call: a turn is a span of *sampled ids*, the borders of calls within it exist only in its
decoded text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from orch_env.types import OrchError
from orch_train.trajectory.sample import Group

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
    if all(r == rewards[0] for r in rewards):
        return [0.0] * len(rewards)
    return [float(a) for a in ADVANTAGES[kind](np.asarray(rewards, dtype=np.float64), eps)]


def token_advantages(group: Group, kind: str, eps: float, credit: str) -> list[NDArray[np.float32]]:
    """Advantages of the action tokens of each member, in member order.

    Args:
        group: at least 2 members.
        kind: see :func:`group_advantages`.
        eps: likewise.
        credit: ``trajectory`` or ``turn``.

    Returns:
        One array per member, with one value per action token; where the compared numbers are all
        equal, exactly 0.

    Raises:
        OrchError: the group is too small, a reward is not finite, or ``turn`` credit is asked of
            a reward that does not say what each turn earned.
    """
    if credit == "trajectory":
        advantages = group_advantages(group.rewards, kind, eps)
        return [
            np.full(sample.num_actions, advantage, dtype=np.float32)
            for sample, advantage in zip(group.samples, advantages, strict=True)
        ]
    # An episode without a message is compared too: it has one moment, the first.
    turns = max(1, *(len(sample.turns) for sample in group.samples))
    by_turn = [group_advantages(_rewards_to_go(group, turn), kind, eps) for turn in range(turns)]
    return [
        np.repeat(
            np.asarray([by_turn[t][member] for t in range(len(sample.turns))], dtype=np.float32),
            sample.turns[:, 1] - sample.turns[:, 0],
        )
        for member, sample in enumerate(group.samples)
    ]


def _rewards_to_go(group: Group, turn: int) -> list[float]:
    """A message cut off before its first character is a turn without a reward of its own."""
    found = []
    for sample in group.samples:
        if sample.turn_rewards is None:
            raise OrchError(
                f"training.credit 'turn': the reward of task {group.task_id!r} does not say what "
                "each turn earned; use a reward that does, or credit 'trajectory'"
            )
        found.append(sample.reward - sum(sample.turn_rewards[:turn]))
    return found
