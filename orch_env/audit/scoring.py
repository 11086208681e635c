"""Many episodes scored with one reward: totals, components and groups as arrays.

A group is the episodes of one task with one seed: those that GRPO compares.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orch_env.rewards.protocol import Reward
from orch_env.types import Episode, OrchError, Task

Floats = NDArray[np.float64]

TOLERANCE = 1e-9
"""Values closer than this count as equal, so that float noise orders no two episodes."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores that one reward gave to N episodes.

    Attributes:
        reward: the reward's label.
        totals: N totals, rounded to ``TOLERANCE``.
        components: name -> N values, NaN where an episode does not have the component.
    """

    reward: str
    totals: Floats
    components: dict[str, Floats]

    @classmethod
    def of(cls, label: str, reward: Reward, played: Sequence[tuple[Task, Episode]]) -> Scores:
        """Score episodes.

        Raises:
            OrchError: there are none.
        """
        if not played:
            raise OrchError("there are no episodes to look at")
        breakdowns = [reward(task, episode) for task, episode in played]
        names = dict.fromkeys(name for b in breakdowns for name in b.components)
        return cls(
            label,
            _rounded([b.total for b in breakdowns]),
            {n: _rounded([b.components.get(n, np.nan) for b in breakdowns]) for n in names},
        )

    def influences(self) -> dict[str, float]:
        """By how many standard deviations the total changes when a component changes by one.

        These are least-squares slopes on standardised values (of several solutions the shortest).
        They separate what makes the total from what only accompanies it. They are exact for
        weighted sums of independent components and a first approximation for other rewards. A
        component that does not vary has 0, and so has one whose slope and plain correlation differ
        in sign: it overlaps with others, and its direction is unknown.
        """
        total = _standardised(self.totals)
        if not self.components or not total.any():
            return dict.fromkeys(self.components, 0.0)
        columns = np.stack([_standardised(values) for values in self.components.values()], axis=1)
        slopes = np.linalg.lstsq(columns, total, rcond=1e-9)[0]
        agree = slopes * (columns.T @ total) > 0
        return {
            name: float(slope) if agrees else 0.0
            for name, slope, agrees in zip(self.components, slopes, agree, strict=True)
        }


def groups_of(played: Sequence[tuple[Task, Episode]]) -> list[list[int]]:
    """Indices of the episodes of each (task, seed), in order of first appearance."""
    groups: dict[Hashable, list[int]] = {}
    for index, (_, episode) in enumerate(played):
        groups.setdefault((episode.task_id, episode.seed), []).append(index)
    return list(groups.values())


def correlation(left: Floats, right: Floats) -> float | None:
    """Pearson's r where both are known; ``None`` where either does not vary.

    Against a variable of zeros and ones this is the point-biserial correlation
    ``(M1 - M0) / s * sqrt(n1 n0 / n^2)``, s being the population standard deviation.
    """
    known = ~(np.isnan(left) | np.isnan(right))
    x, y = left[known], right[known]
    if len(x) < 2 or np.ptp(x) <= TOLERANCE or np.ptp(y) <= TOLERANCE:
        return None
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x @ y) / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def centred(values: Floats, groups: Sequence[Sequence[int]]) -> Floats:
    """Values minus their group's mean; NaN outside groups of at least two known values."""
    out = np.full(len(values), np.nan)
    for members in groups:
        inside = [i for i in members if not np.isnan(values[i])]
        if len(inside) > 1:
            out[inside] = values[inside] - values[inside].mean()
    return out


def _rounded(values: Sequence[float]) -> Floats:
    return np.round(np.asarray(values, dtype=np.float64) / TOLERANCE) * TOLERANCE


def _standardised(values: Floats) -> Floats:
    """Values with mean 0 and deviation 1; zeros where they do not vary or are NaN."""
    known = ~np.isnan(values)
    out = np.zeros(len(values))
    spread = float(values[known].std()) if known.any() else 0.0
    if spread > TOLERANCE:
        out[known] = (values[known] - values[known].mean()) / spread
    return out
