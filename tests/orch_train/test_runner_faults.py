"""Runners fail; groups come back exactly once and nobody invents a reward.

Pinned here: a killed, hung or broken runner is replaced and what it had is given out again; a
user's mistake stops the run at once with its own message; a replaced runner has current weights.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orch_env.types import OrchError
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.config import Settings
from orch_train.runners.ledger import GroupFailed, GroupLedger, Ticket
from orch_train.runners.ray_runner_group import RayRunnerGroup
from orch_train.runners.runner_group import SamplingStopped
from orch_train.runners.runner_slot import SlotState
from orch_train.trajectory.requests import SampleRequest
from tests.orch_train.gated_runner import GatedActor

PATIENCE_S = 5.0
"""With a runner that never answers: long enough for one that is sound, on a busy machine too."""


def _requests(count: int, size: int = 2) -> list[SampleRequest]:
    return [SampleRequest(f"g{i}", f"task-{i}", i, i, size) for i in range(count)]


def _settings(folder: Path, **faults: Any) -> Settings:
    given: dict[str, Any] = {
        "delay_between_env_runner_restarts_s": 0.0,
        "env_runner_restore_timeout_s": 60.0,
        **faults,
    }
    return (
        GRPOConfig()
        .environment(env_config={"folder": str(folder)})
        .env_runners(
            num_env_runners=2,
            num_cpus_per_env_runner=0.5,
            num_envs_per_env_runner=4,
            max_requests_in_flight_per_env_runner=2,
        )
        .training(group_size=2)
        .from_dict({"fault_tolerance": given})
        .settings
    )


class Runners:
    """Two runners that all tests share, their switches, and what happened since a test began.

    Starting an actor takes seconds (it imports torch), so each test leaves them usable.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.group = RayRunnerGroup(
            _settings(folder), {"w": torch.tensor([0.0])}, 0, actor_class=GatedActor
        )
        self.pool = self.group.pool
        self._plain = (self.pool.settings, self.pool.on_lost, self.group.ledger.max_attempts)
        self.begin()

    def begin(self) -> None:
        for switch in self.folder.iterdir():
            switch.unlink()
        self.pool.settings, self.pool.on_lost, self.group.ledger.max_attempts = self._plain
        self.group.sync_weights({"w": torch.tensor([0.0])}, 0)
        # Whoever a test has killed is back before the next one begins.
        while len(self.pool.healthy) < 2:
            self.pool.tend()
            self.pool.wait()
        (self.folder / "attempts").touch()
        self._before = self.group.fault_counts()

    def change(self, group: str, **limits: float) -> None:
        """Other limits for this test; the pool reads its settings at every use."""
        settings = self.pool.settings
        changed = getattr(settings, group).model_copy(update=limits)
        self.pool.settings = settings.model_copy(update={group: changed})

    def counted(self, name: str) -> int:
        return self.group.fault_counts()[name] - self._before[name]

    def when_lost(self, do: Callable[[int, str], None]) -> None:
        def lost(index: int, why: str) -> None:
            do(index, why)
            self._plain[1](index, why)

        self.pool.on_lost = lost


@pytest.fixture(scope="module")
def _shared(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runners]:
    shared = Runners(tmp_path_factory.mktemp("gates"))
    yield shared
    shared.group.stop()


@pytest.fixture
def runners(_shared: Runners) -> Runners:
    _shared.begin()
    return _shared


def _attempts(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "attempts").read_text().splitlines()]


def test_groups_come_back_once_and_in_the_order_of_the_requests(runners: Runners) -> None:
    groups = [reply.group for reply in runners.group.sample(_requests(9))]
    assert [g.id for g in groups] == [f"g{i}" for i in range(9)]
    assert all(g.rewards == [0.0, 1.0] for g in groups)
    assert {runner for _, runner, *_ in _attempts(runners.folder)} == {"0", "1"}


def test_a_runner_killed_in_the_middle_of_a_step_loses_no_group(runners: Runners) -> None:
    hold = runners.folder / "hold-0"
    hold.touch()  # runner 0 has groups in flight for as long as it lives
    victim = runners.pool.slots[0].pid
    assert victim is not None
    seen: list[str] = []
    sent = 0  # to the victim; it may be killed before it has begun with all of them

    def on_group(group: Any) -> None:
        nonlocal sent
        seen.append(group.id)
        if len(seen) == 1:
            sent = len(runners.pool.slots[0].tasks)
            hold.unlink()
            os.kill(victim, signal.SIGKILL)

    replies = runners.group.sample(_requests(8), on_group=on_group)
    groups = [reply.group for reply in replies]

    assert [g.id for g in groups] == [f"g{i}" for i in range(8)]
    assert sorted(seen) == sorted(g.id for g in groups)  # each exactly once
    assert all(len(g.samples) == 2 and g.rewards == [0.0, 1.0] for g in groups)
    held = {g for g, _, pid, _ in _attempts(runners.folder) if int(pid) == victim}
    again = {g for g, _, pid, _ in _attempts(runners.folder) if int(pid) != victim}
    assert held <= again
    assert runners.counted("num_groups_reissued") == sent >= max(1, len(held))
    assert runners.counted("num_env_runner_restarts") == 1


