"""Which model call stands for which gold call: one to one, and the best such choice.

The hard decision: of identical model calls at most as many may be assigned as gold holds (at
least one), so that repeating a call is never a second chance at a similar gold call. Identical
calls differ only in whether they ran and in what had been seen before them, which orders them
from better to worse for *every* gold call; so the best few can be picked before the assignment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from orch_env.rewards.made_calls import MadeCall

# Ties go to earlier calls, and pairs keep their order. Far below any difference between two
# scores (shares with small denominators), far above float noise.
_EARLIER, _IN_ORDER = 1e-7, 1e-9


def assign(
    made: Sequence[MadeCall], scores: Sequence[Sequence[float]], held: Mapping[str, int]
) -> dict[int, int]:
    """Maximise the sum of scores over one-to-one pairs.

    Args:
        made: the model's calls, M of them.
        scores: M rows of R scores >= 0, one per required gold call.
        held: canonical identity -> how many gold calls have it.

    Returns:
        position of a model call -> column of its gold call; only pairs with a score above 0.
    """
    rows = _eligible(made, scores, held)
    if not rows or not scores[0]:
        return {}
    from scipy.optimize import linear_sum_assignment

    count, width = len(rows), len(scores[0])
    benefit = [
        [
            scores[row][column] - _EARLIER * i / count + _IN_ORDER * (i * column) / (count * width)
            for column in range(width)
        ]
        for i, row in enumerate(rows)
    ]
    picked, columns = linear_sum_assignment(benefit, maximize=True)
    return {
        rows[i]: int(column)
        for i, column in zip(picked, columns, strict=True)
        if scores[rows[i]][column] > 0
    }


def _eligible(
    made: Sequence[MadeCall], scores: Sequence[Sequence[float]], held: Mapping[str, int]
) -> list[int]:
    """Positions of the calls that may be assigned: the best few of each set of identical ones."""
    groups: dict[str, list[int]] = defaultdict(list)
    for call in made:
        if call.key is not None and any(scores[call.position]):
            groups[call.key].append(call.position)
    rows: list[int] = []
    for key, positions in groups.items():
        best_first = sorted(positions, key=lambda p: (-sum(scores[p]), p))
        rows.extend(best_first[: max(1, held.get(key, 0))])
    return sorted(rows)
