"""ComplexFuncBench as a suite on the one environment, over a real cache file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env import GoldCall, OrchError, StopReason, Task, ToolCall, ToolSpec, save_tasks
from orch_env.cache import open_cache
from orch_env.env import ToolOrchestrationEnv
from orch_env.evaluation import complexfuncbench, summarise
from orch_env.evaluation.complexfuncbench.scorer import GENERIC_FEEDBACK
from orch_env.formats import get_format
from orch_env.replay.play import play
from orch_env.replay.policies import make_policy

FIND = ToolCall("Search_Hotel_Destination", {"query": "Oslo"})
HOTELS = ToolCall("Search_Hotels", {"dest_id": 8, "search_type": "city"})
ROOMS = ToolCall("Get_Room_List", {"hotel_id": 1})
POLICY = ToolCall("Get_Hotel_Policies", {"hotel_id": 1})
ANSWERS = {
    "Search_Hotel_Destination": '{"dest_id": "8"}',
    "Search_Hotels": '{"hotels": [1]}',
    "Get_Room_List": '{"rooms": ["a"]}',
    "Get_Hotel_Policies": '{"pets": false}',
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A task file and a cache: destination, then hotels, then rooms and policies in parallel."""
    folder = tmp_path_factory.mktemp("cfb")
    tasks, cache = str(folder / "tasks.jsonl"), str(folder / "cache.db")
    integer, text = {"type": "integer"}, {"type": "string"}
    schemas: dict[str, Any] = {
        "Search_Hotel_Destination": {"query": text},
        "Search_Hotels": {"dest_id": integer, "search_type": text},
        "Get_Room_List": {"hotel_id": integer, "name": text},
        "Get_Hotel_Policies": {"hotel_id": integer},
    }
    gold: list[tuple[GoldCall, ...]] = []
    with open_cache(cache, write=True) as writer:
        for name, properties in schemas.items():
            parameters = {
                "type": "object",
                "properties": properties,
                "required": [n for n in properties if n != "name"],
            }
            writer.put_tool(ToolSpec(name, "", parameters))
        for step in ([FIND], [HOTELS], [ROOMS, POLICY]):
            digests = [writer.put(c.name, c.arguments, ANSWERS[c.name]) for c in step]
            gold.append(
                tuple(
                    GoldCall(c.name, c.arguments, response=d)
                    for c, d in zip(step, digests, strict=True)
                )
            )
        writer.put("Get_Room_List", {"hotel_id": 1, "name": "same"}, ANSWERS["Get_Room_List"])
        task = Task(
            "oslo",
            ({"role": "user", "content": "Rooms in Oslo?"},),
            tuple(schemas),
            tuple(gold),
            metadata={"domain": "Hotels"},
        )
        writer.pin(task)
    save_tasks([task], tasks)
    return tasks, cache


@pytest.fixture
def env(files: tuple[str, str]) -> ToolOrchestrationEnv:
    made = complexfuncbench(*files).env()
    made.reset(seed=0, options={"task_id": "oslo"})
    return made


def write(*calls: ToolCall) -> str:
    return get_format("hermes").render_calls(calls)


def run_policy(env: ToolOrchestrationEnv, name: str) -> list[dict[str, Any]]:
    policy = make_policy(name)
    return [play(env, policy, task)["score"] for task in env.tasks]


def test_gold_in_one_go_succeeds(env: ToolOrchestrationEnv) -> None:
    observation, reward, terminated, truncated, info = env.step(write(FIND))
    assert observation == '<tool_response>\n{"dest_id": "8"}\n</tool_response>'
    assert info["messages"] == [
        {
            "role": "tool",
            "tool_call_id": "call_0_0",
            "name": "Search_Hotel_Destination",
            "content": '{"dest_id": "8"}',
        }
    ]
    assert (reward, terminated, truncated) == (0.0, False, False)
    env.step(write(HOTELS))
    env.step(write(POLICY))
    env.step(write(ROOMS))
    _, reward, terminated, truncated, info = env.step("Room a.")
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["success"] is True and info["stop_reason"] == "answered"
    assert info["score"] == {
        "success": True,
        "correct_calls": 4,
        "total_calls": 4,
        "turns_reached": 3,
        "total_turns": 3,
        "error": None,
        "decided_by": {"exact": 4},
        "format_errors": {},
    }
    assert env.episode.reward is not None and env.episode.reward.total == 1.0
    assert env.episode.final == "Room a."


