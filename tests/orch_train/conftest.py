"""Fixtures of the training tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Before torch or Ray start: several processes share few cores, and OpenMP spins on them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import pytest

from orch_train.algorithms.grpo_config import GRPOConfig
from tests.orch_train.toy_env import ENV_ID


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """One Ray on this machine for all tests that need it; `address="local"` joins no other."""
    ray = pytest.importorskip("ray")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 << 20,
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer model that reads and writes bytes, with its tokenizer.

    About every twelfth token ends a message, so that episodes have several turns: one channel of
    the residual stream is constant and only the end token's logit reads it.
    """
    import torch

    from tests.orch_train.small_models import byte_tokenizer, small_llama

    folder = tmp_path_factory.mktemp("models") / "toy"
    tokenizer = byte_tokenizer()
    model = small_llama(vocabulary=len(tokenizer), tied=False)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 4.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[tokenizer.eos_token_id, 0] = 2.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def toy_config(toy_model: Path) -> GRPOConfig:
    """GRPO on the letters environment, in process: a step takes a tenth of a second."""
    return (
        GRPOConfig()
        .environment(ENV_ID, env_config={"tasks": "abcdef", "turns": 2})
        .model(str(toy_model))
        .rollouts(max_tokens_per_turn=12, max_context=256)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=16)
        .learners(max_tokens_per_microbatch=2048)
        .training(
            iterations=6,
            groups_per_batch=2,
            group_size=4,
            lr=3e-3,
            advantage="group_std",
            advantage_eps=0.01,
        )
        .reporting(tensorboard=False)
    )
