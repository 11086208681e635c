"""Keys and values of many conversations in one padded buffer per layer, and attention over it.

Every conversation owns a slot (a row), filled from the left: its token at position p lies in
column p. So rows of different length need no holes and no compaction, and a conversation that
waits for its environment keeps its cache in place. Keys are stored transposed,
``[slots, heads, dim, columns]``, and query heads that share a key head are folded into the query
axis. One decoding step is then two batched matrix products over the buffer as it lies; repeating
the key heads, as ``transformers`` does it on the CPU, takes twenty times as long at 2,000 columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.cache_utils import Cache
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from orch_env.types import OrchError
from orch_train.engines.protocol import EngineError

ATTENTION = "orch_slots"


@dataclass(slots=True)
class Prefill:
    """Rows whose prompts are being read: ``S`` tokens each, padded on the right.

    Attributes:
        rows: slot of each row, int64 ``[P]``.
        columns: column of each token, int64 ``[P, S]``.
        width: number of columns to attend to; 0 if nothing is cached yet, so that attention is
            plainly causal over the tokens themselves.
    """

    rows: Tensor
    columns: Tensor
    width: int


@dataclass(slots=True)
class Decode:
    """One token for each of the first ``rows`` slots.

    Attributes:
        rows: number of slots, ``B``.
        columns: column of each new token, int64 ``[B]``.
        width: number of columns to attend to.
    """

    rows: int
    columns: Tensor
    width: int


class SlotCache(Cache):
    """The buffers, in the shape in which ``transformers`` models use a cache.

    ``plan`` says what the next forward pass writes and reads. Buffers are made at the first
    pass, from the shape of what the model wants to store, and grow by copying.

    Args:
        max_slots: growth in advance of need stops here.
        max_columns: likewise.
    """

    def __init__(self, max_slots: int, max_columns: int) -> None:
        super().__init__(layers=[])
        self._limits = max_slots, max_columns
        self.plan: Prefill | Decode | None = None
        self.slots = 0
        self.columns = 0
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    @property
    def nbytes(self) -> int:
        """Bytes held by all buffers."""
        return sum(t.nbytes for t in (*self._keys, *self._values))

    def reserve(self, slots: int, columns: int) -> None:
        """Make room for at least this many slots and columns."""
        wanted = (
            _room(slots, self.slots, 2.0, self._limits[0]),
            _room(columns, self.columns, 1.5, self._limits[1]),
        )
        if wanted == (self.slots, self.columns):
            return
        self.slots, self.columns = wanted
        for layer, (keys, values) in enumerate(zip(self._keys, self._values, strict=True)):
            self._keys[layer] = _grown(keys, self.slots, 3, self.columns)
            self._values[layer] = _grown(values, self.slots, 2, self.columns)

    def clear(self) -> None:
        """Free the buffers."""
        self._keys, self._values = [], []
        self.slots = self.columns = 0

    def copy_rows(self, sources: Tensor, targets: Tensor, width: int) -> None:
        """Copy the first ``width`` columns of some slots to others, all at once (swaps work)."""
        for keys, values in zip(self._keys, self._values, strict=True):
            keys[targets, :, :, :width] = keys[sources, :, :, :width]
            values[targets, :, :width] = values[sources, :, :width]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store new keys and values (``[rows, heads, tokens, dim]``); return what to attend to.

        Keys come back transposed, except for a prefill without anything cached, which attends
        to its own tokens.
        """
        if layer_idx == len(self._keys):
            self._add_layer(key_states, value_states)
        keys, values, plan = self._keys[layer_idx], self._values[layer_idx], self.plan
        if isinstance(plan, Decode):
            rows = torch.arange(plan.rows, device=keys.device)
            keys[rows, :, :, plan.columns] = key_states[:, :, 0]
            values[rows, :, plan.columns] = value_states[:, :, 0]
            return keys[: plan.rows, :, :, : plan.width], values[: plan.rows, :, : plan.width]
        if plan is None:
            raise EngineError("the slot cache was used without a plan")
        rows = plan.rows[:, None]
        keys[rows, :, :, plan.columns] = key_states.permute(0, 2, 1, 3)
        values[rows, :, plan.columns] = value_states.permute(0, 2, 1, 3)
        if plan.width == 0:
            return key_states, value_states
        return keys[plan.rows, :, :, : plan.width], values[plan.rows, :, : plan.width]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0  # positions are always given explicitly

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return query_length, 0  # the caller makes the masks

    def get_query_offset(self, layer_idx: int | None = None) -> int:
        return 0

    def _add_layer(self, keys: Tensor, values: Tensor) -> None:
        heads, key_dim, value_dim = keys.shape[1], keys.shape[3], values.shape[3]
        # Zeros: hidden columns are multiplied by a weight of 0, which NaN would survive.
        self._keys.append(keys.new_zeros(self.slots, heads, key_dim, self.columns))
        self._values.append(values.new_zeros(self.slots, heads, self.columns, value_dim))


