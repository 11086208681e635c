"""What an episode is worth: ``S'`` from the scores of its pairs, and what needless calls cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from orch_env.rewards.outcome import Outcome

COLLATERAL, COLLATERAL_MORE = 0.8, 0.9
"""Factor for a record that gold leaves alone and the episode changed; second edition: for each
further one."""
BUDGET = 0.5
"""Extra calls within ``ceil(BUDGET * n)`` are nearly free: exploring is no fault. PROVE (arXiv
2606.03892) reports 29.0 with an adaptive budget, 25.0 without a penalty, 22.4 with a flat one."""
WITHIN, STEP, BEYOND = 0.02, 0.03, 0.5
"""Cost of a full budget; of crossing it; and of ``n + budget`` further calls."""
SECOND_GUESS = 0.25
"""Second edition: what a second guess costs, in gold calls. A model that is right 7 times in 10
gains at most 0.21 of a gold call by guessing twice."""
ABSTENTION = 0.5
"""Factor per call on a task that needs none."""


@dataclass(frozen=True, slots=True)
class Achievement:
    """``S'`` and its parts: ``score == idle + per_score * sum(s) + state + answer``.

    Attributes:
        score: S', 0..1.
        factor: 1 without a collateral change.
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
    edition: int,
) -> Achievement:
    """Sum up an episode: ``S' = (n S + w_s state + w_t answer) / (n + w_s + w_t)``.

    In the second edition the answer counts ``(1 + S) / 2`` times: an answer without the work is a
    guess.

    State and answer weigh like gold calls, and only where the task has them, so that a read-only
    task pays nothing for a state that was not touched.

    Args:
        scores: ``s`` of each required gold call that has a call.
        required: number of required gold calls.
        gold_calls: n, number of gold calls that count.
        outcome: the final state and the answer.
        state_weight: w_s, weight of the state beside one gold call.
        answer_weight: w_t, weight of the answer likewise.
        edition: of the reward.
    """
    score = sum(scores) / required if required else 1.0
    answer = outcome.answer
    if answer is not None and edition > 1:
        answer *= (1.0 + score) / 2
    weight = float(gold_calls)
    if outcome.state is not None:
        score = _mix(score, weight, outcome.state, state_weight)
        weight += state_weight
    if answer is not None:
        score = _mix(score, weight, answer, answer_weight)
        weight += answer_weight
    # Without any weight the task asks for nothing, and every episode fulfils it.
    calls = gold_calls / weight if weight else 1.0
    return Achievement(
        score=score,
        factor=_collateral_factor(outcome.collateral, edition),
        per_score=calls / required if required else 0.0,
        idle=0.0 if required else calls,
        state=state_weight * (outcome.state or 0.0) / weight if weight else 0.0,
        answer=answer_weight * (answer or 0.0) / weight if weight else 0.0,
    )


def _collateral_factor(records: int, edition: int) -> float:
    if not records:
        return 1.0
    return COLLATERAL if edition == 1 else COLLATERAL * COLLATERAL_MORE ** (records - 1)


def _mix(score: float, weight: float, part: float, part_weight: float) -> float:
    """``(weight * score + part_weight * part) / (weight + part_weight)``."""
    both = weight + part_weight
    return (weight * score + part_weight * part) / both if both else score


def verbosity_cost(extra: int, gold_calls: int, second_guesses: int = 0) -> float:
    """The share of the score that ``extra`` needless calls cost.

    ``0.02 min(x, b)/b + [x > b] (0.03 + 0.5 (x - b)/(n + b)) + 0.25 g/n`` with ``b = ceil(n / 2)``;
    without gold calls ``1 - 0.5^x``. Not bounded by 1: a total below 0 counts as 0.

    Args:
        extra: x, number of needless calls, at least 0.
        gold_calls: n, number of gold calls that count.
        second_guesses: g, how many of the needless calls are second guesses.
    """
    if not gold_calls:
        return 1.0 - ABSTENTION**extra
    budget = math.ceil(BUDGET * gold_calls)
    cost = WITHIN * min(extra, budget) / budget
    if extra > budget:
        cost += STEP + BEYOND * (extra - budget) / (gold_calls + budget)
    if second_guesses:
        cost += SECOND_GUESS * second_guesses / gold_calls
    return cost


def marginal_costs(needless: Sequence[bool], gold_calls: int) -> list[float]:
    """What each needless call adds to the cost, up to a total cost of 1.

    Args:
        needless: for each, in order, whether it is a second guess.
        gold_calls: n, number of gold calls that count.
    """
    guesses = list(accumulate(needless, initial=0))
    costs = [min(1.0, verbosity_cost(x, gold_calls, g)) for x, g in enumerate(guesses)]
    return [after - before for before, after in pairwise(costs)]
