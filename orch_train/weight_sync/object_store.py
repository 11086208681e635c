"""Weights through Ray's object store: put once, mapped read-only by every runner of a machine.

Tensors travel as numpy arrays, whose bytes Ray maps without a copy; a torch tensor would be
copied at both ends. bfloat16, unknown to numpy, travels as its 16-bit words.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from orch_train.weight_sync.buckets import Weights

Packed = Mapping[str, tuple[str, "np.ndarray[Any, Any]"]]


def pack(weights: Weights) -> dict[str, tuple[str, np.ndarray[Any, Any]]]:
    """Name -> (dtype name, array). CPU tensors are not copied."""
    packed = {}
    for name, tensor in weights.items():
        flat = tensor.detach().cpu().contiguous()
        words = flat.view(torch.int16) if flat.dtype == torch.bfloat16 else flat
        packed[name] = (str(flat.dtype).removeprefix("torch."), words.numpy())
    return packed


def unpack(packed: Packed) -> dict[str, torch.Tensor]:
    """Undo `pack`; the tensors share the arrays' memory and must only be read."""
    weights = {}
    with warnings.catch_warnings():
        # Mapped arrays are read-only, and torch warns that writing to them is undefined.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        for name, (dtype, words) in packed.items():
            tensor = torch.from_numpy(words)
            weights[name] = tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor
    return weights


class ObjectStoreTransport:
    """`WeightTransport` over ``ray.put``; the parcel is an object reference."""

    def publish(self, weights: Weights) -> Any:
        """Put the weights once; the reference keeps them alive for runners that start later."""
        import ray

        return ray.put(pack(weights))

    def receive(self, parcel: Packed) -> Weights:
        """Tensors over the mapped memory. Ray has resolved the reference before the call."""
        return unpack(parcel)


class InProcessTransport:
    """`WeightTransport` for a runner in the learner's own process: the tensors themselves."""

    def publish(self, weights: Weights) -> Weights:
        """Nothing to move."""
        return weights

    def receive(self, parcel: Weights) -> Weights:
        """Nothing to unpack."""
        return parcel
