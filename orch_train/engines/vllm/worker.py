"""What runs inside vLLM's worker processes: takes new weights out of shared memory.

vLLM imports this module in each worker, since the engine names `WorkerExtension` as its
``worker_extension_cls``; the import registers the transfer engine ``orch_shm``. It follows the
same lifecycle as vLLM's own NCCL and IPC engines (init, start, update, finish). The hard decision:
only the way of the weights is here; what becomes of them is up to `ServedWeights`, for any way.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from dataclasses import dataclass
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

from orch_train.engines.vllm.served_weights import ServedWeights
from orch_train.weight_sync.shared_memory import Manifest, SharedReader

BACKEND = "orch_shm"


class WorkerExtension:
    """Methods that vLLM adds to its worker class; called by ``collective_rpc``."""

    def orch_end_with(self, runner: int) -> int:
        """End this process, and the engine core above it, when the runner ends, however it ends.

        Without it a runner that is killed leaves an engine that holds its memory.

        Args:
            runner: process id of the runner.

        Returns:
            This worker's process id.

        Raises:
            OSError: the runner is gone already, or the kernel has no pidfd (before Linux 5.3).
        """
        handle = os.pidfd_open(runner)
        threading.Thread(
            target=_end_after, args=(handle, runner), name="orch-runner-watch", daemon=True
        ).start()
        return os.getpid()

    def orch_weight_summary(self) -> dict[str, Any]:
        """How the next weight update goes; see `ServedWeights.summary`."""
        summary: dict[str, Any] = self.weight_transfer_engine.summary  # type: ignore[attr-defined]
        return summary


def _end_after(handle: int, runner: int) -> None:
    watch = select.poll()
    watch.register(handle, select.POLLIN)  # readable once the process has ended
    watch.poll()
    parent = os.getppid()
    if parent not in (runner, 1):
        os.kill(parent, signal.SIGKILL)  # the engine core, if the worker is a process of its own
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class SharedInitInfo(WeightTransferInitInfo):  # type: ignore[misc]  # Any without vLLM
    """Nothing to agree on beforehand: each update carries its own manifest."""


@dataclass
class SharedUpdateInfo(WeightTransferUpdateInfo):  # type: ignore[misc]
    """A manifest, as plain data."""

    path: str
    size: int
    names: list[str]
    dtypes: list[str]
    shapes: list[list[int]]
    offsets: list[int]
    checksums: list[int]

    def manifest(self) -> Manifest:
        """The manifest that was sent."""
        return Manifest(
            self.path,
            self.size,
            self.names,
            self.dtypes,
            self.shapes,
            self.offsets,
            self.checksums,
        )


class SharedMemoryEngine(WeightTransferEngine[SharedInitInfo, SharedUpdateInfo]):  # type: ignore[misc]
    """Loads a whole model from one shared piece of memory, on a CPU or a GPU of the same machine.

    Only the CPU was ever run.
    """

    supports_draft_weight_update = False
    init_info_cls = SharedInitInfo
    update_info_cls = SharedUpdateInfo

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._reader = SharedReader()

    def init_transfer_engine(self, init_info: SharedInitInfo) -> None:
        """Set up what survives from one update to the next."""
        self._served = ServedWeights(self.model, self.model_config)

    @property
    def summary(self) -> dict[str, Any]:
        """How the next update goes."""
        return self._served.summary

    def start_weight_update(self) -> None:
        """Prepare the model for new weights."""
        self._served.begin()

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Load all weights; does without the base class's call on an accelerator that is absent."""
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: SharedUpdateInfo) -> None:
        """Hand the mapped tensors to the served model."""
        self._served.apply(self._reader.read(update_info.manifest()))

    def finish_weight_update(self) -> None:
        """Complete the update.

        Raises:
            RuntimeError: see `ServedWeights.finish`.
        """
        self._served.finish()

    def shutdown(self) -> None:
        """Let go of the shared memory."""
        self._reader.close()


if BACKEND not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(BACKEND, SharedMemoryEngine)
