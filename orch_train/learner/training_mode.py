"""Put a model into the state in which it is trained, and take copies of its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from orch_train.learner.lora import ADAPTER, adapted_layers, merged_weight


def prepare_for_training(model: PreTrainedModel, *, gradient_checkpointing: bool) -> None:
    """Training mode with every dropout off, and gradient checkpointing where asked for.

    Dropout must be off: a ratio to the sampling policy has no meaning under random masks. Training
    mode itself is needed because transformers checkpoints activations in no other.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_disable()  # type: ignore[no-untyped-call]


def _itself(tensor: Tensor) -> Tensor:
    return tensor


@torch.no_grad()
def snapshot(
    model: PreTrainedModel,
    overrides: Mapping[str, Tensor] | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: str | None = "cpu",
    gather: Callable[[Tensor], Tensor] = _itself,
    collect: bool = True,
) -> dict[str, Tensor]:
    """Copy the weights under the base model's names, adapters merged in.

    Names of one tied tensor share one copy.

    Args:
        model: the model, with or without adapters.
        overrides: values to copy in place of the model's own, by any one name of each tensor.
        dtype: of the copied parameters (buffers keep theirs); ``None``: merged weights in float32,
            all others as they are.
        device: of the copies; ``None``: where each tensor is.
        gather: turns a shard into the full tensor; called for each tensor in the same order on
            every rank.
        collect: ``False`` only takes part in ``gather`` and returns nothing.
    """
    state = model.state_dict(keep_vars=True)
    # By identity: a tied tensor is one object under two names.
    values = {id(state[name]): value for name, value in (overrides or {}).items()}
    layers = adapted_layers(model)
    copies: dict[int, Tensor] = {}
    weights: dict[str, Tensor] = {}

    def full(tensor: Tensor) -> Tensor:
        return gather(values.get(id(tensor), tensor).detach())

    for name, tensor in state.items():
        owner, _, kind = name.rpartition(".base_layer.")
        if name.rpartition(".lora_")[0] in layers:
            continue
        if id(tensor) not in copies:
            if owner in layers and kind == "weight":
                value = _merged(layers[owner], tensor, full)
            else:
                value = full(tensor)
            if not collect:
                value = value.new_empty(0)
            elif dtype is not None and isinstance(tensor, nn.Parameter):
                value = value.to(dtype)
            copies[id(tensor)] = value.to(device or value.device, copy=True)
        weights[f"{owner}.{kind}" if owner in layers else name] = copies[id(tensor)]
    return weights if collect else {}


def _merged(layer: Any, tensor: Tensor, full: Callable[[Tensor], Tensor]) -> Tensor:
    a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    return merged_weight(layer, full(tensor), full(a), full(b))
