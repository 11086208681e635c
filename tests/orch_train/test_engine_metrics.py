"""What engines and tools tell about themselves, against hand counts, and through a whole step."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.engines.protocol import SamplingParams, TokenOutput
from orch_train.engines.torch.engine import TorchEngine
from orch_train.metrics.engines import COUNTERS, EngineReader, engine_metrics, paused_seconds
from orch_train.metrics.rollouts import sync_metrics
from orch_train.run.metrics_file import flatten
from orch_train.trajectory.requests import SampleReply
from orch_train.weight_sync.buckets import Manifest
from tests.orch_train.replies import reply_of
from tests.orch_train.small_models import small_llama


class Counting:
    """An engine of which only the counters are looked at."""

    def __init__(self, **stats: float) -> None:
        self.stats = stats


class Plain:
    """An engine of somebody else's, which has no counters."""


def _reply(**engine: float) -> SampleReply:
    return reply_of("g", "t", 0, engine=engine)


def test_a_reader_tells_what_was_added_since_it_was_last_asked() -> None:
    engine: Any = Counting(prompt_tokens=10, prefilled_tokens=10, cache_bytes=4096)
    reader = EngineReader(engine)
    assert reader.since_last() == {"prompt_tokens": 0, "prefilled_tokens": 0}
    engine.stats |= {"prompt_tokens": 25, "prefilled_tokens": 14, "syncs": 1}
    assert reader.since_last() == {"prompt_tokens": 15, "prefilled_tokens": 4, "syncs": 1}
    plain: Any = Plain()
    assert EngineReader(plain).since_last() == {}


def test_a_step_adds_up_what_its_replies_bring() -> None:
    replies = [
        _reply(steps=3, running=12, waiting=0, kv_usage=1.5, prompt_tokens=80, prefilled_tokens=20),
        _reply(steps=1, running=0, waiting=2, kv_usage=0.5, prompt_tokens=20, prefilled_tokens=20),
        _reply(syncs=2, paused_s=0.5),
    ]
    assert engine_metrics(replies) == {
        "running": 3.0,
        "waiting": 0.5,
        "kv_usage": 0.5,
        "prefix_hit": pytest.approx(0.6),
    }
    assert paused_seconds(replies) == {"paused_seconds": 0.25}


def test_what_no_engine_told_is_left_out() -> None:
    assert engine_metrics([_reply(), _reply(prompt_tokens=3)]) == {}
    assert engine_metrics([_reply(steps=2, running=2)]) == {"running": 1.0}
    assert paused_seconds([_reply(syncs=0, paused_s=0.0)]) == {}


def test_a_sync_is_counted_in_bytes() -> None:
    weights = {"a": torch.zeros(3, 2), "b": torch.zeros(5, dtype=torch.bfloat16)}
    weights["tied_to_a"] = weights["a"]
    assert sync_metrics(Manifest.of(weights), 0.5, [_reply(syncs=1, paused_s=0.125)]) == {
        "seconds": 0.5,
        "bytes": 34,
        "paused_seconds": 0.125,
    }
    assert sync_metrics(None, 0.5, []) == {}


def test_the_torch_engine_counts_its_steps_and_syncs() -> None:
    model = small_llama()
    engine = TorchEngine(model, max_batch=2)

    async def scenario(prompts: Sequence[list[int]]) -> list[TokenOutput]:
        sampling = SamplingParams(max_tokens=4)
        named = enumerate(prompts)
        return list(await asyncio.gather(*(engine.generate(p, sampling, str(n)) for n, p in named)))

    try:
        reader = EngineReader(engine)
        asyncio.run(scenario([[1, 2, 3], [4, 5, 6], [7, 8, 9]]))
        told = reader.since_last()
        assert set(told) == set(COUNTERS)
        # Two places: two messages of four tokens side by side, then the third.
        assert (told["steps"], told["running"], told["waiting"]) == (8, 12, 4)
        assert told["kv_usage"] == 8.0  # nobody said that the conversations are over
        assert told["prompt_tokens"] == 9 and told["syncs"] == told["paused_s"] == 0
        asyncio.run(engine.sync(model.state_dict(), 1))
        told = reader.since_last()
        assert told["syncs"] == 1 and told["paused_s"] > 0 and told["steps"] == 0
    finally:
        engine.close()


def test_a_training_step_tells_of_its_engine_and_its_sync(toy_config: GRPOConfig) -> None:
    with toy_config.build_algo() as algo:
        results = [algo.train() for _ in range(2)]
        weights = algo.learner.get_weights()
    size = sum(
        t.numel() * t.element_size() for t in {t.data_ptr(): t for t in weights.values()}.values()
    )
    for result in results:
        flat = flatten(result)
        engine = {k: v for k, v in flat.items() if k.startswith("env_runners/engine/")}
        assert set(engine) == {
            f"env_runners/engine/{name}"
            for name in ("running", "waiting", "kv_usage", "prefix_hit")
        }
        assert 1 <= flat["env_runners/engine/running"] <= 8
        assert 0 < flat["env_runners/engine/kv_usage"] <= 1
        assert 0 < flat["env_runners/engine/prefix_hit"] < 1  # members share their prompts
        assert flat["sync/bytes"] == size
        assert flat["sync/seconds"] > 0 and flat["sync/paused_seconds"] > 0
