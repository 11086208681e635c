"""Weights from one process straight into many: broadcasts over a process group of their own.

Rank 0 sends, all others receive. All tensors are one stream of bytes, cut into buckets of a bounded
size. The process group is made from a store directly and is never torch's default group, which
belongs to the learners. Backend and device are all that differs between a GPU (NCCL) and a CPU
(gloo), so what the tests run is what a GPU runs. **NCCL itself was never run.**

Every transfer first asks all ranks: nothing is broadcast, and no engine touched, unless each has
said that it is there and holds the same manifest. A transfer that fails leaves the ranks out of
step: its group is given up and the next transfer needs a new one.

    sender:    digest ------------> all ready? -> go -> buckets ... --------------> all done?
    receiver:  digest equal? -> ready ----------> go -> buckets -> tensors -> done

A process stays in a group for as long as the group lasts, because joining costs more than sending
a small model, and leaves it as soon as it hears of another group.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from orch_train.weight_sync.buckets import Manifest, Piece, buckets

_ABORT = "abort"
_CPU = torch.device("cpu")
_POLL_S = (0.0002, 0.01)
"""Between two looks: the first pause, and the longest to which it grows."""
_GRACE_S = 1.0
"""Receivers wait this much longer, so that they hear from the sender who is missing."""


class TransferError(Exception):
    """The weights did not all arrive; the group of processes is of no further use."""


@dataclass(frozen=True, slots=True)
class GroupAddress:
    """Where the processes of one group find each other; plain data.

    Attributes:
        host: address of the store.
        port: its port.
        generation: number of the group, so that two are told apart even if a port comes again.
        size: ranks, the sender included.
        backend: ``gloo`` moves CPU tensors, ``nccl`` CUDA tensors.
        timeout_s: bound on every transfer, joining the group included.
    """

    host: str
    port: int
    generation: int
    size: int
    backend: Literal["gloo", "nccl"]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class BroadcastJob:
    """One runner's part in one transfer; plain data.

    Attributes:
        address: of the group.
        manifest: what is sent.
        transfer_id: number of the transfer within the group.
        rank: the runner's rank, its first one if its engine has several workers.
    """

    address: GroupAddress
    manifest: Manifest
    transfer_id: int
    rank: int


class Rendezvous:
    """Hosts the store of one group; lives longer than any rank's part in it.

    Args:
        host: this machine's address, as the ranks reach it.
        generation: see `GroupAddress`.
        size: ranks, the sender included.
        backend: ``gloo`` or ``nccl``.
        timeout_s: see `GroupAddress`.
    """

    def __init__(
        self,
        host: str,
        generation: int,
        size: int,
        backend: Literal["gloo", "nccl"],
        timeout_s: float,
    ) -> None:
        limit = timedelta(seconds=timeout_s)
        self._store = dist.TCPStore(  # type: ignore[attr-defined]
            host, 0, is_master=True, wait_for_workers=False, timeout=limit
        )
        self.address = GroupAddress(host, self._store.port, generation, size, backend, timeout_s)

    def abort(self, why: str) -> None:
        """End the transfer that is going on: every rank raises `TransferError` with this reason."""
        self._store.set(_ABORT, why)


class WeightSender:
    """Where one process sends, as rank 0 of a group at a time."""

    def __init__(self) -> None:
        self._rank: _Rank | None = None

    def send(
        self,
        weights: Mapping[str, Tensor],
        manifest: Manifest,
        address: GroupAddress,
        transfer_id: int,
    ) -> None:
        """Send one version to all ranks; returns when every one has it in full. Blocks.

        Args:
            weights: at least the manifest's names, on any device; each bucket is packed on the
                device that the group's backend sends from.
            manifest: of these weights; the receivers hold the same.
            address: of the group.
            transfer_id: number of the transfer within the group, the same on all ranks.

        Raises:
            TransferError: a rank is missing, died, refused, or is late; within the time limit.
        """
        self._rank = rank = _member(self._rank, address, 0)
        with rank.transfer():
            rank.post(f"{transfer_id}/digest", manifest.digest())
            receivers = range(1, address.size)
            rank.wait([f"{transfer_id}/ready/{r}" for r in receivers], "was not ready")
            rank.post(f"{transfer_id}/go", "")
            rank.join()
            for bucket in buckets(manifest):
                buffer = rank.buffer(bucket, manifest)
                for piece in bucket:
                    flat = _bytes(weights[manifest.names[piece.tensor]].detach())
                    part = flat[piece.start : piece.start + piece.length]
                    buffer[piece.place : piece.place + piece.length].copy_(part)
                rank.broadcast(buffer)
            rank.wait([f"{transfer_id}/done/{r}" for r in receivers], "did not finish")


class WeightReceiver:
    """Where one process receives, as one rank of a group at a time.

    Args:
        offset: added to a job's rank: the number of this worker within its engine.
    """

    def __init__(self, offset: int = 0) -> None:
        self._offset = offset
        self._rank: _Rank | None = None

    def open(self, job: BroadcastJob) -> Generator[tuple[str, Tensor], None, None]:
        """Wait until all ranks are ready; then the tensors, as they become complete. Blocks.

        Further names of tied tensors come last. A consumer that does not take all of them fails
        the transfer for every rank; it must close the iterator, for the others wait.

        Raises:
            TransferError: the sender's manifest is another one, or a rank is missing, failed, or
                is late; at the call nothing has been received yet, later some of it.
        """
        number = job.rank + self._offset
        self._rank = rank = _member(self._rank, job.address, number)
        with rank.transfer():
            rank.wait([f"{job.transfer_id}/digest"], "did not announce")
            if rank.read(f"{job.transfer_id}/digest") != job.manifest.digest():
                raise TransferError(
                    f"rank {number} expects other weights than the sender has: names, "
                    "dtypes, shapes or the size of a bucket differ"
                )
            rank.post(f"{job.transfer_id}/ready/{number}", "")
            rank.wait([f"{job.transfer_id}/go"], "did not begin")
            rank.join()
        return _tensors(rank, job.manifest, f"{job.transfer_id}/done/{number}")

    def receive(self, job: BroadcastJob) -> dict[str, Tensor]:
        """All of the weights, or none. Blocks.

        Raises:
            TransferError: see `open`.
        """
        with closing(self.open(job)) as tensors:
            return dict(tensors)

    def close(self) -> None:
        """Leave the group; may be called twice."""
        if self._rank is not None:
            self._rank.close()
            self._rank = None


def _member(rank: _Rank | None, address: GroupAddress, number: int) -> _Rank:
    """This process's place in a group: the one that it has, or a new one in another group."""
    if rank is not None and rank.address == address:
        return rank
    if rank is not None:
        rank.close()
    return _Rank(address, number)


