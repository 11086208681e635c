"""Where rewards disagree: how alike they rank the same episodes, and where they differ most.

Kendall's tau-b over all pairs of episodes and, pooled, over the pairs within groups; the latter is
what GRPO sees. With C pairs that two rewards order alike, D oppositely, and X (Y) tied by the first
(second) reward only: ``tau_b = (C - D) / sqrt((C + D + X) (C + D + Y))``.

Pairs tied by both rewards count in no tau, as tau-b defines it. They do count as pairs in the share
of pairs ordered oppositely, because a pair that neither reward tells apart is no disagreement.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import combinations

import numpy as np

from orch_env.audit.scoring import TOLERANCE, Floats, Scores, groups_of
from orch_env.rewards.protocol import Reward
from orch_env.types import Episode, OrchError, Task
from orch_env.types.json import JsonObject

SHOWN = 5
"""Disputes kept per pair of rewards."""


@dataclass(frozen=True, slots=True)
class PairCounts:
    """How two rewards order pairs of episodes.

    Attributes:
        alike: pairs ordered the same way (C).
        opposite: pairs ordered oppositely (D).
        first_tied: pairs that only the first reward ties (X).
        second_tied: pairs that only the second ties (Y).
        both_tied: pairs that both tie.
    """

    alike: int = 0
    opposite: int = 0
    first_tied: int = 0
    second_tied: int = 0
    both_tied: int = 0

    @classmethod
    def of(cls, first: Floats, second: Floats) -> PairCounts:
        """Count all pairs of N episodes; O(N^2) time, O(N) memory."""
        total = cls()
        for i in range(len(first) - 1):
            x, y = np.sign(first[i + 1 :] - first[i]), np.sign(second[i + 1 :] - second[i])
            product = x * y
            total += cls(
                int((product > 0).sum()),
                int((product < 0).sum()),
                int(((x == 0) & (y != 0)).sum()),
                int(((y == 0) & (x != 0)).sum()),
                int(((x == 0) & (y == 0)).sum()),
            )
        return total

    def __add__(self, other: PairCounts) -> PairCounts:
        counts = zip(astuple(self), astuple(other), strict=True)
        return PairCounts(*(own + others for own, others in counts))

    @property
    def pairs(self) -> int:
        """Number of all pairs."""
        return sum(astuple(self))

    @property
    def tau(self) -> float | None:
        """Kendall's tau-b, ``None`` where one reward ties every pair."""
        strict = self.alike + self.opposite
        whole = (strict + self.first_tied) * (strict + self.second_tied)
        return (self.alike - self.opposite) / math.sqrt(whole) if whole else None

    @property
    def opposite_share(self) -> float | None:
        """Share of all pairs that are ordered oppositely, ``None`` without pairs."""
        return self.opposite / self.pairs if self.pairs else None


