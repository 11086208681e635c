"""The score of one model call as one gold call: ``s`` of ``graduated``, with its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from orch_env.rewards.matching.arguments import Comparison
from orch_env.rewards.matching.calls import MadeCall
from orch_env.rewards.presets.graduated.edges import satisfied_edges
from orch_env.rewards.presets.graduated.gold_view import GoldView, Reading
from orch_env.rewards.presets.graduated.visibility import Visibility
from orch_env.rewards.presets.weights import Weights
from orch_env.types import Episode

NAME, TYPES, VALUES, SUCCESS = 0.1, 0.2, 0.5, 0.2
"""Parts of ``atomic``; they sum to 1."""


class Pair(NamedTuple):
    """One model call beside one gold call of its tool.

    Attributes:
        comparison: of their arguments.
        broken: dependencies of the gold call that the model call breaks, one phrase each.
        atomic: 0..1, how right the call is by itself.
        orchestration: 0..1, how right its place in the data flow is.
        score: s, both by their weights.
    """

    comparison: Comparison
    broken: tuple[str, ...]
    atomic: float
    orchestration: float
    score: float


def pair_calls(
    gold: GoldView,
    episode: Episode,
    made: Sequence[MadeCall],
    readings: Sequence[Reading | None],
    weights: Weights,
) -> list[dict[int, Pair]]:
    """For each model call, number of each gold call of its tool -> their pair.

    Args:
        gold: the task's gold calls.
        episode: the finished or running episode.
        made: its calls.
        readings: each call beside gold, same length; ``None`` for a malformed one.
        weights: of the two halves of a score.
    """
    visibility = Visibility(gold.query, episode)
    ran: dict[str, int] = {}
    for call in made:
        if call.key is not None and call.error is None:
            ran.setdefault(call.key, call.position)
    pairs: list[dict[int, Pair]] = []
    for call, reading in zip(made, readings, strict=True):
        row: dict[int, Pair] = {}
        if reading is not None:
            ok = call.error is None
            for number, comparison in reading.comparisons.items():
                broken, share = satisfied_edges(
                    call, gold.edges[number], comparison, gold.keys, ran, visibility
                )
                values = comparison.values
                atomic = NAME + TYPES * comparison.types + VALUES * values + SUCCESS * ok
                orchestration = share * values * ok
                score = weights.atomic * atomic + weights.orchestration * orchestration
                row[number] = Pair(comparison, broken, atomic, orchestration, score)
        pairs.append(row)
    return pairs
