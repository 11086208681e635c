"""Weights by training step: reading a schedule, its values, and rewards that follow one."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.env import ToolOrchestrationEnv
from orch_env.env.payout import Payout
from orch_env.env.vector import ToolOrchestrationVectorEnv
from orch_env.formats import get_format
from orch_env.replay.policies import GoldPolicy
from orch_env.rewards import make_reward
from orch_env.rewards.compose.schedule import (
    Schedule,
    ScheduledReward,
    breakpoints,
    scheduled_weights,
)
from orch_env.types import GoldCall, OrchError, StopReason
from tests.orch_env.reward_world import World, make_world, output_of

FROM_ATOMIC_TO_ORCHESTRATION = {
    "name": "graduated",
    "weights": {"atomic": [[0, 1.0], [10, 0.0]], "orchestration": [[0, 0.0], [10, 1.0]]},
}


def two_calls() -> World:
    """Find something by a word of the query, then book what was found."""
    gold = [
        [GoldCall("find", {"key": "a"})],
        [GoldCall("book", {"of": "id0x"}, depends_on=(0,), provenance={"/of": output_of(0)})],
    ]
    return make_world(gold, ['{"id": "id0x"}', '{"ok": true}'], "a")


@pytest.fixture
def guess() -> tuple[World, Any]:
    """Both calls are right, but the second one stands before its value was seen."""
    world = two_calls()
    first, second = (step[0] for step in world.gold_turns())
    return world, world.play([[second], [first]])


def total_at(spec: Any, step: int, world: World, episode: Any) -> float:
    return make_reward(spec, step=step)(world.task, episode).total


@pytest.mark.parametrize(
    ("step", "value"),
    # Down from 1.0 at 10 to 0.5 at 20: 0.05 a step. Up from 0.5 at 20 to 0.9 at 120: 0.004 a step.
    [(0, 1.0), (10, 1.0), (11, 0.95), (15, 0.75), (20, 0.5), (45, 0.6), (120, 0.9), (9999, 0.9)],
)
def test_a_schedule_is_linear_between_its_points_and_constant_outside(
    step: int, value: float
) -> None:
    schedule = Schedule.from_value([[10, 1.0], [20, 0.5], [120, 0.9]])
    assert schedule.at(step) == pytest.approx(value, abs=1e-12)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.floats(-1e6, 1e6)),
        min_size=1,
        max_size=6,
        unique_by=lambda point: point[0],
    ),
    st.integers(0, 2 * 10**6),
)
def test_a_schedule_hits_its_points_and_never_leaves_their_span(
    points: list[tuple[int, float]], step: int
) -> None:
    points = sorted(points)
    schedule = Schedule.from_value([list(point) for point in points])
    assert all(schedule.at(at) == value for at, value in points)
    values = [value for _, value in points]
    assert min(values) - 1e-6 <= schedule.at(step) <= max(values) + 1e-6


def test_a_number_is_a_schedule_that_never_changes() -> None:
    assert [Schedule.from_value(0.3).at(step) for step in (0, 7, 10**9)] == [0.3] * 3


@pytest.mark.parametrize(
    ("value", "piece"),
    [
        ("0.5", "must be a finite number or a schedule like [[0, 1.0], [100, 0.5]], got '0.5'"),
        (True, "must be a finite number or a schedule"),
        (None, "must be a finite number or a schedule"),
        (10**400, "must be a finite number or a schedule"),
        ([], "must be a finite number or a schedule"),
        ([0, 1.0], "a schedule looks like"),
        ([[0, 1.0, 2.0]], "a schedule looks like"),
        ([[-1, 1.0]], "a step must be an integer of at least 0, got -1"),
        ([[0.5, 1.0]], "a step must be an integer of at least 0, got 0.5"),
        ([[True, 1.0]], "a step must be an integer of at least 0, got True"),
        ([[5, 1.0], [5, 0.0]], "steps must increase, got 5 after 5"),
        ([[5, 1.0], [2, 0.0]], "steps must increase, got 2 after 5"),
        ([[0, float("nan")]], "a value must be a finite number, got nan"),
        ([[0, "1"]], "a value must be a finite number, got '1'"),
        ([[0, False]], "a value must be a finite number, got False"),
    ],
)
def test_what_is_no_schedule_is_refused_in_one_line(value: Any, piece: str) -> None:
    with pytest.raises(OrchError) as caught:
        Schedule.from_value(value, "weights.atomic")
    assert str(caught.value).startswith("weights.atomic") and piece in str(caught.value)


def test_the_weights_of_a_preset_follow_the_step(guess: tuple[World, Any]) -> None:
    # Each call by itself is right: atomic 1. The second one's value was not seen before, so its
    # share of satisfied edges is 0: orchestration (1 + 0) / 2 = 0.5. Total = w_a * 1 + w_o * 0.5,
    # with w_a = 1 - step / 10 and w_o = step / 10. Once w_a is 0 the second call earns nothing and
    # is one too many, within the budget of one: 0.5 * (1 - 0.02).
    expected = {0: 1.0, 2: 0.8 + 0.2 * 0.5, 5: 0.75, 10: 0.49, 99: 0.49}
    for step, total in expected.items():
        assert total_at(FROM_ATOMIC_TO_ORCHESTRATION, step, *guess) == pytest.approx(total)


def test_a_scheduled_reward_gives_the_reward_of_any_step(guess: tuple[World, Any]) -> None:
    world, episode = guess
    reward = make_reward(FROM_ATOMIC_TO_ORCHESTRATION)
    assert isinstance(reward, ScheduledReward) and reward.name == "graduated"
    assert reward(world.task, episode).total == pytest.approx(1.0)  # unasked, it takes step 0
    fixed = reward.at_step(10)
    plain = make_reward({"name": "graduated", "weights": {"atomic": 0.0, "orchestration": 1.0}})
    assert fixed == plain
    assert reward(world.task, episode).total == pytest.approx(1.0)  # and is not changed by it


def test_without_schedules_the_step_says_nothing() -> None:
    spec = {"name": "graduated", "weights": {"atomic": 0.3, "orchestration": 0.7}}
    assert make_reward(spec, step=3) == make_reward(spec)
    assert breakpoints(spec) == ()


def test_weights_of_a_mix_and_of_its_parts_follow_the_step(guess: tuple[World, Any]) -> None:
    spec = {
        "name": "mix",
        "components": {"graduated": [[0, 1.0], [4, 0.0]], "binary": 2},
        "options": {
            "graduated": {"weights": {"atomic": 0.0, "orchestration": [[0, 1.0], [4, 0.5]]}}
        },
    }
    assert breakpoints(spec) == (0, 4)
    # binary: both calls were made and ran, so 2 * 1. graduated pays its w_o * 0.49 (above).
    # Step 0: 1 * (1 * 0.49) + 2 = 2.49. Step 2: 0.5 * (0.75 * 0.49) + 2 = 2.18375. Step 4: 2.
    for step, total in ((0, 2.49), (2, 2.18375), (4, 2.0), (5, 2.0)):
        assert total_at(spec, step, *guess) == pytest.approx(total)
    assert scheduled_weights(spec, 2) == {
        "components.graduated": 0.5,
        "options.graduated.weights.orchestration": 0.75,
    }


def test_the_weight_of_an_answer_follows_the_step() -> None:
    world = two_calls()
    task = make_world(world.task.gold, world.results, "a", answer=42).task
    spec = {"name": "graduated", "answer_weight": [[0, 0], [10, 2]]}
    # Gold's calls with a wrong answer: (2 * 1 + w * 0) / (2 + w) with w = step / 5.
    episode = world.play(world.gold_turns(), "41")
    for step, total in ((0, 1.0), (5, 2 / 3), (10, 0.5)):
        assert make_reward(spec, step=step)(task, episode).total == pytest.approx(total)


@pytest.mark.parametrize(
    ("spec", "piece"),
    [
        ({"name": "graduated", "weights": {"atomic": [[0, 0.5], [9, 1.5]]}}, "sum to 1.5"),
        ({"name": "graduated", "weights": {"atomic": [[0, 0.5], [9, -1]]}}, "at least 0"),
        ({"name": "graduated", "weights": {"atomic": [[9, 0.5], [0, 1]]}}, "weights.atomic: steps"),
        ({"name": "graduated", "weights": {"atomc": [[0, 0.5]]}}, "unknown weight 'atomc'"),
        ({"name": "prove", "alpha": [[0, 0.5]]}, "'alpha' must be a finite number"),
        (
            {"name": "mix", "components": {"binary": [[0]]}},
            "components.binary: a schedule looks like",
        ),
    ],
)
def test_a_configuration_is_checked_at_every_point_when_the_reward_is_made(
    spec: dict[str, Any], piece: str
) -> None:
    with pytest.raises(OrchError) as caught:
        make_reward(spec)
    assert piece in str(caught.value)


# -- the environment -----------------------------------------------------------------------------

SWITCH = {"name": "mix", "components": {"binary": [[0, 1.0], [1, 1.0], [2, 3.0]]}}


def played(env: ToolOrchestrationEnv, *, before_last: Callable[[], None] = lambda: None) -> float:
    """What the gold policy earns on the first task, its reset included."""
    task = env.tasks[0]
    policy = GoldPolicy(get_format("hermes"))
    policy.start(task)
    env.reset(seed=0, options={"task_id": task.id})
    return finished(env, policy, before_last)


def finished(
    env: ToolOrchestrationEnv, policy: GoldPolicy, before_last: Callable[[], None] = lambda: None
) -> float:
    actions = len([step for step in env.task.gold if step]) + 1
    paid, ended = 0.0, False
    for number in range(actions):
        if number == actions - 1:
            before_last()
        _, reward, ended, _, info = env.step(policy.act("", {}))
        paid += float(reward)
    assert ended and info["success"] and info["reward"]["total"] == paid
    return paid


@pytest.mark.parametrize("mode", ["terminal", "dense"])
def test_a_new_step_counts_from_the_next_reset_on(mode: str) -> None:
    env = ToolOrchestrationEnv("harbour", reward=SWITCH, reward_mode=mode)
    assert played(env) == 1.0
    assert played(env, before_last=lambda: env.set_training_step(2)) == 1.0
    assert played(env) == 3.0
    env.set_training_step(1)
    assert played(env) == 1.0
    env.close()


def test_a_fork_a_state_and_a_pickle_keep_the_step_of_their_episode() -> None:
    env = ToolOrchestrationEnv("harbour", reward=SWITCH)
    policy = GoldPolicy(get_format("hermes"))
    policy.start(env.tasks[0])
    env.set_training_step(2)
    env.reset(seed=0, options={"task_id": env.tasks[0].id})
    env.set_training_step(0)
    state = json.loads(json.dumps(env.get_state()))
    fresh = ToolOrchestrationEnv("harbour", reward=SWITCH)
    fresh.set_state(state)
    for twin in (env.fork(), fresh, pickle.loads(pickle.dumps(env)), env):
        policy.start(env.tasks[0])
        assert finished(twin, policy) == 3.0
        assert played(twin) == 1.0  # the next episode has the environment's own step again
    env.close()


def test_siblings_and_pickles_begin_with_the_step_of_their_origin() -> None:
    env = ToolOrchestrationEnv("harbour", reward=SWITCH)
    env.set_training_step(2)
    assert played(env.sibling()) == 3.0
    assert played(pickle.loads(pickle.dumps(env))) == 3.0
    env.close()


def test_a_vector_environment_passes_the_step_on() -> None:
    envs = ToolOrchestrationVectorEnv(2, tasks="harbour", reward=SWITCH)
    envs.call("set_training_step", 2)
    for env in envs.envs:
        assert isinstance(env, ToolOrchestrationEnv) and played(env) == 3.0
    envs.close()


@pytest.mark.parametrize("step", [-1, 1.5, True, None, "3"])
def test_a_training_step_is_a_count(step: Any) -> None:
    env = ToolOrchestrationEnv("harbour", reward=SWITCH)
    with pytest.raises(OrchError, match="training step"):
        env.set_training_step(step)
    env.close()


def test_a_reward_s_configuration_survives_the_json_of_an_environment_s_spec() -> None:
    reward = {
        "name": "mix",
        "components": {"graduated.atomic": [[0, 0.5], [10, 0.25]], "prove.eff": -1},
        "options": {"prove": {"weights": {"eff": 0.5}, "alpha": 0.25}},
        "attribute": True,
    }
    made = gym.make("orch_env/ToolOrchestration-v0", tasks="harbour", reward=reward)
    assert made.spec is not None
    spec = EnvSpec.from_json(made.spec.to_json())
    assert spec.kwargs["reward"] == reward
    again = gym.make(spec)
    assert isinstance(again.unwrapped, ToolOrchestrationEnv)
    again.unwrapped.set_training_step(10)
    # The gold policy makes no call too many: atomic 1 at weight 0.25, eff 0.
    assert played(again.unwrapped) == 0.25
    made.close()
    again.close()


def test_an_environment_begins_at_step_0_whatever_step_its_reward_was_made_for(
    guess: tuple[World, Any],
) -> None:
    world, episode = guess
    ended = replace(episode, stop_reason=StopReason.ANSWERED)
    payout = Payout.from_names(make_reward(FROM_ATOMIC_TO_ORCHESTRATION, step=10), "terminal")
    session: Any = None
    first = total_at(FROM_ATOMIC_TO_ORCHESTRATION, 0, world, episode)
    last = total_at(FROM_ATOMIC_TO_ORCHESTRATION, 10, world, episode)
    assert first != last
    assert payout.fresh(0).pay(world.task, ended, session) == first
    assert payout.fresh(10).pay(world.task, ended, session) == last
