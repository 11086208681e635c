"""What runs inside vLLM's worker processes where the learner sends them weights directly.

The transfer engine ``orch_collective`` takes what ``orch_shm`` takes, which is how an engine gets
its first weights, and broadcasts in which every worker is a rank of its own. Being ready is a call
of its own, before vLLM's lifecycle (start, update, finish) begins: a transfer that never starts
leaves a model that nobody has touched.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any

import torch
from torch import Tensor
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

from orch_train.engines.vllm.worker import SharedInitInfo, SharedMemoryEngine, WorkerExtension
from orch_train.weight_sync.buckets import Manifest
from orch_train.weight_sync.collective import (
    BroadcastJob,
    GroupAddress,
    TransferError,
    WeightReceiver,
)

BACKEND = "orch_collective"


class CollectiveExtension(WorkerExtension):
    """Methods that vLLM adds to its worker class; called by ``collective_rpc``."""

    def orch_accept(self, job: dict[str, Any]) -> str | None:
        """Be ready for a broadcast; returns why it does not come, if so."""
        engine: CollectiveEngine = self.weight_transfer_engine  # type: ignore[attr-defined]
        return engine.accept(job)


class CollectiveEngine(SharedMemoryEngine):
    """Receives the learner's weights as one or several ranks of a collective transfer.

    Only CPUs (gloo) were ever run; on GPUs (NCCL) backend and device are all that differs.
    """

    _receiver: WeightReceiver | None = None  # until vLLM calls the first of these methods, if ever

    def init_transfer_engine(self, init_info: SharedInitInfo) -> None:
        """Set up what survives from one update to the next."""
        super().init_transfer_engine(init_info)
        self._receiver = WeightReceiver(int(self.parallel_config.rank))
        self._coming: Generator[tuple[str, Tensor], None, None] | None = None

    def accept(self, job: dict[str, Any]) -> str | None:
        """Wait until every rank is ready; returns why the weights do not come, if so."""
        received = BroadcastJob(
            GroupAddress(**job["address"]),
            Manifest(**job["manifest"]),
            job["transfer_id"],
            job["rank"],
        )
        assert self._receiver is not None
        try:
            self._coming = self._receiver.open(received)
        except TransferError as problem:
            return str(problem)
        return None

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Load what was accepted; a manifest of shared memory is taken as ``orch_shm`` does.

        Raises:
            TransferError: the weights did not all come; the model is half loaded.
        """
        if update_info:
            super().update_weights(update_info)
            return
        coming, self._coming = self._coming, None
        if coming is None:
            raise TransferError("nothing was accepted")
        with closing(coming):
            self.load(coming)
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def shutdown(self) -> None:
        """Leave the group, and let go of the shared memory."""
        if self._receiver is not None:
            self._receiver.close()
        super().shutdown()


if BACKEND not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(BACKEND, CollectiveEngine)
