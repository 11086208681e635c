"""A run whose learner is a group: the same steps, checkpoints that one process takes up."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from orch_env.types import OrchError
from orch_train import GRPO, GRPOConfig
from orch_train.config.groups import registered_losses
from orch_train.learner.group.learner_group import LearnerGroup
from orch_train.learner.objective.losses import LOSSES, register_loss


def test_a_run_with_two_learners_goes_as_with_one_and_its_loss_is_one_clear_error(
    ray_local: None, toy_config: GRPOConfig, tmp_path: Path
) -> None:
    import ray

    config = toy_config.training(kl_coeff=0.01)
    with config.copy().build_algo() as one:
        expected = [one.train()["env_runners"]["episode_return_mean"] for _ in range(3)]
        end = one.learner.get_weights()
    with config.copy().learners(num_learners=2).build_algo() as two:
        assert isinstance(two.learner, LearnerGroup)
        results = [two.train() for _ in range(2)]
        two.save_to_path(tmp_path / "step_2")
        pid = ray.get(two.learner._ranks[0].__ray_call__.remote(lambda self: os.getpid()))
        os.kill(pid, signal.SIGKILL)
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


def test_more_learners_and_runners_than_cpus_are_refused_before_any_starts(
    ray_local: None, toy_config: GRPOConfig
) -> None:
    config = toy_config.learners(num_learners=2).env_runners(num_env_runners=1)
    with pytest.raises(OrchError, match="2 learners and 1 env runners need 3 CPU, Ray has 2"):
        config.build_algo()


def test_a_loss_of_ones_own_is_refused_where_actors_would_not_know_it() -> None:
    register_loss("mine", LOSSES["grpo"])
    try:
        config = GRPOConfig().training(loss="mine")
        assert config.settings.training.loss == "mine"
        with pytest.raises(OrchError, match="learner actors do not know it"):
            _ = config.learners(num_learners=2).settings
    finally:
        del LOSSES["mine"]
        registered_losses.remove("mine")
