"""Who earned what: a total split over turns and calls, so that the parts sum to it.

The hard decision: a share is a multiple of 2^-40, like the totals that environments pay, so that
sums of shares are exact; what rounding leaves over stays with the last turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orch_env.types import CallAccount, RewardBreakdown

GRAIN = 2.0**40
"""Shares and totals are multiples of 1 / GRAIN."""


def on_grid(value: float) -> float:
    """The nearest multiple of ``1 / GRAIN``."""
    return round(value * GRAIN) / GRAIN


def attributed(
    total: float,
    components: Mapping[str, float],
    accounts: Sequence[CallAccount],
    credits: Sequence[float],
    *,
    turns: int,
    base: float = 0.0,
) -> RewardBreakdown:
    """A breakdown whose total is split over its calls and turns.

    Args:
        total: the reward.
        components: what it was made of.
        accounts: one per model call, in order.
        credits: what each call adds to the total, same length.
        turns: number of turns of the episode.
        base: what an episode without calls earns. Whatever credits and base leave of the total
            (an answer, a state) goes to the last turn; to ``base`` where there is no turn.
    """
    shares = [0.0] * turns
    credited: list[CallAccount] = []
    for account, credit in zip(accounts, credits, strict=True):
        share = on_grid(credit)
        shares[account.turn] += share
        credited.append(replace(account, credit=share))
    rest = total - on_grid(base) - sum(shares)
    if turns:
        shares[-1] += rest
        return RewardBreakdown(total, components, tuple(credited), tuple(shares), on_grid(base))
    return RewardBreakdown(total, components, tuple(credited), (), total)
