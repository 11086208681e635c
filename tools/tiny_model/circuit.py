"""An induction circuit planted into fresh weights, so that copying need not be waited for.

A small transformer learns to copy in a phase change, after hundreds of steps in which nothing
seems to happen, because two layers must find each other (Olsson et al. 2022, arXiv 2209.11895).
The circuit is known, so it is written down. Layer 0 has a *previous-token
head* that notes beside each token what stood before it; layer 1 has *matching heads* that look
for places whose note equals the current token and copy what stands there. Everything else keeps
its random start, and every weight is trained like any other.

The residual stream of width D is laid out as: dimension 0 holds a constant, 1 to D - W - 1 hold
a random code per token, and the last W (the width of a head) hold the note.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM


@dataclass(frozen=True)
class CircuitStrength:
    """How firmly the circuit is planted. Copying works over a wide range of these.

    Attributes:
        code: root mean square of the entries of a token's code.
        previous: scale of the queries and keys that find the previous token.
        match: scale of the queries and keys that compare a token with a note.
        copy: scale of what is copied, in codes.
    """

    code: float = 0.2
    previous: float = 6.0
    match: float = 3.0
    copy: float = 8.0


@torch.no_grad()
def plant_induction(
    model: LlamaForCausalLM, seed: int, strength: CircuitStrength | None = None
) -> None:
    """Write the circuit into the embeddings and the first two attention layers.

    Args:
        model: fresh weights, embeddings tied, as many key heads as heads.
        seed: of the token codes and of the projection that notes hold.
        strength: see :class:`CircuitStrength`.

    Raises:
        ValueError: the architecture leaves no room for the circuit.
    """
    config = model.config
    heads, width = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    if not config.tie_word_embeddings or config.num_key_value_heads != heads:
        raise ValueError("the circuit needs tied embeddings and one key head per head")
    if config.num_hidden_layers < 2 or heads < 3 or width % 4:
        raise ValueError("the circuit needs two layers, three heads and a head width of 4 n")
    chosen = strength or CircuitStrength()
    generator = torch.Generator().manual_seed(seed)
    num_code = config.hidden_size - width - 1
    codes_VC = torch.randn(config.vocab_size, num_code, generator=generator)
    codes_VC *= chosen.code * math.sqrt(num_code) / codes_VC.norm(dim=1, keepdim=True)
    embeddings_VD = model.model.embed_tokens.weight
    embeddings_VD.zero_()
    embeddings_VD[:, 0] = 2 * chosen.code
    embeddings_VD[:, 1 : 1 + num_code] = codes_VC
    basis_CW = torch.linalg.qr(torch.randn(num_code, width, generator=generator))[0]
    turns = model.model.rotary_emb.inv_freq
    layers: Any = model.model.layers
    _plant_previous_token_head(layers[0].self_attn, basis_CW.T, turns, chosen.previous)
    _plant_matching_heads(layers[1].self_attn, basis_CW.T, heads, chosen)


def _plant_previous_token_head(
    attention: Any, basis_WC: Tensor, turns: Tensor, scale: float
) -> None:
    """Head 0 attends one token back, by rotary phases alone, and writes a note of it.

    Args:
        attention: the layer.
        basis_WC: the part of a code that the note holds.
        turns: radians per position of each rotary pair.
        scale: of queries and keys.
    """
    width, num_code = basis_WC.shape
    half = width // 2
    q, k, v, o = _cleared(attention, 0, width)
    for pair in range(width // 8):  # the fastest pairs tell neighbours apart
        q[pair, 0] = scale
        # Turned one position ahead: the product is largest where the key stands one back.
        k[pair, 0] = scale * math.cos(turns[pair])
        k[pair + half, 0] = scale * math.sin(turns[pair])
    v[:, 1 : 1 + num_code] = basis_WC
    o[-width:] = torch.eye(width)


def _plant_matching_heads(
    attention: Any, basis_WC: Tensor, heads: int, strength: CircuitStrength
) -> None:
    """Every head compares half a note; the heads share out which dimensions they copy."""
    width, num_code = basis_WC.shape
    half, quarter = width // 2, width // 4
    # The slowest rotary pairs: what they compare hardly depends on the distance.
    slow = [*range(half - quarter, half), *range(width - quarter, width)]
    for head in range(heads):
        q, k, v, o = _cleared(attention, head, width)
        offset = (head % 2) * half
        for number, slot in enumerate(slow):
            q[slot, 1 : 1 + num_code] = strength.match * basis_WC[offset + number]
            k[slot, 1 + num_code + offset + number] = strength.match
        for slot, dimension in enumerate(
            range(1 + head * width, min(1 + (head + 1) * width, 1 + num_code))
        ):
            v[slot, dimension] = 1.0
            o[dimension, slot] = strength.copy * strength.code


def _cleared(attention: Any, head: int, width: int) -> tuple[Tensor, ...]:
    """One head's rows of q, k, v and columns of o, set to zero; views into the weights."""
    rows = slice(head * width, (head + 1) * width)
    views = (
        attention.q_proj.weight[rows],
        attention.k_proj.weight[rows],
        attention.v_proj.weight[rows],
        attention.o_proj.weight[:, rows],
    )
    for view in views:
        view.zero_()
    return views
