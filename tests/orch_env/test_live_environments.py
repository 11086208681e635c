"""Environments over live state: servers beside the task's, free play, tools that are lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import pytest

import orch_env.servers
from orch_env import EpisodeSource, OrchError, Task
from orch_env.backends.local import LocalBackend
from orch_env.backends.protocol import BackendSession
from orch_env.env import ToolOrchestrationEnv
from orch_env.replay.play import TRIES, play
from orch_env.replay.policies import make_policy
from orch_env.types import InfrastructureError, ToolCall, ToolResult

TASK = Task(
    "look",
    messages=({"role": "user", "content": "Which berth?"},),
    tools=("find_ship", "ship_berth"),
    servers=("harbour",),
    seed=0,
)


def call(name: str, /, **arguments: Any) -> str:
    made = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{made}\n</tool_call>"


def test_servers_without_tasks_are_played_freely_and_pay_nothing() -> None:
    env = gym.make("orch_env/ToolOrchestration-v0", servers=["harbour"])
    assert json.loads(env.unwrapped.spec.to_json())["kwargs"]["servers"] == ["harbour"]
    _, info = env.reset(seed=3)
    assert {tool["function"]["name"] for tool in info["tools"]} == set(
        orch_env.servers.server_type("harbour").tools
    )
    observation, *_ = env.step(call("find_ship", name="Nobody"))
    assert "not_found" in observation
    _, reward, terminated, _, info = env.step("Thanks.")
    assert (reward, terminated, "reward" in info) == (0.0, True, False)
    same = gym.make("orch_env/ToolOrchestration-v0", servers=["harbour"])
    same.reset(seed=3)
    assert same.step(call("find_ship", name="Nobody"))[0] == observation


def test_servers_beside_a_task_bring_distractors_and_their_changes_count() -> None:
    env = ToolOrchestrationEnv.from_backend([TASK], LocalBackend(["vehicle"]))
    _, info = env.reset(seed=0)
    names = [tool["function"]["name"] for tool in info["tools"]]
    own = list(orch_env.servers.server_type("vehicle").tools)
    assert names == ["find_ship", "ship_berth", *own]
    twin = env.fork()
    assert [t.name for t in twin.tools] == names
    # a tool of the same name as the task's own gets its server's name, and gold keeps its own
    doubled = Task("x", messages=TASK.messages, tools=("find_ship",), servers=("harbour",))
    backend = LocalBackend(["tests.orch_env.test_live_environments:Marina"])
    assert [s.name for s in backend.resolve(doubled).tools] == ["find_ship", "marina__find_ship"]


class Marina(orch_env.servers.Server):
    """Shares a tool name with the harbour."""

    name = "marina"

    def populate(self, chance: Any) -> None:
        """Nothing is in it."""

    @orch_env.servers.read
    def find_ship(self, name: str) -> dict[str, str]:
        """Find a boat by name.

        Args:
            name: The boat's name.
        """
        return {"boat": name}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"servers": ["harbor"]}, "there is no server 'harbor'"),
        ({"servers": ["os:path"]}, "is no server"),
        ({"servers": ["no_such_module:X"]}, "no module 'no_such_module' on Python's path"),
        ({"tasks": "harbour", "servers": ["vehicle"]}, "recorded tasks take no tools of servers"),
        ({"mcp": "mcp.json", "servers": ["vehicle"]}, "leave out cache and servers"),
        ({}, "there is nothing to play"),
    ],
)
def test_a_wrong_combination_is_one_clear_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(OrchError, match=words) as caught:
        ToolOrchestrationEnv(**settings)
    assert "\n" not in str(caught.value)


def test_a_task_file_names_servers_and_no_code() -> None:
    task = Task("x", messages=TASK.messages, servers=("os:path",))
    with pytest.raises(OrchError, match="there is no server 'os:path'"):
        LocalBackend().resolve(task)


def test_a_source_plays_servers_too() -> None:
    source = EpisodeSource(servers=["harbour"])
    session = source.session()
    session.reset(seed=1)
    assert session.call("find_ship", {"name": "Nobody"}).error == "not_found"
    assert session.final_state() == {}
    assert session.finish("Done.") is None
    assert (session.done, session.reward) == (True, None)


def test_the_servers_of_an_episode_share_one_clock() -> None:
    session = LocalBackend(["vehicle"]).open(TASK, seed=0)
    session.answer([ToolCall("find_ship", {"name": "x"})] * 3)
    session.answer([ToolCall("no_such_tool", {})])
    clocks = {name: s["calls"] for name, s in session.snapshot().items()}
    assert clocks == {"harbour": 4, "vehicle": 4}


class LostAfter(LocalBackend):
    """A backend whose session is lost at a given call, as often as it is told."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.losses = losses

    def open(self, task: Task, *, seed: int) -> Any:
        return _Losing(super().open(task, seed=seed), self)


class _Losing:
    def __init__(self, inner: BackendSession, owner: LostAfter) -> None:
        self._inner, self._owner = inner, owner

    def answer(self, calls: Sequence[ToolCall]) -> Sequence[ToolResult]:
        if self._owner.losses:
            self._owner.losses -= 1
            raise InfrastructureError("the server died")
        return self._inner.answer(calls)

    def close(self) -> None:
        self._inner.close()


def test_a_lost_server_ends_the_episode_without_a_reward_and_nothing_raises() -> None:
    env = ToolOrchestrationEnv.from_backend([TASK], LostAfter(1))
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(call("find_ship", name="x"))
    assert (observation, reward, terminated, truncated) == ("", 0.0, False, True)
    assert (info["stop_reason"], info["problem"]) == ("infrastructure", "the server died")
    assert "reward" not in info
    assert env.episode.reward is None


def test_a_scripted_policy_plays_an_episode_again_that_infrastructure_ended() -> None:
    policy = make_policy("random")
    env = ToolOrchestrationEnv.from_backend([TASK], LostAfter(TRIES - 1))
    assert play(env, policy, TASK)["stop_reason"] != "infrastructure"
    env = ToolOrchestrationEnv.from_backend([TASK], LostAfter(TRIES))
    with pytest.raises(OrchError, match=r"infrastructure ended 3 tries.*the server died"):
        play(env, policy, TASK)
