"""Weights from one process to others of the same machine through one piece of shared memory.

The piece is an anonymous file in memory (Linux ``memfd``): readers open it as
``/proc/PID/fd/NUMBER`` and map it. It has no name in ``/dev/shm``, so that nothing is left behind
whatever is killed when, and the small ``/dev/shm`` of a container does not matter.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Manifest:
    """Where each tensor lies; plain data, small enough for any message.

    Attributes:
        path: the file, readable by processes of the same user while its writer lives.
        size: bytes of the whole piece.
        names: names of the tensors.
        dtypes: their torch dtypes' names.
        shapes: their shapes.
        offsets: where each begins, in bytes.
        checksums: CRC-32 of each one's bytes, empty if none were asked for.
    """

    path: str
    size: int
    names: list[str]
    dtypes: list[str]
    shapes: list[list[int]]
    offsets: list[int]
    checksums: list[int]


class SharedWriter:
    """Holds the newest weights in shared memory; the piece is used again for every version."""

    def __init__(self) -> None:
        self._file = -1
        self._map: Tensor | None = None
        self._size = 0

    def write(
        self, weights: Mapping[str, Tensor], dtype: torch.dtype, *, checksums: bool = False
    ) -> Manifest:
        """Copy the weights in; floating ones are converted to ``dtype``.

        Args:
            weights: names and tensors, of any device.
            dtype: type in which floating tensors travel.
            checksums: also compute each tensor's checksum.

        Raises:
            OSError: there is no memory for them.
        """
        targets = [dtype if t.is_floating_point() else t.dtype for t in weights.values()]
        offsets, size = [], 0
        for tensor, kind in zip(weights.values(), targets, strict=True):
            offsets.append(size)
            size += -(-tensor.numel() * kind.itemsize // _ALIGNMENT) * _ALIGNMENT
        view = self._memory(max(size, _ALIGNMENT))
        sums = []
        for tensor, kind, offset in zip(weights.values(), targets, offsets, strict=True):
            place = _tensor(view, kind, tensor.shape, offset)
            place.copy_(tensor.detach())
            if checksums:
                sums.append(checksum(place))
        return Manifest(
            path=f"/proc/{os.getpid()}/fd/{self._file}",
            size=self._size,
            names=list(weights),
            dtypes=[str(kind).removeprefix("torch.") for kind in targets],
            shapes=[list(t.shape) for t in weights.values()],
            offsets=offsets,
            checksums=sums,
        )

    def close(self) -> None:
        """Give the memory back once its last reader is gone too; may be called twice."""
        self._map = None  # unmapped when the last tensor over it is gone
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._size = 0

    def _memory(self, size: int) -> Tensor:
        if self._map is None or size > self._size:
            self.close()
            self._file = os.memfd_create("orch-rl-weights")
            os.posix_fallocate(self._file, 0, size)
            self._map, self._size = _mapped(self._file, size), size
        return self._map


class SharedReader:
    """Maps a writer's memory, once for all versions that come through it."""

    def __init__(self) -> None:
        self._map: Tensor | None = None
        self._file: tuple[int, int, int] | None = None

    def read(self, manifest: Manifest) -> Iterator[tuple[str, Tensor]]:
        """The tensors, as views of the mapped memory; they must only be read.

        They hold what they should until the writer writes again.

        Raises:
            OSError: the writer is gone, or another user's.
            ValueError: a checksum does not fit.
        """
        view = self._memory(manifest)
        for number, name in enumerate(manifest.names):
            kind = getattr(torch, manifest.dtypes[number])
            tensor = _tensor(view, kind, manifest.shapes[number], manifest.offsets[number])
            if manifest.checksums and checksum(tensor) != manifest.checksums[number]:
                raise ValueError(f"the checksum of {name} differs: its bytes changed on the way")
            yield name, tensor

    def close(self) -> None:
        """Give the mapping back once the last tensor over it is gone."""
        self._map = self._file = None

    def _memory(self, manifest: Manifest) -> Tensor:
        # Opened for writing although nothing is written: torch takes no read-only memory quietly.
        file = os.open(manifest.path, os.O_RDWR)
        try:
            about = os.fstat(file)
            found = (about.st_dev, about.st_ino, manifest.size)
            # The same file again: its pages are mapped already, which costs as much as a copy.
            if self._map is None or found != self._file:
                self._map, self._file = _mapped(file, manifest.size), found
            return self._map
        finally:
            os.close(file)


def read(manifest: Manifest) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one manifest; see `SharedReader.read`."""
    return SharedReader().read(manifest)


def checksum(tensor: Tensor) -> int:
    """CRC-32 of a contiguous CPU tensor's bytes."""
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _mapped(file: int, size: int) -> Tensor:
    return torch.frombuffer(mmap.mmap(file, size), dtype=torch.uint8)


def _tensor(memory: Tensor, kind: torch.dtype, shape: Sequence[int], offset: int) -> Tensor:
    """A view of bytes; all views of a mapping share one storage, so neighbours can be joined."""
    count = 1
    for length in shape:
        count *= length
    return memory[offset : offset + count * kind.itemsize].view(kind).view(tuple(shape))
