"""The audit of a reward: every figure worked out by hand on a few episodes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from orch_env import Episode, GoldCall, OrchError, Task, ToolCall, Turn, make_reward
from orch_env.audit import attack
from orch_env.audit.audit import audit
from orch_env.audit.scoring import Scores, centred, correlation, groups_of
from orch_env.backends.open import make_backend
from orch_env.rewards.protocol import Reward
from orch_env.tasks.selection import load_split
from orch_env.types import RewardBreakdown

TASK = Task("t", ({"role": "user", "content": "?"},), ("find",), ((GoldCall("find", {"q": "a"}),),))
RIGHT, WRONG = ToolCall("find", {"q": "a"}), ToolCall("find", {"q": "b"})


def episode(call: ToolCall, mark: str, seed: int | None = 0, task: str = "t") -> Episode:
    """One call; ``mark`` is what the fixed reward below looks up."""
    return Episode(
        task, seed=seed, turns=(Turn.of(mark, (call,), ("{}",)), Turn.of("done")), final="done"
    )


class Fixed:
    """Pays what a table says."""

    name = "fixed"

    def __init__(self, table: Mapping[str, tuple[float, Mapping[str, float]]]) -> None:
        self._table = table

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        total, components = self._table[episode.turns[0].action]
        return RewardBreakdown(total, components)


def audited(reward: Reward, *episodes: Episode):
    return audit([(TASK, e) for e in episodes], reward)


def test_every_figure_by_hand() -> None:
    reward = Fixed(
        {
            "a": (1.0, {"good": 1.0, "flat": 0.5}),
            "b": (0.0, {"good": 0.0, "flat": 0.5}),
            "c": (0.5, {"good": 0.5, "flat": 0.5}),
            "d": (0.5, {"good": 0.5, "flat": 0.5, "rare": 3.0}),
        }
    )
    report = audited(
        reward,
        episode(RIGHT, "a", seed=1),
        episode(WRONG, "b", seed=1),
        episode(RIGHT, "c", seed=2),
        episode(WRONG, "d", seed=2),
        episode(WRONG, "b", seed=3),  # a group of one says nothing about spread
    )
    assert (report.episodes, report.groups, report.success_rate) == (5, 2, 0.4)
    good = report.parts["good"]
    # Values 1, 0, 0.5, 0.5, 0: mean 0.4; squares 1 + 0.25 + 0.25 = 1.5, variance 0.3 - 0.16.
    assert good.mean == pytest.approx(0.4)
    assert good.std == pytest.approx(math.sqrt(0.14))
    # Deviations within: group 1 of (1, 0) is 0.5, group 2 of (0.5, 0.5) is 0.
    assert good.spread == pytest.approx(0.25)
    assert good.flat_groups == 0.5
    # Success 1, 0, 1, 0, 0. M1 = 0.75, M0 = 0.5 / 3, s = sqrt(0.14), n1 n0 / n^2 = 6 / 25.
    expected = (0.75 - 0.5 / 3) / math.sqrt(0.14) * math.sqrt(6 / 25)
    assert good.correlation == pytest.approx(expected)
    # Within groups: good (0.5, -0.5, 0, 0), success (0.5, -0.5, 0.5, -0.5):
    # 0.5 / sqrt(0.5 * 1) = sqrt(0.5).
    assert good.correlation_within == pytest.approx(math.sqrt(0.5))
    assert report.parts["total"].correlation == pytest.approx(expected)
    flat = report.parts["flat"]
    assert (flat.std, flat.correlation, flat.flat_groups, flat.influence) == (0.0, None, 1.0, 0.0)
    rare = report.parts["rare"]
    assert (rare.episodes, rare.mean, rare.spread, rare.correlation) == (1, 3.0, None, None)
    json.dumps(report.to_dict(), allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-5, 5, allow_subnormal=False), st.booleans()), min_size=3, max_size=30
    )
)
def test_the_correlation_is_scipys_point_biserial(pairs: list[tuple[float, bool]]) -> None:
    values = np.array([value for value, _ in pairs])
    success = np.array([float(done) for _, done in pairs])
    found = correlation(values, success)
    if np.ptp(values) <= 1e-9 or np.ptp(success) == 0:
        assert found is None
    elif np.ptp(values) > 1e-3:  # below, scipy itself loses digits
        assert found == pytest.approx(stats.pointbiserialr(success, values).statistic, abs=1e-9)


def test_influence_tells_what_makes_the_total_from_what_goes_along() -> None:
    # total = 0.5 x - 0.25 y, over independent x and y; z repeats nothing of it.
    x = np.array([0.0, 1.0, 0.0, 1.0])
    y = np.array([0.0, 0.0, 1.0, 1.0])
    total = 0.5 * x - 0.25 * y
    found = Scores("r", total, {"x": x, "y": y, "still": np.ones(4)}).influences()
    # One deviation of x (0.5) moves the total by 0.25; the total's deviation is
    # sqrt(0.0625 + 0.015625).
    whole = math.sqrt(0.078125)
    assert found == {
        "x": pytest.approx(0.25 / whole),
        "y": pytest.approx(-0.125 / whole),
        "still": 0.0,
    }


def test_a_component_that_overlaps_with_others_has_no_direction_of_its_own() -> None:
    # y is nearly x, and the total is 2 x - y: y goes with the total, its slope is negative.
    x = np.array([0.0, 1.0, 2.0, 3.0])
    y = np.array([0.0, 1.0, 2.0, 3.5])
    assert Scores("r", 2 * x - y, {"x": x, "y": y}).influences()["y"] == 0.0


def test_group_means_are_taken_away_only_inside_groups_of_several() -> None:
    values = np.array([1.0, 3.0, 5.0, math.nan])
    out = centred(values, [[0, 1], [2, 3]])
    assert list(out[:2]) == [-1.0, 1.0]
    assert np.isnan(out[2:]).all()


def test_groups_are_the_episodes_of_one_task_and_seed() -> None:
    other = Task("u", TASK.messages)
    played = [
        (TASK, episode(RIGHT, "a", seed=1)),
        (other, episode(RIGHT, "a", seed=1, task="u")),
        (TASK, episode(WRONG, "a", seed=1)),
        (TASK, episode(WRONG, "a", seed=2)),
    ]
    assert groups_of(played) == [[0, 2], [1], [3]]


def warned(report, words: str) -> bool:
    return any(words in warning for warning in report.warnings)


def test_warnings_say_what_could_hurt() -> None:
    # total = 0.8 loud + 0.2 right. Success 1, 0, 1, 1 against loud 0, 1, 1, 0:
    # r = -0.5 / sqrt(1 * 0.75) = -0.58; against the total: -0.25 / sqrt(0.51 * 0.75) = -0.40.
    table = {
        "a": (0.2, {"loud": 0.0, "right": 1.0, "still": 1.0}),
        "b": (0.8, {"loud": 1.0, "right": 0.0, "still": 1.0}),
        "c": (1.0, {"loud": 1.0, "right": 1.0, "still": 1.0}),
    }
    made = [(RIGHT, "a"), (WRONG, "b"), (RIGHT, "c"), (RIGHT, "a")]
    report = audited(Fixed(table), *(episode(call, mark) for call, mark in made))
    assert warned(report, "loud pulls the total away from success (r = -0.58)")
    assert warned(report, "still never varies (always 1)")
    assert warned(report, "The total hardly goes with success (r = -0.40)")
    assert not any(warning.startswith("right") for warning in report.warnings)


def test_a_component_that_hardly_goes_with_success_is_warned_about() -> None:
    table = {
        "a": (1.0, {"noise": 1.0}),
        "b": (0.0, {"noise": 0.0}),
    }
    episodes = [episode(RIGHT, "a"), episode(RIGHT, "b"), episode(WRONG, "a"), episode(WRONG, "b")]
    report = audited(Fixed(table), *episodes)
    assert report.parts["noise"].correlation == 0.0
    assert warned(report, "noise hardly goes with success (r = 0.00)")
    assert warned(report, "14 points")


def test_a_reward_that_goes_with_success_is_not_warned_about() -> None:
    # `cost` is a deduction: that it goes against success is as it should be.
    table = {"a": (1.0, {"part": 1.0, "cost": 0.0}), "b": (0.0, {"part": 0.0, "cost": 1.0})}
    report = audited(Fixed(table), episode(RIGHT, "a"), episode(WRONG, "b"))
    assert report.warnings == ()


def test_what_cannot_be_known_is_said() -> None:
    table = {"a": (1.0, {}), "b": (1.0, {})}
    alone = audited(Fixed(table), episode(WRONG, "a", seed=1), episode(WRONG, "b", seed=2))
    assert alone.parts["total"].spread is None
    assert warned(alone, "No task has two episodes with one seed")
    assert warned(alone, "No episode succeeded")
    assert alone.movements is None and alone.moved_most is None
    alike = audited(Fixed(table), episode(RIGHT, "a"), episode(RIGHT, "b"))
    assert warned(alike, "Every episode succeeded")
    assert warned(alike, "In 100% of the groups all episodes earn the same total")
    with pytest.raises(OrchError, match="no episodes"):
        audit([], Fixed(table))


def test_the_component_that_exploits_move_most_is_named() -> None:
    tasks = load_split("harbour/heldout")[:3]
    backend = make_backend("harbour", None, tasks)
    reward = make_reward("prove")
    attacked = attack(tasks, backend, {"prove": reward})
    backend.close()
    played = [(TASK, episode(RIGHT, "a")), (TASK, episode(WRONG, "b"))]
    report = audit(played, reward, attacked=attacked)
    assert report.movements is not None
    # Calling every tool covers all of gold by name and argument names, knowing nothing of it.
    cov = report.movements["cov"]
    assert (cov.nothing, cov.gold, cov.share) == (0.0, 1.0, 1.0)
    assert report.moved_most in ("cov", "name")
    assert warned(report, f"{report.moved_most} is what exploits move most")
    # No exploit gets a value right.
    assert "arg" not in report.movements
    moved = report.movements["total"]
    assert moved.mean == max(
        attacked.means["prove", e.name] for e in attacked.exploits if e.kind == "knowledge_free"
    )
