"""After an update a worker serves, bit for bit, what vLLM loads from a checkpoint of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

pytest.importorskip("vllm")

from vllm.config import VllmConfig, WeightTransferConfig, set_current_vllm_config
from vllm.distributed import parallel_state
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.model_loader import get_model

from orch_train.engines.vllm.worker import (
    BACKEND,
    SharedInitInfo,
    SharedMemoryEngine,
)

SIZES: dict[str, Any] = {
    "vocab_size": 100,  # vLLM fills it up to 128
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
MODELS: dict[str, Callable[[], Any]] = {
    "tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "untied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False)),
    "biases": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "transposed": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=100, n_positions=64, n_embd=64, n_layer=2, n_head=2)
    ),
}


class Worker:
    """A model as a worker of vLLM's serves it, and the engine that takes its weights."""

    def __init__(self, folder: Path, dtype: str = "float32") -> None:
        arguments = EngineArgs(
            str(folder), dtype=dtype, skip_tokenizer_init=True, enforce_eager=True, max_model_len=64
        )
        self.config = arguments.create_engine_config()
        with set_current_vllm_config(self.config):
            self.model = get_model(vllm_config=self.config)
        self.engine = SharedMemoryEngine(
            WeightTransferConfig(backend=BACKEND), self.config, torch.device("cpu"), self.model
        )
        self.engine.init_transfer_engine(SharedInitInfo())

    def update(self, weights: dict[str, Tensor]) -> None:
        pairs = list(weights.items())
        with set_current_vllm_config(self.config):
            self.engine.start_weight_update()
            self.engine.load(pairs[:3])
            self.engine.load(pairs[3:])
            self.engine.finish_weight_update()

    def state(self) -> dict[str, Tensor]:
        """Everything that weights decide: tensors, and products with packed ones."""
        found = {name: tensor.clone() for name, tensor in self.model.named_parameters()}
        found.update((name, tensor.clone()) for name, tensor in self.model.named_buffers())
        for name, module in self.model.named_modules():
            if hasattr(module, "cpu_linear"):
                width = getattr(module, "input_size_per_partition", None) or module.embedding_dim
                dtype = next(p.dtype for p in module.parameters())
                probe = torch.randn(5, width, generator=torch.Generator().manual_seed(1)).to(dtype)
                found[f"{name}()"] = module.cpu_linear(probe, module.weight, None)
        return found


@pytest.fixture(scope="module", autouse=True)
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("group")
    with set_current_vllm_config(VllmConfig()):
        parallel_state.init_distributed_environment(
            1, 0, f"file://{folder}/rendezvous", 0, backend="gloo"
        )
        parallel_state.ensure_model_parallel_initialized(1, 1)
    with pytest.MonkeyPatch.context() as patch:
        # vLLM's CPU worker replaces it too; torch's own raises without an accelerator.
        patch.setattr(torch.accelerator, "empty_cache", lambda: None)
        yield
    parallel_state.destroy_model_parallel()
    parallel_state.destroy_distributed_environment()


def checkpoint(folder: Path, kind: str, seed: int) -> dict[str, Tensor]:
    """Save a model of random weights; returns them by their names, a tied head once."""
    model = MODELS[kind]()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    model.save_pretrained(folder)
    tied = model.config.tie_word_embeddings
    state = model.state_dict()
    return {n: t for n, t in state.items() if not (tied and n == "lm_head.weight")}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", list(MODELS))
def test_after_each_update_a_worker_serves_what_a_new_one_would(
    kind: str, dtype: str, tmp_path: Path
) -> None:
    checkpoint(tmp_path / "0", kind, 0)
    worker = Worker(tmp_path / "0", dtype)
    before = worker.state()
    for seed in (1, 2, 3):
        weights = checkpoint(tmp_path / str(seed), kind, seed)
        worker.update({n: t.to(getattr(torch, dtype)) for n, t in weights.items()})
        now, wanted = worker.state(), Worker(tmp_path / str(seed), dtype).state()
        assert set(now) == set(wanted)
        for name in now:
            assert torch.equal(now[name], wanted[name]), name
    packed = [name for name in now if name.endswith("()")]
    assert len(packed) > 6 and not any(torch.equal(before[name], now[name]) for name in packed)


@pytest.mark.parametrize("updates", [0, 1])
def test_a_parameter_without_weights_fails_the_update(updates: int, tmp_path: Path) -> None:
    weights = checkpoint(tmp_path, "tied", 0)
    worker = Worker(tmp_path)
    for _ in range(updates):
        worker.update(weights)
    del weights["model.norm.weight"]
    with pytest.raises(RuntimeError, match=r"1 parameters got no .* the first is model\.norm\.w"):
        worker.update(weights)


def test_every_update_must_bring_the_weights_of_the_first(tmp_path: Path) -> None:
    """A fused parameter gets the rest of its weights, so vLLM itself says nothing."""
    weights = checkpoint(tmp_path, "tied", 0)
    worker = Worker(tmp_path)
    worker.update(weights)
    missing = "model.layers.1.mlp.up_proj.weight"
    kept = weights.pop(missing)
    with pytest.raises(RuntimeError, match=f"1 weights differ .* {missing} is missing"):
        worker.update(weights)
    worker.update({**weights, missing: kept})


@pytest.mark.parametrize(
    "wrong", [{"model.norm.weight": torch.ones(65)}, {"extra.weight": torch.ones(2)}]
)
def test_weights_of_another_shape_or_name_fail_the_update(
    wrong: dict[str, Tensor], tmp_path: Path
) -> None:
    weights = checkpoint(tmp_path, "tied", 0)
    worker = Worker(tmp_path)
    with pytest.raises((AssertionError, ValueError)):
        worker.update({**weights, **wrong})
