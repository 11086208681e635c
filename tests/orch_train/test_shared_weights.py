"""One process that samples and learns in turn holds one copy of the weights, and learns alike."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from orch_train import GRPOConfig
from orch_train.algorithms import grpo
from orch_train.config.weight_route import shares_weights
from orch_train.engines.torch.engine import TorchEngine
from orch_train.models.memory import estimate_memory
from orch_train.run.metrics_file import flatten
from orch_train.weight_sync.buckets import LiveWeights
from tests.orch_train.small_models import small_llama


def memory(model: Any) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}


def test_an_engine_serves_live_weights_without_a_copy_and_others_with_one() -> None:
    served, trained = small_llama(seed=1), small_llama(seed=2)
    engine = TorchEngine(served)
    own = memory(served)
    asyncio.run(engine.sync(dict(trained.state_dict()), 1))
    assert memory(served) == own
    asyncio.run(engine.sync(LiveWeights(trained.state_dict()), 2))
    assert memory(served) == memory(trained)
    engine.close()


def test_weights_that_come_after_live_ones_leave_the_learner_as_it_is() -> None:
    served, trained, other = (small_llama(seed=seed) for seed in (1, 2, 3))
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    engine = TorchEngine(served)
    asyncio.run(engine.sync(LiveWeights(trained.state_dict()), 1))
    asyncio.run(engine.sync(dict(other.state_dict()), 2))
    engine.close()
    for name, tensor in before.items():
        assert torch.equal(trained.state_dict()[name], tensor)
        assert torch.equal(served.state_dict()[name], other.state_dict()[name])


def test_live_weights_of_another_type_are_converted() -> None:
    served, trained = small_llama(seed=1).bfloat16(), small_llama(seed=2)
    engine = TorchEngine(served)
    asyncio.run(engine.sync(LiveWeights(trained.state_dict()), 1))
    engine.close()
    for name, tensor in trained.state_dict().items():
        assert torch.equal(served.state_dict()[name], tensor.bfloat16())


@pytest.mark.parametrize(
    ("override", "shared"),
    [
        ("env_runners.num_env_runners=0", True),
        ("env_runners.num_env_runners=1", False),
        ("learners.num_learners=1", False),
        ("training.max_staleness=1", False),
        ("model.lora_rank=4", False),
    ],
)
def test_weights_are_shared_only_where_nobody_samples_while_they_change(
    override: str, shared: bool
) -> None:
    config = GRPOConfig().env_runners(num_env_runners=0).with_overrides([override])
    assert shares_weights(config.settings) is shared


def test_training_with_one_copy_is_training_with_two(
    toy_config: GRPOConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for shared in (True, False):
        monkeypatch.setattr(grpo, "shares_weights", lambda settings, shared=shared: shared)
        with toy_config.copy().build_algo() as algo:
            results = [flatten(algo.train()["learners"]) for _ in range(3)]
            weights = algo.learner.get_weights()
        runs.append((results, weights))
    (one, own), (two, other) = runs
    assert all(torch.equal(own[name], other[name]) for name in own)
    for name in ("policy_loss", "grad_norm", "entropy", "mismatch_kl"):
        key = f"default_policy/{name}"
        assert [r[key] for r in one] == [r[key] for r in two]


def test_the_estimate_counts_shared_weights_once(tmp_path: Path) -> None:
    small_llama().save_pretrained(tmp_path)
    config = GRPOConfig().model(str(tmp_path))
    alone = estimate_memory(
        config.copy().env_runners(num_env_runners=0).settings, str(tmp_path)
    ).runner["weights"]
    apart = estimate_memory(
        config.copy().env_runners(num_env_runners=1).settings, str(tmp_path)
    ).runner["weights"]
    assert alone == 0 < apart
