"""How weights travel from the learner to the engines, behind one small seam.

Two ways. By *parcel*: `WeightTransport.publish` runs where the learner is and returns something
small or by reference that any number of runners may receive, whenever they come. By *delivery*: a
`WeightSender` and all runners of one group take part at the same time (`collective`). The version
always travels beside either. The hard decision: a runner that starts gets a parcel in both cases,
so that a start waits for nobody.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from orch_train.weight_sync.buckets import Manifest, Weights
from orch_train.weight_sync.collective import Meeting


class WeightTransport(Protocol):
    """One way of moving weights by parcel."""

    def publish(self, weights: Weights) -> Any:
        """Make the weights available; called once per version, whatever the number of runners."""
        ...

    def receive(self, parcel: Any) -> Weights:
        """Turn what arrived at a runner back into tensors."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """One runner's part in one collective transfer; plain data.

    Attributes:
        meeting: where the processes of the group meet.
        manifest: what is sent.
        serial: number of the transfer within the group.
        rank: the runner's rank, its first one if its engine has several workers.
    """

    meeting: Meeting
    manifest: Manifest
    serial: int
    rank: int


@runtime_checkable
class TakesDeliveries(Protocol):
    """A `RolloutEngine` whose own workers receive; others get what their runner received."""

    async def take(self, delivery: Delivery, version: int) -> None:
        """Receive and serve new weights.

        Raises:
            TransferError: the transfer did not begin; the engine serves what it served.
            EngineError: any other failure; the engine is of no further use then.
        """
        ...


class WeightSender(Protocol):
    """Rank 0 of a collective transfer, wherever the learner's weights are."""

    @property
    def backend(self) -> Literal["gloo", "nccl"]:
        """What moves its tensors."""
        ...

    def send(
        self, weights: Weights, manifest: Manifest, meeting: Meeting, serial: int
    ) -> Future[str | None]:
        """Begin to send; the future says why not every rank got it, ``None`` if every one did.

        Args:
            weights: the learner's newest.
            manifest: of these weights.
            meeting: where the processes meet.
            serial: number of the transfer within the group.

        Raises:
            OrchError: these are not the weights that the sender has.
        """
        ...
