"""What each turn added to a reward, for rewards that do not say so themselves.

Telescoping differences over the episode's prefixes, for any reward ``R``::

    base    = R(prefix 0)                       an episode in which nothing happened
    turn t  = R(prefix t + 1) - R(prefix t)     prefix k: the first k turns
    total   = base + sum of all turns

The hard decision: the sum is exact. Every value is first rounded to a multiple of 2^-40, so that
differences and sums of them are exact in floating point. The price is one scoring per turn and
one for the empty episode, on top of the scoring itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

from orch_env.rewards.credit.attribution import on_grid
from orch_env.types import Episode, RewardBreakdown, Task
from orch_env.types.json import Json


def prefixes(episode: Episode) -> Iterator[Episode]:
    """The episode after 0, 1, ..., T - 1 of its T turns, as if it were still running.

    The closing answer belongs to the last turn. So does the final state: no state in between is
    on record, and until then an episode whose tools hold state counts as having changed nothing.
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
    """Split a total over the turns of its episode.

    Args:
        score: the reward; called once per turn.
        task: the episode's task.
        episode: the scored episode, finished or running.
        breakdown: its score.

    Returns:
        The breakdown with its total rounded to a multiple of 2^-40, and with ``base`` and
        ``turns`` that sum to it. Within a turn nothing is said about single calls: their credit
        is 0, and the turn's share belongs to the turn itself.
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
