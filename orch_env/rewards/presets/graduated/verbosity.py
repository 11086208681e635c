"""What needless calls cost in ``graduated``.

The hard decision: a few are nearly free (exploring is no fault), and what is free grows with the
task: ``b = ceil(n / 2)`` for ``n`` gold calls. The first call beyond that budget costs a step.
PROVE (arXiv 2606.03892) reports 29.0 with an adaptive budget, 25.0 without a penalty, 22.4 with a
flat one.
"""

from __future__ import annotations

import math
from itertools import pairwise

BUDGET = 0.5
"""Extra calls within ``ceil(BUDGET * n)`` are nearly free."""
WITHIN, STEP, BEYOND = 0.02, 0.03, 0.5
"""Cost of a full budget; of crossing it; and of ``n + budget`` further calls."""
ABSTENTION = 0.5
"""Factor per call on a task that needs none."""


def verbosity_cost(extra: int, gold_calls: int) -> float:
    """The share of the score that ``extra`` needless calls cost.

    ``0.02 min(x, b)/b + [x > b] (0.03 + 0.5 (x - b)/(n + b))`` with ``b = ceil(n / 2)``; without
    gold calls ``1 - 0.5^x``. Not bounded by 1: a total below 0 counts as 0.

    Args:
        extra: x, number of needless calls, at least 0.
        gold_calls: n, number of gold calls, optional ones included.
    """
    if not gold_calls:
        return 1.0 - ABSTENTION**extra
    budget = math.ceil(BUDGET * gold_calls)
    cost = WITHIN * min(extra, budget) / budget
    if extra > budget:
        cost += STEP + BEYOND * (extra - budget) / (gold_calls + budget)
    return cost


def marginal_costs(extra: int, gold_calls: int) -> list[float]:
    """What each of ``extra`` needless calls adds to the cost, up to a cost of 1 in all."""
    costs = [min(1.0, verbosity_cost(x, gold_calls)) for x in range(extra + 1)]
    return [after - before for before, after in pairwise(costs)]
