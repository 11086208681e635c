"""A learner's ranks over `torch.distributed`: FSDP2 shards of one model, gloo on CPUs.

Zhao et al. 2023 (arXiv 2304.11277): every rank holds a slice of each parameter, of its gradient
and of its optimizer state; a layer is gathered whole just before it is used. The hard decision:
shards stay in float32 and are the master weights. A bfloat16 model gathers them cast to bfloat16
and sums its gradients over the ranks in float32, so there is no second copy to keep in step.

On GPUs the same code runs over NCCL; that was not run for want of a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from orch_env.types import OrchError
from orch_train.learner.batch.packing import Microbatch
from orch_train.learner.group.model_broadcast import BroadcastModel, broadcast
from orch_train.learner.group.ranks import PolicyForward, Ranks
from orch_train.learner.logprobs import action_logprobs
from orch_train.learner.objective.losses import LossInputs
from orch_train.models.load import load_model, load_outline

Value = TypeVar("Value")


def join_group(store: Any, rank: int, size: int, device: str, timeout_s: float) -> None:
    """Enter the process group; returns when all ranks have.

    Args:
        store: a `torch.distributed` store, where the ranks meet.
        rank: of this process.
        size: number of ranks.
        device: ``cpu`` (gloo) or ``cuda`` (NCCL; not run here for want of a GPU).
        timeout_s: bound on this and on every later collective operation, in seconds.
    """
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=timeout_s),
    )


def read_by_first(model: str, ranks: Ranks) -> PreTrainedModel:
    """The model with its weights on the first rank, and an outline of it on the others."""
    return load_outline(model) if ranks.rank else load_model(model)


class ShardedRanks:
    """`Ranks` of a process group that was joined.

    Args:
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._mesh: DeviceMesh = init_device_mesh(device, (self.size,))

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
        """The plain-data values of all ranks, in rank order."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def lead(self, read: Callable[[], Value]) -> Value:
        """What the first rank reads, sent to all; an `OrchError` of it is raised by all."""
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

    def whole(self, tensor: Tensor) -> Tensor:
        """The full tensor of which this rank holds a shard."""
        if not isinstance(tensor, DTensor):
            return tensor
        full: Tensor = tensor.full_tensor()
        return full

    def part(self, tensor: Tensor | None, like: Tensor) -> Tensor:
        """This rank's shard of a full tensor that the first rank has."""
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
