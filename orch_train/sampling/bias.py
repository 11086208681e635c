"""Does the learner see what was sampled? The distance between both, feature by feature.

Asynchronous training is tempted to drop what comes late, and what comes late is long, has many
calls and slow tools. The audit counts every finished episode twice, when it came back and when it
was trained, and compares the two distributions by the Kolmogorov-Smirnov distance

    D = max over x of |F_sampled(x) - F_trained(x)|,   0 (equal) .. 1 (disjoint).

A sampler that discards nothing shows only what lies in its queue. Values are counted in fixed
logarithmic bins (8 per octave, so D is exact up to values within 9% of each other), since the
memory must not grow with the run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping

from orch_train.trajectory.requests import EpisodeRecord, SampleReply
from orch_train.trajectory.sample import TrainingSample

_BINS_PER_OCTAVE = 8
_SMALLEST = 1e-4

FEATURES: Mapping[str, Callable[[TrainingSample, EpisodeRecord], float]] = {
    "action_tokens": lambda sample, record: sample.num_actions,
    "turns": lambda sample, record: len(record.episode.turns),
    "tool_calls": lambda sample, record: len(record.episode.calls),
    "latency_s": lambda sample, record: sum(record.timings.values()),
}
"""What is compared; seconds are those in the engine and in the environment."""


class BiasAudit:
    """Counts of what was sampled and of what was trained, since this process began."""

    def __init__(self) -> None:
        self._sampled: dict[str, Counter[int]] = {name: Counter() for name in FEATURES}
        self._trained: dict[str, Counter[int]] = {name: Counter() for name in FEATURES}

    def sampled(self, reply: SampleReply) -> None:
        """A group came back."""
        _count(self._sampled, reply)

    def trained(self, reply: SampleReply) -> None:
        """A group was handed to the learner."""
        _count(self._trained, reply)

    def distances(self) -> dict[str, float]:
        """The distance by feature, as ``ks_<feature>``; 0 while nothing was trained."""
        return {
            f"ks_{name}": ks_distance(self._sampled[name], self._trained[name]) for name in FEATURES
        }


def ks_distance(first: Mapping[int, int], second: Mapping[int, int]) -> float:
    """The Kolmogorov-Smirnov distance of two histograms over the same bins; 0 if one is empty."""
    totals = sum(first.values()), sum(second.values())
    if not all(totals):
        return 0.0
    distance, below = 0.0, [0, 0]
    for edge in sorted(first.keys() | second.keys()):
        below[0] += first.get(edge, 0)
        below[1] += second.get(edge, 0)
        distance = max(distance, abs(below[0] / totals[0] - below[1] / totals[1]))
    return distance


def _count(counts: dict[str, Counter[int]], reply: SampleReply) -> None:
    for sample, record in reply.members:
        for name, feature in FEATURES.items():
            counts[name][_bin(feature(sample, record))] += 1


def _bin(value: float) -> int:
    return math.floor(_BINS_PER_OCTAVE * math.log2(max(value, _SMALLEST)))
