"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) on a model's linear layers, by peft.

A layer computes ``W x + (alpha / rank) B A x``; only A and B are trained. The
adapters are put into the model in place and never leave the learner. Engines, checkpoints and
evaluation see a plain model under the base model's names, with ``W + (alpha / rank) B A`` summed
in float32. In bfloat16 that sum is rounded once more than in the training pass; ``mismatch_kl``
shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from orch_env.types import OrchError
from orch_train.config import ModelSettings

ADAPTER = "default"
_PEFT_PREFIX = "base_model.model."


def add_adapters(model: PreTrainedModel, settings: ModelSettings) -> None:
    """Freeze a model and put adapters into it; they start as the identity.

    Args:
        model: changed in place; A is drawn from torch's random numbers.
        settings: its ``lora_*``.

    Raises:
        OrchError: peft is not installed, or no layer has a name of ``targets``.
    """
    peft = _peft()
    try:
        peft.inject_adapter_in_model(_config(settings), model, ADAPTER)
    except ValueError as problem:
        raise OrchError(
            f"model.lora_targets {', '.join(settings.lora_targets)}: {problem}; the model's linear "
            f"layers are {', '.join(sorted(_linear_names(model)))}"
        ) from problem


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """The layers with adapters by their name in the base model; empty without LoRA."""
    # Found by shape, so that a learner without adapters never imports peft.
    return {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "base_layer") and hasattr(module, "lora_A")
    }


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Within the block the model is the one that training started from: the reference policy."""
    layers = adapted_layers(model).values()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def merged_weight(layer: Any, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``W + (alpha / rank) B A`` in float32.

    Args:
        layer: gives the scale.
        weight: W, shape (out, in).
        a: shape (rank, in).
        b: shape (out, rank).
    """
    scale: float = layer.scaling[ADAPTER]
    return weight.float() + (b.float() @ a.float()) * scale


def save_adapter(folder: Path, settings: ModelSettings, weights: Mapping[str, Tensor]) -> None:
    """Write an adapter folder that peft loads onto the base model.

    Args:
        folder: made if it is missing.
        settings: written as ``adapter_config.json``.
        weights: A and B by their parameter names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _config(settings).save_pretrained(str(folder))
    named = {
        _PEFT_PREFIX + name.replace(f".{ADAPTER}.", "."): tensor.contiguous()
        for name, tensor in weights.items()
    }
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _config(settings: ModelSettings) -> Any:
    chosen = settings.lora
    assert chosen is not None
    targets = chosen["targets"]
    return _peft().LoraConfig(
        r=chosen["rank"],
        lora_alpha=chosen["alpha"],
        target_modules="all-linear" if targets == ["all-linear"] else targets,
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )


def _linear_names(model: nn.Module) -> set[str]:
    return {
        name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, nn.Linear)
    }


def _peft() -> Any:
    try:
        import peft
    except ImportError as problem:
        raise OrchError(
            "model.lora_rank is set but peft is not installed; pip install 'orch-rl[lora]'"
        ) from problem
    return peft