@dataclass(frozen=True, slots=True)
class Dispute:
    """Two episodes of one group that two rewards order oppositely.

    Attributes:
        task_id: their task.
        seed: their seed.
        episodes: their positions in the file, from 0; the first reward prefers the first one.
        digests: their digests.
        first: the two totals by the first reward.
        second: the two totals by the second.
        reason: one line on which component decided for each reward.
    """

    task_id: str
    seed: int | None
    episodes: tuple[int, int]
    digests: tuple[str, str]
    first: tuple[float, float]
    second: tuple[float, float]
    reason: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two rewards on the same episodes.

    Attributes:
        first: label of the first reward.
        second: label of the second.
        overall: pairs over all episodes.
        within: pairs within groups.
        disputes: pairs within groups on which they differ most, the worst first.
    """

    first: str
    second: str
    overall: PairCounts
    within: PairCounts
    disputes: tuple[Dispute, ...]

    def to_dict(self) -> JsonObject:
        """Plain data."""
        return {
            "rewards": [self.first, self.second],
            "tau": self.overall.tau,
            "opposite": self.overall.opposite_share,
            "pairs": self.overall.pairs,
            "tau_within_groups": self.within.tau,
            "opposite_within_groups": self.within.opposite_share,
            "pairs_within_groups": self.within.pairs,
            "disputes": [asdict(dispute) for dispute in self.disputes],
        }


@dataclass(frozen=True, slots=True)
class CompareReport:
    """How alike several rewards rank the same episodes.

    Attributes:
        rewards: labels, in the order asked for.
        episodes: number of episodes.
        groups: number of (task, seed) groups with at least two episodes.
        means: label -> mean total.
        agreements: one per pair of rewards.
    """

    rewards: tuple[str, ...]
    episodes: int
    groups: int
    means: Mapping[str, float]
    agreements: tuple[Agreement, ...]

    def between(self, first: str, second: str) -> Agreement:
        """The agreement of two different rewards, in either order.

        Raises:
            KeyError: they were not compared.
        """
        for one in self.agreements:
            if {one.first, one.second} == {first, second}:
                return one
        raise KeyError((first, second))

    def to_dict(self) -> JsonObject:
        """Plain data."""
        return {
            "rewards": list(self.rewards),
            "episodes": self.episodes,
            "groups": self.groups,
            "means": dict(self.means),
            "agreement": [one.to_dict() for one in self.agreements],
        }


def compare(
    played: Sequence[tuple[Task, Episode]], rewards: Mapping[str, Reward], *, shown: int = SHOWN
) -> CompareReport:
    """Compare rewards on the same episodes.

    Args:
        played: tasks with their episodes.
        rewards: label -> reward, at least two.
        shown: disputes to keep per pair of rewards.

    Raises:
        OrchError: fewer than two rewards, or no episodes.
    """
    if len(rewards) < 2:
        raise OrchError("a comparison needs at least two different rewards")
    scored = [Scores.of(label, reward, played) for label, reward in rewards.items()]
    groups = [members for members in groups_of(played) if len(members) > 1]
    agreements = tuple(
        Agreement(
            first.reward,
            second.reward,
            PairCounts.of(first.totals, second.totals),
            sum((PairCounts.of(first.totals[m], second.totals[m]) for m in groups), PairCounts()),
            _disputes(played, first, second, groups, shown),
        )
        for first, second in combinations(scored, 2)
    )
    means = {s.reward: float(s.totals.mean()) for s in scored}
    return CompareReport(tuple(rewards), len(played), len(groups), means, agreements)


def _disputes(
    played: Sequence[tuple[Task, Episode]],
    first: Scores,
    second: Scores,
    groups: Iterable[Sequence[int]],
    shown: int,
) -> tuple[Dispute, ...]:
    """The worst pairs of episodes that two rewards order oppositely, at most one per episode."""
    scale = (first.totals.std() or 1.0, second.totals.std() or 1.0)
    found: list[tuple[float, int, int]] = []
    for members in groups:
        x, y = first.totals[members] / scale[0], second.totals[members] / scale[1]
        for i in range(len(members) - 1):
            dx, dy = x[i + 1 :] - x[i], y[i + 1 :] - y[i]
            size = np.where(dx * dy < 0, np.minimum(np.abs(dx), np.abs(dy)), 0.0)
            best = int(size.argmax())
            if size[best] > TOLERANCE:
                pair = (members[i], members[i + 1 + best])
                found.append((-float(size[best]), *pair))
    slopes = first.influences(), second.influences()
    disputes: list[Dispute] = []
    for _, one, other in sorted(found)[:shown]:
        liked, disliked = (one, other) if first.totals[one] > first.totals[other] else (other, one)
        episodes = played[liked][1], played[disliked][1]
        disputes.append(
            Dispute(
                episodes[0].task_id,
                episodes[0].seed,
                (liked, disliked),
                (episodes[0].digest, episodes[1].digest),
                (float(first.totals[liked]), float(first.totals[disliked])),
                (float(second.totals[liked]), float(second.totals[disliked])),
                f"{_reason(first, slopes[0], liked, disliked)}; "
                f"{_reason(second, slopes[1], disliked, liked)}",
            )
        )
    return tuple(disputes)


def _reason(scores: Scores, slopes: Mapping[str, float], liked: int, disliked: int) -> str:
    """Which component contributes most to a reward's preference for one episode over another."""
    best, most = None, TOLERANCE
    for name, values in scores.components.items():
        spread = float(np.nanstd(values))
        if spread > TOLERANCE:
            gain = slopes[name] * (values[liked] - values[disliked]) / spread
            if gain > most:
                best, most = name, gain
    who = f"{scores.reward} prefers episode {liked}"
    if best is None:
        return f"{who}, by no single component"
    values = scores.components[best]
    return f"{who} for {best} ({values[liked]:.3g} against {values[disliked]:.3g})"
