"""The driver's side of a collective transfer: which processes form the group, and when a new one.

A group is made for the runners that take part and serves many transfers. The hard decision: a
group is never mended. When a runner is lost or joins, or a transfer failed, the next transfer has a
group, a store and a port of its own, and nothing of the old one can reach it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from orch_train.weight_sync.buckets import BUCKET_BYTES, Manifest, Weights
from orch_train.weight_sync.collective import MeetingPoint
from orch_train.weight_sync.protocol import Delivery, WeightSender


class CollectiveSync:
    """Makes groups and starts transfers.

    Args:
        sender: rank 0.
        host: this machine's address, as runners and sender reach it.
        ranks_per_runner: worker processes of one runner's engine.
        timeout_s: bound on one transfer.
        bucket_bytes: most bytes of one broadcast.
    """

    def __init__(
        self,
        sender: WeightSender,
        host: str,
        ranks_per_runner: int,
        timeout_s: float,
        bucket_bytes: int = BUCKET_BYTES,
    ) -> None:
        self._bucket_bytes = bucket_bytes
        self._sender, self._host = sender, host
        self._ranks, self._timeout_s = ranks_per_runner, timeout_s
        self._members: list[Any] = []
        # The one before the last still tells its ranks why it was given up.
        self._points: deque[MeetingPoint] = deque(maxlen=2)
        self._serial = self._generation = 0
        self._sound = False
        self._sending: Future[str | None] | None = None

    @property
    def generation(self) -> int:
        """Groups that were made so far."""
        return self._generation

    def begin(self, runners: Sequence[Any], weights: Weights) -> list[Delivery]:
        """Start to send; returns what each runner must be called with, now.

        Args:
            runners: those that receive; the same objects as long as they are the same processes.
            weights: the learner's newest.

        Raises:
            OrchError: these are not the weights that the sender has.
        """
        manifest = Manifest.of(weights, self._bucket_bytes)
        same = len(runners) == len(self._members) and all(
            a is b for a, b in zip(runners, self._members, strict=True)
        )
        if not self._sound or not same:
            self._generation += 1
            size = 1 + len(runners) * self._ranks
            point = MeetingPoint(
                self._host, self._generation, size, self._sender.backend, self._timeout_s
            )
            self._points.append(point)
            self._members, self._sound = list(runners), True
        self._serial += 1
        meeting = self._points[-1].meeting
        self._sending = self._sender.send(weights, manifest, meeting, self._serial)
        return [
            Delivery(meeting, manifest, self._serial, 1 + number * self._ranks)
            for number in range(len(runners))
        ]

    def abort(self, why: str) -> None:
        """Give up the group: a transfer that is going on ends everywhere, the next has another."""
        if self._sound:
            self._sound = False
            self._points[-1].abort(why)

    def end(self) -> str | None:
        """Wait for the sender; returns why not every runner got the weights, if so.

        Bounded by twice the time limit. Whatever else the sender raises is raised.
        """
        assert self._sending is not None
        sending, self._sending = self._sending, None
        try:
            problem = sending.result(2 * self._timeout_s)
        except TimeoutError:
            problem = "the sender does not answer"
        if problem is not None:
            self.abort(problem)
        return problem