def test_format_errors_are_specific_and_repairable(env: ToolOrchestrationEnv) -> None:
    env.step(write(FIND, HOTELS))
    bad = [
        ToolCall("Get_Room_List", {}),
        ToolCall("Get_Room_List", {"hotel_id": 1, "nom": "x"}),
        ToolCall("Get_Room_List", {"hotel_id": [1]}),
        ToolCall("Get_Rooms", {"hotel_id": 1}),
    ]
    _, _, terminated, _, info = env.step(write(*bad) + "<tool_call>{</tool_call>")
    assert not terminated
    errors = [json.loads(m["content"])["error"] for m in info["messages"]]
    assert [e["type"] for e in errors] == [
        "invalid_arguments",
        "invalid_arguments",
        "invalid_arguments",
        "unknown_tool",
        "malformed_call",
    ]
    assert "missing required hotel_id" in errors[0]["message"]
    assert "unknown argument 'nom'" in errors[1]["message"]
    assert [c.error for c in env.episode.turns[-1].calls] == [e["type"] for e in errors]
    env.step(write(ROOMS, POLICY))
    *_, info = env.step("done")
    assert info["success"]
    assert info["score"]["format_errors"] == {
        "malformed_call": 1,
        "param_missing": 1,
        "param_type": 1,
        "param_unknown": 1,
        "unknown_function": 1,
    }


def test_another_call_with_the_same_recorded_response_is_matched(files: tuple[str, str]) -> None:
    table = Path(files[0]).with_name("exact.json")
    table.write_text('{"Get_Room_List": ["hotel_id"]}')
    env = complexfuncbench(*files, exact_match_values=table).env()
    env.reset(options={"task_id": "oslo"})
    env.step(write(FIND, HOTELS))
    same = ToolCall("Get_Room_List", {"hotel_id": 1, "name": "same"})
    *_, info = env.step(write(same, POLICY))
    assert info["messages"][0]["content"] == ANSWERS["Get_Room_List"]
    *_, info = env.step("done")
    assert info["score"]["decided_by"]["responses"] == 1
    assert info["success"]


def test_a_wrong_call_beside_a_right_one_gets_the_generic_sentence(
    env: ToolOrchestrationEnv,
) -> None:
    env.step(write(FIND, HOTELS))
    other = ToolCall("Get_Room_List", {"hotel_id": 5})
    _, _, terminated, _, info = env.step(write(other, POLICY))
    assert info["messages"][0]["content"] == GENERIC_FEEDBACK
    assert not terminated
    _, reward, terminated, truncated, info = env.step(write(other))
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert info["score"]["error"] == "value_error"
    assert (info["score"]["correct_calls"], info["score"]["turns_reached"]) == (3, 2)


def test_limits_and_stops_have_their_own_errors(files: tuple[str, str]) -> None:
    env = complexfuncbench(*files, max_turns=1).env()
    env.reset(options={"task_id": "oslo"})
    _, _, terminated, truncated, info = env.step(write(FIND))
    assert (terminated, truncated, info["score"]["error"]) == (False, True, "max_turns")
    env.reset(options={"task_id": "oslo"})
    _, _, terminated, truncated, info = env.stop(StopReason.OUTPUT_TRUNCATED, write(FIND))
    assert (terminated, truncated, info["score"]["error"]) == (False, True, "output_truncated")
    assert info["score"]["correct_calls"] == 0  # calls of an incomplete message are not run
    env.reset(options={"task_id": "oslo"})
    *_, info = env.stop(StopReason.INFRASTRUCTURE)
    assert "score" not in info and "success" not in info
    assert env.episode.reward is None
    with pytest.raises(ResetNeeded):
        env.step("x")
    env.reset(options={"task_id": "oslo"})
    with pytest.raises(OrchError, match="up to the environment"):
        env.stop(StopReason.ANSWERED)


def test_a_cache_that_lacks_a_golden_response_is_refused(files: tuple[str, str]) -> None:
    other = Path(files[0]).with_name("other.db")
    with open_cache(other, write=True) as writer, open_cache(files[1]) as full:
        for spec in full.catalogue.values():
            writer.put_tool(spec)
    with pytest.raises(OrchError, match=r"gold call 0 \(Search_Hotel_Destination\) is not in"):
        complexfuncbench(files[0], other).env().reset(options={"task_id": "oslo"})
    with pytest.raises(OrchError, match="needs a response cache"):
        complexfuncbench(files[0]).env()


def test_a_pin_that_is_no_digest_is_a_clear_error(files: tuple[str, str]) -> None:
    suite = complexfuncbench(*files)
    (task,) = suite.tasks
    (first, *rest), *steps = task.gold
    broken = replace(task, gold=((replace(first, response="not hex"), *rest), *steps))
    with pytest.raises(OrchError, match="gold call 0 pins 'not hex', which is no digest"):
        suite.backend.open(broken, seed=0)


