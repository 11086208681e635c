"""What engines say about themselves, from a runner to a result: ``env_runners/engine/*``.

An engine may have a property ``stats``: numbers that only ever rise. A runner sends what they rose
by with each reply, so that a step's sums are those of its own groups, whichever runners played
them and however often one was replaced. An engine without ``stats``, or without some of them,
leaves those metrics out; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

from orch_train.engines.protocol import RolloutEngine
from orch_train.trajectory.requests import SampleReply

COUNTERS = (
    "prompt_tokens",
    "prefilled_tokens",
    "steps",
    "running",
    "waiting",
    "kv_usage",
    "syncs",
    "paused_s",
)
"""The names that are read out of an engine's ``stats``, all of them sums since it was started.

``prompt_tokens`` of its requests and ``prefilled_tokens``, those of them that were not cached;
``steps`` of sampling and, added up over these, requests that were ``running`` and ``waiting`` and
the share of its cache that was in use (``kv_usage``, 0 .. 1 each); ``syncs``, times that it took
new weights, and ``paused_s``, seconds for which it did not sample meanwhile."""


class EngineReader:
    """Reads an engine's counters, each time as the difference to the time before.

    Args:
        engine: any engine.
    """

    def __init__(self, engine: RolloutEngine) -> None:
        self._engine = engine
        self._before = self._read()

    def since_last(self) -> dict[str, float]:
        """What the counters rose by; those that the engine does not have are left out."""
        now = self._read()
        before, self._before = self._before, now
        return {name: value - before.get(name, 0.0) for name, value in now.items()}

    def _read(self) -> dict[str, float]:
        stats = getattr(self._engine, "stats", None) or {}
        return {name: float(stats[name]) for name in COUNTERS if name in stats}


def engine_metrics(replies: Sequence[SampleReply]) -> dict[str, float]:
    """``engine/*`` of one batch, as far as its engines say.

    Returns:
        Means over the steps of all engines: ``running``, ``waiting`` (requests of one engine),
        ``kv_usage`` (0 .. 1); ``prefix_hit``, the share of prompt tokens that did not have to be
        read again.
    """
    sums = _sums(replies)
    found: dict[str, float] = {}
    if sums.get("steps"):
        for name in ("running", "waiting", "kv_usage"):
            if name in sums:
                found[name] = sums[name] / sums["steps"]
    if sums.get("prompt_tokens") and "prefilled_tokens" in sums:
        found["prefix_hit"] = 1.0 - sums["prefilled_tokens"] / sums["prompt_tokens"]
    return found


def paused_seconds(replies: Sequence[SampleReply]) -> dict[str, float]:
    """``paused_seconds``: the mean time for which a sync kept an engine from sampling.

    Of the syncs that engines took since the batch before; empty where none reported any.
    """
    sums = _sums(replies)
    return {"paused_seconds": sums["paused_s"] / sums["syncs"]} if sums.get("syncs") else {}


def _sums(replies: Sequence[SampleReply]) -> dict[str, float]:
    counted = [reply.engine for reply in replies]
    names = {name for counters in counted for name in counters}
    return {name: sum(counters.get(name, 0.0) for counters in counted) for name in names}