def _tensors(
    rank: _Rank, manifest: Manifest, done: str
) -> Generator[tuple[str, Tensor], None, None]:
    """Receive the buckets; `done` is posted once the consumer has taken every tensor."""
    tied = set(manifest.again.values())
    kept: dict[str, Tensor] = {}
    current = torch.empty(0)
    with rank.transfer():
        for bucket in buckets(manifest):
            buffer = rank.buffer(bucket, manifest)
            rank.broadcast(buffer)
            for piece in bucket:
                name = manifest.names[piece.tensor]
                if not piece.start:
                    kind = getattr(torch, manifest.dtypes[piece.tensor])
                    shape = manifest.shapes[piece.tensor]
                    current = torch.empty(shape, dtype=kind, device=rank.device)
                part = buffer[piece.place : piece.place + piece.length]
                _bytes(current)[piece.start : piece.start + piece.length].copy_(part)
                if piece.last:
                    if name in tied:
                        kept[name] = current
                    yield name, current
        for name, known in manifest.again.items():
            yield name, kept[known]
        if rank.device.type == "cuda":
            torch.cuda.synchronize(rank.device)
        rank.post(done, "")


class _Rank:
    """What both sides do: post and read keys in the store, wait until a deadline, broadcast."""

    def __init__(self, address: GroupAddress, number: int) -> None:
        self.address, self._number = address, number
        # The GPU is the process's current one.
        cuda = address.backend == "nccl"
        self.device = torch.device("cuda", torch.cuda.current_device()) if cuda else _CPU
        self._store: Any = None
        self._group: Any = None
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._deadline = 0.0

    def transfer(self) -> _Transfer:
        """The extent of one transfer, or of a part of it."""
        grace = _GRACE_S if self._number else 0.0
        self._deadline = time.monotonic() + self.address.timeout_s + grace
        return _Transfer(self)

    def post(self, key: str, text: str) -> None:
        self._connected().set(key, text)

    def read(self, key: str) -> str:
        return str(self._connected().get(key).decode())

    def wait(self, keys: list[str], failing: str) -> None:
        """Until all keys are there; ranks that have not posted theirs are named."""
        store = self._connected()
        for _ in self._looks():
            if store.check(keys):
                return
        late = [key.rpartition("/")[2] for key in keys if not store.check([key])]
        who = f"rank {', '.join(late)}" if late and late[0].isdigit() else "the sender"
        raise TransferError(f"{who} {failing} within {self.address.timeout_s:g} s")

    def join(self) -> None:
        """Make the group, once; every rank is known to be there."""
        if self._group is not None:
            return
        store = dist.PrefixStore("group", self._connected())  # type: ignore[attr-defined]
        size, limit = self.address.size, timedelta(seconds=self.address.timeout_s)
        if self.address.backend == "nccl":
            # Never run: there was no GPU. All else is the same as under gloo.
            torch.cuda.set_device(self.device)
            nccl: Any = dist.ProcessGroupNCCL
            self._group = nccl(store, self._number, size, limit)
        else:
            gloo: Any = dist.ProcessGroupGloo
            self._group = gloo(store, self._number, size, limit)

    def buffer(self, bucket: list[Piece], manifest: Manifest) -> Tensor:
        """Memory for a bucket; the same for all of a transfer."""
        size = bucket[-1].place + bucket[-1].length
        if self._memory.numel() < size or self._memory.device != self.device:
            self._memory = torch.empty(size, dtype=torch.uint8, device=self.device)
        return self._memory[:size]

    def broadcast(self, buffer: Tensor) -> None:
        if not buffer.numel():
            return
        options = dist.BroadcastOptions()
        options.rootRank = options.rootTensor = 0
        work = self._group.broadcast([buffer], options)
        # Not `work.wait(limit)`: under NCCL that only makes the stream wait, without a limit.
        for _ in self._looks():
            if work.is_completed():
                work.wait()  # raises what went wrong
                return
        raise TransferError(f"a broadcast took more than {self.address.timeout_s:g} s")

    def fail(self, why: str) -> None:
        """Tell all ranks, and leave."""
        if self._store is not None:
            try:
                if not self._store.check([_ABORT]):
                    self._store.set(_ABORT, why)
            except RuntimeError:
                pass  # the store is gone, and nobody can be told
        self.close()

    def close(self) -> None:
        group, self._group, self._store = self._group, None, None
        if group is not None and self.address.backend == "nccl":
            group.abort()  # never run, see `join`; a hung kernel would hold the GPU

    def _connected(self) -> Any:
        if self._store is None:
            limit = timedelta(seconds=self.address.timeout_s)
            self._store = dist.TCPStore(  # type: ignore[attr-defined]
                self.address.host,
                self.address.port,
                is_master=False,
                wait_for_workers=False,
                timeout=limit,
            )
        return self._store

    def _looks(self) -> Iterator[None]:
        """Turns of a waiting loop, until the deadline; an abort ends it too."""
        pause, longest = _POLL_S
        store = self._connected()
        while True:
            yield
            if time.monotonic() > self._deadline:
                return
            if store.check([_ABORT]):
                raise TransferError(self.read(_ABORT))
            time.sleep(pause)
            pause = min(2 * pause, longest)


class _Transfer:
    """Whatever ends it early ends the transfer for every rank, with one clear line."""

    def __init__(self, rank: _Rank) -> None:
        self._rank = rank

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, problem: BaseException | None, trace: Any) -> None:
        if problem is None:
            return
        if isinstance(problem, TransferError):
            self._rank.fail(str(problem))
        elif isinstance(problem, GeneratorExit):
            self._rank.fail("a receiver stopped in the middle")
        elif isinstance(problem, RuntimeError):
            told = f"the connection broke: {(str(problem).splitlines() or [''])[0]}"
            self._rank.fail(told)
            raise TransferError(told) from problem
        else:
            self._rank.fail(f"{type(problem).__name__}: {problem}")


def _bytes(tensor: Tensor) -> Tensor:
    """A tensor's bytes, in its own memory if it is contiguous."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)
