"""A copying circuit planted into fresh weights: the longest match with what stands before wins.

As in the tiny model, but wider. The heads of layer 0 note beside each token what stood one, two,
three and about five tokens before it. The heads of the last layer compare a token and its notes
with the notes of earlier places, one token shifted, and copy what stands there. In between, one
head of layer 1 gathers what a row's first value is and another what a request asks for; one of
layer 2 compares the latter with the rows and fetches the former, and the last layer compares that
too. Where the first two look is learned; what they carry is planted.

The residual stream holds a constant, a random code per token, four notes, and what was gathered
and fetched; some dimensions are left free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

CODE, NOTE, NOTES, MARK, WANTED = 84, 16, 4, 12, 16
FIRST_NOTE = 1 + CODE
FIRST_WANTED = FIRST_NOTE + NOTE * NOTES
GATHERED = FIRST_WANTED + WANTED
FETCHED = GATHERED + MARK

_CODE_SIZE = 0.2
_NOTE_SCALE = 0.2
_MATCH = 3.0
_COPY = 1.6
_RECENT = 6  # a rotary pair that turns half round in 170 tokens
# How many coordinates of the current token, and of each note, a head of the last layer compares.
_SHARES = (8, 6, 6, 4)

GATHER_HEAD, OPEN_HEAD, WANTED_HEAD, FIND_HEAD = (1, 3), (1, 2), (1, 1), (2, 0)
COPY_HEADS = tuple((3, head) for head in range(4))


@torch.no_grad()
def plant(model: LlamaForCausalLM, seed: int) -> None:
    """Write the circuit into the embeddings and the attention layers of a fresh model."""
    width = model.config.hidden_size // model.config.num_attention_heads
    generator = torch.Generator().manual_seed(seed)
    codes_VC = torch.randn(model.config.vocab_size, CODE, generator=generator)
    codes_VC *= _CODE_SIZE * math.sqrt(CODE) / codes_VC.norm(dim=1, keepdim=True)
    embeddings_VD = model.model.embed_tokens.weight
    embeddings_VD.zero_()
    embeddings_VD[:, 0] = 2 * _CODE_SIZE
    embeddings_VD[:, 1:FIRST_NOTE] = codes_VC
    basis_NC = torch.linalg.qr(torch.randn(CODE, NOTE, generator=generator))[0].T
    marks_MC = torch.linalg.qr(torch.randn(CODE, MARK, generator=generator))[0].T
    turns = model.model.rotary_emb.inv_freq
    layers: Any = model.model.layers
    for head, back in enumerate((1, 2, 3, 5)):
        pairs = range(6) if back < 5 else range(1, 8)
        q, k, v, o = _head(layers[0], head, width)
        _look_back(q, k, turns, back, pairs, 5.0 if back < 5 else 1.7)
        v[:NOTE, 1:FIRST_NOTE] = basis_NC
        o[FIRST_NOTE + head * NOTE : FIRST_NOTE + (head + 1) * NOTE, :NOTE] = (
            torch.eye(NOTE) * _NOTE_SCALE
        )
    _, _, v, o = _head(layers[GATHER_HEAD[0]], GATHER_HEAD[1], width, keep=True)
    v[:MARK, 1:FIRST_NOTE] = marks_MC
    o[GATHERED:FETCHED, :MARK] = torch.eye(MARK) * _NOTE_SCALE
    _, _, v, o = _head(layers[WANTED_HEAD[0]], WANTED_HEAD[1], width, keep=True)
    v[:WANTED, 1:FIRST_NOTE] = basis_NC
    o[FIRST_WANTED:GATHERED, :WANTED] = torch.eye(WANTED) * 2 * _NOTE_SCALE
    q, k, _, _ = _head(layers[1], 0, width, keep=True)
    _match(q, k, basis_NC, 0)
    q, k, _, _ = _head(layers[FIND_HEAD[0]], FIND_HEAD[1], width, keep=True)
    for number, slot in enumerate(_slow(width)[:WANTED]):
        q[slot, FIRST_WANTED + number] = _MATCH / 2
        k[slot, 1:FIRST_NOTE] = _MATCH / 2 * basis_NC[number]
    _, _, v, o = _head(layers[FIND_HEAD[0]], FIND_HEAD[1], width, keep=True)
    v[:MARK, GATHERED:FETCHED] = torch.eye(MARK)
    o[FETCHED : FETCHED + MARK, :MARK] = torch.eye(MARK) * _NOTE_SCALE
    for head in range(4):
        q, k, v, o = _head(layers[3], head, width)
        _match(q, k, basis_NC, head)
        for slot in range(CODE // 2):
            dimension = 1 + (head % 2) * (CODE // 2) + slot
            v[slot, dimension] = 1.0
            o[dimension, slot] = _COPY / 2


@torch.no_grad()
def plant_row_opening(model: LlamaForCausalLM, openings: Sequence[int]) -> None:
    """Let one more head of layer 1 see which piece opened a token's row.

    The first row of a list opens with another piece than those after it, so this tells two rows
    apart whatever is in them. The head carries what the gathering head carries.

    Args:
        model: with the circuit planted, trained or not.
        openings: ids of the pieces that open an object.
    """
    width = model.config.hidden_size // model.config.num_attention_heads
    layers: Any = model.model.layers
    _, _, gathered_v, gathered_o = _head(layers[1], GATHER_HEAD[1], width, views_only=True)
    q, k, v, o = _head(layers[1], OPEN_HEAD[1], width)
    v.copy_(gathered_v)
    o.copy_(gathered_o)
    codes_NC = model.model.embed_tokens.weight[list(openings), 1:FIRST_NOTE]
    direction_C = codes_NC.sum(0) / codes_NC.sum(0).norm()
    q[_slow(width)[-1], 0] = 4.0
    k[_slow(width)[-1], 1:FIRST_NOTE] = 4.0 * direction_C
    q[_RECENT, 0] = k[_RECENT, 0] = 5.0


def _look_back(q: Tensor, k: Tensor, turns: Tensor, back: int, pairs: range, scale: float) -> None:
    """Attend ``back`` tokens back by rotary phases alone."""
    half = q.shape[0] // 2
    for pair in pairs:
        q[pair, 0] = scale
        k[pair, 0] = scale * math.cos(turns[pair] * back)
        k[pair + half, 0] = scale * math.sin(turns[pair] * back)


def _match(q: Tensor, k: Tensor, basis_NC: Tensor, head: int) -> None:
    """Compare the current token and its notes with the notes of the place after a match.

    The slowest rotary pairs carry this, so that it hardly depends on the distance.
    """
    q.zero_()
    k.zero_()
    half, slow = q.shape[0] // 2, _slow(q.shape[0])
    slot = 0
    for note, share in enumerate(_SHARES):
        for number in range(share):
            coordinate = (number + head * share) % NOTE
            if note == 0:
                q[slow[slot], 1:FIRST_NOTE] = _MATCH * basis_NC[coordinate]
            elif note < 3:
                q[slow[slot], FIRST_NOTE + (note - 1) * NOTE + coordinate] = _MATCH
            else:
                q[slow[slot], FIRST_NOTE + 3 * NOTE + coordinate] = 0.8 * _MATCH
                q[slow[slot], FIRST_NOTE + 2 * NOTE + coordinate] = 0.5 * _MATCH
            k[slow[slot], FIRST_NOTE + note * NOTE + coordinate] = _MATCH
            slot += 1
    # What was fetched is compared with what was gathered, in pairs that are a little faster.
    for number, pair in enumerate((9, 10, 11)):
        for part in (0, 1):
            place = pair + part * half
            coordinate = (2 * number + part + 6 * head) % MARK
            q[place, FETCHED + coordinate] = _MATCH / 3
            k[place, GATHERED + coordinate] = _MATCH / 3


def _slow(width: int) -> list[int]:
    """The slowest half of the rotary pairs."""
    half, quarter = width // 2, width // 4
    return [*range(half - quarter, half), *range(width - quarter, width)]


def _head(
    layer: Any, head: int, width: int, keep: bool = False, views_only: bool = False
) -> tuple[Tensor, ...]:
    """One head's rows of q, k, v and columns of o.

    Values and output are set to zero, queries and keys as well unless ``keep``; with
    ``views_only`` nothing is.
    """
    rows = slice(head * width, (head + 1) * width)
    attention = layer.self_attn
    views = (
        attention.q_proj.weight[rows],
        attention.k_proj.weight[rows],
        attention.v_proj.weight[rows],
        attention.o_proj.weight[:, rows],
    )
    for view in () if views_only else views[2:] if keep else views:
        view.zero_()
    return views
