"""Advantages compare within a group; equal rewards carry exactly no signal."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch_env.types import OrchError
from orch_train.learner.objective.advantages import ADVANTAGES, group_advantages

REWARD = st.floats(-10, 10, allow_nan=False)


@pytest.mark.parametrize("kind", ADVANTAGES)
@given(reward=st.floats(allow_nan=False, allow_infinity=False), size=st.integers(2, 64))
def test_equal_rewards_give_exactly_zero(kind: str, reward: float, size: int) -> None:
    # 0.1 * 3 is the classic: the float mean of equal numbers need not be that number.
    assert group_advantages([reward] * size, kind, 1e-8) == [0.0] * size


def test_a_difference_of_one_ulp_is_still_a_signal() -> None:
    low, high = group_advantages([1.0, math.nextafter(1.0, 2.0)], "group_mean")
    assert low < high


def test_group_mean_by_hand() -> None:
    assert group_advantages([1.0, 0.0, 0.0, 1.0], "group_mean") == [0.5, -0.5, -0.5, 0.5]


def test_group_std_by_hand_with_the_floor_of_the_quick_start() -> None:
    # mean 0.25, population std sqrt(0.1875)
    expected = [(r - 0.25) / (math.sqrt(0.1875) + 0.05) for r in (1.0, 0.0, 0.0, 0.0)]
    got = group_advantages([1.0, 0.0, 0.0, 0.0], "group_std", 0.05)
    assert got == pytest.approx(expected, abs=1e-15)


def test_the_floor_bounds_a_nearly_uniform_group() -> None:
    nearly = [1.0, 1.0, 1.0, 1.0 - 1e-9]
    assert max(map(abs, group_advantages(nearly, "group_std", 0.05))) < 1e-6


@given(rewards=st.lists(REWARD, min_size=2, max_size=16).filter(lambda r: len(set(r)) > 1))
def test_leave_one_out_compares_with_the_mean_of_the_others(rewards: list[float]) -> None:
    got = group_advantages(rewards, "leave_one_out")
    for i, advantage in enumerate(got):
        others = rewards[:i] + rewards[i + 1 :]
        assert advantage == pytest.approx(rewards[i] - sum(others) / len(others), abs=1e-9)


@pytest.mark.parametrize("kind", ADVANTAGES)
@given(rewards=st.lists(REWARD, min_size=2, max_size=16))
def test_advantages_sum_to_zero_and_keep_the_order_of_rewards(
    kind: str, rewards: list[float]
) -> None:
    got = group_advantages(rewards, kind, 0.05)
    assert sum(got) == pytest.approx(0.0, abs=1e-8)
    ranked = [a for _, a in sorted(zip(rewards, got, strict=True))]
    assert ranked == sorted(ranked)


@pytest.mark.parametrize(
    ("rewards", "kind", "says"),
    [
        ([1.0], "group_mean", "group_size must be >= 2"),
        ([1.0, math.nan], "group_mean", "finite"),
        ([1.0, 0.0], "median", "group_mean"),
    ],
)
def test_wrong_input_is_one_clear_line(rewards: list[float], kind: str, says: str) -> None:
    with pytest.raises(OrchError, match=says):
        group_advantages(rewards, kind)
