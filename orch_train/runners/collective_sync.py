"""The driver's side of broadcasts: which processes form the group, and when a new one.

A group is made for the runners that take part and serves many transfers. It is never mended: when a
runner is lost or joins, or a transfer failed, the next transfer has a group, a store and a port of
its own, and nothing of the old one can reach it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Literal

from orch_train.weight_sync.buckets import BUCKET_BYTES, Manifest, Weights
from orch_train.weight_sync.collective import (
    BroadcastJob,
    GroupAddress,
    Rendezvous,
    TransferError,
    WeightSender,
)
from orch_train.weight_sync.protocol import WeightSource


class LocalSource:
    """`WeightSource` of weights in this process, for a learner that lives here: over gloo.

    Args:
        weights: what is sent.
        sender: the same for all versions, so that it stays in its group.
        bucket_bytes: most bytes of one broadcast.
    """

    backend: Literal["gloo"] = "gloo"

    def __init__(
        self, weights: Weights, sender: WeightSender, bucket_bytes: int = BUCKET_BYTES
    ) -> None:
        self._weights, self._sender = weights, sender
        self.manifest = Manifest.of(weights, bucket_bytes)

    def fetch(self) -> Weights:
        """The weights themselves."""
        return self._weights

    def send(self, address: GroupAddress, transfer_id: int) -> Future[str | None]:
        """Send from a thread; see `WeightSource.send`."""
        answer: Future[str | None] = Future()

        def run() -> None:
            try:
                self._sender.send(self._weights, self.manifest, address, transfer_id)
                answer.set_result(None)
            except TransferError as problem:
                answer.set_result(str(problem))
            except Exception as problem:  # raised again where the future is read
                answer.set_exception(problem)

        threading.Thread(target=run, name="weight-sender", daemon=True).start()
        return answer


class CollectiveSync:
    """Makes groups and starts transfers.

    Args:
        host: this machine's address, as runners and sender reach it.
        ranks_per_runner: worker processes of one runner's engine.
        timeout_s: bound on one transfer.

    Attributes:
        timeout_s: see above; a changed one holds from the next group on.
        generation: groups that were made so far.
    """

    def __init__(self, host: str, ranks_per_runner: int, timeout_s: float) -> None:
        self.timeout_s, self.generation = timeout_s, 0
        self._host, self._ranks = host, ranks_per_runner
        self._members: list[Any] = []
        # The one before the last still tells its ranks why it was given up.
        self._groups: deque[Rendezvous] = deque(maxlen=2)
        self._transfer_id = 0
        self._sound = False
        self._sending: Future[str | None] | None = None

    def begin(self, runners: Sequence[Any], source: WeightSource) -> list[BroadcastJob]:
        """Start to send; returns what each runner must be called with, now.

        Args:
            runners: those that receive; the same objects as long as they are the same processes.
            source: has the learner's newest weights.
        """
        same = len(runners) == len(self._members) and all(
            a is b for a, b in zip(runners, self._members, strict=True)
        )
        if not self._sound or not same:
            self.generation += 1
            size = 1 + len(runners) * self._ranks
            self._groups.append(
                Rendezvous(self._host, self.generation, size, source.backend, self.timeout_s)
            )
            self._members, self._sound = list(runners), True
        self._transfer_id += 1
        address = self._groups[-1].address
        self._sending = source.send(address, self._transfer_id)
        return [
            BroadcastJob(address, source.manifest, self._transfer_id, 1 + number * self._ranks)
            for number in range(len(runners))
        ]

    def abort(self, why: str) -> None:
        """Give up the group: a transfer that is going on ends everywhere, the next has another."""
        if self._sound:
            self._sound = False
            self._groups[-1].abort(why)

    def end(self) -> str | None:
        """Wait for the sender; returns why not every runner got the weights, if so.

        Bounded by twice the time limit. Whatever else the sender raises is raised.
        """
        assert self._sending is not None
        sending, self._sending = self._sending, None
        try:
            problem = sending.result(2 * self._groups[-1].address.timeout_s)
        except TimeoutError:
            problem = "the sender does not answer"
        if problem is not None:
            self.abort(problem)
        return problem