def test_a_conversation_can_be_saved_and_forked_in_the_middle(env: ToolOrchestrationEnv) -> None:
    env.step(write(FIND, HOTELS))
    state, twin = env.get_state(), env.fork()
    saved = json.dumps(state)
    for one in (env, twin):
        one.step(write(ROOMS, POLICY))
        *_, info = one.step("done")
        assert info["success"]
    assert json.dumps(state) == saved, "what was saved is not touched by what follows"
    env.set_state(state)
    *_, info = env.step("I give up.")
    assert (info["success"], info["score"]["correct_calls"]) == (False, 2)


def test_siblings_play_at_the_same_time_over_one_cache(env: ToolOrchestrationEnv) -> None:
    twin = env.sibling()
    twin.reset(seed=1, options={"task_id": "oslo"})
    env.step(write(FIND, HOTELS))
    *_, info = twin.step("I give up.")
    assert info["score"]["correct_calls"] == 0
    twin.close()
    env.step(write(ROOMS, POLICY))
    *_, info = env.step("done")
    assert info["success"]


def test_it_is_a_gymnasium_environment(files: tuple[str, str]) -> None:
    check_env(complexfuncbench(*files).env(), skip_render_check=True)


_pieces = st.sampled_from(
    [write(FIND), write(HOTELS), write(ROOMS, POLICY), "<tool_call>", '{"name": 3}', "</tool_call>"]
) | st.text(max_size=20)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(_pieces, max_size=4).map("".join), min_size=1, max_size=6))
def test_nothing_that_a_model_writes_raises(files: tuple[str, str], actions: list[str]) -> None:
    env = complexfuncbench(*files).env()
    env.reset(options={"task_id": "oslo"})
    for action in actions:
        observation, _, terminated, truncated, info = env.step(action)
        assert env.observation_space.contains(observation)
        if terminated or truncated:
            score = info["score"]
            assert score["success"] is (score["error"] is None)
            assert score["correct_calls"] <= score["total_calls"]
            json.dumps(info)
            return


@pytest.mark.parametrize("strict", [False, True])
def test_gold_of_the_bundled_world_is_perfect(strict: bool) -> None:
    env = complexfuncbench("harbour", split="heldout", strict=strict).env()
    result = summarise(run_policy(env, "gold"), env.tasks)
    assert (result["success"], result["call_accuracy"], result["turn_accuracy"]) == (1.0, 1.0, 1.0)
    assert sum(domain["n"] for domain in result["by_domain"].values()) == result["n"]


@pytest.mark.shared_data
@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_gold_of_the_benchmark_is_perfect(
    booking_files: tuple[str, str], shared_data: Path, table: bool, strict: bool
) -> None:
    values = shared_data / "complexfuncbench" / "exact_match_values.json" if table else None
    env = complexfuncbench(*booking_files, exact_match_values=values, strict=strict).env()
    result = summarise(run_policy(env, "gold"), env.tasks)
    assert result["n"] == 533
    assert (result["success"], result["call_accuracy"], result["turn_accuracy"]) == (1.0, 1.0, 1.0)
    assert list(result["by_domain"]) == ["Hotels", "Flights", "Car-Rental", "Attraction", "Cross"]


@pytest.mark.shared_data
def test_doing_nothing_on_the_benchmark_is_worth_nothing(booking_files: tuple[str, str]) -> None:
    env = complexfuncbench(*booking_files).env()
    result = summarise(run_policy(env, "noop"), env.tasks)
    assert (result["success"], result["call_accuracy"], result["turn_accuracy"]) == (0.0, 0.0, 0.0)
    assert result["errors"] == {"stop_early": 533}


@pytest.mark.shared_data
def test_gold_of_the_benchmark_scores_exactly_one(booking_files: tuple[str, str]) -> None:
    env, policy = ToolOrchestrationEnv(*booking_files), make_policy("gold")
    for task in env.tasks:
        info = play(env, policy, task)
        assert (info["reward"]["total"], info["success"]) == (1.0, True), task.id


@pytest.mark.parametrize("max_turns", [2, 40])
@pytest.mark.parametrize("policy", ["gold", "noop", "random"])
def test_an_episode_scored_afterwards_gets_the_score_of_the_environment(
    policy: str, max_turns: int
) -> None:
    suite = complexfuncbench("harbour/heldout", max_turns=max_turns)
    env, player = suite.env(), make_policy(policy, seed=1)
    for task in suite.tasks[:40]:
        info = play(env, player, task, seed=1)
        assert suite.backend.score(task, env.episode) == info["score"]
    env.close()
    suite.close()
