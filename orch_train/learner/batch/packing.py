"""Micro-batches by token budget, from samples of unequal length.

Two layouts of the same tokens. ``packed``: sequences end to end in one row, positions restarted,
each attended to by itself (see `packed_attention`). ``rows``: one sequence a row, longest first,
padded on the right to the longest of its micro-batch; causal attention never looks right, so
neither mask nor position ids are needed. ``packed`` is the default, by measurement on a CPU: as
fast as ``rows`` where a group's sequences are about equally long, 1.3 to 1.5 times as fast where
lengths are lognormal (sigma 1); nothing is computed on padding. ``rows`` is for models whose
attention is not torch's.

A sequence is a sample up to its last sampled token. It is never cut and never dropped: one longer
than the budget is a micro-batch of its own.

Ranks of a learner group share a batch by tokens: longest first, each to the rank with the fewest
tokens so far (Graham 1969), so that no rank has more than 4/3 of the best possible load. Every rank
must run the same number of micro-batches, because each forward and backward pass of a sharded model
is a collective operation; ranks that have fewer run *idle* ones, whose loss is multiplied by 0. An
idle micro-batch is a real sequence, so that it takes exactly the path of every other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orch_env.types import OrchError
from orch_train.learner.batch.packed_attention import borders_mask
from orch_train.learner.objective.losses import LossInputs
from orch_train.trajectory.sample import TrainingSample

Layout: TypeAlias = Literal["rows", "packed"]
_PADDING_ID = 0


@dataclass(frozen=True)
class Microbatch:
    """One forward pass: B rows of T tokens, N action tokens in all.

    Attributes:
        input_ids_BT: token ids, padded on the right.
        position_ids_BT: restarted at each sequence; ``None`` means 0..T-1 in each row.
        borders: where the sequences of a packed row begin and end, see
            `borders_mask`; ``None`` means one a row.
        row_N: row of each action token.
        column_N: column whose output predicts the action token.
        targets_N: the action token.
        behaviour_logprobs_N: ``logprobs_N`` of the samples.
        advantages_N: of the samples.
        sequence_N: index of the sequence within this micro-batch.
        num_tokens: tokens without padding.
        idle: only there so that every rank of a learner group runs equally many; nothing is
            learned from it.
    """

    input_ids_BT: Tensor
    position_ids_BT: Tensor | None
    borders: Tensor | None
    row_N: Tensor
    column_N: Tensor
    targets_N: Tensor
    behaviour_logprobs_N: Tensor
    advantages_N: Tensor
    sequence_N: Tensor
    num_tokens: int
    idle: bool = False

    @property
    def num_cells(self) -> int:
        """Tokens with padding: what the forward pass computes."""
        return self.input_ids_BT.numel()

    def loss_inputs(self, logprobs_N: Tensor, entropy_N: Tensor) -> LossInputs:
        """What the losses read, once a forward pass has given its part."""
        return LossInputs(
            logprobs_N,
            entropy_N,
            self.behaviour_logprobs_N,
            self.advantages_N,
            self.sequence_N,
        )


def make_microbatches(
    samples: Sequence[TrainingSample],
    max_tokens: int,
    *,
    layout: Layout,
    device: str | torch.device = "cpu",
) -> list[Microbatch]:
    """Lay samples out in micro-batches, longest first (so that memory peaks at the start).

    Args:
        samples: in any order; each has sampled tokens, and an advantage for each of them.
        max_tokens: budget of one micro-batch, padding included, at least 1.
        layout: see the module's docstring.
        device: where the tensors go.

    Raises:
        OrchError: a sample without sampled tokens or advantages, or one that begins with one.
    """
    if not all(s.num_actions and len(s.advantages_N) == s.num_actions for s in samples):
        raise OrchError("a sample needs action tokens, and an advantage for each of them")
    if any(s.actions_N[0] < 1 for s in samples):
        raise OrchError("a sequence cannot begin with an action token: nothing predicts it")
    build = _build_rows if layout == "rows" else _build_packed
    plan = _plan([s.num_trained for s in samples], max_tokens, layout)
    return [build([samples[i] for i in indices], device) for indices in plan]


def balance_by_tokens(lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """Indices of the sequences of each rank.

    Args:
        lengths: tokens of each sequence.
        ranks: number of ranks, at least 1.
    """
    shares: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for index in _longest_first(lengths):
        least = min(range(ranks), key=lambda r: (loads[r], r))
        shares[least].append(index)
        loads[least] += lengths[index]
    return shares


def microbatches_for_rank(
    rank: int,
    ranks: int,
    samples: Sequence[TrainingSample],
    max_tokens: int,
    *,
    layout: Layout,
    device: str | torch.device = "cpu",
) -> list[Microbatch]:
    """The micro-batches of one rank, as many as every other rank has.

    Args:
        rank: whose, from 0.
        ranks: number of ranks; 1 gives what :func:`make_microbatches` gives.
        samples: the whole batch, the same on every rank.
        max_tokens: budget of one micro-batch.
        layout: see the module's docstring.
        device: where the tensors go.

    Raises:
        OrchError: see :func:`make_microbatches`.
    """
    lengths = [s.num_trained for s in samples]
    shares = balance_by_tokens(lengths, ranks)
    mine = make_microbatches(
        [samples[i] for i in shares[rank]], max_tokens, layout=layout, device=device
    )
    if ranks == 1 or not samples:
        return mine
    rounds = max(len(_plan([lengths[i] for i in own], max_tokens, layout)) for own in shares)
    if len(mine) == rounds:
        return mine
    shortest = min(samples, key=lambda s: s.num_trained)
    [idle] = make_microbatches([shortest], max_tokens, layout=layout, device=device)
    return mine + [replace(idle, idle=True, num_tokens=0)] * (rounds - len(mine))


def _plan(lengths: Sequence[int], max_tokens: int, layout: Layout) -> list[list[int]]:
    return (plan_rows if layout == "rows" else plan_packed)(lengths, max_tokens)


def plan_rows(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices for each micro-batch, such that rows x longest stays within the budget."""
    batches: list[list[int]] = []
    for index in _longest_first(lengths):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def plan_packed(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices for each row, by first-fit-decreasing bin packing."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in _longest_first(lengths):
        fitting = next((r for r, free in enumerate(room) if free >= lengths[index]), None)
        if fitting is None:
            rows.append([index])
            room.append(max_tokens - lengths[index])
        else:
            rows[fitting].append(index)
            room[fitting] -= lengths[index]
    return rows


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))


