"""Groups go in and come out one by one, whatever order they finish in."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from orch_env.types import OrchError
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.rollouts.env_runner import SampleReply, SampleRequest
from orch_train.rollouts.episode import GroupRequest
from orch_train.runners.runner_group import LocalRunnerGroup
from orch_train.trajectory.trajectory import Group


class _Gates:
    """A runner whose groups come back when they are told to."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.cancelled: list[str] = []
        self.replies: dict[str, SampleReply] = {}

    async def sample(self, request: SampleRequest) -> SampleReply:
        self.started.append(request.id)
        gate = self.gates.setdefault(request.id, asyncio.Event())
        try:
            await gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(request.id)
            raise
        return self.replies.pop(request.id, SampleReply(Group(request.id, "t", 0, [])))

    async def serve(self, weights: Any, version: int) -> int:
        return version

    def stop(self) -> None:
        """Nothing is held."""


def _request(name: str, size: int = 2) -> SampleRequest:
    return SampleRequest(GroupRequest(name, "t", 0, 0, size), temperature=1.0)


@pytest.fixture
def gates() -> _Gates:
    return _Gates()


@pytest.fixture
def runners(gates: _Gates) -> Any:
    config = GRPOConfig().env_runners(num_env_runners=0, num_envs_per_env_runner=4)
    settings = config.training(group_size=2).fault_tolerance(max_group_attempts=2).settings
    runner: Any = gates
    group = LocalRunnerGroup(runner, settings, {}, 0)
    yield group
    group.stop()


def test_groups_come_back_as_they_finish_and_each_once(
    runners: LocalRunnerGroup, gates: _Gates
) -> None:
    runners.submit([_request(name) for name in "abcde"])
    assert runners.poll(0.0) == []
    assert gates.started == ["a", "b", "c"]  # four places, and one group to spare
    assert runners.in_flight == 3
    gates.gates["b"].set()
    assert [group.id for group in runners.poll(5.0)] == ["b"]
    runners.submit([_request("urgent")], first=True)
    gates.gates["a"].set()
    assert [group.id for group in runners.poll(5.0)] == ["a"]
    assert gates.started[3:] == ["d", "urgent"]
    for name in ("c", "d", "urgent"):
        gates.gates[name].set()
    back: list[str] = []
    while len(back) < 3:
        back += [group.id for group in runners.poll(5.0)]
    assert sorted(back) == ["c", "d", "urgent"]
    with pytest.raises(ValueError, match="share an id"):
        runners.submit([_request("e")])
    runners.submit([_request("a")])  # it is back: the id is free again


def test_withdrawn_groups_are_cancelled_and_never_come(
    runners: LocalRunnerGroup, gates: _Gates
) -> None:
    runners.submit([_request(name) for name in "abcd"])
    runners.poll(0.0)
    runners.withdraw(["a", "d", "unknown"])
    assert gates.cancelled == ["a"]
    for name in "bc":
        gates.gates[name].set()
    back: list[str] = []
    while len(back) < 2:
        back += [group.id for group in runners.poll(5.0)]
    assert sorted(back) == ["b", "c"] and "d" not in gates.started
    assert runners.poll(0.0) == []


def test_a_failed_group_is_tried_again_and_then_ends_the_poll(
    runners: LocalRunnerGroup, gates: _Gates
) -> None:
    gates.gates["a"] = asyncio.Event()
    gates.gates["a"].set()
    gates.replies["a"] = SampleReply(failure="environment is broken")
    runners.submit([_request("a")])
    assert [group.id for group in runners.poll(5.0)] == ["a"]
    assert gates.started == ["a", "a"]
    assert runners.fault_counts()["num_groups_reissued"] == 1
    gates.gates["b"] = gates.gates["a"]
    gates.replies["b"] = SampleReply(user_error=OrchError("the task file is damaged"))
    runners.submit([_request("b")])
    with pytest.raises(OrchError, match="the task file is damaged"):
        runners.poll(5.0)


def test_another_thread_ends_a_long_poll(runners: LocalRunnerGroup) -> None:
    threading.Timer(0.05, runners.wake).start()
    assert runners.poll(3600.0) == []
