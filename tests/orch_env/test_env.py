"""How an episode runs: observations, errors, limits, ends, payment, snapshots."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.env import ToolOrchestrationEnv
from orch_env.types import Episode, ErrorType, OrchError, StopReason
from tests.orch_env.recorded_world import (
    BROKEN,
    LONG_TEXT,
    TWICE,
    WEATHER_7,
    WEATHER_11,
    ZURICH,
    build,
    started,
    written,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture
def env(world: dict[str, str]) -> ToolOrchestrationEnv:
    return ToolOrchestrationEnv(**world)


def errors_in(observation: str) -> list[dict[str, Any]]:
    """The error objects of an observation, in order."""
    texts = observation.split("<tool_response>\n")[1:]
    bodies = [json.loads(t.rsplit("\n</tool_response>", 1)[0]) for t in texts]
    return [body["error"] for body in bodies if "error" in body]


def test_reset_shows_the_task_as_the_model_reads_it(env: ToolOrchestrationEnv) -> None:
    observation, info = env.reset(seed=0, options={"task_id": "zurich"})
    assert observation == "Be brief.\n\nWeather in Zürich?"
    assert info["messages"] == list(env.task.messages)
    assert [t["function"]["name"] for t in info["tools"]] == ["search_city", "weather"]
    assert info["task_id"] == "zurich"


def test_the_observation_is_the_recorded_text_byte_for_byte(env: ToolOrchestrationEnv) -> None:
    started(env)
    observation, reward, terminated, truncated, info = env.step(f"{ZURICH}\n{WEATHER_7}")
    first, second = (
        '{"data": {"id": 7,  "name": "Zürich"}}',
        '{"data": "sun\\u2028 and \\ud83c\\udf27"}',
    )
    assert observation == (
        f"<tool_response>\n{first}\n</tool_response>\n<tool_response>\n{second}\n</tool_response>"
    )
    assert info == {
        "task_id": "zurich",
        "messages": [
            {"role": "tool", "tool_call_id": "call_0_0", "name": "search_city", "content": first},
            {"role": "tool", "tool_call_id": "call_0_1", "name": "weather", "content": second},
        ],
    }
    assert (reward, terminated, truncated) == (0.0, False, False)


def test_gold_earns_exactly_one_and_says_why(env: ToolOrchestrationEnv) -> None:
    started(env)
    env.step(ZURICH)
    env.step(WEATHER_7)
    observation, reward, terminated, truncated, info = env.step("Sunny.")
    assert (observation, reward, terminated, truncated) == ("", 1.0, True, False)
    assert info["stop_reason"] == "answered" and info["success"] is True
    assert info["reward"]["total"] == 1.0 and len(info["reward"]["calls"]) == 2
    episode = env.episode
    assert episode.final == "Sunny." and episode.reward is not None
    assert episode.reward.to_dict() == info["reward"]
    assert Episode.from_dict(json.loads(json.dumps(episode.to_dict()))) == episode


def test_an_answer_moves_on_to_the_next_user_turn(env: ToolOrchestrationEnv) -> None:
    started(env, "talk")
    observation, _, terminated, _, info = env.step("Cold.")
    assert (observation, terminated) == ("And thanks?", False)
    assert info["messages"] == [{"role": "user", "content": "And thanks?"}]
    env.step(written(("search_city", {"query": "Oslo"})))
    assert env.step("Snow.")[0] == "Bye?"
    assert env.step("Bye.")[2] is True
    assert env.episode.final == "Bye."


def test_thinking_is_not_part_of_the_answer(env: ToolOrchestrationEnv) -> None:
    started(env, "chat")
    _, reward, terminated, _, _ = env.step(f"<think>{ZURICH}</think>Hello.")
    assert terminated and reward == 1.0 and env.episode.final == "Hello."


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (BROKEN, "malformed_call"),
        (written(("wether", {"city": 7})), "unknown_tool"),
        (written(("weather", {"city": "seven"})), "invalid_arguments"),
        (written(("weather", {})), "invalid_arguments"),
        (written(("weather", {"city": 7, "day": 1})), "invalid_arguments"),
        (written(("weather", {"city": 8})), "not_recorded"),
    ],
)
def test_each_mistake_is_an_error_observation_of_one_shape(
    env: ToolOrchestrationEnv, action: str, kind: str
) -> None:
    started(env)
    observation, reward, terminated, truncated, _ = env.step(action)
    (error,) = errors_in(observation)
    assert sorted(error) == ["details", "message", "type"]
    assert error["type"] == kind and error["message"] and isinstance(error["details"], dict)
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert env.episode.calls[0].error == kind


def test_a_failed_call_does_not_stop_its_neighbours(env: ToolOrchestrationEnv) -> None:
    started(env)
    env.step(f"{ZURICH}\n{BROKEN}\n{WEATHER_7}")
    assert [c.error for c in env.episode.calls] == [None, ErrorType.MALFORMED_CALL, None]


def test_failed_messages_in_a_row_terminate_and_a_success_starts_the_count_anew(
    world: dict[str, str],
) -> None:
    env = ToolOrchestrationEnv(**world, max_errors=3)
    started(env)
    for action in (BROKEN, BROKEN, f"{BROKEN}\n{ZURICH}", BROKEN, BROKEN):
        assert env.step(action)[2:4] == (False, False)
    _, _, terminated, truncated, info = env.step(BROKEN)
    assert (terminated, truncated, info["stop_reason"]) == (True, False, "max_errors")


def test_without_max_errors_only_the_turns_end_a_stuck_episode(world: dict[str, str]) -> None:
    env = ToolOrchestrationEnv(**world, max_errors=None, max_turns=9)
    started(env)
    ends = [env.step(BROKEN)[2:4] for _ in range(9)]
    assert ends == [(False, False)] * 8 + [(False, True)]
    assert env.episode.stop_reason is StopReason.MAX_TURNS


def test_an_answer_in_the_last_turn_is_an_answer(world: dict[str, str]) -> None:
    env = ToolOrchestrationEnv(**world, max_turns=2)
    started(env)
    env.step(ZURICH)
    assert env.step("Done.")[4]["stop_reason"] == "answered"
    started(env, "talk")
    env.step("Hm.")
    _, _, terminated, truncated, info = env.step("Hm.")
    assert (terminated, truncated, info["stop_reason"]) == (False, True, "max_turns")


def test_the_budget_of_calls_ends_when_one_more_is_asked_for(world: dict[str, str]) -> None:
    env = ToolOrchestrationEnv(**world, max_tool_calls=2)
    started(env)
    assert env.step(f"{ZURICH}\n{WEATHER_7}")[2:4] == (False, False)
    within = env.fork()
    assert within.step("Sunny.")[4]["stop_reason"] == "answered"
    observation, _, terminated, truncated, info = env.step(ZURICH)
    assert (terminated, truncated, info["stop_reason"]) == (False, True, "max_tool_calls")
    assert errors_in(observation)[0]["type"] == "limit"


LAST = {"max_errors": 1, "max_tool_calls": 1, "max_turns": 2}
"""Limits of which the second message meets all that apply to it."""


@pytest.mark.parametrize(
    ("last", "limits", "reason"),
    [
        # Nothing succeeded, the calls were used up, and it was the last message.
        (ZURICH, ["max_errors", "max_tool_calls", "max_turns"], "max_errors"),
        (ZURICH, ["max_errors", "max_tool_calls"], "max_errors"),
        (BROKEN, ["max_errors", "max_turns"], "max_errors"),
        (ZURICH, ["max_tool_calls", "max_turns"], "max_tool_calls"),
        (ZURICH, ["max_turns"], "max_turns"),
        ("Done.", ["max_errors", "max_tool_calls", "max_turns"], "answered"),
    ],
)
def test_the_first_reason_of_the_documented_order_ends_an_episode(
    world: dict[str, str], last: str, limits: list[str], reason: str
) -> None:
    chosen: dict[str, Any] = {"max_errors": None} | {name: LAST[name] for name in limits}
    env = ToolOrchestrationEnv(**world, **chosen)
    started(env)
    assert env.step(ZURICH)[2:4] == (False, False)
    assert env.step(last)[4]["stop_reason"] == reason


def test_calls_beyond_those_of_a_message_are_not_run(world: dict[str, str]) -> None:
    env = ToolOrchestrationEnv(**world, max_calls_per_turn=2, max_tool_calls=3)
    started(env)
    observation, _, terminated, truncated, _ = env.step("\n".join([ZURICH] * 4))
    assert [e["type"] for e in errors_in(observation)] == ["limit", "limit"]
    assert (terminated, truncated) == (False, False)
    assert [c.error for c in env.episode.calls] == [None, None, ErrorType.LIMIT, ErrorType.LIMIT]


@pytest.mark.parametrize("limit", [64, 100, 1000, 2083])
def test_a_long_result_is_cut_with_a_marker_and_kept_whole_in_the_record(
    world: dict[str, str], limit: int
) -> None:
    env = ToolOrchestrationEnv(**world, max_observation_chars=limit)
    started(env)
    everything = written(("search_city", {"query": "everything"}))
    content = env.step(everything)[4]["messages"][0]["content"]
    assert len(content) <= limit < len(LONG_TEXT)
    kept, marker = content.rsplit("\n[cut: ", 1)
    missing, total = (int(n) for n in marker.removesuffix(" characters]").split(" of "))
    assert LONG_TEXT.startswith(kept) and total == len(LONG_TEXT) == len(kept) + missing
    assert env.episode.turns[0].results == (LONG_TEXT,)


def test_a_result_of_just_the_limit_is_not_cut(world: dict[str, str]) -> None:
    env = ToolOrchestrationEnv(**world, max_observation_chars=len(LONG_TEXT))
    started(env)
    everything = written(("search_city", {"query": "everything"}))
    assert env.step(everything)[4]["messages"][0]["content"] == LONG_TEXT


def test_stop_records_the_unfinished_message_and_runs_nothing(env: ToolOrchestrationEnv) -> None:
    started(env)
    env.step(ZURICH)
    observation, reward, terminated, truncated, info = env.stop(
        StopReason.OUTPUT_TRUNCATED, f'{WEATHER_7}\n<tool_call>\n{{"name": "wea'
    )
    assert (observation, terminated, truncated) == ("", False, True)
    assert info["stop_reason"] == "output_truncated" and info["success"] is False
    assert 0.0 < reward == info["reward"]["total"] < 1.0
    errors = [c.error for c in env.episode.turns[-1].calls]
    assert errors == [ErrorType.LIMIT, ErrorType.MALFORMED_CALL]
    assert env.episode.final is None
    with pytest.raises(ResetNeeded, match="output_truncated"):
        env.stop(StopReason.CONTEXT_OVERFLOW)


def test_context_overflow_scores_what_was_done(env: ToolOrchestrationEnv) -> None:
    started(env)
    env.step(ZURICH)
    _, reward, _, truncated, _ = env.stop(StopReason.CONTEXT_OVERFLOW)
    assert truncated and reward > 0 and len(env.episode.turns) == 1


def test_infrastructure_is_never_scored(env: ToolOrchestrationEnv) -> None:
    started(env)
    env.step(ZURICH)
    _, reward, terminated, truncated, info = env.stop(StopReason.INFRASTRUCTURE)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert "reward" not in info and env.episode.reward is None


@pytest.mark.parametrize("reason", ["answered", "max_turns", "max_errors", "max_tool_calls"])
def test_stop_does_not_take_what_the_environment_decides(
    env: ToolOrchestrationEnv, reason: str
) -> None:
    started(env)
    with pytest.raises(OrchError, match="up to the environment"):
        env.stop(StopReason(reason))


def test_wrong_use_is_told_apart_from_what_models_write(env: ToolOrchestrationEnv) -> None:
    with pytest.raises(ResetNeeded):
        env.step("x")
    with pytest.raises(ResetNeeded):
        env.get_state()
    started(env)
    with pytest.raises(InvalidAction, match="int"):
        env.step(3)  # type: ignore[arg-type]
    env.step("Done.")
    with pytest.raises(ResetNeeded, match=r"answered.*reset"):
        env.step("x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task_id": "zurick"}, "did you mean zurich"),
        ({"task_index": 4}, "from 0 to 3"),
        ({"taskid": "zurich"}, "task_id"),
        ({"task_id": "zurich", "task_index": 0}, "one of them"),
        ({1: 2, "a": 3}, "one of them"),
        ("abc", "one of them"),
        (["task_id"], "one of them"),
        *(
            ({"task_index": odd}, "task_index must be a whole number, got")
            for odd in ("abc", "1", None, True, 1.0, 1.7, math.nan, [1], {})
        ),
        *(({"task_index": odd}, "from 0 to 3") for odd in (-1, 10**30, np.int64(9))),
        *(
            ({"task_id": odd}, "there is no task")
            for odd in (3, None, ["zurich"], {}, "", "\ud800")
        ),
    ],
)
def test_reset_options_are_checked(env: ToolOrchestrationEnv, options: Any, message: str) -> None:
    with pytest.raises(OrchError, match=message) as caught:
        env.reset(options=options)
    assert "\n" not in str(caught.value)


def test_a_task_index_may_be_numpy_s(env: ToolOrchestrationEnv) -> None:
    _, info = env.reset(options={"task_index": np.int64(1)})
    assert info["task_id"] == env.reset(options={"task_index": 1})[1]["task_id"]


def test_tasks_with_one_id_are_refused(env: ToolOrchestrationEnv) -> None:
    with pytest.raises(OrchError, match="two tasks have the id 'zurich'"):
        ToolOrchestrationEnv.from_backend([env.tasks[0], env.tasks[1], env.tasks[0]], env.backend)


def test_calls_before_the_end_of_a_thought_do_not_end_the_episode(
    env: ToolOrchestrationEnv,
) -> None:
    env.reset(options={"task_id": "zurich"})
    call = written(("search_city", {"query": "Zürich"}))
    observation, _, terminated, truncated, _ = env.step(f"I look.\n{call}\n</think>")
    assert not terminated and not truncated
    assert "malformed_call" in observation and "write calls after that tag" in observation
    observation, *_ = env.step(f"I look.</think>\n{call}\n</think>")
    assert '"id": 7' in observation


def test_the_seed_alone_decides_which_tasks_are_drawn(env: ToolOrchestrationEnv) -> None:
    def drawn(seed: int) -> list[tuple[str, int | None]]:
        env.reset(seed=seed)
        out = [(env.task.id, env.episode.seed)]
        for _ in range(8):
            env.reset()
            out.append((env.task.id, env.episode.seed))
        return out

    assert drawn(3) == drawn(3) != drawn(4)
    assert {task for task, _ in drawn(3)} == {"zurich", "talk", "chat", "twice"}


ACTIONS = st.sampled_from(
    [
        ZURICH,
        WEATHER_7,
        WEATHER_11,
        BROKEN,
        f"{ZURICH}\n{WEATHER_11}",
        "Fine.",
        written(("weather", {"city": 9})),
    ]
)
TASKS = st.sampled_from(["zurich", "talk", "chat", "twice"])


def run(env: ToolOrchestrationEnv, actions: list[str]) -> tuple[list[Any], float]:
    """All that steps return until the end (stopped by force if the actions run out)."""
    out: list[Any] = []
    for action in actions:
        out.append(env.step(action))
        if out[-1][2] or out[-1][3]:
            break
    else:
        out.append(env.stop(StopReason.CONTEXT_OVERFLOW))
    return out, sum((step[1] for step in out), start=0.0)


@given(TASKS, st.lists(ACTIONS, max_size=7), st.sampled_from(["graduated", "paper", "binary"]))
@settings(max_examples=150, deadline=None)
def test_dense_pays_to_the_bit_what_terminal_pays(
    world: dict[str, str], task: str, actions: list[str], reward: str
) -> None:
    dense = ToolOrchestrationEnv(**world, reward=reward, reward_mode="dense")
    terminal = ToolOrchestrationEnv(**world, reward=reward)
    started(dense, task)
    started(terminal, task)
    paid, total = run(dense, actions)
    end, once = run(terminal, actions)
    assert total == once == end[-1][4]["reward"]["total"]
    assert all(step[1] == 0.0 for step in end[:-1])
    assert paid[-1][4] == end[-1][4]
    assert (once * 2.0**40).is_integer()


def test_dense_pays_progress_when_it_is_made(world: dict[str, str]) -> None:
    env = ToolOrchestrationEnv(**world, reward_mode="dense")
    started(env)
    assert [env.step(a)[1] > 0 for a in (ZURICH, WEATHER_7, "Sunny.")] == [True, True, False]


def test_terminal_mode_scores_nothing_before_the_end(world: dict[str, str]) -> None:
    scored: list[Episode] = []

    class Counting:
        name = "counting"

        def __call__(self, task: Any, episode: Episode) -> Any:
            from orch_env.types import RewardBreakdown

            scored.append(episode)
            return RewardBreakdown(0.25)

    base = ToolOrchestrationEnv(**world)
    env = ToolOrchestrationEnv.from_backend(base.tasks, base.backend, reward=Counting())
    started(env)
    env.step(ZURICH)
    assert scored == []
    assert env.step("Done.")[1] == 0.25
    assert [e.stop_reason for e in scored] == [StopReason.ANSWERED]


@given(TASKS, st.lists(ACTIONS, min_size=1, max_size=7), st.integers(0, 6), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_fork_and_a_restored_state_replay_to_identical_bytes(
    world: dict[str, str], task: str, actions: list[str], cut: int, dense: bool
) -> None:
    mode = "dense" if dense else "terminal"
    tight: dict[str, Any] = {"max_tool_calls": 4, "max_errors": 2, "max_turns": 6}
    env = ToolOrchestrationEnv(**world, reward_mode=mode, **tight)
    started(env, task)
    cut = min(cut, len(actions) - 1)
    for number, action in enumerate(actions[:cut]):
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            cut = number
            started(env, task)
            for again in actions[:cut]:
                env.step(again)
            break
    fork = env.fork()
    state = json.loads(json.dumps(env.get_state()))
    straight = run(env, actions[cut:])
    restored = ToolOrchestrationEnv(**world, reward_mode=mode, **tight)
    restored.set_state(state)
    for other in (fork, restored):
        assert run(other, actions[cut:]) == straight
        assert other.episode.to_dict() == env.episode.to_dict()
        assert other.reset() == env.reset()
        env.set_state(state)
        run(env, actions[cut:])


def test_a_call_recorded_twice_is_answered_in_order_across_snapshots(
    env: ToolOrchestrationEnv,
) -> None:
    started(env, "twice")
    first, second = TWICE[2]
    assert first in env.step(WEATHER_11)[0]
    fork, state = env.fork(), env.get_state()
    assert all(second in e.step(WEATHER_11)[0] for e in (env, fork))
    env.set_state(state)
    assert second in env.step(WEATHER_11)[0]
    assert env.step("Rain.")[1] == 1.0


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_copy_continues_in_the_middle_of_the_episode(
    env: ToolOrchestrationEnv, clone: Any
) -> None:
    assert clone(env).tasks == env.tasks
    started(env)
    env.step(ZURICH)
    twin = clone(env)
    assert run(twin, [WEATHER_7, "Sun."]) == run(env, [WEATHER_7, "Sun."])
    assert twin.episode.digest == env.episode.digest and twin.reset() == env.reset()


def test_a_fork_goes_its_own_way(env: ToolOrchestrationEnv) -> None:
    started(env)
    fork = env.fork()
    fork.step("Done.")
    fork.close()
    env.step(ZURICH)
    assert env.episode.calls[0].ok and env.episode.stop_reason is None


@pytest.mark.parametrize(
    "state", [{}, {"schema": 1}, {"schema": 2, "task_id": "zurich"}, {"schema": 1, "task_id": "x"}]
)
def test_what_is_no_state_is_refused_and_the_episode_goes_on(
    env: ToolOrchestrationEnv, state: dict[str, Any]
) -> None:
    started(env)
    with pytest.raises(OrchError):
        env.set_state(state)
    assert env.step(ZURICH)[2] is False


@given(TASKS, st.integers(0, 2**31), st.lists(ACTIONS, max_size=6))
@settings(max_examples=60, deadline=None)
def test_same_task_seed_and_actions_give_the_same_digest(
    world: dict[str, str], task: str, seed: int, actions: list[str]
) -> None:
    digests = set()
    for _ in range(2):
        env = ToolOrchestrationEnv(**world)
        started(env, task, seed)
        run(env, actions)
        digests.add(env.episode.digest)
    assert len(digests) == 1


def test_what_is_returned_is_the_callers_to_change(env: ToolOrchestrationEnv) -> None:
    first = started(env)
    first["messages"][0]["content"] = "changed"
    first["tools"][0]["function"]["parameters"].clear()
    assert started(env)["messages"][0]["content"] == "Be brief."
    assert started(env)["tools"][0]["function"]["parameters"]


def test_an_environment_opens_again_after_close(env: ToolOrchestrationEnv) -> None:
    started(env)
    env.close()
    env.close()
    started(env)
    assert "Zürich" in env.step(ZURICH)[0]


def test_both_views_show_everything_and_escape_it(world: dict[str, str]) -> None:
    evil = '<script>alert("x")</script>\ud800'
    for mode in ("ansi", "html"):
        env = ToolOrchestrationEnv(**world, render_mode=mode)
        started(env)
        env.step(f"{ZURICH}\n{BROKEN}")
        env.step(evil)
        page = env.render()
        assert page is not None
        page.encode()
        assert all(part in page for part in ("zurich", "search_city", "malformed_call", "Be brief"))
        assert ("<script>" in page) == (mode == "ansi")
        assert "ended: answered" in page and "src=" not in page and "href=" not in page