def _build_rows(samples: list[TrainingSample], device: str | torch.device) -> Microbatch:
    longest = max(s.num_trained for s in samples)
    ids_BT = np.full((len(samples), longest), _PADDING_ID, dtype=np.int64)
    for row, sample in enumerate(samples):
        ids_BT[row, : sample.num_trained] = sample.ids_T[: sample.num_trained]
    starts = [(row, 0) for row in range(len(samples))]
    return _assemble(samples, starts, ids_BT, None, None, device)


def _build_packed(samples: list[TrainingSample], device: str | torch.device) -> Microbatch:
    lengths = [s.num_trained for s in samples]
    ids_T = np.concatenate([s.ids_T[: s.num_trained] for s in samples]).astype(np.int64)
    positions_BT = np.concatenate([np.arange(n) for n in lengths])[None]
    offsets = np.cumsum([0, *lengths[:-1]])
    return _assemble(
        samples,
        [(0, int(offset)) for offset in offsets],
        ids_T[None],
        torch.from_numpy(positions_BT),
        borders_mask(lengths),
        device,
    )


def _assemble(
    samples: list[TrainingSample],
    starts: list[tuple[int, int]],
    ids_BT: NDArray[np.int64],
    position_ids_BT: Tensor | None,
    borders: Tensor | None,
    device: str | torch.device,
) -> Microbatch:
    """Gather the action streams; ``starts`` holds (row, column) of each sequence's first token."""
    actions = [s.actions_N for s in samples]
    counts = [len(actions_N) for actions_N in actions]
    columns = [
        column + actions_N - 1  # the output to the left predicts a token
        for (_, column), actions_N in zip(starts, actions, strict=True)
    ]
    targets = [s.ids_T[actions_N] for s, actions_N in zip(samples, actions, strict=True)]

    def on_device(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(device)

    return Microbatch(
        input_ids_BT=on_device(ids_BT),
        position_ids_BT=None if position_ids_BT is None else position_ids_BT.to(device),
        borders=borders,
        row_N=on_device(np.repeat([row for row, _ in starts], counts)),
        column_N=on_device(np.concatenate(columns)),
        targets_N=on_device(np.concatenate(targets).astype(np.int64)),
        behaviour_logprobs_N=on_device(np.concatenate([s.logprobs_N for s in samples])),
        advantages_N=on_device(np.concatenate([s.advantages_N for s in samples])),
        sequence_N=on_device(np.repeat(np.arange(len(samples)), counts)),
        num_tokens=sum(s.num_trained for s in samples),
    )
