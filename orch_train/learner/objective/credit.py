"""Which tokens get which advantage: the whole episode's, or what each message still had ahead.

`trajectory` compares total rewards, and every token of an episode gets the same advantage.
`turn` uses what the reward says each turn earned (:class:`~orch_env.types.RewardBreakdown`): the
tokens of message ``t`` are judged by the reward *from turn t on*,

    R_i(t) = reward_i - sum over u < t of share_i(u),      A_i(t) = compare(R_1(t), ..., R_G(t))

since no token can change what was earned before it (reward-to-go, Sutton et al. 2000, "Policy
gradient methods for reinforcement learning with function approximation"; by turns as in
arXiv 2505.11821). A wrong third call then no longer punishes two right ones before it, and a good
answer does not reward the mistake that it repairs. An episode that has ended earns nothing more,
so those that stop early are compared with what the others still earned.

The hard decision: turns and not single calls. A turn is a span of *sampled ids* that the trace
records; the borders of calls within a message exist only in its decoded text, and finding them
again in the ids would rest on how the tokenizer happens to split.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orch_env.types import OrchError
from orch_train.learner.objective.advantages import group_advantages
from orch_train.trajectory.trajectory import Group, Trajectory


def token_advantages(
    group: Group, kind: str, eps: float, credit: str = "trajectory"
) -> list[NDArray[np.float32]]:
    """Advantages of the action tokens of each member, in member order.

    Args:
        group: at least 2 members.
        kind: see :func:`~orch_train.learner.objective.advantages.group_advantages`.
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
            np.full(t.trace.num_actions, advantage, dtype=np.float32)
            for t, advantage in zip(group.trajectories, advantages, strict=True)
        ]
    shares = [_shares(t) for t in group.trajectories]
    # An episode without a message is compared too: it has one moment, the first.
    turns = max(1, *(len(t.trace.turns) for t in group.trajectories))
    by_turn = [
        group_advantages(_rewards_to_go(group.rewards, shares, turn), kind, eps)
        for turn in range(turns)
    ]
    return [
        np.repeat(
            np.asarray([by_turn[t][member] for t in range(len(spans))], dtype=np.float32),
            [end - start for start, end in spans],
        )
        for member, spans in enumerate(t.trace.turns for t in group.trajectories)
    ]


def _rewards_to_go(
    rewards: Sequence[float], shares: Sequence[Sequence[float]], turn: int
) -> list[float]:
    return [reward - sum(own[:turn]) for reward, own in zip(rewards, shares, strict=True)]


def _shares(trajectory: Trajectory) -> Sequence[float]:
    """What each turn earned. A message cut off before its first character is a turn without one."""
    breakdown = trajectory.episode.reward
    if breakdown is None or breakdown.turns is None:
        raise OrchError(
            f"training.credit 'turn': the reward of task {trajectory.task_id!r} does not say what "
            "each turn earned; use a reward that does, or credit 'trajectory'"
        )
    return breakdown.turns
