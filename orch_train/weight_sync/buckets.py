"""What a collective transfer carries, and how it is cut: one stream of bytes in bounded buckets.

Pure arithmetic, without processes. A tensor may lie across buckets, so that their size is a bound
whatever the largest tensor is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

Weights: TypeAlias = Mapping[str, Tensor]
"""State-dict names and tensors."""


class LiveWeights(dict[str, Tensor]):
    """`Weights` that are being trained: an engine of this process may serve them without a copy.

    Only for an engine that does not sample while the learner learns.
    """


BUCKET_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is sent, in this order; plain data, small enough for any message.

    Attributes:
        names: names of the tensors.
        dtypes: their torch dtypes' names.
        shapes: their shapes.
        again: further names of tied tensors, and the name that each stands under.
        bucket_bytes: most bytes of one broadcast; a tensor may lie across several.
    """

    names: list[str]
    dtypes: list[str]
    shapes: list[list[int]]
    again: dict[str, str]
    bucket_bytes: int = BUCKET_BYTES

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], bucket_bytes: int = BUCKET_BYTES) -> Manifest:
        """The manifest of these weights; one memory under several names is sent once.

        Raises:
            ValueError: ``bucket_bytes`` is below 1.
        """
        if bucket_bytes < 1:
            raise ValueError(f"bucket_bytes must be at least 1, got {bucket_bytes}")
        first: dict[Any, str] = {}
        again: dict[str, str] = {}
        for name, tensor in weights.items():
            memory = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            known = first.setdefault(memory, name) if tensor.numel() else name
            if known != name:
                again[name] = known
        own = {name: tensor for name, tensor in weights.items() if name not in again}
        return cls(
            list(own),
            [str(tensor.dtype).removeprefix("torch.") for tensor in own.values()],
            [list(tensor.shape) for tensor in own.values()],
            again,
            bucket_bytes,
        )

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors, each counted once."""
        return sum(self.sizes())

    def sizes(self) -> list[int]:
        """Bytes of each tensor."""
        return [
            torch.Size(shape).numel() * getattr(torch, kind).itemsize
            for kind, shape in zip(self.dtypes, self.shapes, strict=True)
        ]

    def digest(self) -> str:
        """Equal if and only if the manifests are."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()


class Piece(NamedTuple):
    """Bytes of one tensor in one bucket.

    Attributes:
        tensor: number of the tensor in the manifest.
        start: its first byte, within the tensor.
        place: its first byte, within the bucket.
        length: bytes; 0 for an empty tensor.
        last: whether they complete the tensor.
    """

    tensor: int
    start: int
    place: int
    length: int
    last: bool


def buckets(manifest: Manifest) -> Iterator[list[Piece]]:
    """Cut the stream of all bytes; every bucket but the last is full."""
    bucket: list[Piece] = []
    place = 0
    for number, size in enumerate(manifest.sizes()):
        start = 0
        while True:
            count = min(size - start, manifest.bucket_bytes - place)
            bucket.append(Piece(number, start, place, count, start + count == size))
            start, place = start + count, place + count
            if place == manifest.bucket_bytes:
                yield bucket
                bucket, place = [], 0
            if start == size:
                break
    if bucket:
        yield bucket
