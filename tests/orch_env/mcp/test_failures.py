"""A server that fails is infrastructure: its episode is discarded and issued again, not scored."""

from __future__ import annotations

import os
import re
import signal

import pytest

from orch_env.backends.mcp import ServerFailure
from orch_env.env import ToolOrchestrationEnv
from orch_env.types import OrchError, Task
from orch_env.types.user_code import is_mistake
from tests.orch_env.mcp.conftest import MakeBackend, call, raw, task

FAILURES = {
    "die": "ended by itself with exit code 3",
    "hang": r"did not answer hang within 0\.3 s",
    "flood": "wrote more than 8 MB at once",
    "flood_in_small_pieces": "wrote more than 8 MB at once",
    "print_to_stdout": "printed what is no MCP message to its standard output: 'debug: counting'",
    "answer_broken_json": "printed what is no MCP message to its standard output",
    "answer_half_a_line": "ended by itself with exit code 0",
    "answer_no_result": "answered answer_no_result with no result",
}

GOLD = Task.from_dict(
    {
        "schema": 1,
        "id": "greet",
        "messages": [{"role": "user", "content": "Say hi."}],
        "gold": [[{"name": "echo", "arguments": {"text": "hi"}}]],
    }
)


def written(name: str, **arguments: object) -> dict[str, object]:
    return {"tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def play_to_success(env: ToolOrchestrationEnv) -> None:
    env.reset(seed=0, options={"task_id": "greet"})
    env.step_message(written("echo", text="hi"))
    *_, info = env.step("hi")
    assert info["success"] and info["stop_reason"] == "answered"


def lose(env: ToolOrchestrationEnv, message: dict[str, object], why: str) -> None:
    """Take a message that ends the episode by infrastructure: no reward is ever paid."""
    observation, reward, terminated, truncated, info = env.step_message(message)
    assert (observation, reward, terminated, truncated) == ("", 0.0, False, True)
    assert info["stop_reason"] == "infrastructure" and "reward" not in info
    assert re.search(why, info["problem"]), info["problem"]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_discards_the_episode_and_the_next_one_runs(
    backend: MakeBackend, failure: str
) -> None:
    limit = {"timeout": 0.3} if failure == "hang" else {}
    made = backend({"raw": raw(orch=limit)})
    env = ToolOrchestrationEnv.from_backend([GOLD], made)
    env.reset(seed=0)
    lose(env, written(failure), f"MCP server 'raw' {FAILURES[failure]}")
    with pytest.raises(ServerFailure):  # the same one each time, without a server to ask
        env.unwrapped._current().session.answer([])
    play_to_success(env)
    env.close()


@pytest.mark.parametrize(
    "kills", [3, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_servers_killed_in_mid_episode_cost_their_episodes_alone(
    backend: MakeBackend, kills: int
) -> None:
    env = ToolOrchestrationEnv.from_backend([GOLD], backend({"raw": raw()}, ahead=1))
    for _ in range(kills):
        env.reset(seed=0)
        *_, info = env.step_message(written("process_id"))
        os.kill(int(info["messages"][0]["content"]), signal.SIGKILL)
        lose(env, written("echo", text="hi"), r"was killed by signal 9 \(SIGKILL\)")
        play_to_success(env)
    env.close()


def test_a_failure_in_one_call_of_a_message_fails_the_message(backend: MakeBackend) -> None:
    env = ToolOrchestrationEnv.from_backend([GOLD], backend({"raw": raw(), "other": raw()}))
    env.reset(seed=0)
    calls = [*written("raw__die")["tool_calls"], *written("other__echo", text="x")["tool_calls"]]  # type: ignore[misc]
    lose(env, {"tool_calls": calls}, "'raw' ended by itself")
    env.close()


def test_other_episodes_go_on_when_a_server_fails(backend: MakeBackend) -> None:
    made = backend({"raw": raw()})
    first, second = made.open(task(), seed=0), made.open(task(), seed=0)
    with pytest.raises(ServerFailure):
        call(first, "die")
    assert call(second, "echo", text="x").text == "x"


def test_what_a_server_writes_to_its_standard_error_does_not_stop_it(backend: MakeBackend) -> None:
    session = backend({"raw": raw()}).open(task(), seed=0)
    assert call(session, "fill_standard_error").text == "done"


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (raw("dead"), "ended by itself with exit code 4; it said: no licence: None"),
        (raw("wrong"), r"failed \(ValidationError: \d+ validation errors? for ListToolsResult\)"),
        (raw("mute", orch={"start_timeout": 0.2}), r"was not ready within 0\.2 s"),
        ({"command": "no-such-program"}, "there is no program 'no-such-program'"),
        ({"command": "/"}, "there is no program '/'"),
    ],
)
def test_a_server_that_never_starts_is_told_in_one_line(
    backend: MakeBackend, server: dict[str, object], why: str
) -> None:
    with pytest.raises(OrchError, match=rf"mcp\.json: MCP server 'x' .*{why}"):
        backend({"x": server}).resolve(task())


def test_a_trainer_takes_it_for_bad_luck_and_not_for_a_mistake() -> None:
    assert not is_mistake(ServerFailure("x")) and not isinstance(ServerFailure("x"), OrchError)
