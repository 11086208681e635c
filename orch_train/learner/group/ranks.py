"""Who takes part in an update: this process alone, or the ranks of a group that share one model.

The learner is written once, against `Ranks`. A rank of a group differs from a learner alone in
three things only: its parameters are shards, it runs a share of the micro-batches, and sums are
added up over all ranks. What a loss is divided by is no such sum: every rank sees the whole batch
and counts it itself, so nothing has to be exchanged before the first forward pass.

Shards are those of FSDP2 (Zhao et al. 2023, arXiv 2304.11277) over `torch.distributed`: every rank
holds a slice of each parameter, of its gradient and of its optimizer state; a layer is gathered
whole just before it is used. Shards stay in float32 and are the master weights. A bfloat16 model
gathers them cast to bfloat16 and sums its gradients over the ranks in float32, so there is no
second copy to keep in step. CPUs use gloo; NCCL, on GPUs, was not run for want of a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from orch_env.types import OrchError
from orch_train.learner.batch.packing import Microbatch
from orch_train.learner.group.model_broadcast import BroadcastModel, broadcast
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

    def run_on_rank0(self, read: Callable[[], Value]) -> Value:
        """The plain data that a function returns on the first rank; all raise its `OrchError`."""
        ...

    def gather_full(self, tensor: Tensor) -> Tensor:
        """The full tensor of which this rank holds a shard; best dropped at once."""
        ...

    def shard_like(self, tensor: Tensor | None, like: Tensor) -> Tensor:
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
        return [value]

    def run_on_rank0(self, read: Callable[[], Value]) -> Value:
        return read()

    def gather_full(self, tensor: Tensor) -> Tensor:
        return tensor

    def shard_like(self, tensor: Tensor | None, like: Tensor) -> Tensor:
        """The tensor itself, on the other one's device and in its type."""
        assert tensor is not None
        return tensor.to(like.device, like.dtype)


class ShardedRanks:
    """`Ranks` of a process group, which is joined here; returns when all ranks have.

    Args:
        store: a `torch.distributed` store, by which the ranks find each other.
        rank: of this process.
        size: number of ranks.
        device: ``cpu`` (gloo) or ``cuda`` (NCCL).
        timeout_s: bound on this and on every later collective operation, in seconds.
    """

    def __init__(self, store: Any, rank: int, size: int, device: str, timeout_s: float) -> None:
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout_s),
        )
        self.rank, self.size = rank, size
        self._mesh = init_device_mesh(device, (size,))

    def place(self, model: PreTrainedModel, device: str, dtype: torch.dtype) -> PolicyForward:
        """Shard a model that the first rank has read: one unit a layer, one for the rest.

        Weights that are not trained are sharded in the computing type: nothing of them is to be
        kept that a cast would lose.
        """
        arriving = BroadcastModel(model, device, dtype)
        arriving.bring_buffers(model)
        policy = MixedPrecisionPolicy(
            param_dtype=None if dtype == torch.float32 else dtype,
            reduce_dtype=torch.float32,
            # Positions and rotary angles stay as the model makes them.
            cast_forward_inputs=False,
        )
        root = _Root(model)
        for unit in [*_layers(model), root]:
            # Whole here until it is sharded in the next line; the rest is still to come.
            arriving.bring(unit.parameters())
            fully_shard(unit, mesh=self._mesh, mp_policy=policy)
        for module in root.modules():
            if isinstance(module, FSDPModule):
                # The loss is divided by counts over all ranks, so gradients add up.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        return _Forward(root)

    def gather(self, value: Value) -> list[Value]:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def run_on_rank0(self, read: Callable[[], Value]) -> Value:
        answer: list[Any] = [None, None]
        if self.rank == 0:
            try:
                answer[0] = read()
            except OrchError as problem:
                answer[1] = str(problem)
        dist.broadcast_object_list(answer, src=0)
        if answer[1] is not None:
            raise OrchError(answer[1])
        value: Value = answer[0]
        return value

    def gather_full(self, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, DTensor):
            return tensor
        full: Tensor = tensor.full_tensor()
        return full

    def shard_like(self, tensor: Tensor | None, like: Tensor) -> Tensor:
        if tensor is None:
            full = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        else:
            full = tensor.to(like.device, like.dtype).contiguous()
        broadcast(full)
        if not isinstance(like, DTensor):
            return full
        # No source rank: every one cuts its own slice, nothing travels any more.
        return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)


class _Root(nn.Module):
    """One module whose forward pass uses body and head: what FSDP gathers and frees by."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, batch: Microbatch, temperature: float, entropy_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        read = action_logprobs(self.model, batch, temperature, entropy_gradient=entropy_gradient)
        # A tuple: FSDP finds the tensors to hook its backward pass to in no dataclass.
        return read.logprobs_N, read.entropy_N


class _Forward:
    def __init__(self, root: _Root) -> None:
        self._root = root

    def __call__(
        self, batch: Microbatch, temperature: float, *, entropy_gradient: bool = False
    ) -> LossInputs:
        return batch.loss_inputs(*self._root(batch, temperature, entropy_gradient))


def _layers(model: PreTrainedModel) -> list[nn.Module]:
    """The longest list of modules in the body: its decoder layers."""
    lists = [list(m) for m in model.base_model.modules() if isinstance(m, nn.ModuleList)]
    return max(lists, key=len, default=[])
