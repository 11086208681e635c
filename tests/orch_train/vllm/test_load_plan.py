"""Weights that are written directly are those that vLLM's own reload would have served."""

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

vllm = pytest.importorskip("vllm")

from vllm.config import VllmConfig, set_current_vllm_config  # noqa: E402
from vllm.distributed import parallel_state  # noqa: E402
from vllm.engine.arg_utils import EngineArgs  # noqa: E402
from vllm.model_executor.layers.linear import UnquantizedLinearMethod  # noqa: E402
from vllm.model_executor.model_loader import get_model  # noqa: E402

from orch_train.engines.vllm.served_weights import ServedWeights  # noqa: E402

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


class Models:
    """Saves models and loads them as vLLM serves them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: Any = None

    def load(self, kind: str, dtype: str = "float32") -> Any:
        folder = self.folder / kind
        if not folder.exists():
            torch.manual_seed(0)
            MODELS[kind]().save_pretrained(folder)
        arguments = EngineArgs(
            str(folder), dtype=dtype, skip_tokenizer_init=True, enforce_eager=True, max_model_len=64
        )
        self.config = arguments.create_engine_config()
        with set_current_vllm_config(self.config):
            return get_model(vllm_config=self.config)

    def weights(
        self, kind: str, seed: int, dtype: torch.dtype = torch.float32
    ) -> dict[str, Tensor]:
        """Random weights by their names in a checkpoint; a tied head comes once."""
        model = MODELS[kind]()
        torch.manual_seed(seed)
        tied = model.config.tie_word_embeddings
        return {
            name: torch.randn(tensor.shape).mul(0.1).to(dtype)
            for name, tensor in model.state_dict().items()
            if not (tied and name == "lm_head.weight")
        }

    def served(self, model: Any, **how: Any) -> Callable[[dict[str, Tensor]], ServedWeights]:
        taking = ServedWeights(model, self.config.model_config, **how)
        config = self.config

        def update(weights: dict[str, Tensor]) -> ServedWeights:
            pairs = list(weights.items())
            with set_current_vllm_config(config):
                taking.begin()
                taking.apply(pairs[:3])
                taking.apply(pairs[3:])
                taking.finish()
            return taking

        return update


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    folder = tmp_path_factory.mktemp("models")
    with set_current_vllm_config(VllmConfig()):
        parallel_state.init_distributed_environment(
            1, 0, f"file://{folder}/rendezvous", 0, backend="gloo"
        )
        parallel_state.ensure_model_parallel_initialized(1, 1)
    with pytest.MonkeyPatch.context() as patch:
        # vLLM's CPU worker replaces it too; torch's own raises without an accelerator.
        patch.setattr(torch.accelerator, "empty_cache", lambda: None)
        yield Models(folder)
    parallel_state.destroy_model_parallel()
    parallel_state.destroy_distributed_environment()


def state(model: Any) -> dict[str, Tensor]:
    """Everything that weights decide: tensors, and products with packed ones."""
    found = {name: tensor.clone() for name, tensor in model.named_parameters()}
    found.update((name, tensor.clone()) for name, tensor in model.named_buffers())
    for name, module in model.named_modules():
        if hasattr(module, "cpu_linear"):
            width = getattr(module, "input_size_per_partition", None) or module.embedding_dim
            dtype = next(p.dtype for p in module.parameters())
            probe = torch.randn(5, width, generator=torch.Generator().manual_seed(1)).to(dtype)
            found[f"{name}()"] = module.cpu_linear(probe, module.weight, None)
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", list(MODELS))
def test_three_updates_give_what_vllms_reload_gives(models: Models, kind: str, dtype: str) -> None:
    one, other = models.load(kind, dtype), models.load(kind, dtype)
    directly, reloading = models.served(one), models.served(other, direct=False)
    before = state(one)
    for seed in range(3):
        weights = models.weights(kind, seed, getattr(torch, dtype))
        taking = directly(weights)
        reloading({name: tensor.clone() for name, tensor in weights.items()})
        for tensor in weights.values():
            tensor.fill_(float("nan"))  # nothing may look at them later
        now, wanted = state(one), state(other)
        assert set(now) == set(wanted)
        for name in now:
            assert torch.equal(now[name], wanted[name]), name
        assert taking.summary["reloaded"] == []
        assert taking.summary["direct"] > 6
    assert not any(torch.equal(before[name], now[name]) for name in now if name.endswith("()"))


class Doubling(UnquantizedLinearMethod):  # type: ignore[misc]
    """Serves twice the weight: a kind of post-processing that the plan does not know."""

    def process_weights_after_loading(self, layer: Any) -> None:
        layer.weight.data.mul_(2)
        super().process_weights_after_loading(layer)


def test_a_layer_of_an_unknown_kind_goes_on_with_the_reload(models: Models) -> None:
    model = models.load("untied")
    attention = model.model.layers[1].self_attn
    attention.qkv_proj.quant_method = Doubling()
    update = models.served(model)
    probe = torch.randn(3, 64)
    for seed in range(3):
        weights = models.weights("untied", seed)
        taking = update(weights)
        assert taking.summary["reloaded"] == ["model.layers.1.self_attn.qkv_proj"]
        parts = [weights[f"model.layers.1.self_attn.{p}_proj.weight"] for p in "qkv"]
        served = attention.qkv_proj.cpu_linear(probe, attention.qkv_proj.weight, None)
        assert torch.allclose(served, 2 * probe @ torch.cat(parts).T, atol=1e-4)
        served = attention.o_proj.cpu_linear(probe, attention.o_proj.weight, None)
        wanted = probe @ weights["model.layers.1.self_attn.o_proj.weight"].T
        assert torch.allclose(served, wanted, atol=1e-4)


class Deriving(UnquantizedLinearMethod):  # type: ignore[misc]
    """Serves the weight as it is, beside something that is computed from it."""

    def process_weights_after_loading(self, layer: Any) -> None:
        layer.total = layer.weight.data.sum()


def test_a_layer_that_derives_something_else_goes_on_with_the_reload(models: Models) -> None:
    model = models.load("untied")
    norm = model.model.norm
    norm.quant_method = Deriving()
    update = models.served(model)
    for seed in range(3):
        weights = models.weights("untied", seed)
        assert update(weights).summary["reloaded"] == ["model.norm"]
        assert torch.equal(norm.total, weights["model.norm.weight"].sum())


def test_a_loader_that_does_more_than_copy_goes_on_with_the_reload(models: Models) -> None:
    model = models.load("untied")
    norm = model.model.norm

    def load_and_add_one(param: Tensor, loaded: Tensor) -> None:
        param.data.copy_(loaded)
        param.data.add_(1.0)

    from vllm.model_executor.model_loader.reload import record_metadata_for_reloading

    norm.weight.weight_loader = load_and_add_one
    record_metadata_for_reloading(norm)
    update = models.served(model)
    for seed in range(3):
        weights = models.weights("untied", seed)
        assert update(weights).summary["reloaded"] == ["model.norm"]
        assert torch.equal(norm.weight, weights["model.norm.weight"] + 1)
        wanted = weights["model.layers.0.input_layernorm.weight"]
        assert torch.equal(model.model.layers[0].input_layernorm.weight, wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("model.norm.weight"), r"model.norm.weight is missing"),
        (lambda w: w.update(extra=torch.ones(2)), r"extra is new"),
        (
            lambda w: w.update({"model.norm.weight": torch.ones(65)}),
            r"model.norm.weight is \(65,\) of torch.float32, in the first sync it was \(64,\)",
        ),
        (
            lambda w: w.update({"model.norm.weight": torch.ones(64, dtype=torch.float16)}),
            r"model.norm.weight is \(64,\) of torch.float16",
        ),
    ],
)
def test_other_names_and_shapes_than_at_first_are_an_error_before_anything_is_written(
    models: Models, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    model = models.load("untied")
    update = models.served(model)
    update(models.weights("untied", 0))
    before = state(model)
    weights = models.weights("untied", 1)
    change(weights)
    with pytest.raises(RuntimeError, match=message):
        update(weights)
    after = state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
