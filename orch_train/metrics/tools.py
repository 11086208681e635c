"""What went wrong with tool calls, by tool and by kind.

Names of metrics come from the tools of a task and never from what a model wrote, so that an
invented tool name cannot make a metric (nor a thousand of them).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from orch_env.types import Episode, ErrorType, Exchange
from orch_train.trajectory.requests import SampleReply

MOST_TOOLS = 50
"""Tools with counters of their own, the most used ones; the others are added up as ``others``."""

PARSE_CLASSES = (
    "unreadable",
    "unknown_tool",
    "arguments_missing",
    "arguments_unknown",
    "arguments_wrong_type",
    "arguments_not_allowed",
    "arguments_other",
)
"""What a call that never reached its tool suffers from, the first that fits. ``unreadable``: no
JSON object with a name and arguments; ``unknown_tool``: not offered; the rest break the tool's
JSON Schema: a required argument is missing, one is not known, has another type, is none of the
allowed values, or something else."""


def tool_counts(episodes: Sequence[Episode]) -> dict[str, dict[str, int]]:
    """``tools/NAME/{calls, fail}``: calls that named an offered tool, and those that failed.

    A failure is any error: wrong arguments, nothing recorded, the tool's own refusal, a limit.
    """
    calls: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for episode in episodes:
        for call in episode.calls:
            if call.error not in (ErrorType.MALFORMED_CALL, ErrorType.UNKNOWN_TOOL):
                calls[call.name] += 1
                failed[call.name] += call.error is not None
    ranked = sorted(calls, key=lambda name: (-calls[name], name))
    counts = {name: {"calls": calls[name], "fail": failed[name]} for name in ranked[:MOST_TOOLS]}
    rest = ranked[MOST_TOOLS:]
    if rest:
        counts["others"] = {
            "calls": sum(calls[name] for name in rest),
            "fail": sum(failed[name] for name in rest),
        }
    return counts


def tool_times(
    replies: Sequence[SampleReply], counts: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """``tools/NAME/{p50_s, p95_s, timeout}`` beside the counters.

    Args:
        replies: what was sampled.
        counts: see `tool_counts`; tools without a counter of their own come under ``others``.

    Returns:
        The counters with ``p50_s`` and ``p95_s``, seconds of the calls that returned (where the
        environment reports them), and ``timeout``: calls that did not return within
        ``env_runners.env_step_timeout_s`` (where there were any). Their groups are sampled again,
        so these calls are in no other number.
    """
    seconds: dict[str, list[float]] = {}
    timeouts: Counter[str] = Counter()
    for reply in replies:
        for name, took in (each for record in reply.records for each in record.tool_seconds):
            seconds.setdefault(name if name in counts else "others", []).append(took)
        timeouts.update(reply.tool_timeouts)
    found = {name: dict(counters) for name, counters in counts.items()}
    for name, values in seconds.items():
        values.sort()
        times = {"p50_s": quantile(values, 0.5), "p95_s": quantile(values, 0.95)}
        found.setdefault(name, {}).update(times)
    for name, number in timeouts.items():
        found.setdefault(name, {})["timeout"] = number
    return found


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that is at least as large as this share of all (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def parse_failures(episodes: Sequence[Episode]) -> dict[str, float]:
    """``parse/CLASS``: share of all calls, for each of `PARSE_CLASSES`; they never overlap."""
    exchanges = [e for episode in episodes for turn in episode.turns for e in turn.exchanges]
    found = Counter(map(_kind, exchanges))
    return {kind: found[kind] / max(len(exchanges), 1) for kind in PARSE_CLASSES}


def _kind(exchange: Exchange) -> str | None:
    error = exchange.call.error
    if error is ErrorType.MALFORMED_CALL:
        return "unreadable"
    if error is ErrorType.UNKNOWN_TOOL:
        return "unknown_tool"
    if error is not ErrorType.INVALID_ARGUMENTS:
        return None
    details = _details(exchange.result.text)
    for problem in ("missing", "unknown", "wrong_type", "not_allowed"):
        if details.get(problem):
            return f"arguments_{problem}"
    return "arguments_other"


def _details(result: str) -> dict[str, Any]:
    """The ``details`` of an error result; empty where an environment of the user's has none."""
    try:
        details = json.loads(result)["error"]["details"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return details if isinstance(details, dict) else {}
