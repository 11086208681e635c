"""From the scores of many episodes to the numbers that the benchmark reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from orch_env.evaluation.pass_rates import NO_DOMAIN
from orch_env.types import Task
from orch_env.types.json import JsonObject

DOMAINS = ("Hotels", "Flights", "Car-Rental", "Attraction", "Cross")
"""The benchmark's domains in its own order; others follow by name."""


def summarise(scores: Sequence[Mapping[str, Any]], tasks: Sequence[Task]) -> JsonObject:
    """Aggregate ``info["score"]`` of one episode per task.

    Args:
        scores: N scores.
        tasks: their N tasks, in the same order.

    Returns:
        ``success`` (share of episodes), ``call_accuracy`` (sum of correct calls / sum of calls),
        ``turn_accuracy`` (sum of turns reached / sum of turns), each 0..1; ``by_domain`` with the
        same three and ``n``; ``errors`` (why episodes failed, counted in episodes); ``decided_by``
        (which rule decided, counted in calls); ``format_errors`` (counted in calls); ``n``.
    """
    by_domain: dict[str, list[Mapping[str, Any]]] = {}
    for score, task in zip(scores, tasks, strict=True):
        by_domain.setdefault(str(task.metadata.get("domain") or NO_DOMAIN), []).append(score)
    known = [d for d in DOMAINS if d in by_domain]
    order = [*known, *sorted(set(by_domain) - set(known))]
    return {
        **_rates(scores),
        "by_domain": {d: {**_rates(by_domain[d]), "n": len(by_domain[d])} for d in order},
        "errors": _counts(Counter(s["error"] for s in scores if s["error"] is not None)),
        "decided_by": _summed(scores, "decided_by"),
        "format_errors": _summed(scores, "format_errors"),
        "n": len(scores),
    }


def _rates(scores: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {
        "success": _share(sum(bool(s["success"]) for s in scores), len(scores)),
        "call_accuracy": _share(
            sum(s["correct_calls"] for s in scores), sum(s["total_calls"] for s in scores)
        ),
        "turn_accuracy": _share(
            sum(s["turns_reached"] for s in scores), sum(s["total_turns"] for s in scores)
        ),
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _summed(scores: Sequence[Mapping[str, Any]], name: str) -> dict[str, int]:
    total: Counter[str] = Counter()
    for score in scores:
        total.update(score.get(name) or {})
    return _counts(total)


def _counts(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items()))
