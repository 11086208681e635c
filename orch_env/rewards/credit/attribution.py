"""Totals split over turns and calls, so that the parts sum to the total.

A share is a multiple of 2^-40, like the totals that environments pay, so that sums of shares are
exact. Running sums are rounded, not the shares, so a share is off by less than 2^-39 and keeps its
sign; what float noise leaves over is added to the largest share. If the total itself is no such
multiple, the rest is added to the last turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from orch_env.types import CallAccount, Episode, RewardBreakdown, Task
from orch_env.types.json import Json

GRAIN = 2.0**40
"""Shares and totals are multiples of 1 / GRAIN."""


def on_grid(value: float) -> float:
    """The nearest multiple of ``1 / GRAIN``."""
    return round(value * GRAIN) / GRAIN


@dataclass(frozen=True, slots=True)
class Shares:
    """A total, split.

    Attributes:
        base: what an episode that does nothing earns.
        turns: one share per turn; ``base + sum(turns)`` is the total.
        calls: one share per call; a turn's share is the sum of its calls' and of its own.
    """

    base: float
    turns: tuple[float, ...]
    calls: tuple[float, ...]


def split(
    total: float,
    credits: Sequence[float],
    turn_of: Sequence[int],
    *,
    turns: int,
    base: float = 0.0,
    own: Mapping[int, float] | None = None,
) -> Shares:
    """Split a total.

    Args:
        total: the reward.
        credits: what each call adds to the total, in order.
        turn_of: each call's turn, same length, each in 0..turns - 1.
        turns: number of turns of the episode.
        base: what an episode without calls earns.
        own: turn -> what it adds beside its calls (a closing answer). What credits, base and
            these leave of the total is the last turn's, or ``base`` where there is no turn.
    """
    if not turns:
        return Shares(total, (), ())
    extras = dict(own or {})
    grains = _rounded_in_running_sums([*credits, *extras.values()])
    start = round(base * GRAIN)
    left = round(total * GRAIN) - start - sum(grains)
    # Each rounded sum (of the parts, of the base, of the total) is off by at most half a grain.
    if 0 < abs(left) <= 2:
        _give(left, grains, [*credits, *extras.values()])
    shares = [0.0] * turns
    for turn, grain in zip([*turn_of, *extras], grains, strict=True):
        shares[turn] += grain / GRAIN
    shares[-1] += total - start / GRAIN - sum(shares)
    calls = tuple(grain / GRAIN for grain in grains[: len(credits)])
    return Shares(start / GRAIN, tuple(shares), calls)


def attributed(
    total: float,
    components: Mapping[str, float],
    accounts: Sequence[CallAccount],
    credits: Sequence[float],
    *,
    turns: int,
    base: float = 0.0,
    own: Mapping[int, float] | None = None,
) -> RewardBreakdown:
    """A breakdown whose total is split over its calls and turns; see :func:`split`.

    Args:
        total: the reward.
        components: what it was made of.
        accounts: one per model call, in order.
        credits: what each call adds to the total, same length.
        turns: number of turns of the episode.
        base: what an episode without calls earns.
        own: turn -> what it adds beside its calls.
    """
    turn_of = [account.turn for account in accounts]
    shares = split(total, credits, turn_of, turns=turns, base=base, own=own)
    calls = tuple(
        # dataclasses.replace takes twice as long.
        CallAccount(a.turn, a.index, a.gold, a.atomic, a.orchestration, a.arguments, a.why, credit)
        for a, credit in zip(accounts, shares.calls, strict=True)
    )
    return RewardBreakdown(total, components, calls, shares.turns, shares.base)


def prefixes(episode: Episode) -> Iterator[Episode]:
    """The episode after 0, 1, ..., T - 1 of its T turns, as if it were still running.

    The closing answer belongs to the last turn. So does the final state, because no state in
    between is recorded: until then an episode whose tools hold state has changed nothing.
    """
    state: Json = None if episode.state is None else {}
    for count in range(len(episode.turns)):
        yield replace(
            episode,
            turns=episode.turns[:count],
            final=None,
            stop_reason=None,
            reward=None,
            state=state,
        )


def attribute_by_prefix(
    score: Callable[[Task, Episode], RewardBreakdown],
    task: Task,
    episode: Episode,
    breakdown: RewardBreakdown,
) -> RewardBreakdown:
    """Split a total over the turns of its episode by what each turn added to it.

    For rewards that do not attribute themselves: telescoping differences over the prefixes, for any
    reward ``R``::

        base    = R(prefix 0)                       an episode in which nothing happened
        turn t  = R(prefix t + 1) - R(prefix t)     prefix k: the first k turns
        total   = base + sum of all turns

    Values are rounded to multiples of 2^-40 first, so the sum is exact. The price is one scoring
    per turn and one for the empty episode.

    Args:
        score: the reward; called once per turn.
        task: the episode's task.
        episode: the scored episode, finished or running.
        breakdown: its score.

    Returns:
        The breakdown with its total rounded to a multiple of 2^-40, and with ``base`` and
        ``turns`` that sum to it. Single calls get no credit: a turn's share belongs to the turn.
    """
    values = [on_grid(score(task, prefix).total) for prefix in prefixes(episode)]
    values.append(on_grid(breakdown.total))
    return replace(
        breakdown,
        total=values[-1],
        calls=tuple(replace(account, credit=0.0) for account in breakdown.calls),
        turns=tuple(after - before for before, after in pairwise(values)),
        base=values[0],
    )


def _rounded_in_running_sums(values: Sequence[float]) -> list[int]:
    """In grains: the steps of the rounded running sum. Rounding is monotone, so signs stay."""
    grains: list[int] = []
    running, before = 0.0, 0
    for value in values:
        running += value * GRAIN
        after = round(running)
        grains.append(after - before)
        before = after
    return grains


def _give(left: int, grains: list[int], values: Sequence[float]) -> None:
    """Add what rounding left to a share whose sign it cannot change; to none if all are 0."""
    least, most = min(values, default=0.0), max(values, default=0.0)
    takes = most if most > 0 and (left > 0 or least >= 0) else least
    if takes:
        grains[values.index(takes)] += left
