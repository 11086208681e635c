"""What an episode achieved, before needless calls are charged: ``S'`` of ``graduated``, by part.

``S' = (n S + w_s state + w_t answer) / (n + w_s + w_t)``; a collateral change multiplies it.

The hard decision: state and answer weigh like gold calls, and only where the task has them, so a
read-only task pays nothing for a state that nobody touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orch_env.rewards.outcome import Outcome

COLLATERAL = 0.8
"""Factor for a change of state that gold does not make."""


@dataclass(frozen=True, slots=True)
class Achievement:
    """``S'`` and its parts: ``score == idle + per_score * sum(s) + state + answer``.

    Attributes:
        score: S', 0..1.
        factor: 1, or ``COLLATERAL``.
        per_score: what a call's ``s`` counts in S'.
        idle: what an episode without calls has of it: all calls' part where none is required.
        state: the final state's part.
        answer: the closing answer's part.
    """

    score: float
    factor: float
    per_score: float
    idle: float
    state: float
    answer: float

    @property
    def value(self) -> float:
        """What the total is without needless calls, 0..1."""
        return self.score * self.factor


def achieved(
    scores: Sequence[float],
    *,
    required: int,
    gold_calls: int,
    outcome: Outcome,
    state_weight: float,
    answer_weight: float,
) -> Achievement:
    """Sum up an episode.

    Args:
        scores: ``s`` of each required gold call that has a call.
        required: number of required gold calls.
        gold_calls: n, number of all gold calls.
        outcome: the final state and the answer.
        state_weight: w_s, weight of the state beside one gold call.
        answer_weight: w_t, weight of the answer likewise.
    """
    score = sum(scores) / required if required else 1.0
    weight = float(gold_calls)
    if outcome.state is not None:
        score = _mix(score, weight, outcome.state, state_weight)
        weight += state_weight
    if outcome.answer is not None:
        score = _mix(score, weight, outcome.answer, answer_weight)
        weight += answer_weight
    # Without any weight there is nothing to do, and nothing to do is done.
    calls = gold_calls / weight if weight else 1.0
    return Achievement(
        score=score,
        factor=COLLATERAL if outcome.collateral else 1.0,
        per_score=calls / required if required else 0.0,
        idle=0.0 if required else calls,
        state=state_weight * (outcome.state or 0.0) / weight if weight else 0.0,
        answer=answer_weight * (outcome.answer or 0.0) / weight if weight else 0.0,
    )


def _mix(score: float, weight: float, part: float, part_weight: float) -> float:
    """``(weight * score + part_weight * part) / (weight + part_weight)``."""
    whole = weight + part_weight
    return (weight * score + part_weight * part) / whole if whole else score