def test_a_replaced_runner_serves_the_current_weights(runners: Runners) -> None:
    runners.group.sync_weights({"w": torch.tensor([7.5], dtype=torch.bfloat16)}, 3)
    for pid in runners.group.pids():
        os.kill(pid, signal.SIGKILL)
    runners.group.sample(_requests(4))
    for slot in runners.pool.healthy:
        written = (runners.folder / f"weights-{slot.pid}").read_text()
        assert written == "3 [7.5] torch.bfloat16"
    assert {version for *_, version in _attempts(runners.folder)} == {"3"}


def test_a_runner_that_starts_during_a_sync_gets_the_new_weights(runners: Runners) -> None:
    slot = runners.pool.slots[0]
    runners.pool.lose(slot, "for the test")
    runners.pool.tend()
    assert slot.state is SlotState.STARTING
    runners.group.sync_weights({"w": torch.tensor([2.0])}, 9)
    while slot.state is not SlotState.HEALTHY:
        runners.pool.tend()
        runners.pool.wait()
    assert (runners.folder / f"weights-{slot.pid}").read_text().startswith("9 [2.0]")


def test_weights_pushed_to_a_dead_runner_do_not_stop_the_run(runners: Runners) -> None:
    os.kill(runners.group.pids()[0], signal.SIGKILL)
    runners.group.sync_weights({"w": torch.tensor([1.0])}, 1)
    replies = runners.group.sample(_requests(4))
    assert all(s.versions_N[-1] == 1 for reply in replies for s in reply.group.samples)


def test_a_hung_runner_is_replaced(runners: Runners) -> None:
    runners.change("env_runners", sample_timeout_s=PATIENCE_S)
    (runners.folder / "hold-0").touch()
    hung = runners.pool.slots[0].pid
    lost: list[str] = []

    def on_lost(index: int, why: str) -> None:
        lost.append(why)
        (runners.folder / "hold-0").unlink(missing_ok=True)

    runners.when_lost(on_lost)
    assert len(runners.group.sample(_requests(4))) == 4
    assert len(lost) == 1 and f"more than {PATIENCE_S:g} s" in lost[0]
    assert runners.pool.slots[0].pid != hung


def test_a_frozen_process_is_noticed_by_its_silence(runners: Runners) -> None:
    runners.change("fault_tolerance", env_runner_health_probe_timeout_s=PATIENCE_S)
    (runners.folder / "hold-0").touch()
    frozen = runners.pool.slots[0].pid
    assert frozen is not None
    seen: list[str] = []
    lost: list[str] = []

    def on_group(group: Any) -> None:
        if not seen:
            (runners.folder / "hold-0").unlink()
            os.kill(frozen, signal.SIGSTOP)
        seen.append(group.id)

    runners.when_lost(lambda _, why: lost.append(why))
    groups = runners.group.sample(_requests(6), on_group=on_group)
    assert len(groups) == len(set(seen)) == 6
    assert len(lost) == 1 and f"no answer to a ping for {PATIENCE_S:g} s" in lost[0]


def test_a_broken_engine_replaces_its_runner(runners: Runners) -> None:
    (runners.folder / "engine-0").touch()
    broken = runners.pool.slots[0].pid
    runners.when_lost(lambda index, why: (runners.folder / "engine-0").unlink())
    assert len(runners.group.sample(_requests(4))) == 4
    assert runners.pool.slots[0].pid != broken


def test_a_group_that_always_fails_stops_the_run_with_the_reason(runners: Runners) -> None:
    runners.group.ledger.max_attempts = 3
    (runners.folder / "fail-g1").touch()
    with pytest.raises(OrchError, match=r"'g1' failed 3 times.*environment is broken"):
        runners.group.sample(_requests(3))
    assert sum(line[0] == "g1" for line in _attempts(runners.folder)) == 3
    assert runners.counted("num_env_runner_restarts") == 0
    # The runners are usable afterwards: nothing of the failed call is left over.
    (runners.folder / "fail-g1").unlink()
    assert len(runners.group.sample(_requests(3))) == 3


