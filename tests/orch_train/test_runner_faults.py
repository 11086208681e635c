"""Runners fail; groups come back exactly once and nobody invents a reward.

Pinned here: a killed, hung or broken runner is replaced and what it had is given out again; a
user's mistake stops the run at once with its own message; a replaced runner has current weights.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orch_env.types import OrchError
from orch_train.config import GRPOConfig, Settings
from orch_train.runners.env_runner import SampleRequest
from orch_train.runners.ledger import GroupFailed, GroupLedger, Ticket
from orch_train.runners.ray_runner_group import RayRunnerGroup
from orch_train.runners.rollout import GroupRequest
from orch_train.runners.runner_group import SamplingStopped
from tests.orch_train.gated_runner import GatedActor


def _requests(count: int, size: int = 2) -> list[SampleRequest]:
    return [
        SampleRequest(GroupRequest(f"g{i}", f"task-{i}", i, i, size), temperature=1.0)
        for i in range(count)
    ]


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


Start = Callable[..., RayRunnerGroup]


@pytest.fixture
def start(ray_local: None, tmp_path: Path, request: pytest.FixtureRequest) -> Start:
    def make(settings: Settings | None = None, value: float = 0.0) -> RayRunnerGroup:
        group = RayRunnerGroup(
            settings or _settings(tmp_path), {"w": torch.tensor([value])}, 0, actor_class=GatedActor
        )
        request.addfinalizer(group.stop)
        return group

    return make


def _attempts(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "attempts").read_text().splitlines()]


def test_groups_come_back_once_and_in_the_order_of_the_requests(start: Start) -> None:
    groups = start().sample(_requests(9))
    assert [g.id for g in groups] == [f"g{i}" for i in range(9)]
    assert all(g.rewards == [0.0, 1.0] for g in groups)


def test_a_runner_killed_in_the_middle_of_a_step_loses_no_group(
    start: Start, tmp_path: Path
) -> None:
    runners = start()
    (tmp_path / "hold-0").touch()  # runner 0 has groups in flight for as long as it lives
    victim = runners._pool.slots[0].pid
    assert victim is not None
    seen: list[str] = []

    def on_group(group: Any) -> None:
        seen.append(group.id)
        if len(seen) == 1:
            (tmp_path / "hold-0").unlink()
            os.kill(victim, signal.SIGKILL)

    groups = runners.sample(_requests(8), on_group=on_group)

    assert [g.id for g in groups] == [f"g{i}" for i in range(8)]
    assert sorted(seen) == sorted(g.id for g in groups)  # each exactly once
    assert all(len(g.trajectories) == 2 and g.rewards == [0.0, 1.0] for g in groups)
    held = {g for g, _, pid, _ in _attempts(tmp_path) if int(pid) == victim}
    again = {g for g, _, pid, _ in _attempts(tmp_path) if int(pid) != victim}
    assert held and held <= again
    counts = runners.fault_counts()
    assert counts["num_groups_reissued"] == len(held)
    assert counts["num_env_runner_restarts"] == 1


def test_a_replaced_runner_serves_the_current_weights(start: Start, tmp_path: Path) -> None:
    runners = start()
    runners.sync_weights({"w": torch.tensor([7.5], dtype=torch.bfloat16)}, 3)
    for pid in runners.pids():
        os.kill(pid, signal.SIGKILL)
    runners.sample(_requests(4))
    for pid in runners.pids():
        assert (tmp_path / f"weights-{pid}").read_text() == "3 [7.5] torch.bfloat16"
    assert {version for *_, version in _attempts(tmp_path)} == {"3"}


def test_weights_pushed_to_a_dead_runner_do_not_stop_the_run(start: Start) -> None:
    runners = start()
    os.kill(runners.pids()[0], signal.SIGKILL)
    runners.sync_weights({"w": torch.tensor([1.0])}, 1)
    groups = runners.sample(_requests(4))
    assert all(t.trace.versions[-1] == 1 for g in groups for t in g.trajectories)


def test_a_hung_runner_is_replaced(start: Start, tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    patience = settings.env_runners.model_copy(update={"sample_timeout_s": 0.5})
    runners = start(settings.model_copy(update={"env_runners": patience}))
    (tmp_path / "hold-0").touch()
    hung = runners._pool.slots[0].pid
    lost: list[int] = []
    tell = runners._pool._on_lost

    def on_lost(index: int, why: str) -> None:
        assert "more than 0.5 s" in why
        (tmp_path / "hold-0").unlink(missing_ok=True)
        lost.append(index)
        tell(index, why)

    runners._pool._on_lost = on_lost
    groups = runners.sample(_requests(4))
    assert len(groups) == 4 and lost == [0]
    assert runners._pool.slots[0].pid != hung


def test_a_frozen_process_is_noticed_by_its_silence(start: Start, tmp_path: Path) -> None:
    runners = start(_settings(tmp_path, env_runner_health_probe_timeout_s=0.5))
    (tmp_path / "hold-0").touch()
    frozen = runners._pool.slots[0].pid
    assert frozen is not None
    seen: list[str] = []

    def on_group(group: Any) -> None:
        if not seen:
            (tmp_path / "hold-0").unlink()
            os.kill(frozen, signal.SIGSTOP)
        seen.append(group.id)

    groups = runners.sample(_requests(6), on_group=on_group)
    assert len(groups) == len(set(seen)) == 6
    assert runners.fault_counts()["num_env_runner_restarts"] == 1


def test_a_broken_engine_replaces_its_runner(start: Start, tmp_path: Path) -> None:
    runners = start()
    (tmp_path / "engine-0").touch()
    broken = runners._pool.slots[0].pid
    tell = runners._pool._on_lost

    def on_lost(index: int, why: str) -> None:
        (tmp_path / "engine-0").unlink()
        tell(index, why)

    runners._pool._on_lost = on_lost
    assert len(runners.sample(_requests(4))) == 4
    assert runners._pool.slots[0].pid != broken


def test_a_group_that_always_fails_stops_the_run_with_the_reason(
    start: Start, tmp_path: Path
) -> None:
    runners = start(_settings(tmp_path, max_group_attempts=3))
    (tmp_path / "fail-g1").touch()
    with pytest.raises(OrchError, match=r"'g1' failed 3 times.*environment is broken"):
        runners.sample(_requests(3))
    assert sum(line[0] == "g1" for line in _attempts(tmp_path)) == 3
    # The group is usable afterwards: nothing of the failed call is left over.
    (tmp_path / "fail-g1").unlink()
    assert len(runners.sample(_requests(3))) == 3


def test_a_users_mistake_is_reported_at_start_and_not_retried(start: Start, tmp_path: Path) -> None:
    (tmp_path / "bad-1").touch()
    with pytest.raises(OrchError, match="the task file is damaged"):
        start()


def test_a_runner_that_cannot_start_is_an_error_and_no_endless_loop(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "crash-0").touch()
    with pytest.raises(OrchError, match="env runner 0 cannot start"):
        start()


def test_without_restarts_the_other_runners_finish(start: Start, tmp_path: Path) -> None:
    runners = start(_settings(tmp_path, restart_failed_env_runners=False))
    os.kill(runners.pids()[0], signal.SIGKILL)
    assert len(runners.sample(_requests(4))) == 4
    assert runners.fault_counts()["num_healthy_env_runners"] == 1
    os.kill(runners.pids()[0], signal.SIGKILL)
    with pytest.raises(OrchError, match="no env runner is left"):
        runners.sample(_requests(4))


def test_stopping_abandons_the_step_and_leaves_the_runners_usable(
    start: Start, tmp_path: Path
) -> None:
    runners = start()
    (tmp_path / "hold-0").touch()
    seen: list[str] = []
    with pytest.raises(SamplingStopped):
        runners.sample(
            _requests(6), on_group=lambda g: seen.append(g.id), should_stop=lambda: len(seen) > 1
        )
    (tmp_path / "hold-0").unlink()
    assert [g.id for g in runners.sample(_requests(6))] == [f"g{i}" for i in range(6)]


def test_too_few_cpus_are_an_error_and_no_silent_wait(ray_local: None, tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    greedy = settings.env_runners.model_copy(update={"num_cpus_per_env_runner": 64.0})
    with pytest.raises(OrchError, match="need 128 CPU, Ray has 2"):
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
    assert ledger.complete


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