def slot_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention for models that run on a :class:`SlotCache`.

    Args:
        module: the attention module; only its ``training`` flag is looked at.
        query: ``[B, H, S, D]``.
        key: ``[B, K, D, W]`` with an additive mask, else ``[B, K, S, D]``; ``H`` is a multiple
            of ``K``.
        value: ``[B, K, W, D]``.
        attention_mask: additive, ``[B, 1, S, W]``; ``None`` means causal over ``S`` tokens. A
            boolean one comes from ``transformers`` itself, when the model is used without slots;
            then ``key`` is not transposed.
        scaling: factor of the scores; by default ``D ** -0.5``.
        dropout: must be 0.
        kwargs: other features of a model's attention, refused if they are in use.

    Returns:
        The output ``[B, S, H, D]``, and no weights.
    """
    for feature in ("softcap", "s_aux", "position_bias"):
        if kwargs.get(feature) is not None:
            raise EngineError(f"the torch engine cannot serve attention with {feature}")
    if dropout:
        raise EngineError("the torch engine samples without dropout; call model.eval()")
    batch, heads, tokens, dim = query.shape
    groups = heads // key.shape[1]
    factor = dim**-0.5 if scaling is None else scaling
    if attention_mask is None or attention_mask.dtype == torch.bool:
        if groups > 1:
            key = key.repeat_interleave(groups, dim=1)
            value = value.repeat_interleave(groups, dim=1)
        out = nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=attention_mask,
            is_causal=attention_mask is None and tokens > 1,
            scale=factor,
        )
        return out.transpose(1, 2).contiguous(), None
    folded = (query * factor).reshape(batch, -1, groups * tokens, dim)
    scores = torch.matmul(folded, key).float()
    scores = scores.view(batch, -1, groups, tokens, key.shape[-1]) + attention_mask[:, :, None]
    weights = scores.softmax(-1).to(value.dtype).view(batch, -1, groups * tokens, key.shape[-1])
    out = torch.matmul(weights, value).view(batch, heads, tokens, -1)
    return out.transpose(1, 2).contiguous(), None


def serve_on_slots(model: nn.Module) -> None:
    """Switch a ``transformers`` model to :func:`slot_attention`.

    Raises:
        OrchError: the model has layers that are not plain full attention.
    """
    config = cast("Any", model).config.get_text_config()
    window = getattr(config, "sliding_window", None) or config.max_position_embeddings
    plain = "full" if window >= config.max_position_embeddings else "sliding"
    kinds = set(getattr(config, "layer_types", None) or [f"{plain}_attention"])
    if kinds != {"full_attention"}:
        raise OrchError(
            f"the torch engine serves full attention only; {config.model_type} has "
            f"{', '.join(sorted(kinds))} layers: use another engine"
        )
    AttentionInterface.register(ATTENTION, slot_attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    cast("Any", model).set_attn_implementation(ATTENTION)


def _room(needed: int, held: int, growth: float, limit: int) -> int:
    """Grow in proportion, so that copying stays a small share of the work."""
    if needed <= held:
        return held
    return max(needed, min(int(held * growth), limit))


def _grown(old: Tensor, slots: int, column_axis: int, columns: int) -> Tensor:
    shape = list(old.shape)
    shape[0], shape[column_axis] = slots, columns
    new = old.new_zeros(shape)
    new[tuple(slice(n) for n in old.shape)] = old
    return new
