"""One rank reads a model, the others only know its shape, and all of them get its values.

A unit of the model at a time (a layer, say) travels from the first rank and is whole on every rank
just until it is sharded: a machine holds the model once, its shards, and one unit a rank.
Everything follows the first rank's model, also which tensors are tied and what the buffers hold.
Transformers unties what differs in the files and computes rotary frequencies while it loads, so a
rank that builds the model from its configuration alone could go wrong in both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from orch_env.types import OrchError

_Places = list[tuple[nn.Module, str]]


class BroadcastModel:
    """A model on its way from the first rank to all; made and used by all ranks together.

    Args:
        model: on the first rank with its values, on the CPU; on the others best on torch's device
            ``meta``, where it takes no memory. Changed in place.
        device: where the values go.
        dtype: of parameters that are not trained; the others keep theirs.

    Raises:
        OrchError: on every rank, if the model of one is not of the first one's architecture.
    """

    def __init__(self, model: nn.Module, device: str, dtype: torch.dtype) -> None:
        self._device, self._dtype = torch.device(device), dtype
        self._reads = dist.get_rank() == 0
        outline: list[Any] = [_outline(model) if self._reads else None]
        dist.broadcast_object_list(outline, src=0)
        problems: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(problems, _difference(_outline(model), outline[0]))
        for rank, problem in enumerate(problems):
            if problem is not None:
                raise OrchError(
                    f"rank {rank} disagrees about the model: {problem}; is the same model folder "
                    "on every machine?"
                )
        if not self._reads:
            _tie_like(model, outline[0])
        self._places: dict[nn.Parameter, _Places] = {}
        for module in model.modules():
            for key, parameter in module._parameters.items():
                if parameter is not None:
                    self._places.setdefault(parameter, []).append((module, key))

    def bring(self, parameters: Iterable[nn.Parameter]) -> None:
        """Put the values of some parameters in place, whole and on the device.

        Args:
            parameters: the same ones in the same order on every rank; those that were brought
                before, or were sharded since, are left alone.
        """
        for parameter in list(parameters):
            places = self._places.pop(parameter, None)
            if places is None:
                continue
            dtype = parameter.dtype if parameter.requires_grad else self._dtype
            if self._reads:
                parameter.data = parameter.data.to(self._device, dtype)
                broadcast(parameter.data)
                continue
            values = torch.empty(parameter.shape, dtype=dtype, device=self._device)
            broadcast(values)
            arrived = nn.Parameter(values, requires_grad=parameter.requires_grad)
            for module, key in places:
                module._parameters[key] = arrived

    def bring_buffers(self, model: nn.Module) -> None:
        """Put the values of all buffers in place, also of those that no state dict has.

        Raises:
            OrchError: the model has tensors that are neither parameters nor buffers.
        """
        for name, module in model.named_modules():
            for key, buffer in module._buffers.items():
                if buffer is None:
                    continue
                if self._reads:
                    values = buffer.to(self._device).contiguous()
                else:
                    values = torch.empty(buffer.shape, dtype=buffer.dtype, device=self._device)
                broadcast(values)
                module._buffers[key] = values
            for key, value in vars(module).items():
                if isinstance(value, Tensor) and value.is_meta:
                    raise OrchError(
                        f"several learners cannot share this model: {name}.{key} is a tensor, but "
                        "neither a parameter nor a buffer; use one learner"
                    )


def broadcast(tensor: Tensor) -> None:
    """Fill a contiguous tensor of every rank with the first one's values, byte by byte."""
    if tensor.numel():
        dist.broadcast(tensor.detach().view(-1).view(torch.uint8), src=0)


_Outline = list[tuple[str, str, tuple[int, ...], bool]]
"""Of each parameter: name, first name of the same tensor, shape, whether it is trained."""


def _outline(model: nn.Module) -> _Outline:
    first: dict[nn.Parameter, str] = {}
    return [
        (name, first.setdefault(p, name), tuple(p.shape), p.requires_grad)
        for name, p in model.named_parameters(remove_duplicate=False)
    ]


def _difference(mine: _Outline, theirs: _Outline) -> str | None:
    """What differs apart from ties, in words."""
    own, other = ({name: rest for name, _, *rest in outline} for outline in (mine, theirs))
    odd = sorted(name for name in {**own, **other} if own.get(name) != other.get(name))
    return f"{len(odd)} parameters differ, such as {odd[0]!r}" if odd else None


def _tie_like(model: nn.Module, outline: _Outline) -> None:
    """Share tensors among names as the first rank does."""
    own = dict(model.named_parameters(remove_duplicate=False))
    made: dict[str, nn.Parameter] = {}
    for name, first, _, trained in outline:
        if first not in made:
            known = own[name]
            taken = any(known is other for other in made.values())
            made[first] = nn.Parameter(known.data, requires_grad=trained) if taken else known
        owner, _, key = name.rpartition(".")
        model.get_submodule(owner)._parameters[key] = made[first]
