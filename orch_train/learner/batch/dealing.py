"""Deal a batch's sequences out to the ranks of a learner group, by tokens.

Longest first, each to the rank with the fewest tokens so far (Graham 1969): no rank has more than
4/3 of the best possible load. Every rank must run the same number of micro-batches, because
each forward and backward pass of a sharded model is a collective operation; ranks that have
fewer run *idle* ones, whose loss is multiplied by 0. The hard decision: an idle micro-batch is a
real sequence, so that it takes exactly the path of every other one, whatever the loss does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from orch_train.learner.batch.packing import (
    Layout,
    Microbatch,
    TrainingSequence,
    make_microbatches,
    plan_packed,
    plan_rows,
)


def deal(lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """Indices of the sequences of each rank.

    Args:
        lengths: tokens of each sequence.
        ranks: number of ranks, at least 1.
    """
    shares: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        least = min(range(ranks), key=lambda r: (loads[r], r))
        shares[least].append(index)
        loads[least] += lengths[index]
    return shares


def share_of(
    rank: int,
    ranks: int,
    sequences: Sequence[TrainingSequence],
    max_tokens: int,
    *,
    layout: Layout = "rows",
    device: str | torch.device = "cpu",
) -> list[Microbatch]:
    """The micro-batches of one rank, as many as every other rank has.

    Args:
        rank: whose, from 0.
        ranks: number of ranks; 1 gives what :func:`~.packing.make_microbatches` gives.
        sequences: the whole batch, the same on every rank.
        max_tokens: budget of one micro-batch.
        layout: see :mod:`orch_train.learner.batch.packing`.
        device: where the tensors go.

    Raises:
        OrchError: see :func:`~.packing.make_microbatches`.
    """
    lengths = [len(s) for s in sequences]
    shares = deal(lengths, ranks)
    mine = make_microbatches(
        [sequences[i] for i in shares[rank]], max_tokens, layout=layout, device=device
    )
    if ranks == 1 or not sequences:
        return mine
    plan = plan_rows if layout == "rows" else plan_packed
    rounds = max(len(plan([lengths[i] for i in share], max_tokens)) for share in shares)
    if len(mine) == rounds:
        return mine
    shortest = min(sequences, key=len)
    [idle] = make_microbatches([shortest], max_tokens, layout=layout, device=device)
    return mine + [replace(idle, idle=True, num_tokens=0)] * (rounds - len(mine))
