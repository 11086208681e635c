"""Environments with slow tools: they wait side by side, and one that hangs is given up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
import pytest

from orch_env.formats import get_format
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.chat.renderer import ChatRenderer
from orch_train.config import RolloutSettings
from orch_train.engines.scripted import ScriptedEngine
from orch_train.rollouts.env_pool import EnvPool, EnvThread, EnvTimeout
from orch_train.rollouts.episode import run_group
from orch_train.trajectory.requests import SampleRequest
from tests.orch_train.chat_templates import QWEN, tokenizer_for
from tests.orch_train.toy_env import LettersEnv

PATIENCE = 20.0
"""Seconds that a healthy call may take on a busy machine."""
LIMIT = 3.0
"""Seconds after which a call that never returns is given up; sound ones go on beside it."""


class MeetingEnv(LettersEnv):
    """Every step waits until all environments of the group are in a step."""

    meeting: threading.Barrier

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.meeting.wait(timeout=PATIENCE)
        return super().step(action)


class StuckEnv(LettersEnv):
    """The first environment that steps does not return before `release` is set."""

    release: threading.Event
    closed: ClassVar[list[LettersEnv]]
    stuck: LettersEnv | None = None

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if type(self).stuck is None:
            type(self).stuck = self
            self.release.wait()
        return super().step(action)

    def close(self) -> None:
        self.closed.append(self)


@pytest.fixture(scope="module")
def chat() -> ChatRenderer:
    return ChatRenderer(tokenizer_for(QWEN), get_format("hermes"))


def play(chat: ChatRenderer, pool: EnvPool, size: int, group: str = "g") -> list[float]:
    stop = chat.stop_token_ids[0]
    engine = ScriptedEngine(lambda request, turn: [100 + turn, stop])
    request = SampleRequest(group, "letter-a", 0, 0, size)
    found = asyncio.run(run_group(pool, engine, chat, request, limits=RolloutSettings()))
    assert [len(record.episode.turns) for record in found.records] == [2] * size
    return found.group.rewards


def test_slow_tools_of_one_group_wait_side_by_side(chat: ChatRenderer) -> None:
    class Env(MeetingEnv):
        meeting = threading.Barrier(5)

    pool = EnvPool(Env, 5, step_timeout_s=PATIENCE)
    plain = EnvPool(LettersEnv, 5)
    assert play(chat, pool, 5) == play(chat, plain, 5)  # and nothing else changes
    pool.close()


def test_a_step_that_never_returns_costs_its_group_and_its_environment(chat: ChatRenderer) -> None:
    class Env(StuckEnv):
        release = threading.Event()
        closed: ClassVar[list[LettersEnv]] = []

    pool = EnvPool(Env, 2, step_timeout_s=LIMIT)
    with pytest.raises(EnvTimeout, match=r"3 s \(env_runners\.env_step_timeout_s\)"):
        play(chat, pool, 2)
    assert pool.take_timeouts() == {"environment": 1}
    assert pool.take_timeouts() == {}
    assert len(play(chat, pool, 2, "again")) == 2
    assert Env.stuck is not None and Env.stuck not in pool.environments
    assert Env.stuck not in Env.closed  # it is in use in its thread: closing it there must wait
    Env.release.set()
    wait_until(lambda: Env.stuck in Env.closed)
    pool.close()
    wait_until(lambda: len(Env.closed) == 3)


def test_a_tool_that_hangs_is_named(chat: ChatRenderer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bundled world itself: its server hangs in one tool."""
    release = threading.Event()
    env: Any = gym.make("orch_env/ToolOrchestration-v0", tasks="harbour").unwrapped
    task = env.tasks[0]
    tool = env.reset(options={"task_id": task.id})[1]["tools"][0]["function"]["name"]
    call = f'<tool_call>\n{{"name": "{tool}", "arguments": {{}}}}\n</tool_call>'

    open_session = env.backend.open

    def hanging(*arguments: Any, **named: Any) -> Any:
        session = open_session(*arguments, **named)
        session.answer = lambda calls: release.wait()
        return session

    monkeypatch.setattr(env.backend, "open", hanging)
    answer = [*chat.encode_action(call)]
    engine = ScriptedEngine(lambda request, turn: answer)
    pool = EnvPool(lambda: env, 1, step_timeout_s=LIMIT)
    request = SampleRequest("g", task.id, 0, 0, 1)
    with pytest.raises(EnvTimeout):
        asyncio.run(run_group(pool, engine, chat, request, limits=RolloutSettings()))
    assert pool.take_timeouts() == {tool: 1}
    release.set()
    pool.close()


def wait_until(true: Callable[[], bool]) -> None:
    gate = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if true():
            return
        gate.wait(0.01)
    raise AssertionError("it did not come to that")


def test_what_a_call_raises_is_raised_where_it_is_awaited() -> None:
    def broken() -> None:
        raise KeyError("the tool's own")

    async def scenario() -> str:
        thread = EnvThread(PATIENCE)
        with pytest.raises(KeyError, match="own"):
            await thread(broken)
        assert thread.idle
        name = await thread(lambda: threading.current_thread().name)
        thread.end_with(lambda: None)
        return name

    assert asyncio.run(scenario()) == "environment"


def test_the_setting_reaches_the_runner_s_environments(chat: ChatRenderer) -> None:
    from orch_train.rollouts.env_runner import EnvRunner

    config = (
        GRPOConfig()
        .environment(env_config={"tasks": "harbour"})
        .model("tiny")
        .rollouts(max_context=512, max_tokens_per_turn=64)
    )
    for limit in (None, 7.0):
        settings = config.copy().env_runners(env_step_timeout_s=limit).validate()
        runner = EnvRunner(settings, engine=ScriptedEngine({}))
        assert runner.training_envs.step_timeout_s == limit
        assert runner.held_out_envs.step_timeout_s == limit
        runner.stop()
