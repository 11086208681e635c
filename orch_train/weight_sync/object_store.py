"""Weights through Ray's object store: put once, mapped read-only by every runner of a machine.

Tensors travel as numpy arrays, whose bytes Ray maps without a copy; a torch tensor would be
copied at both ends. bfloat16, unknown to numpy, travels as its 16-bit words.
"""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias

import numpy as np
import torch

from orch_train.weight_sync.buckets import Manifest, Weights

PackedWeights: TypeAlias = tuple[dict[str, tuple[str, "np.ndarray[Any, Any]"]], dict[str, str]]
"""Name -> (dtype name, array), and for every further name of a tied tensor its first name."""


def pack(weights: Weights) -> PackedWeights:
    """Make weights ready for the object store; CPU tensors are not copied."""
    again = Manifest.of(weights).again
    packed = {}
    for name, tensor in weights.items():
        if name in again:
            continue
        flat = tensor.detach().cpu().contiguous()
        words = flat.view(torch.int16) if flat.dtype == torch.bfloat16 else flat
        packed[name] = (str(flat.dtype).removeprefix("torch."), words.numpy())
    return packed, again


def unpack(packed: PackedWeights) -> dict[str, torch.Tensor]:
    """Undo `pack`; the tensors share the arrays' memory and must only be read."""
    arrays, again = packed
    weights = {}
    with warnings.catch_warnings():
        # Mapped arrays are read-only, and torch warns that writing to them is undefined.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        for name, (dtype, words) in arrays.items():
            tensor = torch.from_numpy(words)
            weights[name] = tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor
    return {**weights, **{name: weights[first] for name, first in again.items()}}
