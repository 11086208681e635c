"""Weights by collective transfers to Ray's runners, over gloo: the same run, and runners that die.

What is pinned: training is bit for bit that of the host path; a runner lost in a transfer is
replaced, the others get the version all the same and are not restarted.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orch_env.types import OrchError
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.config import Settings
from orch_train.config.weight_route import weight_sync
from orch_train.rollouts.env_runner import ReceiveReply
from orch_train.runners.collective_sync import CollectiveSync, LocalSource
from orch_train.runners.ray_runner_group import RayRunnerGroup
from orch_train.trajectory.requests import SampleRequest
from orch_train.weight_sync.collective import BroadcastJob, WeightReceiver
from tests.orch_train.gated_runner import GatedActor, GatedRunner


class ReceivingRunner(GatedRunner):
    """Receives broadcasts; ``die-I`` makes runner I die when it has read its first tensor."""

    async def receive(self, receiver: WeightReceiver, job: BroadcastJob, version: int) -> int:
        gate = self._folder / f"die-{self._index}"
        if gate.exists():
            gate.unlink()
            next(iter(receiver.open(job)))
            os._exit(1)
        return await self.serve(receiver.receive(job), version)


class ReceivingActor(GatedActor):
    """The actor around it; ``refuse`` makes every transfer fail without a culprit."""

    def build(self) -> Any:
        return ReceivingRunner(Path(self._settings.environment.env_config["folder"]), self._index)

    async def receive_weights(self, job: BroadcastJob, version: int) -> ReceiveReply:
        if (Path(self._settings.environment.env_config["folder"]) / "refuse").exists():
            return ReceiveReply(failure="no route to the learner")
        return await super().receive_weights(job, version)


def runner_settings(folder: Path) -> Settings:
    return (
        GRPOConfig()
        .environment(env_config={"folder": str(folder)})
        .env_runners(num_env_runners=2, num_cpus_per_env_runner=0.5, weight_sync="collective")
        .training(group_size=2)
        .from_dict(
            {
                "fault_tolerance": {
                    "delay_between_env_runner_restarts_s": 0.0,
                    "env_runner_restore_timeout_s": 60.0,
                }
            }
        )
        .settings
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("receiving")


@pytest.fixture(scope="module")
def group(ray_local: None, folder: Path) -> Iterator[RayRunnerGroup]:
    runners = RayRunnerGroup(runner_settings(folder), weights(0), 0, actor_class=ReceivingActor)
    yield runners
    runners.stop()


@pytest.fixture(scope="module")
def collective(group: RayRunnerGroup) -> CollectiveSync:
    assert group.pool.collective is not None
    return group.pool.collective


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor([value]), "large": torch.full((512, 1024), value)}


def served(group: RayRunnerGroup, folder: Path) -> list[str]:
    texts = [(folder / f"weights-{pid}").read_text() for pid in group.pids()]
    return [text.rpartition(" ")[0] for text in texts]


def sample(group: RayRunnerGroup, name: str) -> set[int]:
    requests = [SampleRequest(f"{name}{i}", f"task-{i}", i, i, 2) for i in range(6)]
    return {
        version
        for reply in group.sample(requests)
        for sample in reply.group.samples
        for version in sample.versions_N.tolist()
    }


def test_one_group_serves_many_transfers(
    group: RayRunnerGroup, collective: CollectiveSync, folder: Path
) -> None:
    for version in (1, 2, 3):
        group.sync_weights(weights(version / 2), version)
        assert served(group, folder) == [f"{version} [{version / 2}]"] * 2
    assert collective.generation == 1
    assert sample(group, "many") == {3}


def test_a_runner_that_dies_in_a_transfer_is_replaced_and_the_other_gets_the_version(
    group: RayRunnerGroup, collective: CollectiveSync, folder: Path
) -> None:
    before, restarts = group.pids(), group.fault_counts()["num_env_runner_restarts"]
    made = collective.generation
    (folder / "die-0").touch()
    # 128 broadcasts: nobody has it all when one dies.
    group.sync_weights(LocalSource(weights(4.0), group.pool.sender, bucket_bytes=1 << 14), 10)
    assert group.fault_counts()["num_env_runner_restarts"] == restarts + 1
    assert group.pids()[-1] == before[1]  # who lives is not restarted
    assert (folder / f"weights-{before[1]}").read_text().startswith("10 [4.0]")
    without = collective.generation
    assert without > made
    while len(group.pool.healthy) < 2:
        group.poll(0.1)
    assert sample(group, "died") == {10}
    assert served(group, folder) == ["10 [4.0]"] * 2
    group.sync_weights(weights(5.0), 11)  # the newcomer is in the next group
    assert collective.generation > without
    assert served(group, folder) == ["11 [5.0]"] * 2


def test_a_runner_that_is_dead_or_frozen_before_a_transfer_holds_nobody_up(
    group: RayRunnerGroup, collective: CollectiveSync, folder: Path
) -> None:
    """A transfer by itself would wait for an hour; that nobody does is what ends this test."""
    pool, kept = group.pool, group.pool.settings
    faults = kept.fault_tolerance.model_copy(update={"env_runner_health_probe_timeout_s": 5.0})
    pool.settings = kept.model_copy(update={"fault_tolerance": faults})
    collective.timeout_s, limit = 3600.0, collective.timeout_s
    collective.abort("the next transfer makes a group, with this limit")
    try:
        for number, harm in enumerate((signal.SIGKILL, signal.SIGSTOP)):
            while len(pool.healthy) < 2:
                group.poll(0.1)
            other = group.pids()[1]
            os.kill(group.pids()[0], harm)
            group.sync_weights(weights(7.0 + number), 20 + number)
            text = (folder / f"weights-{other}").read_text()
            assert text.startswith(f"{20 + number} [{7.0 + number}]")
            assert other in group.pids()
        assert sample(group, "frozen") == {21}
    finally:
        pool.settings, collective.timeout_s = kept, limit


def test_transfers_that_nobody_is_to_blame_for_end_the_run_with_the_reason(
    group: RayRunnerGroup, collective: CollectiveSync, folder: Path
) -> None:
    while len(group.pool.healthy) < 2:
        group.poll(0.1)
    collective.timeout_s, kept = 0.5, collective.timeout_s
    collective.abort("the next transfer makes a group, with this limit")
    (folder / "refuse").touch()
    try:
        with pytest.raises(OrchError, match="3 transfers failed although every runner is alive"):
            group.sync_weights(weights(1.0), 30)
    finally:
        (folder / "refuse").unlink()
        collective.timeout_s = kept
    group.sync_weights(weights(1.5), 31)
    assert served(group, folder) == ["31 [1.5]"] * 2


# -- the whole run ---------------------------------------------------------------------------


def train(config: GRPOConfig, way: str, steps: int, **training: Any) -> tuple[list[float], Any]:
    config = (
        config.copy()
        .env_runners(
            num_env_runners=2,
            num_cpus_per_env_runner=0.5,
            num_envs_per_env_runner=8,
            weight_sync=way,  # type: ignore[arg-type]
        )
        .training(**training)
    )
    with config.build_algo() as algo:
        returns = [algo.train()["env_runners"]["episode_return_mean"] for _ in range(steps)]
        assert algo.runners.fault_counts()["num_env_runner_restarts"] == 0
        return returns, algo.learner.get_weights()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_training_is_bit_for_bit_that_of_the_host_path(
    ray_local: None, toy_config: GRPOConfig
) -> None:
    (host, by_host), (direct, by_collective) = (
        train(toy_config, way, 3) for way in ("host", "collective")
    )
    assert host == direct
    assert all(torch.equal(by_host[name], by_collective[name]) for name in by_host)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_weights_reach_runners_that_sample_ahead(ray_local: None, toy_config: GRPOConfig) -> None:
    returns, _ = train(toy_config, "collective", 4, max_staleness=1, correction="token_tis")
    assert len(returns) == 4


_LEARNER_GROUP = """
import os
import signal

