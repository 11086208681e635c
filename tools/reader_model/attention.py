"""Attention that can be told where to look: the loss of supervised heads, beside the usual output.

Which earlier tokens matter is known, because the practice conversations are made. From answers
alone a small model does not find out which row is meant; from where to look it learns so in
minutes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from tools.reader_model.practice import Look

NAME = "supervised_heads"


class Supervision:
    """The looks of one batch, and the losses found in its forward pass."""

    def __init__(self) -> None:
        self._looks: dict[tuple[int, int], dict[int, Tensor]] = {}
        self.losses: dict[tuple[int, int], Tensor] = {}

    @contextmanager
    def of(self, looks: Sequence[Look]) -> Iterator[None]:
        """Supervise the forward passes within."""
        grouped: dict[tuple[int, int], dict[int, list[list[int]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for look in looks:
            grouped[look.head][look.row].append([look.place, look.start, look.end])
        self._looks = {h: {r: torch.tensor(x) for r, x in g.items()} for h, g in grouped.items()}
        self.losses = {}
        try:
            yield
        finally:
            self._looks = {}

    def attend(
        self,
        module: Any,
        query_BHTK: Tensor,
        key_BHTK: Tensor,
        value_BHTK: Tensor,
        attention_mask: Any,
        scaling: float,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """Causal attention, as transformers calls it."""
        for (layer, head), rows in self._looks.items():
            if layer == module.layer_idx:
                found = [
                    _log_mass(query_BHTK[row, head], key_BHTK[row, head], looks, scaling)
                    for row, looks in rows.items()
                ]
                self.losses[layer, head] = -torch.cat(found).mean()
        out_BHTK = scaled_dot_product_attention(
            query_BHTK, key_BHTK, value_BHTK, is_causal=True, scale=scaling
        )
        return out_BHTK.transpose(1, 2).contiguous(), None


def _log_mass(query_TK: Tensor, key_TK: Tensor, looks_N3: Tensor, scaling: float) -> Tensor:
    """Log of the attention mass on each look's range."""
    places, starts, ends = looks_N3[:, :1], looks_N3[:, 1:2], looks_N3[:, 2:]
    scores_NT = query_TK[places[:, 0]] @ key_TK.T * scaling
    at_T = torch.arange(key_TK.shape[0])[None]
    seen_NT = scores_NT.masked_fill(at_T > places, -torch.inf)
    wanted_NT = scores_NT.masked_fill((at_T < starts) | (at_T >= ends), -torch.inf)
    return wanted_NT.logsumexp(1) - seen_NT.logsumexp(1)


SUPERVISION = Supervision()
AttentionInterface.register(NAME, SUPERVISION.attend)
