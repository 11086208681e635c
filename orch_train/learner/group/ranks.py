"""Who takes part in an update: this process alone, or the ranks of a group that share one model.

The learner is written once, against this seam. A rank of a group differs from a learner alone in
three things only: its parameters are shards, it runs a share of the micro-batches, and sums are
added up over all ranks. The hard decision: what a loss is divided by is no such sum. Every rank
sees the whole batch and counts it for itself, so nothing has to be exchanged before the first
forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from orch_train.learner.batch.packing import Microbatch
from orch_train.learner.logprobs import action_logprobs
from orch_train.learner.objective.losses import LossInputs

Value = TypeVar("Value")


class PolicyForward(Protocol):
    """The forward pass of one placed model, see :func:`~.logprobs.action_logprobs`."""

    def __call__(
        self, batch: Microbatch, temperature: float, *, entropy_gradient: bool = False
    ) -> LossInputs:
        """Log-probabilities of the micro-batch's action tokens."""
        ...


class Ranks(Protocol):
    """The processes of one learner; every method is called by all of them in the same order.

    Attributes:
        rank: this process, from 0.
        size: number of processes.
    """

    rank: int
    size: int

    def place(self, model: PreTrainedModel, device: str, dtype: torch.dtype) -> PolicyForward:
        """Move a model in best precision to the device, sharded if there are several ranks.

        Only the first rank's model needs values; the others' may be on torch's device ``meta``.
        """
        ...

    def gather(self, value: Value) -> list[Value]:
        """The plain-data values of all ranks, in rank order."""
        ...

    def lead(self, read: Callable[[], Value]) -> Value:
        """The plain data that the first rank reads; an `OrchError` of it is raised by all."""
        ...

    def whole(self, tensor: Tensor) -> Tensor:
        """The full tensor of which this rank holds a shard; best dropped at once."""
        ...

    def part(self, tensor: Tensor | None, like: Tensor) -> Tensor:
        """This rank's shard of a full tensor, with the layout and type of another one.

        Args:
            tensor: the full tensor on the first rank, ``None`` on the others.
            like: has the same shape.
        """
        ...


class OneProcess:
    """A learner that is alone: nothing is sharded, nothing travels."""

    rank = 0
    size = 1

    def place(self, model: PreTrainedModel, device: str, dtype: torch.dtype) -> PolicyForward:
        """Move the model; the optimizer casts it, and keeps what the cast would lose."""
        torch.nn.Module.to(model, torch.device(device))
        return partial(action_logprobs, model)

    def gather(self, value: Value) -> list[Value]:
        """The value itself."""
        return [value]

    def lead(self, read: Callable[[], Value]) -> Value:
        """What is read."""
        return read()

    def whole(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def part(self, tensor: Tensor | None, like: Tensor) -> Tensor:
        """The tensor itself, on the other one's device and in its type."""
        assert tensor is not None
        return tensor.to(like.device, like.dtype)
