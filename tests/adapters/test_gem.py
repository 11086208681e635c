"""gem: the episode behind its environment, and the whole through gem itself."""

from __future__ import annotations

import sys

import pytest

from orch_env.adapters import gem
from orch_env.adapters.gem import GemEpisode
from orch_env.types import OrchError
from tests.adapters.conformance import SOURCE, check_report, expected, table
from tests.adapters.other_python import output_of, run_with

GOLD = table()[0]


@pytest.mark.adapters
def test_gem_passes_the_table_in_its_vector_environments_and_wrappers_too() -> None:
    found = run_with("adapters", "tests.adapters.gem_conformance")
    check_report(found, whole=200)
    assert found["vector_equal"] and found["vector_ended"] > 10 and found["vector_paid"] > 0
    assert found["concat"] and found["tracking"]


@pytest.mark.adapters
def test_the_example_plays_many_episodes() -> None:
    *_, last = output_of("adapters", "examples/gem_vector.py").splitlines()
    assert int(last.split()[0]) > 50 and "episodes ended" in last


def test_the_first_observation_offers_the_tools_before_the_users_message() -> None:
    read, info = GemEpisode(tasks=SOURCE.tasks).reset(0, task_id=GOLD.task_id)
    tools, question = read.index('"find_ship"'), read.index(info["messages"][-1]["content"])
    assert tools < question
    assert [tool["function"]["name"] for tool in info["tools"]][:1] == ["find_ship"]


def test_copies_draw_their_tasks_by_their_own_seeds() -> None:
    envs = [GemEpisode(seed, tasks=SOURCE.tasks) for seed in (1, 2, 1)]
    drawn = [[env.reset()[1]["task_id"] for _ in range(4)] for env in envs]
    assert drawn[0] == drawn[2] != drawn[1] and len(set(drawn[0])) > 1
    assert envs[0].reset(7)[1]["task_id"] == envs[1].reset(7)[1]["task_id"]


def test_the_reward_comes_at_the_end_and_nothing_after_it() -> None:
    env = GemEpisode(tasks=SOURCE.tasks)
    env.reset(GOLD.seed, task_id=GOLD.task_id)
    steps = [env.step(action) for action in GOLD.actions]
    assert [step[1] for step in steps] == [*[0.0] * (len(steps) - 1), 1.0]
    assert steps[-1][2:4] == (True, False) and steps[-1][4]["stop_reason"] == "answered"
    read, reward, terminated, _, info = env.step(GOLD.actions[0])
    assert (read, reward, terminated, info["messages"]) == ("", 0.0, True, [])


def test_a_limit_truncates() -> None:
    env = GemEpisode(tasks=SOURCE.tasks, max_turns=1)
    env.reset(0, task_id=GOLD.task_id)
    _, _, terminated, truncated, info = env.step(GOLD.actions[0])
    assert (terminated, truncated, info["stop_reason"]) == (False, True, "max_turns")


def test_an_episode_that_the_loop_cuts_is_scored() -> None:
    env = GemEpisode(tasks=SOURCE.tasks)
    env.reset(0, task_id=GOLD.task_id)
    env.step(GOLD.actions[0])
    assert env.finish("context_overflow") == expected(GOLD, 1).reward
    assert env.finish() == expected(GOLD, 1).reward


def test_a_copy_with_the_same_state_goes_on_by_itself() -> None:
    env = GemEpisode(tasks=SOURCE.tasks)
    env.reset(task_id=GOLD.task_id)
    env.step(GOLD.actions[0])
    twin = env.spawn(same_state=True)
    for one in (twin, env):
        assert [one.step(action)[1] for action in GOLD.actions[1:]][-1] == 1.0
    assert env.reset()[1]["task_id"] == twin.reset()[1]["task_id"]
    assert env.spawn(max_turns=1)._source.max_turns == 1


def test_random_actions_call_offered_tools() -> None:
    env = GemEpisode(3, tasks=SOURCE.tasks)
    _, info = env.reset()
    action = env.sample_random_action()
    assert any(f'"name": "{tool["function"]["name"]}"' in action for tool in info["tools"])
    assert "unknown_tool" not in env.step(action)[0]


def test_random_actions_depend_on_the_episode_alone() -> None:
    env = GemEpisode(3, tasks=SOURCE.tasks)

    def said(seed: int) -> list[str]:
        env.reset(seed)
        return [env.sample_random_action() for _ in range(3)]

    assert said(5) != said(9) != said(5) == said(5)


def test_a_source_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(OrchError, match="max_turns"):
        GemEpisode(tasks=SOURCE.tasks, max_turns=0)


def test_the_first_use_without_gem_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gem", None)
    gem._env_class.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'orch-rl\[gem\]'"):
        gem.register(tasks=SOURCE.tasks)
    with pytest.raises(ImportError, match=r"pip install 'orch-rl\[gem\]'"):
        _ = gem.OrchEnv
