"""Causal attention within each sequence of a packed row, without a mask.

A block-diagonal mask costs attention over the whole row squared and the fast causal kernel. Here
every sequence of the row is attended to by itself, with that kernel, so that a packed row costs
what its sequences cost alone. Where the sequences begin is passed *as the attention mask*, an
integer tensor of shape (1, 1, 1, sequences + 1) on the CPU: every architecture hands a
four-dimensional mask to its attention unchanged, also when activations are recomputed; further
keyword arguments reach it in some only.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from orch_env.types import OrchError

NAME = "orch_packed"
"""Under this name transformers knows it; on any other mask it is torch's `sdpa`."""


def borders_mask(lengths: list[int]) -> Tensor:
    """Borders of sequences that lie end to end, in the shape of an attention mask.

    Args:
        lengths: tokens of each sequence, each at least 1.

    Returns:
        int64 of shape (1, 1, 1, len(lengths) + 1): 0, then where each sequence ends.
    """
    ends = torch.cumsum(torch.tensor([0, *lengths]), dim=0)
    return ends[None, None, None]


def use_packed_attention(model: PreTrainedModel) -> None:
    """Let a model understand :func:`borders_mask`; all other inputs work as before.

    Raises:
        OrchError: the model's attention is not torch's, so it cannot be replaced by this.
    """
    current = model.config._attn_implementation
    if current == NAME:
        return
    if current == "sdpa":
        model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        raise OrchError(
            f"layout 'packed' needs a model with attention 'sdpa', {type(model).__name__} has "
            f"{current!r}; use layout 'rows'"
        )


def packed_attention(
    module: torch.nn.Module,
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention interface; see the module's docstring.

    Returns:
        Attention outputs of shape (B, T, H, D), and no weights.
    """
    if attention_mask is None or attention_mask.dtype != torch.int64:
        whole: tuple[Tensor, None] = sdpa_attention_forward(
            module, query_BHTD, key_BHTD, value_BHTD, attention_mask, **kwargs
        )
        return whole
    borders = attention_mask.flatten().tolist()
    sizes = [end - start for start, end in pairwise(borders)]
    window = kwargs.get("sliding_window")
    outputs = [
        sdpa_attention_forward(module, q, k, v, _window_mask(q, window), **kwargs)[0]
        for q, k, v in zip(
            torch.split(query_BHTD, sizes, dim=2),
            torch.split(key_BHTD, sizes, dim=2),
            torch.split(value_BHTD, sizes, dim=2),
            strict=True,
        )
    ]
    return torch.cat(outputs, dim=1), None


def _window_mask(query_BHTD: Tensor, window: int | None) -> Tensor | None:
    """A layer with a sliding window looks at the last ``window`` tokens, itself included."""
    length = query_BHTD.shape[2]
    if window is None or length <= window:
        return None
    positions_T = torch.arange(length, device=query_BHTD.device)
    distance_TT = positions_T[:, None] - positions_T[None, :]
    return ((distance_TT >= 0) & (distance_TT < window))[None, None]


ALL_ATTENTION_FUNCTIONS.register(NAME, packed_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
