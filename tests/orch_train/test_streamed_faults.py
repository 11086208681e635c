"""Runners die, freeze and hang while sampling runs ahead of the learner, on real Ray actors.

A hung tool is infrastructure: its group is sampled again elsewhere and never scored.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from orch_env.types import StopReason
from orch_train import GRPO, GRPOConfig
from orch_train.sampling.observer import SilentObserver
from orch_train.trajectory.sample import Group
from tests.orch_train.hanging_env import ENV_ID
from tests.orch_train.replies import groups_of

LETTERS = "abcdefghijkl"


@pytest.fixture
def streamed(toy_config: GRPOConfig, tmp_path: Path) -> GRPOConfig:
    """Six steps that train twelve tasks once, on two Ray runners."""
    config = toy_config.environment(ENV_ID, env_config={"tasks": LETTERS, "folder": str(tmp_path)})
    return (
        config.env_runners(
            num_env_runners=2,
            num_cpus_per_env_runner=0.5,
            max_requests_in_flight_per_env_runner=2,
        )
        .training(max_staleness=1)
        .fault_tolerance(delay_between_env_runner_restarts_s=0.0, max_group_attempts=20)
    )


def _train(algo: GRPO, steps: int) -> dict[str, Any]:
    """Train, and check that each task was trained once, in whole and by nothing but its policy."""
    seen: list[str] = []
    result: dict[str, Any] = {}
    for _ in range(steps):
        result = algo.train()
        seen += [group.id for group in groups_of(algo)]
        assert result["staleness"]["max"] <= 1
        for group in groups_of(algo):
            assert len(group.samples) == 4
            assert all(
                s.stop_reason not in (None, StopReason.INFRASTRUCTURE) for s in group.samples
            )
    assert sorted(seen) == sorted(f"0:letter-{c}" for c in LETTERS)
    return result


def test_a_tool_that_never_returns_costs_its_runner_and_no_group(
    streamed: GRPOConfig, ray_local: None, tmp_path: Path
) -> None:
    with streamed.env_runners(sample_timeout_s=6.0).build_algo() as algo:
        (tmp_path / "hang").touch()
        result = _train(algo, 6)
    assert not (tmp_path / "hang").exists()
    assert result["fault_tolerance"]["num_env_runner_restarts"] >= 1
    assert result["fault_tolerance"]["num_groups_reissued"] >= 1


@pytest.mark.long
def test_runners_killed_and_frozen_while_the_learner_learns(
    streamed: GRPOConfig, ray_local: None
) -> None:
    blows = [signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP]

    class Killer(SilentObserver):
        def learned(self, done: int, total: int) -> None:
            # The sampling thread is at work at this very moment.
            pids = algo.runners.pids()
            if blows and pids:
                os.kill(pids[0], blows.pop())

    config = streamed.fault_tolerance(env_runner_health_probe_timeout_s=3.0)
    with GRPO(config, observer=Killer()) as algo:
        result = _train(algo, 6)
    assert not blows
    assert result["fault_tolerance"]["num_env_runner_restarts"] >= 3


@pytest.mark.long
def test_evaluation_survives_a_runner_that_dies_in_it(
    streamed: GRPOConfig, ray_local: None
) -> None:
    class Killer(SilentObserver):
        killed = 0

        def sampled(self, group: Group) -> None:
            if group.id.startswith("eval:") and not self.killed:
                self.killed = algo.runners.pids()[0]
                os.kill(self.killed, signal.SIGKILL)

    killer = Killer()
    config = streamed.evaluation(tasks=LETTERS, evaluation_interval=6)
    with GRPO(config, observer=killer) as algo:
        result = _train(algo, 6)
    assert killer.killed
    assert result["evaluation"]["n"] == len(LETTERS)
