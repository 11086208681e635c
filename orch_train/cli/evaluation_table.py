"""Held-out rates as a table for people: overall, by domain, by number of gold calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def evaluation_table(evaluation: Mapping[str, Any]) -> list[str]:
    """Lines of text; none if the evaluation has no rates (it is of an older run).

    Args:
        evaluation: ``evaluation/*`` of a result.
    """
    names = [key for key in evaluation if key.startswith(("avg_at_", "pass_at_"))]
    # pass@1 is avg@n, seen from another side.
    names = [name for name in names if name != "pass_at_1" or len(names) == 1]
    if not names:
        return []
    rows = [("all", evaluation)]
    domains = list(evaluation.get("by_domain", {}).items())
    rows += domains if len(domains) > 1 else []
    calls = list(evaluation.get("by_gold_calls", {}).items())
    rows += [(f"{name} calls", found) for name, found in calls] if len(calls) > 1 else []
    rows = [row for row in rows if all(name in row[1] for name in names)]
    width = max(len(name) for name in ("held out", *(name for name, _ in rows)))
    titles = "  ".join(f"{name.replace('_at_', '@'):>19}" for name in names)
    lines = [f"{'held out':<{width}}  {titles}  {'tasks':>5}"]
    for name, found in rows:
        shown = "  ".join(_rate(found[column]) for column in names)
        lines.append(f"{name:<{width}}  {shown}  {found['n']:>5}")
    return lines


def _rate(rate: Mapping[str, float]) -> str:
    return f"{rate['mean']:>6.1%} [{rate['low']:>4.0%}, {rate['high']:>4.0%}]"
