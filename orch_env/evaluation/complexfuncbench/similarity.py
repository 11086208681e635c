"""Pairs the remaining calls with the remaining expected ones by similarity.

The published scorer embeds both calls with a sentence encoder and pairs them by the Hungarian
method. An encoder is not deterministic across machines and far larger than the scorer, so this one
compares the argument values by their character bigrams. It only decides *which* pairs are compared;
whether a pair matches is up to the rules in ``decisions``. A pair that is equal by rule weighs more
than all others together, so that no resemblance can separate it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orch_env.evaluation.complexfuncbench.decisions import equal_by_rule
from orch_env.evaluation.complexfuncbench.expectation import GoldenCall
from orch_env.types import ToolCall
from orch_env.types.json import Json, leaves
from orch_env.values import canonical_text, values_equal


def pair_up(made: Sequence[ToolCall], golden: Sequence[GoldenCall]) -> dict[int, int]:
    """One-to-one pairs of the largest total similarity.

    Args:
        made: M model calls.
        golden: G golden calls.

    Returns:
        index into ``made`` -> index into ``golden``, min(M, G) pairs; ties go to earlier calls.
    """
    if not made or not golden:
        return {}
    from scipy.optimize import linear_sum_assignment

    width = len(golden)
    scores = [
        # Far below any real difference: among equals, pairs keep their order.
        [
            _weight(call, gold, 3.0 * width)
            + 1e-9 * i * j / (len(made) * width)
            - 1e-7 * i / len(made)
            for j, gold in enumerate(golden)
        ]
        for i, call in enumerate(made)
    ]
    rows, columns = linear_sum_assignment(scores, maximize=True)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True)}


def _weight(made: ToolCall, golden: GoldenCall, equal: float) -> float:
    if made.name == golden.name and equal_by_rule(made.arguments, golden.arguments):
        return equal
    return similarity(made, golden)


def similarity(made: ToolCall, golden: GoldenCall) -> float:
    """0..2: 1 for the same tool, plus the mean closeness over the union of argument leaves."""
    ours = dict(leaves(made.arguments))
    theirs = dict(leaves(golden.arguments))
    pointers = set(ours) | set(theirs)
    shared = [p for p in pointers if p in ours and p in theirs]
    close = sum(_closeness(ours[p], theirs[p]) for p in sorted(shared))
    return float(made.name == golden.name) + close / len(pointers)


def _closeness(one: Json, other: Json) -> float:
    """Dice coefficient of the character bigrams of two values; 1 if they are equal."""
    if values_equal(one, other):
        return 1.0
    a, b = _bigrams(one), _bigrams(other)
    shared = sum((a & b).values())
    return 2 * shared / (sum(a.values()) + sum(b.values()))


def _bigrams(value: Json) -> Counter[str]:
    text = value.lower() if isinstance(value, str) else canonical_text(value)
    text = f" {text[:2000]} "
    return Counter(text[i : i + 2] for i in range(len(text) - 1))
