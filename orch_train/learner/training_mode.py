"""Put a model into the state in which it is trained, and take copies of its weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


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


@torch.no_grad()
def snapshot(
    model: PreTrainedModel, instead: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Copy the state dict to the CPU; names of one tied tensor share one copy.

    Args:
        model: the model.
        instead: values to copy in place of the model's own, by any one name of each tensor.
    """
    state = model.state_dict()
    values = {state[name].data_ptr(): value for name, value in (instead or {}).items()}
    copies: dict[int, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for name, tensor in state.items():
        key = tensor.data_ptr()
        if key not in copies:
            copies[key] = values.get(key, tensor).detach().to("cpu", copy=True)
        weights[name] = copies[key]
    return weights