import ray
from orch_train import GRPOConfig

ray.init(
    address="local", num_cpus=4, include_dashboard=False, log_to_driver=False,
    _node_ip_address="127.0.0.1",
)
config = (
    GRPOConfig()
    .environment("tests.orch_train.toy_env:orch_test/Letters-v0", env_config={"tasks": "abcdef"})
    .model("tiny")
    .rollouts(max_tokens_per_turn=12, max_context=256)
    .env_runners(num_env_runners=2, num_envs_per_env_runner=8, weight_sync="collective")
    .learners(num_learners=NUM_LEARNERS)
    .training(groups_per_batch=2, group_size=4, lr=3e-3)
    .reporting(tensorboard=False)
)
with config.build_algo() as algo:
    for step in range(3):
        learned = algo.train()["learners"]["default_policy"]
        versions = {
            v for reply in algo.last_batch for s in reply.group.samples
            for v in s.versions_N.tolist()
        }
        assert versions == {step}, versions
        assert learned["mismatch_kl"] < 1e-6, learned["mismatch_kl"]
    assert algo.runners.pool.collective.generation == 1
    assert algo.runners.fault_counts()["num_env_runner_restarts"] == 0
    os.kill(algo.runners.pids()[0], signal.SIGKILL)  # who starts later fetches what is held
    algo.train()
    while algo.runners.fault_counts()["num_healthy_env_runners"] < 2:
        algo.runners.poll(0.1)
    algo.train()
    assert algo.runners.fault_counts()["num_env_runner_restarts"] == 1
    versions = {
        v for reply in algo.last_batch for s in reply.group.samples
        for v in s.versions_N.tolist()
    }
    assert versions == {4}, versions
