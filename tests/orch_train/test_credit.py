"""Credit by turns: each message is judged by what was earned from it on."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch_env.types import Episode, OrchError, RewardBreakdown
from orch_train.learner.objective.advantages import token_advantages
from orch_train.trajectory.sample import Group, TrainingSample
from tests.orch_train.small_models import group_of, random_sample


def sample_of(lengths: list[int]) -> TrainingSample:
    """A prompt, then one message of each length with an observation between."""
    sample = TrainingSample()
    for length in lengths:
        sample.append_context([3, 4])
        sample.append_action([5] * length, [-1.0] * length, [0] * length)
    return sample


def attributed(members: list[tuple[list[int], list[float]]], base: float = 0.0) -> Group:
    """Members as (message lengths, what each turn earned)."""
    totals = [base + sum(shares) for _, shares in members]
    group = group_of([sample_of(lengths) for lengths, _ in members], totals)
    for sample, (_, shares) in zip(group.samples, members, strict=True):
        breakdown = RewardBreakdown(sample.reward, turns=tuple(shares), base=base)
        episode = Episode("task", reward=breakdown)
        sample.score(episode, sample.reward, success=sample.success)
    return group


def test_credit_by_turns_by_hand() -> None:
    # Rewards to go: turn 0: 1 and 0.5, mean 0.75; turn 1: 0.5 and 0.5 (nothing to compare).
    group = attributed([([2, 1], [0.5, 0.5]), ([1, 3], [0.0, 0.5])])
    first, second = token_advantages(group, "group_mean", 1e-4, "turn")
    assert first.tolist() == [0.25, 0.25, 0.0]
    assert second.tolist() == [-0.25, 0.0, 0.0, 0.0]
    # By trajectory the second is punished for its second message as well.
    _, whole = token_advantages(group, "group_mean", 1e-4, "trajectory")
    assert whole.tolist() == [-0.25] * 4


def test_stopping_early_is_compared_with_what_the_others_still_earned() -> None:
    # Turn 1, to go: 0.5 (goes on) and 0 (its closing answer earned nothing): mean 0.25.
    group = attributed([([1, 1, 1], [0.25, 0.25, 0.25]), ([1, 1], [0.25, 0.0])])
    first, second = token_advantages(group, "group_mean", 1e-4, "turn")
    assert second.tolist() == [-0.25, -0.25]
    # Turn 2, to go: 0.25, and 0 for the one that is over: mean 0.125.
    assert first.tolist() == [0.25, 0.25, 0.125]


def test_equal_totals_with_different_turns_still_teach() -> None:
    group = attributed([([1, 1], [1.0, 0.0]), ([1, 1], [0.0, 1.0])])
    first, second = token_advantages(group, "group_mean", 1e-4, "turn")
    assert first.tolist() == [0.0, -0.5] and second.tolist() == [0.0, 0.5]


@given(
    shares=st.lists(st.lists(st.integers(-8, 8), min_size=1, max_size=5), min_size=2, max_size=6),
    base=st.integers(-3, 3),
    kind=st.sampled_from(["group_mean", "group_std", "leave_one_out"]),
)
def test_the_first_message_always_gets_the_whole_trajectorys_advantage(
    shares: list[list[int]], base: int, kind: str
) -> None:
    members = [([2] * len(own), [s / 8 for s in own]) for own in shares]
    group = attributed(members, base / 8)
    whole = token_advantages(group, kind, 1e-2, "trajectory")
    by_turn = token_advantages(group, kind, 1e-2, "turn")
    for one, other, sample in zip(whole, by_turn, group.samples, strict=True):
        assert len(other) == sample.num_actions
        assert other[0] == one[0] and other[1] == one[1]


@given(turns=st.integers(1, 4), size=st.integers(2, 5), value=st.floats(-1, 1))
def test_equal_turns_give_exactly_zero(turns: int, size: int, value: float) -> None:
    group = attributed([([1] * turns, [value] * turns)] * size)
    for advantages in token_advantages(group, "group_std", 1e-8, "turn"):
        assert not np.any(advantages)


def test_a_message_without_a_share_of_its_own_gets_what_is_left() -> None:
    """The record may hold fewer turns than were sampled (cut off before the first character)."""
    group = attributed([([1, 1], [0.5]), ([1, 1], [0.0, 1.0])])
    first, second = token_advantages(group, "group_mean", 1e-4, "turn")
    assert first.tolist() == [-0.25, -0.5] and second.tolist() == [0.25, 0.5]


def test_a_reward_that_attributes_nothing_is_one_clear_line() -> None:
    group = group_of([random_sample(random.Random(s)) for s in range(2)], [0.0, 1.0])
    with pytest.raises(OrchError, match="does not say what each turn earned"):
        token_advantages(group, "group_mean", 1e-4, "turn")
