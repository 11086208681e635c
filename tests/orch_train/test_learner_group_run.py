"""A run whose learner is a group: the same steps, checkpoints that one process takes up."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from orch_env.types import OrchError
from orch_train import GRPO, GRPOConfig
from orch_train.config.groups import registered_losses
from orch_train.learner.group.learner_group import LearnerGroup
from orch_train.learner.objective.losses import LOSSES, register_loss


def test_a_run_with_two_learners_goes_as_with_one_and_its_loss_is_one_clear_error(
    ray_local: None, toy_config: GRPOConfig, tmp_path: Path
) -> None:
    config = toy_config.training(kl_coeff=0.01)
    with config.copy().build_algo() as one:
        expected = [one.train()["env_runners"]["episode_return_mean"] for _ in range(3)]
        end = one.learner.get_weights()
    with config.copy().learners(num_learners=2).build_algo() as two:
        assert isinstance(two.learner, LearnerGroup)
        results = [two.train() for _ in range(2)]
        two.save_to_path(tmp_path / "step_2")
        os.kill(two.learner.on_every_rank(lambda _: os.getpid())[0], signal.SIGKILL)
        with pytest.raises(OrchError, match="--resume"):
            two.train()
        assert not two.between_steps
    resumed_config = GRPOConfig().from_yaml(tmp_path / "step_2" / "config.yaml")
    with GRPO.from_checkpoint(
        tmp_path / "step_2", config=resumed_config.learners(num_learners=0)
    ) as resumed:
        results.append(resumed.train())
        weights = resumed.learner.get_weights()
    assert [r["env_runners"]["episode_return_mean"] for r in results] == expected
    assert results[1]["learners"]["default_policy"]["reference_kl"] > 0
    assert max(float((weights[n] - w).abs().max()) for n, w in end.items()) < 1e-5


def test_a_run_with_one_learner_actor_is_that_of_the_driver_process_to_the_bit(
    ray_local: None, toy_config: GRPOConfig
) -> None:
    def train(count: int) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
        config = toy_config.copy().learners(num_learners=count, num_cpus_per_learner=1)
        with config.build_algo() as algo:
            assert isinstance(algo.learner, LearnerGroup) == (count == 1)
            learned = [algo.train()["learners"]["default_policy"] for _ in range(2)]
            return learned, algo.learner.get_weights()

    (here, ours), (there, theirs) = train(0), train(1)
    assert [step["policy_loss"] for step in there] == [step["policy_loss"] for step in here]
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], weight) for name, weight in ours.items())


def test_a_learner_actor_reserves_its_place_and_gives_it_back(
    ray_local: None, toy_config: GRPOConfig
) -> None:
    from ray.util import placement_group_table

    def places() -> dict[str, Any]:
        return {name: found for name, found in placement_group_table().items() if name not in known}

    known = placement_group_table()
    config = toy_config.env_runners(placement="separate").learners(num_learners=1)
    with config.build_algo():
        (place,) = places().values()
        assert (place["state"], place["bundles"]) == ("CREATED", {0: {"CPU": 1.0}})
    assert [place["state"] for place in places().values()] == ["REMOVED"]


def test_more_learners_and_runners_than_cpus_are_refused_before_any_starts(
    ray_local: None, toy_config: GRPOConfig
) -> None:
    config = toy_config.learners(num_learners=2).env_runners(num_env_runners=1)
    with pytest.raises(OrchError, match=r"2 learners of 1 CPU need 3 CPU, the machines have 2"):
        config.build_algo()


def test_a_loss_of_ones_own_is_refused_where_actors_would_not_know_it() -> None:
    register_loss("mine", LOSSES["grpo"])
    try:
        config = GRPOConfig().training(loss="mine")
        assert config.settings.training.loss == "mine"
        with pytest.raises(OrchError, match="learner actors do not know it"):
            _ = config.learners(num_learners=1).settings
    finally:
        del LOSSES["mine"]
        registered_losses.remove("mine")
