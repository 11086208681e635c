"""pass@k and avg@k: values by hand, the estimator's definition, and what intervals must be."""

from __future__ import annotations

from itertools import combinations
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch_env.evaluation.pass_rates import (
    PassCount,
    Stratum,
    by_domain,
    by_gold_calls,
    interval,
    pass_at_k,
    rates,
    rates_by,
    wilson,
)
from orch_env.tasks.files import load_tasks
from orch_env.types import OrchError

counts = st.integers(1, 9).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))
)


@pytest.mark.parametrize(
    ("samples", "passed", "k", "expected"),
    [
        (1, 1, 1, 1.0),
        (4, 1, 1, 1 / 4),
        (4, 1, 2, 1 / 2),  # 1 - C(3,2)/C(4,2) = 1 - 3/6
        (4, 2, 2, 5 / 6),  # 1 - C(2,2)/C(4,2) = 1 - 1/6; the plug-in 1 - (1/2)^2 would be 3/4
        (10, 3, 5, 1 - 21 / 252),
        (4, 3, 2, 1.0),  # fewer failures than k: some episode of any two succeeds
        (4, 0, 4, 0.0),
    ],
)
def test_pass_at_k_by_hand(samples: int, passed: int, k: int, expected: float) -> None:
    assert pass_at_k(samples, passed, k) == pytest.approx(expected, abs=1e-15)


@given(counts)
def test_pass_at_k_is_the_share_of_subsets_with_a_success(case: tuple[int, int, int]) -> None:
    samples, passed, k = case
    episodes = [True] * passed + [False] * (samples - passed)
    solved = sum(any(chosen) for chosen in combinations(episodes, k))
    assert pass_at_k(samples, passed, k) == pytest.approx(solved / comb(samples, k), abs=1e-12)


@given(st.integers(2, 8), st.floats(0, 1), st.data())
def test_pass_at_k_is_unbiased(samples: int, p: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, samples))
    expected = sum(
        comb(samples, c) * p**c * (1 - p) ** (samples - c) * pass_at_k(samples, c, k)
        for c in range(samples + 1)
    )
    assert expected == pytest.approx(1 - (1 - p) ** k, abs=1e-9)


@pytest.mark.parametrize(("samples", "passed", "k"), [(2, 1, 3), (2, 1, 0), (2, 3, 1), (2, -1, 1)])
def test_impossible_counts_are_refused(samples: int, passed: int, k: int) -> None:
    with pytest.raises(OrchError):
        pass_at_k(samples, passed, k)


def test_one_episode_per_task_gives_wilsons_interval() -> None:
    # 8 of 10, the textbook case: 0.4902 to 0.9433.
    found = interval([1.0] * 8 + [0.0] * 2, 10)
    assert found["mean"] == 0.8
    assert (found["low"], found["high"]) == pytest.approx((0.490162, 0.943318), abs=1e-6)


def test_no_success_still_has_an_upper_bound() -> None:
    found = interval([0.0] * 20, 80)
    # z^2 / (m + z^2) for the m = 20 tasks, however many episodes each had.
    assert found == {"mean": 0.0, "low": 0.0, "high": pytest.approx(0.161125, abs=1e-6)}


def test_episodes_of_one_task_are_no_independent_draws() -> None:
    """Tasks that always or never succeed: four episodes each tell no more than one."""
    alike = interval([1.0, 0.0] * 10, 80)
    assert (alike["low"], alike["high"]) == pytest.approx(wilson(0.5, 20))
    # Tasks that differ no more than chance makes them: the episodes do count.
    mixed = interval([0.5] * 20, 80)
    assert (mixed["low"], mixed["high"]) == pytest.approx(wilson(0.5, 80))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_intervals_contain_their_mean_and_stay_within_0_and_1(passed: list[int]) -> None:
    found = rates([PassCount(4, c) for c in passed], (1, 2, 4))
    means = []
    for name in ("avg_at_4", "pass_at_1", "pass_at_2", "pass_at_4"):
        rate = found[name]
        assert isinstance(rate, dict)
        assert 0 <= rate["low"] <= rate["mean"] <= rate["high"] <= 1
        means.append(rate["mean"])
    assert means[0] == pytest.approx(means[1])  # avg@n is the unbiased pass@1
    assert means[1:] == sorted(means[1:])


def test_rates_by_hand() -> None:
    found = rates([PassCount(2, 2), PassCount(2, 1), PassCount(2, 0)], (2, 1, 8))
    assert list(found) == ["n", "avg_at_2", "pass_at_1", "pass_at_2"]
    assert found["n"] == 3
    assert found["avg_at_2"]["mean"] == 0.5  # type: ignore[index]
    assert found["pass_at_2"]["mean"] == pytest.approx(2 / 3)  # type: ignore[index]


def test_tasks_of_different_sizes_are_refused() -> None:
    with pytest.raises(OrchError, match="same number"):
        rates([PassCount(2, 1), PassCount(3, 1)])


def test_tasks_are_counted_by_domain_and_by_gold_calls() -> None:
    strata = {
        "a": Stratum("Hotels", 2),
        "b": Stratum("Hotels", 12),
        "c": Stratum("Flights", 10),
        "d": Stratum("Flights", None),
    }
    passes = {name: PassCount(1, int(name in "ac")) for name in "abcde"}
    domains = rates_by(passes, strata, by_domain)
    assert {name: found["n"] for name, found in domains.items()} == {"Flights": 2, "Hotels": 2}
    calls = rates_by(passes, strata, by_gold_calls)
    assert {name: found["n"] for name, found in calls.items()} == {"2": 1, "10+": 2}
    assert calls["10+"]["avg_at_1"]["mean"] == 0.5  # type: ignore[index]


def test_our_tasks_know_their_stratum() -> None:
    for task in load_tasks("harbour/heldout")[:20]:
        assert Stratum.of(task).gold_calls == sum(len(step) for step in task.gold)
