"""The two ends of a collective transfer, in the processes where they live.

The hard decision: an end keeps its place in a group for as long as the group lasts, since joining
costs more than sending a small model, and gives it up as soon as it hears of another group.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import closing
from typing import Literal

import torch
from torch import Tensor

from orch_train.weight_sync.buckets import Manifest, Weights
from orch_train.weight_sync.collective import (
    CollectiveReceiver,
    CollectiveSender,
    Meeting,
    TransferError,
)
from orch_train.weight_sync.protocol import Delivery


class Mailbox:
    """Where one process receives.

    Args:
        offset: added to a delivery's rank: the number of this worker within its engine.
    """

    def __init__(self, offset: int = 0) -> None:
        self._offset = offset
        self._receiver: CollectiveReceiver | None = None

    def open(self, delivery: Delivery) -> Generator[tuple[str, Tensor], None, None]:
        """Wait until all ranks are ready; then the tensors, as they come. Blocks.

        Close the iterator if it is not read to its end: the other ranks wait for it.

        Raises:
            TransferError: some rank is missing, failed, or is late; at the call nothing has been
                received yet, later some of it.
        """
        if self._receiver is None or self._receiver.meeting != delivery.meeting:
            self.close()
            rank = delivery.rank + self._offset
            device = device_of(delivery.meeting.backend)
            self._receiver = CollectiveReceiver(delivery.meeting, rank, device)
        self._receiver.accept(delivery.manifest, delivery.serial)
        return self._receiver.tensors(delivery.manifest, delivery.serial)

    def take(self, delivery: Delivery) -> dict[str, Tensor]:
        """All of the weights, or none. Blocks.

        Raises:
            TransferError: see `open`.
        """
        with closing(self.open(delivery)) as tensors:
            return dict(tensors)

    def close(self) -> None:
        """Leave the group; may be called twice."""
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None


class Sender:
    """Where one process sends.

    Args:
        backend: ``gloo`` or ``nccl``.
    """

    def __init__(self, backend: Literal["gloo", "nccl"]) -> None:
        self._backend = backend
        self._meeting: Meeting | None = None
        self._sender: CollectiveSender | None = None

    def send(
        self, weights: Weights, manifest: Manifest, meeting: Meeting, serial: int
    ) -> str | None:
        """Send to all ranks of a group; returns why not every rank got it. Blocks."""
        if self._sender is None or self._meeting != meeting:
            if self._sender is not None:
                self._sender.close()
            self._sender = CollectiveSender(meeting, device_of(self._backend))
            self._meeting = meeting
        try:
            self._sender.send(weights, manifest, serial)
        except TransferError as problem:
            return str(problem)
        return None


class ThreadSender:
    """`WeightSender` in this process, for a learner that lives here: CPUs only.

    A learner in the driver has no GPU that Ray keeps free of runners.
    """

    backend: Literal["gloo", "nccl"] = "gloo"

    def __init__(self) -> None:
        self._sender = Sender(self.backend)

    def send(
        self, weights: Weights, manifest: Manifest, meeting: Meeting, serial: int
    ) -> Future[str | None]:
        """See `WeightSender.send`."""
        answer: Future[str | None] = Future()

        def run() -> None:
            try:
                answer.set_result(self._sender.send(weights, manifest, meeting, serial))
            except Exception as problem:  # raised again where the future is read
                answer.set_exception(problem)

        threading.Thread(target=run, name="weight-sender", daemon=True).start()
        return answer


def device_of(backend: Literal["gloo", "nccl"]) -> torch.device:
    """Where a backend's tensors lie; the GPU is the process's current one."""
    if backend == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
