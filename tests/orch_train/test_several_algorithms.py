"""Several algorithms in one process: Ray stays for the last of them, and a stopped one says so."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orch_env.types import OrchError
from orch_train import GRPO, GRPOConfig
from orch_train.runners import ray_use
from orch_train.runners.ray_use import RayUse


class FakeRay:
    """What `ray_use` calls of Ray; each start is a session of its own."""

    def __init__(self) -> None:
        self.running, self.started = False, 0

    def is_initialized(self) -> bool:
        return self.running

    def init(self, **_: Any) -> None:
        assert not self.running
        self.running, self.started = True, self.started + 1

    def shutdown(self) -> None:
        self.running = False

    def get_runtime_context(self) -> Any:
        session = str(self.started)
        return SimpleNamespace(get_node_id=lambda: session, get_job_id=lambda: "01000000")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setattr(ray_use, "ray", fake)
    monkeypatch.setattr(ray_use, "_entered", {})
    return fake


def test_the_last_user_ends_the_ray_that_the_first_one_started(ray: FakeRay) -> None:
    first, second = RayUse("local"), RayUse("local")
    first.leave()
    first.leave()
    assert ray.running and second.alive and not first.alive
    third = RayUse("local")
    second.leave()
    assert ray.running
    third.leave()
    assert not ray.running and ray.started == 1
    RayUse("local").leave()
    assert not ray.running and ray.started == 2


def test_a_ray_that_the_user_entered_is_never_ended(ray: FakeRay) -> None:
    ray.init()
    uses = [RayUse("auto"), RayUse("auto")]
    for use in uses:
        use.leave()
    assert ray.running and ray.started == 1


def test_a_ray_that_others_ended_or_began_again_is_noticed_and_left_alone(ray: FakeRay) -> None:
    ours = RayUse("local")
    ray.shutdown()
    assert not ours.alive
    ray.init()
    assert not ours.alive, "it is another one"
    ours.leave()
    assert ray.running
    RayUse("local").leave()
    assert ray.running, "the user began it"


def test_many_threads_count_right(ray: FakeRay) -> None:
    uses: list[RayUse] = []

    def everywhere(act: Callable[[int], Any]) -> None:
        threads = [threading.Thread(target=act, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    everywhere(lambda _: uses.append(RayUse("local")))
    assert ray.started == 1 and len(uses) == 8
    everywhere(lambda i: uses[i].leave() if i else None)
    assert ray.running
    uses[0].leave()
    assert not ray.running


def test_a_start_that_fails_leaves_no_use_behind(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch, toy_config: GRPOConfig
) -> None:
    reservation = pytest.importorskip("orch_train.runners.reservation")
    monkeypatch.setattr(reservation, "machines", lambda: [])
    for _ in range(2):
        with pytest.raises(OrchError, match="the machines have"):
            toy_config.copy().env_runners(num_env_runners=1).build_algo()
        assert not ray.running and not ray_use._entered.get(str(ray.started))
    kept = RayUse("local")
    with pytest.raises(OrchError, match="the machines have"):
        toy_config.copy().learners(num_learners=1).build_algo()
    assert kept.alive
    kept.leave()
    assert not ray.running


def test_two_algorithms_of_one_configuration_train_in_turn(toy_config: GRPOConfig) -> None:
    with toy_config.build_algo() as first, toy_config.build_algo() as second:
        results = [algo.train() for algo in (first, second, first, second)]
        first.stop()
        results.append(second.train())
    rewards = [result["env_runners"]["episode_return_mean"] for result in results]
    assert rewards[0] == rewards[1] and rewards[2] == rewards[3], "neither disturbs the other"


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_stopped_algorithm_says_so_in_one_line(
    toy_config: GRPOConfig, tmp_path: Path, ahead: int
) -> None:
    config = toy_config.training(max_staleness=ahead).evaluation(tasks="xy")
    algo = config.build_algo()
    algo.train()
    algo.save_to_path(tmp_path / "saved")
    algo.stop()
    algo.stop()
    for call in (
        algo.train,
        algo.evaluate,
        lambda: algo.save_to_path(tmp_path / "late"),
        lambda: algo.restore_from_path(tmp_path / "saved"),
    ):
        with pytest.raises(OrchError, match=r"was stopped: .*GRPO\.from_checkpoint"):
            call()
    assert not (tmp_path / "late").exists()
    with GRPO.from_checkpoint(tmp_path / "saved") as again:
        assert again.train()["training_iteration"] == 2


def test_a_stop_from_another_thread_ends_the_step_that_runs(
    toy_config: GRPOConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    algo = toy_config.build_algo()
    sampling = threading.Event()
    next_batch = algo.sampling.next_batch

    def watched() -> Any:
        sampling.set()
        while not algo._should_stop():
            threading.Event().wait(0.001)
        return next_batch()

    monkeypatch.setattr(algo.sampling, "next_batch", watched)
    stopper = threading.Thread(target=lambda: (sampling.wait(), algo.stop()))
    stopper.start()
    with pytest.raises(OrchError, match="was stopped"):
        algo.train()
    stopper.join()
    assert algo.iteration == 0


def test_a_failure_in_one_part_of_stopping_still_stops_the_others(
    toy_config: GRPOConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    algo = toy_config.build_algo()
    ended: list[str] = []

    def fail() -> None:
        ended.append("runners")
        raise RuntimeError("a runner does not answer")

    real = algo.runners.stop
    monkeypatch.setattr(algo.runners, "stop", fail)
    monkeypatch.setattr(algo.learner, "stop", lambda: ended.append("learner"))
    with pytest.raises(RuntimeError, match="does not answer"):
        algo.stop()
    assert ended == ["runners", "learner"]
    real()


_TWO = """
import ray
from orch_env.types import OrchError
from tests.orch_train.conftest import *
from orch_train import GRPOConfig

def build():
    return (
        GRPOConfig()
        .environment(ENV_ID, env_config={"tasks": "abcdef"})
        .model("tiny")
        .rollouts(max_tokens_per_turn=12, max_context=256)
        .env_runners(num_env_runners=1, num_cpus_per_env_runner=0.5, placement="separate")
        .training(groups_per_batch=1, group_size=2)
        .build_algo()
    )

a, b = build(), build()
a.train(), b.train()
a.stop()
assert ray.is_initialized()
b.train()
b.stop()
b.stop()
print("ended", ray.is_initialized())
c = build()
ray.shutdown()
try:
    c.train()
except OrchError as problem:
    print("told", problem)
c.stop()
"""


@pytest.mark.long
def test_two_algorithms_share_one_real_ray_and_the_last_one_ends_it() -> None:
    """In a process of its own: the session's Ray would be the user's."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _TWO],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert "ended False" in done.stdout
    assert "told Ray was shut down under this run" in done.stdout
