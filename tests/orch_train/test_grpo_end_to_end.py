"""GRPO as a whole: real model, engine and learner, on an environment that can be climbed."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from orch_env.types import Episode, OrchError
from orch_train import GRPO, GRPOConfig
from orch_train.config import Settings
from orch_train.runners.runner_group import LocalRunnerGroup, SamplingStopped
from orch_train.sampling.observer import SilentObserver
from orch_train.sampling.synchronous import SynchronousSampling
from orch_train.sampling.task_order import TaskOrder, stable_seed
from orch_train.trajectory.requests import SampleReply, SampleRequest
from orch_train.trajectory.sample import Group, TrainingSample
from tests.orch_train.replies import answer, groups_of


def _weights(algo: GRPO) -> dict[str, torch.Tensor]:
    return algo.learner.get_weights()


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_policy_learns_what_the_reward_asks_for(toy_config: GRPOConfig) -> None:
    config = toy_config.environment(env_config={"tasks": "a", "turns": 1}).training(
        groups_per_batch=2, group_size=16, lr=2e-2, iterations=15
    )
    with config.build_algo() as algo:
        returns = [algo.train()["env_runners"]["episode_return_mean"] for _ in range(15)]
    assert returns[0] < 0.4
    assert returns[-1] > 0.9


def test_a_result_has_the_documented_shape(toy_config: GRPOConfig) -> None:
    config = toy_config.evaluation(tasks="xyz", evaluation_interval=2)
    with config.build_algo() as algo:
        first, second = algo.train(), algo.train()
    assert (first["training_iteration"], second["training_iteration"]) == (1, 2)
    assert second["num_episodes_lifetime"] == 16
    assert second["num_env_steps_sampled_lifetime"] == sum(
        r["env_runners"]["num_env_steps_sampled"] for r in (first, second)
    )
    assert second["weights_seq_no"] == 2
    learner = second["learners"]["default_policy"]
    for name in ("policy_loss", "grad_norm", "entropy", "mismatch_kl", "tokens_per_s"):
        assert isinstance(learner[name], float)
    assert learner["grad_norm"] > 0
    assert set(second["timers"]) >= {"sample", "generate", "env", "learner_update"}
    assert "evaluation" not in first
    assert second["evaluation"]["n"] == 3
    assert second["evaluation"]["greedy"]["temperature"] == 0.0
    assert second["fault_tolerance"]["num_groups_reissued"] == 0


def test_the_engine_samples_what_the_learner_believes(toy_config: GRPOConfig) -> None:
    """Recorded log-probabilities are those of the weights that learn from them, step by step."""
    turns = 0
    with toy_config.build_algo() as algo:
        for step in range(4):
            result = algo.train()
            versions = {
                version
                for group in groups_of(algo)
                for sample in group.samples
                for version in sample.versions_N.tolist()
            }
            assert versions == {step}
            turns += sum(len(t.turns) > 1 for g in groups_of(algo) for t in g.samples)
            learner = result["learners"]["default_policy"]
            assert learner["mismatch_kl"] < 1e-6
            assert learner["ratio_max"] == pytest.approx(1.0, abs=1e-3)
    assert turns > 4  # the cache of an earlier turn was used, too


def test_an_engine_on_other_weights_raises_the_alarm(
    toy_config: GRPOConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with toy_config.build_algo() as algo:
        stale = {name: tensor * 1.5 for name, tensor in _weights(algo).items()}
        algo.runners.sync_weights(stale, 0)
        algo.train()
    assert "engine and learner disagree" in caplog.text


def test_two_runs_are_equal_to_the_bit(toy_config: GRPOConfig) -> None:
    ends = []
    for _ in range(2):
        with toy_config.copy().build_algo() as algo:
            for _ in range(3):
                algo.train()
            ends.append(_weights(algo))
    assert _same(*ends)


def test_group_members_share_the_seed_of_the_environment_and_not_of_the_sampler(
    toy_config: GRPOConfig,
) -> None:
    with toy_config.build_algo() as algo:
        algo.train()
        for reply in algo.last_batch:
            assert {record.episode.seed for record in reply.records} == {reply.group.seed}
            assert len({tuple(s.ids_T.tolist()) for s in reply.group.samples}) > 1


def test_every_task_is_trained_once_an_epoch(toy_config: GRPOConfig) -> None:
    seen: Counter[str] = Counter()
    with toy_config.build_algo() as algo:
        for _ in range(3):  # 3 steps of 2 groups: all 6 tasks
            algo.train()
            seen.update(group.task_id for group in groups_of(algo))
    assert set(seen.values()) == {1} and len(seen) == 6


def test_a_step_that_was_abandoned_never_happened(toy_config: GRPOConfig) -> None:
    with toy_config.copy().build_algo() as plain:
        for _ in range(3):
            plain.train()
        expected = _weights(plain)
    with toy_config.copy().build_algo() as algo:
        algo.train()
        algo.stop_when(lambda: True)
        with pytest.raises(SamplingStopped):
            algo.train()
        assert algo.iteration == 1 and algo.between_steps
        algo.stop_when(lambda: False)
        algo.train()
        algo.train()
        assert _same(_weights(algo), expected)


def test_a_batch_without_any_spread_takes_no_step(
    toy_config: GRPOConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config = toy_config.environment(env_config={"flat": True})
    with config.build_algo() as algo:
        before = _weights(algo)
        result = algo.train()
        assert _same(before, _weights(algo))
    assert result["weights_seq_no"] == 0
    assert "nothing could be learned" in caplog.text
    assert result["env_runners"]["groups"]["zero_variance"] == 2
    assert result["env_runners"]["groups"]["zero_variance_all_fail"] == 2


@pytest.mark.parametrize("engine", ["scripted", "tests.orch_train.nowhere:engine"])
def test_an_engine_that_cannot_be_built_is_an_error(toy_config: GRPOConfig, engine: str) -> None:
    with pytest.raises((OrchError, TypeError, ModuleNotFoundError)):
        toy_config.rollouts(engine=engine).build_algo()


def test_a_prompt_that_leaves_no_room_is_refused_at_start(toy_config: GRPOConfig) -> None:
    with pytest.raises(OrchError, match="leaves no room for an answer"):
        toy_config.rollouts(max_context=20).build_algo()


# -- resampling ------------------------------------------------------------------------------


class _TableRunners:
    """Groups with rewards from a table: tasks in ``flat`` have no spread."""

    def __init__(self, flat: set[str]) -> None:
        self.flat = flat
        self.calls: list[list[str]] = []

    def sample(self, requests: Any, **_: Any) -> list[SampleReply]:
        self.calls.append([request.task_id for request in requests])
        return [self._reply(request) for request in requests]

    def _reply(self, request: SampleRequest) -> SampleReply:
        flat = request.task_id in self.flat
        rewards = [0.0 if flat else float(member) for member in range(request.size)]
        episode = Episode(request.task_id)
        return answer(request, *((TrainingSample(reward=r), episode) for r in rewards))


def _sampling(mode: str, runners: _TableRunners, rounds: int = 3) -> SynchronousSampling:
    settings: Settings = (
        GRPOConfig()
        .from_dict({"training": {"zero_variance": mode}})
        .training(groups_per_batch=4, group_size=2, max_resample_rounds=rounds)
        .settings
    )
    fake: Any = runners
    return SynchronousSampling(
        settings,
        fake,
        TaskOrder(_TASKS, seed=0),
        step=0,
        observer=SilentObserver(),
        should_stop=lambda: False,
    )


_TASKS = [f"t{i}" for i in range(40)]


def test_resampling_replaces_groups_without_spread() -> None:
    first = [draw.task_id for draw in TaskOrder(_TASKS, seed=0).draw(5)]
    runners = _TableRunners({first[1], first[4]})
    sampling = _sampling("resample", runners)
    batch = sampling.next_batch()
    # One is replaced; the replacement (the fifth) has no spread either and is replaced too.
    assert [len(call) for call in runners.calls] == [4, 1, 1]
    assert sampling.resampled == {"resampled": 2, "resample_rounds": 2}
    assert sum(len(set(reply.group.rewards)) > 1 for reply in batch) == 4


def test_resampling_ends_where_nothing_has_a_spread() -> None:
    runners = _TableRunners(set(_TASKS))
    sampling = _sampling("resample", runners, rounds=3)
    assert len(sampling.next_batch()) == 16
    assert [len(call) for call in runners.calls] == [4, 4, 4, 4]
    assert sampling.resampled == {"resampled": 12, "resample_rounds": 3}


@pytest.mark.parametrize("mode", ["keep", "drop"])
def test_without_resampling_one_round_is_all(mode: str) -> None:
    runners = _TableRunners(set(_TASKS))
    _sampling(mode, runners).next_batch()
    assert [len(call) for call in runners.calls] == [4]


# -- on Ray ----------------------------------------------------------------------------------


def test_ray_runners_sample_what_the_process_itself_would(
    toy_config: GRPOConfig, ray_local: None
) -> None:
    def two_steps(config: GRPOConfig) -> list[tuple[str, list[float]]]:
        with config.build_algo() as algo:
            found = []
            for _ in range(2):
                algo.train()
                found += [(g.id, g.rewards) for g in groups_of(algo)]
            return found

    on_ray = toy_config.copy().env_runners(num_env_runners=1, num_cpus_per_env_runner=0.5)
    assert two_steps(on_ray) == two_steps(toy_config.copy())


def test_training_survives_the_death_of_a_runner_in_the_middle_of_a_step(
    toy_config: GRPOConfig, ray_local: None
) -> None:
    config = (
        toy_config.env_runners(
            num_env_runners=2,
            num_cpus_per_env_runner=0.5,
            max_requests_in_flight_per_env_runner=2,
        )
        .training(groups_per_batch=6)
        .fault_tolerance(delay_between_env_runner_restarts_s=0.0)
    )
    killed: list[int] = []
    trained: list[str] = []

    class Killer(SilentObserver):
        def sampled(self, group: Group) -> None:
            if not killed:
                killed.append(algo.runners.pids()[0])
                os.kill(killed[0], signal.SIGKILL)

    with GRPO(config, observer=Killer()) as algo:
        for _ in range(2):
            result = algo.train()
            trained += [group.id for group in groups_of(algo)]
            assert all(
                len(group.samples) == 4 and t.stop_reason is not None
                for group in groups_of(algo)
                for t in group.samples
            )
    assert killed
    assert len(trained) == len(set(trained)) == 12
    assert result["fault_tolerance"]["num_env_runner_restarts"] == 1
    assert result["learners"]["default_policy"]["mismatch_kl"] < 1e-6


# -- order and seeds -------------------------------------------------------------------------


def test_seeds_are_the_same_on_every_machine() -> None:
    assert stable_seed("group", 0, 1, "task") == 6817997728817058009
    assert stable_seed("a", 12) != stable_seed("a1", 2)
    assert stable_seed("1") != stable_seed(1)


def test_epochs_differ_in_order_and_not_in_content() -> None:
    order = TaskOrder(_TASKS, seed=3)
    first, second = ([d.task_id for d in order.draw(len(_TASKS))] for _ in range(2))
    assert sorted(first) == sorted(second) == sorted(_TASKS)
    assert first != second
    assert order.epoch == 2


def test_a_restored_frontier_draws_what_was_left() -> None:
    order = TaskOrder(_TASKS, seed=3)
    order.draw(17)
    again = TaskOrder(_TASKS, seed=0)
    again.restore(order.state())
    assert again.draw(60) == order.copy().draw(60)


def test_a_frontier_survives_a_changed_task_file() -> None:
    order = TaskOrder(_TASKS, seed=3)
    done = {d.task_id for d in order.draw(30)}
    changed = [t for t in _TASKS if t not in ("t0", "t1", "t2")] + ["new"]
    again = TaskOrder(changed, seed=3)
    again.restore(order.state())
    rest = [d.task_id for d in again.draw(len(set(changed) - done))]
    assert sorted(rest) == sorted(set(changed) - done)
    assert again.epoch == 1


def test_a_run_without_tasks_is_refused() -> None:
    with pytest.raises(OrchError, match="no task"):
        TaskOrder([], seed=0)


def test_local_runners_can_be_stopped_twice(toy_config: GRPOConfig, tmp_path: Path) -> None:
    algo = toy_config.build_algo()
    assert isinstance(algo.runners, LocalRunnerGroup)
    algo.stop()
    algo.stop()