def test_stopping_abandons_the_step_and_leaves_the_runners_usable(runners: Runners) -> None:
    (runners.folder / "hold-0").touch()
    seen: list[str] = []
    with pytest.raises(SamplingStopped):
        runners.group.sample(
            _requests(6), on_group=lambda g: seen.append(g.id), should_stop=lambda: len(seen) > 1
        )
    (runners.folder / "hold-0").unlink()
    assert [r.group.id for r in runners.group.sample(_requests(6))] == [f"g{i}" for i in range(6)]
    assert runners.counted("num_env_runner_restarts") == 0


def test_without_restarts_the_other_runners_finish(runners: Runners) -> None:
    runners.change("fault_tolerance", restart_failed_env_runners=False)
    try:
        os.kill(runners.group.pids()[0], signal.SIGKILL)
        assert len(runners.group.sample(_requests(4))) == 4
        assert runners.group.fault_counts()["num_healthy_env_runners"] == 1
        os.kill(runners.group.pids()[0], signal.SIGKILL)
        with pytest.raises(OrchError, match="no env runner is left"):
            runners.group.sample(_requests(4))
    finally:
        for slot in runners.pool.slots:
            slot.state = SlotState.DOWN


def _start_one(folder: Path) -> None:
    settings = _settings(folder)
    one = settings.env_runners.model_copy(update={"num_env_runners": 1})
    alone = settings.model_copy(update={"env_runners": one})
    RayRunnerGroup(alone, {"w": torch.tensor([0.0])}, 0, actor_class=GatedActor).stop()


def test_a_users_mistake_is_reported_at_start_and_not_retried(
    ray_local: None, tmp_path: Path
) -> None:
    (tmp_path / "bad-0").touch()
    with pytest.raises(OrchError, match="the task file is damaged"):
        _start_one(tmp_path)


def test_a_runner_that_cannot_start_is_an_error_and_no_endless_loop(
    ray_local: None, tmp_path: Path
) -> None:
    (tmp_path / "crash-0").touch()
    with pytest.raises(OrchError, match="env runner 0 cannot start"):
        _start_one(tmp_path)


def test_too_few_cpus_are_an_error_and_no_silent_wait(ray_local: None, tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    greedy = settings.env_runners.model_copy(update={"num_cpus_per_env_runner": 64.0})
    with pytest.raises(OrchError, match="need 128 CPU, the machines have 2"):
        RayRunnerGroup(
            settings.model_copy(update={"env_runners": greedy}), {}, 0, actor_class=GatedActor
        )


# -- the ledger alone ------------------------------------------------------------------------


@given(st.integers(1, 6), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=200))
def test_whatever_happens_each_group_is_done_exactly_once(
    count: int, moves: list[tuple[int, int]]
) -> None:
    ledger = GroupLedger(_requests(count), max_attempts=10_000)
    issued: list[Ticket] = []
    finished: list[str] = []
    for move, pick in moves:
        if move == 0:
            taken = ledger.take(pick % 3)
            if taken is not None:
                issued.append(taken[0])
        elif move == 1 and issued:
            ticket = issued[pick % len(issued)]  # also tickets given up long ago
            if ledger.finish(ticket):
                finished.append(ticket.group)
        elif move == 2 and issued:
            ledger.lose(issued[pick % len(issued)], "lost")
        elif move == 3:
            ledger.lose_runner(pick % 3, "died")
    assert len(finished) == len(set(finished))
    while (taken := ledger.take("last")) is not None:
        issued.append(taken[0])
    for ticket in issued:
        if ledger.finish(ticket):
            finished.append(ticket.group)
    assert sorted(finished) == sorted(f"g{i}" for i in range(count))
    assert ledger.running == 0 and ledger.next_request() is None


def test_an_answer_of_a_given_up_attempt_is_dropped() -> None:
    ledger = GroupLedger(_requests(1), max_attempts=5)
    first = ledger.take("a")
    assert first is not None
    assert ledger.lose(first[0], "timeout")
    second = ledger.take("b")
    assert second is not None
    assert not ledger.finish(first[0])
    assert ledger.finish(second[0])
    assert not ledger.finish(second[0])


def test_lost_groups_start_before_new_ones_and_in_their_old_order() -> None:
    ledger = GroupLedger(_requests(4), max_attempts=5)
    for runner in "aab":
        ledger.take(runner)
    assert ledger.lose_runner("a", "died") == 2
    order = [ledger.take("c") for _ in range(3)]
    assert [entry[0].group for entry in order if entry] == ["g0", "g1", "g3"]


def test_the_last_attempt_raises_with_its_reason() -> None:
    ledger = GroupLedger(_requests(1), max_attempts=1)
    taken = ledger.take("a")
    assert taken is not None
    with pytest.raises(GroupFailed, match="node burnt down"):
        ledger.lose(taken[0], "node burnt down")
