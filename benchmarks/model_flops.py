"""Floating-point operations of a learner's update, by formula: the numerator of MFU.

Convention: what the mathematics needs, not what a kernel does. A multiply-add is 2; the backward
pass is twice the forward pass; recomputed activations are not counted again; softmax, norms and
the optimizer are not counted. Attention is causal and stays within its sequence, so a sequence of
n tokens counts n^2 / 2 pairs (sums over sequences, never over the packed row). The head counts
only on the action tokens on which it runs; `full_head` counts it on every token, which is how
trainers report that run it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A dense decoder: grouped-query attention and a gated MLP.

    Attributes:
        layers: number of decoder layers.
        hidden: width of the residual stream.
        intermediate: width of the MLP.
        heads: query heads.
        kv_heads: key and value heads.
        head_size: width of a head.
        vocabulary: rows of the output head.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int

    @property
    def layer_weights(self) -> int:
        """Weights of all matrices of all layers."""
        attention = 2 * self.hidden * self.head_size * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)


def update_flops(
    shape: Shape, lengths: Sequence[int], action_tokens: int, *, full_head: bool = False
) -> float:
    """Operations of one forward and backward pass over a batch.

    Args:
        shape: of the model.
        lengths: tokens of each sequence.
        action_tokens: tokens on which the head runs, over all sequences.
        full_head: count the head on every token instead.
    """
    tokens = sum(lengths)
    pairs = sum(n * n for n in lengths) / 2
    body = 2.0 * shape.layer_weights * tokens
    # Scores and weighted values: one product of a head's width each, per pair and head.
    attention = 2.0 * 2.0 * shape.layers * shape.heads * shape.head_size * pairs
    head = 2.0 * shape.hidden * shape.vocabulary * (tokens if full_head else action_tokens)
    return 3.0 * (body + attention + head)
