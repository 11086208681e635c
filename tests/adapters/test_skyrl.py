"""SkyRL: the episode behind its environment, and the whole through SkyRL-gym itself."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from orch_env.adapters import skyrl
from orch_env.adapters.skyrl import SkyRLEpisode
from orch_env.types import OrchError
from tests.adapters.conformance import MALFORMED, SOURCE, check_report, table
from tests.adapters.other_python import output_of, run_with

GOLD = table()[0]


def begun(**row: Any) -> SkyRLEpisode:
    env = SkyRLEpisode({}, {"task_id": GOLD.task_id, **row}, {"tasks": SOURCE.tasks})
    env.init()
    return env


@pytest.mark.adapters
def test_skyrl_passes_the_table_and_pays_what_replay_pays_on_any_thread() -> None:
    found = run_with("adapters", "tests.adapters.skyrl_conformance")
    check_report(found, whole=200)
    assert found["pool"] == {"episodes": 200, "equal": 200}


@pytest.mark.adapters
def test_the_example_plays_gold() -> None:
    said = output_of("adapters", "examples/skyrl_rollouts.py")
    assert said.count("reward 1.0, {'reward': 1.0, 'success': True") == 2


def test_the_prompt_is_the_rows_with_the_tools_in_its_system_message() -> None:
    env = SkyRLEpisode({}, {"task_id": GOLD.task_id}, {"tasks": SOURCE.tasks})
    row = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Go on."}]
    (system, user), said = env.init(row)
    assert system["content"].startswith("Be brief.") and '"find_ship"' in system["content"]
    assert user == row[1] and said == {"task_id": GOLD.task_id}
    assert env.init()[0] == SOURCE.prompt(GOLD.task_id, tools="system")


def test_results_come_as_a_users_message_in_the_call_format() -> None:
    out = begun().step(GOLD.actions[0])
    [message] = out["observations"]
    assert message["role"] == "user" and message["content"].startswith("<tool_response>\n")
    assert (out["reward"], out["done"], out["metadata"]) == (0.0, False, {})


def test_the_whole_reward_is_paid_once_at_the_end() -> None:
    env = begun()
    paid = [env.step(action)["reward"] for action in GOLD.actions]
    assert paid == [*[0.0] * (len(GOLD.actions) - 1), 1.0]
    again = env.step(GOLD.actions[0])
    assert (again["observations"], again["reward"], again["done"]) == ([], 0.0, True)


def test_fewer_turns_than_the_sources_end_the_episode() -> None:
    env = begun(max_turns=2)
    assert not env.step(GOLD.actions[0])["done"]
    out = env.step(GOLD.actions[1])
    assert out["done"] and out["metadata"]["stop_reason"] == "max_turns"
    assert begun(max_turns=99).max_turns == SOURCE.max_turns


def test_an_episode_that_skyrl_cuts_is_scored_in_its_metrics() -> None:
    env = begun()
    read = env.step(GOLD.actions[0])["observations"][0]["content"]
    said = [
        {"role": "assistant", "content": GOLD.actions[0]},
        {"role": "tool", "content": read.split("\n")[1]},
    ]
    score = SOURCE.score(GOLD.task_id, said, stop_reason="context_overflow")
    assert score is not None and 0 < score.total < 1
    found = env.get_metrics()
    assert found == {
        "reward": score.total,
        "success": False,
        "turns": 1,
        "stop_reason": "context_overflow",
    }
    assert env.get_metrics() == found


def test_a_malformed_call_is_read_and_can_be_mended() -> None:
    env = begun()
    assert "malformed_call" in env.step(MALFORMED)["observations"][0]["content"]
    assert [env.step(action)["done"] for action in GOLD.actions][-1]


def test_a_row_without_a_task_is_one_clear_line() -> None:
    with pytest.raises(OrchError, match=r"'task_id'.*orch export-rows --for skyrl"):
        SkyRLEpisode({}, {"max_turns": 3}, {"tasks": SOURCE.tasks})


def test_a_seed_that_is_no_number_is_one_clear_line() -> None:
    with pytest.raises(OrchError, match=rf"'seed'.*got 'x'.*{GOLD.task_id}"):
        begun(seed="x")


def test_the_first_use_without_skyrl_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skyrl_gym", None)
    skyrl._env_class.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'orch-rl\[skyrl\]'"):
        skyrl.register(tasks=SOURCE.tasks)
    with pytest.raises(ImportError, match=r"pip install 'orch-rl\[skyrl\]'"):
        _ = skyrl.OrchEnv
