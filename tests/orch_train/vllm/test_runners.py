"""Runners with vLLM inside on Ray: engines die or hang, groups come back all the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.models.load import load_model
from orch_train.runners.ray_runner_group import RayRunnerGroup
from orch_train.trajectory.requests import SampleRequest
from tests.orch_train.toy_env import ENV_ID
from tests.orch_train.vllm.conftest import save_small_model

HANG_TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("runner") / "model", tied=False)


@pytest.fixture(scope="module")
def group(ray_local: None, model: Path) -> Iterator[RayRunnerGroup]:
    settings = (
        GRPOConfig()
        .environment(ENV_ID, env_config={"tasks": "abcdef", "turns": 3})
        .model(str(model))
        .rollouts(
            engine="vllm",
            engine_config={"hang_timeout_s": HANG_TIMEOUT_S, "kv_cache_gib": 0.25},
            max_tokens_per_turn=40,
            max_context=400,
        )
        .env_runners(num_env_runners=1, num_envs_per_env_runner=8)
        .training(group_size=4)
        .from_dict({"fault_tolerance": {"delay_between_env_runner_restarts_s": 0.0}})
        .settings
    )
    weights = load_model(model).state_dict()
    group = RayRunnerGroup(settings, weights, 0)
    yield group
    group.stop()


def requests(name: str, count: int) -> list[SampleRequest]:
    return [SampleRequest(f"{name}{i}", f"letter-{'abcdef'[i % 6]}", i, i, 4) for i in range(count)]


def core_of(runner: int) -> psutil.Process:
    """The engine core below a runner: its only child process with threads of its own."""
    found = [c for c in psutil.Process(runner).children() if "resource_tracker" not in _line(c)]
    assert len(found) == 1, [_line(c) for c in found]
    return found[0]


def _line(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def stop_core(runner: int) -> None:
    core_of(runner).send_signal(signal.SIGSTOP)


def kill_core(runner: int) -> None:
    core_of(runner).kill()


def kill_runner(runner: int) -> None:
    os.kill(runner, signal.SIGKILL)


@pytest.mark.parametrize("harm", [kill_core, stop_core, kill_runner])
def test_a_runner_whose_engine_fails_is_replaced_and_its_groups_come_back(
    group: RayRunnerGroup, harm: Callable[[int], None]
) -> None:
    before = dict(group.fault_counts())
    runner = group.pids()[0]
    core = core_of(runner)
    seen: list[str] = []

    def on_group(finished: Any) -> None:
        seen.append(finished.id)
        if len(seen) == 1:
            harm(runner)

    replies = group.sample(requests(harm.__name__, 12), on_group=on_group)
    groups = [reply.group for reply in replies]

    assert sorted(seen) == sorted(g.id for g in groups)  # each exactly once
    after = group.fault_counts()
    assert after["num_env_runner_restarts"] == before["num_env_runner_restarts"] + 1
    assert after["num_groups_reissued"] > before["num_groups_reissued"]
    assert group.pids() != [runner]
    for sampled in groups:
        assert len(sampled.samples) == 4
        for sample in sampled.samples:
            assert set(sample.versions_N.tolist()) == {0}
    core.wait(timeout=20)  # nothing of the old engine is left
    assert not core.is_running()


def test_a_replaced_runner_serves_the_weights_of_the_day(
    group: RayRunnerGroup, model: Path
) -> None:
    before = group.fault_counts(), group.pids()
    weights = {k: v * 1.1 for k, v in load_model(model).state_dict().items()}
    group.sync_weights(weights, 7)
    sampled = group.sample(requests("late", 1))[0].group
    assert set(sampled.samples[0].versions_N.tolist()) == {7}
    assert (group.fault_counts(), group.pids()) == before  # it took them, and was not replaced