print("seen", algo.weights_seq_no)
"""


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [1, 2])
def test_the_first_learner_actor_sends_what_it_holds(count: int) -> None:
    """In a process of its own, on a Ray that is told of four CPUs."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _LEARNER_GROUP.replace("NUM_LEARNERS", str(count))],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        timeout=280,
        check=False,
    )
    assert "seen 5" in done.stdout, done.stderr[-2000:]


# -- the setting -----------------------------------------------------------------------------

ON_GPUS = {"num_env_runners": 2, "num_gpus_per_env_runner": 1.0}


@pytest.mark.parametrize(
    ("runners", "learners", "way"),
    [
        ({}, {}, "host"),
        (ON_GPUS, {"num_learners": 2, "num_gpus_per_learner": 1}, "collective"),
        (ON_GPUS, {"num_learners": 1, "num_gpus_per_learner": 1}, "collective"),
        (ON_GPUS, {"num_gpus_per_learner": 1}, "host"),
        (ON_GPUS | {"placement": "none"}, {"num_learners": 2, "num_gpus_per_learner": 1}, "host"),
        (
            ON_GPUS | {"num_gpus_per_env_runner": 0.5},
            {"num_learners": 2, "num_gpus_per_learner": 1},
            "host",
        ),
        ({"weight_sync": "collective"}, {}, "collective"),
        (ON_GPUS | {"weight_sync": "host"}, {"num_learners": 2, "num_gpus_per_learner": 1}, "host"),
    ],
)
def test_auto_is_collective_only_where_everyone_has_whole_gpus(
    runners: dict[str, Any], learners: dict[str, Any], way: str
) -> None:
    settings = GRPOConfig().from_dict({"env_runners": runners, "learners": learners}).settings
    assert weight_sync(settings) == way


@pytest.mark.parametrize(
    ("runners", "learners", "reason"),
    [
        ({"num_env_runners": 0}, {}, "num_env_runners is 0"),
        ({"placement": "colocated"}, {"num_learners": 2}, "placement=colocated"),
        ({"num_gpus_per_env_runner": 0.5}, {"num_gpus_per_learner": 1}, "whole GPUs of its own"),
        ({"num_gpus_per_env_runner": 1.0}, {"num_gpus_per_learner": 0}, "both be on GPUs"),
        ({"num_gpus_per_env_runner": 1.0}, {"num_gpus_per_learner": 1}, "num_learners to 1"),
    ],
)
def test_collective_is_refused_where_devices_are_shared(
    runners: dict[str, Any], learners: dict[str, Any], reason: str
) -> None:
    groups = {"env_runners": {**runners, "weight_sync": "collective"}, "learners": learners}
    with pytest.raises(OrchError, match=f"weight_sync=collective: .*{reason}"):
        _ = GRPOConfig().from_dict(groups).settings
