"""Whole training steps with vLLM inside: it samples, the learner learns, new weights arrive."""

from __future__ import annotations

from pathlib import Path

import pytest

from orch_train.algorithms.grpo_config import GRPOConfig
from tests.orch_train.replies import groups_of
from tests.orch_train.toy_env import ENV_ID
from tests.orch_train.vllm.conftest import save_small_model

STEPS = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("training") / "model", tied=False)


@pytest.mark.parametrize(("staleness", "runners"), [(0, 0), (1, 1)])
def test_each_step_trains_on_what_vllm_sampled_and_syncs(
    staleness: int, runners: int, ray_local: None, model: Path
) -> None:
    config = (
        GRPOConfig()
        .environment(ENV_ID, env_config={"tasks": "abcdef", "turns": 2})
        .model(str(model))
        .rollouts(
            engine="vllm",
            engine_config={"kv_cache_gib": 0.25, "check_weights": True},
            max_tokens_per_turn=40,
            max_context=300,
        )
        .env_runners(num_env_runners=runners, num_envs_per_env_runner=8)
        .learners(num_cpus_per_learner=1)
        .training(
            iterations=STEPS, groups_per_batch=4, group_size=4, lr=3e-3, max_staleness=staleness
        )
        .reporting(tensorboard=False)
    )
    with config.build_algo() as algo:
        for step in range(STEPS):
            result = algo.train()
            assert result["weights_seq_no"] == step + 1  # something was learned, and handed over
            versions = {
                version
                for group in groups_of(algo)
                for sample in group.samples
                for version in sample.versions_N.tolist()
            }
            oldest = max(0, step - staleness)
            assert versions <= set(range(oldest, step + 1))
            learned = result["learners"]["default_policy"]
            assert learned["grad_norm"] > 0
            if versions == {step}:
                # Its probabilities are those of the very weights that learn.
                assert abs(learned["mismatch_kl"]) < 1e-6
            else:
                assert 0 < learned["mismatch_kl"] < 0.5
            assert result["fault_tolerance"]["num_env_runner_restarts"] == 0
            engine = result["env_runners"]["engine"]
            assert 0 < engine["running"] <= 8 and engine["waiting"] >= 0
            assert 0 < engine["kv_usage"] <= 1 and 0 <= engine["prefix_hit"] < 1
            assert result["sync"]["seconds"] > 0 and result["sync"]["bytes"] > 0
            if step > 0:
                assert result["sync"]["paused_seconds"] > 0
