"""The comparison of rewards: Kendall's tau by hand and against scipy, and which pairs are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from orch_env import Episode, OrchError, Task, Turn
from orch_env.audit.compare import CompareReport, PairCounts, compare
from orch_env.types import RewardBreakdown

TASK = Task("t", ({"role": "user", "content": "?"},))


class Listed:
    """Pays the episode whose answer is ``"3"`` the third number (from 0)."""

    def __init__(self, name: str, totals: Sequence[float], **components: Sequence[float]) -> None:
        self.name = name
        self._totals, self._components = totals, components

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        at = int(episode.final or 0)
        parts = {name: values[at] for name, values in self._components.items()}
        return RewardBreakdown(self._totals[at], parts)


def played(seeds: Sequence[int]) -> list[tuple[Task, Episode]]:
    return [
        (TASK, Episode("t", seed=seed, turns=(Turn.of(str(at)),), final=str(at)))
        for at, seed in enumerate(seeds)
    ]


def compared(
    seeds: Sequence[int], rewards: Mapping[str, Sequence[float]], **more: int
) -> CompareReport:
    made = {name: Listed(name, totals) for name, totals in rewards.items()}
    return compare(played(seeds), made, **more)


def test_tau_and_its_pairs_by_hand() -> None:
    # Six pairs of (1, 2, 2, 3) against (1, 3, 2, 2):
    # 01: + +   02: + +   03: + +   12: = -   13: + -   23: + =
    # alike 3, opposite 1, tied by the first only 1, by the second only 1.
    counts = PairCounts.of(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0, 2.0]))
    assert counts == PairCounts(3, 1, 1, 1, 0)
    # (3 - 1) / sqrt((4 + 1) (4 + 1)) = 0.4.
    assert counts.tau == pytest.approx(0.4)
    assert counts.opposite_share == pytest.approx(1 / 6)


def test_a_reward_that_ties_everything_has_no_tau() -> None:
    counts = PairCounts.of(np.array([1.0, 1.0]), np.array([1.0, 2.0]))
    assert (counts.tau, counts.opposite_share, counts.first_tied) == (None, 0.0, 1)
    assert PairCounts().opposite_share is None


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=25))
def test_tau_is_scipys_tau_b(pairs: list[tuple[int, int]]) -> None:
    x, y = (np.array(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    counts = PairCounts.of(x, y)
    assert counts.pairs == len(pairs) * (len(pairs) - 1) // 2
    expected = stats.kendalltau(x, y).statistic
    if np.isnan(expected):
        assert counts.tau is None
    else:
        assert counts.tau == pytest.approx(expected, abs=1e-12)


def test_within_groups_only_pairs_of_one_group_count() -> None:
    # Two groups; within each the rewards agree, across them they do not.
    report = compared([0, 0, 1, 1], {"a": [0.1, 0.2, 0.8, 0.9], "b": [0.8, 0.9, 0.1, 0.2]})
    (found,) = report.agreements
    assert found.within == PairCounts(2, 0, 0, 0, 0)
    assert (found.within.tau, found.within.opposite_share) == (1.0, 0.0)
    # All six pairs: two alike, four opposite: (2 - 4) / 6.
    assert found.overall.tau == pytest.approx(-1 / 3)
    assert found.disputes == ()
    assert (report.groups, report.episodes) == (2, 4)


def test_without_groups_nothing_is_said_about_them() -> None:
    (found,) = compared([0, 1, 2], {"a": [1, 2, 3], "b": [3, 2, 1]}).agreements
    assert (found.within.tau, found.within.opposite_share) == (None, None)
    assert found.overall.tau == -1.0
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(text)["tau_within_groups"] is None


def test_float_noise_orders_nothing() -> None:
    (found,) = compared([0, 0], {"a": [0.1 + 0.2, 0.3], "b": [0.1, 0.2]}).agreements
    assert (found.within.first_tied, found.within.opposite) == (1, 0)


def test_the_worst_disputes_come_first_with_their_reason() -> None:
    totals_a, totals_b = [0.9, 0.1, 0.5, 0.4], [0.2, 0.8, 0.5, 0.6]
    rewards = {
        "a": Listed("a", totals_a, order=[0.9, 0.1, 0.5, 0.4], noise=[0.0, 0.3, 0.2, 0.1]),
        "b": Listed("b", totals_b, names=[0.2, 0.8, 0.5, 0.6]),
    }
    report = compare(played([7, 7, 7, 7]), rewards)
    (found,) = report.agreements
    worst = found.disputes[0]
    assert worst.episodes == (0, 1)  # the first reward prefers the first one
    assert (worst.first, worst.second) == ((0.9, 0.1), (0.2, 0.8))
    assert (worst.task_id, worst.seed) == ("t", 7)
    assert worst.reason == (
        "a prefers episode 0 for order (0.9 against 0.1); "
        "b prefers episode 1 for names (0.8 against 0.2)"
    )
    assert worst.digests[0] == played([7])[0][1].digest
    assert all(d.first[0] > d.first[1] and d.second[0] < d.second[1] for d in found.disputes)
    assert len(compare(played([7] * 4), rewards, shown=1).agreements[0].disputes) == 1


def test_every_pair_of_rewards_is_compared_once() -> None:
    report = compared([0, 0], {"a": [1, 2], "b": [2, 1], "c": [1, 2]})
    assert [(x.first, x.second) for x in report.agreements] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert report.between("c", "a").overall.tau == 1.0
    assert report.means == {"a": 1.5, "b": 1.5, "c": 1.5}
    with pytest.raises(KeyError):
        report.between("a", "x")


def test_one_reward_or_no_episode_is_nothing_to_compare() -> None:
    with pytest.raises(OrchError, match="at least two"):
        compared([0], {"a": [1]})
    with pytest.raises(OrchError, match="no episodes"):
        compared([], {"a": [], "b": []})
