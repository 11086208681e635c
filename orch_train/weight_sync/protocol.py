"""How weights travel from the learner to the engines, behind one small seam.

`publish` runs where the learner is and returns a *parcel*, small or by reference, that any number
of runners may receive; `receive` runs where an engine is and turns it back into tensors. NCCL,
CUDA IPC and shared-memory transports plug in here; the version always travels beside the parcel.
"""

from __future__ import annotations

from typing import Any, Protocol

from orch_train.engines.protocol import Weights


class WeightTransport(Protocol):
    """One way of moving weights."""

    def publish(self, weights: Weights) -> Any:
        """Make the weights available; called once per version, whatever the number of runners."""
        ...

    def receive(self, parcel: Any) -> Weights:
        """Turn what arrived at a runner back into tensors."""
        ...
