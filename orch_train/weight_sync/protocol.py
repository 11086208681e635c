"""How weights travel from the learner to the engines.

Two ways. Through Ray's *object store*: the weights are put there once, and any number of runners
read them, whenever they start. By *broadcast*: a learner and all runners of one group take part at
the same time (`collective`). A runner that starts reads the object store in both cases, so that a
start waits for no other process. The version always travels beside the weights.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from orch_train.weight_sync.buckets import Manifest, Weights
from orch_train.weight_sync.collective import BroadcastJob, GroupAddress


@runtime_checkable
class WeightSource(Protocol):
    """One version of the weights in the process that broadcasts it, as rank 0."""

    @property
    def manifest(self) -> Manifest:
        """What is sent."""
        ...

    @property
    def backend(self) -> Literal["gloo", "nccl"]:
        """What moves the tensors."""
        ...

    def send(self, address: GroupAddress, transfer_id: int) -> Future[str | None]:
        """Begin to send; the future says why not every rank got it, ``None`` if every one did.

        Args:
            address: of the group.
            transfer_id: number of the transfer within the group.
        """
        ...

    def fetch(self) -> Weights:
        """A copy in host memory, for runners that start later."""
        ...


NewWeights: TypeAlias = Weights | WeightSource
"""What a learner hands to the runners: tensors in this process, or where they are sent from."""


def tensors_of(weights: NewWeights) -> Weights:
    """The weights in host memory of this process."""
    return weights.fetch() if isinstance(weights, WeightSource) else weights


def manifest_of(weights: NewWeights) -> Manifest:
    """What the weights are, wherever they are."""
    return weights.manifest if isinstance(weights, WeightSource) else Manifest.of(weights)


@runtime_checkable
class ReceivesBroadcasts(Protocol):
    """A `RolloutEngine` whose own workers receive; others get what their runner received."""

    async def receive(self, job: BroadcastJob, version: int) -> None:
        """Receive and serve new weights.

        Raises:
            TransferError: the transfer did not begin; the engine serves what it served.
            EngineError: any other failure; the engine is of no further use then.
        """
        ...
