"""What runs inside vLLM's worker processes: takes new weights out of shared memory.

vLLM imports this module in each worker, since the engine names `WorkerExtension` as its
``worker_extension_cls``; the import registers the transfer engine ``orch_shm``. It follows the
same lifecycle as vLLM's own NCCL and IPC engines (init, start, update, finish), and every update
goes through vLLM's layer-wise reload, which packs a CPU's layers again.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from orch_train.weight_sync.shared_memory import Manifest, SharedReader

BACKEND = "orch_shm"
_HEAD = "lm_head.weight"


class WorkerExtension:
    """Methods that vLLM adds to its worker class; called by ``collective_rpc``."""

    def orch_end_with(self, runner: int) -> None:
        """End this process, and the engine core above it, when the runner ends, however it ends.

        Without it a runner that is killed leaves an engine that holds its memory.

        Args:
            runner: process id of the runner.

        Raises:
            OSError: the runner is gone already, or the kernel has no pidfd (before Linux 5.3).
        """
        handle = os.pidfd_open(runner)
        threading.Thread(
            target=_end_after, args=(handle, runner), name="orch-runner-watch", daemon=True
        ).start()


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
    """A `Manifest`, as plain data."""

    path: str
    size: int
    names: list[str]
    dtypes: list[str]
    shapes: list[list[int]]
    offsets: list[int]
    checksums: list[int]


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
        """Look at the model as it is served; there is nothing else to set up."""
        self._tied = _has_tied_head(self.model, self.model_config)
        self._names: set[str] = set()

    def start_weight_update(self) -> None:
        """Prepare the model for a whole update."""
        initialize_layerwise_reload(self.model)
        self._missing = {name for name, _ in self.model.named_parameters()}
        self._given: set[str] = set()

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Load all weights; does without the base class's call on an accelerator that is absent."""
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: SharedUpdateInfo) -> None:
        """Load the mapped tensors."""
        self.load(self._reader.read(Manifest(**vars(update_info))))

    def load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take some of the weights, or all; called as often as needed.

        Args:
            weights: checkpoint names and tensors in the checkpoint's shapes, on the worker's
                device; they must stay as they are until `finish_weight_update` has returned.
        """
        self._missing -= set(self.model.load_weights(self._own(weights)) or ())

    def _own(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in weights:
            if not (self._tied and name == _HEAD):
                self._given.add(name)
                yield name, tensor

    def finish_weight_update(self) -> None:
        """Complete the update.

        Raises:
            RuntimeError: a parameter got no weights, or the names are not those of the first
                update: vLLM fuses several weights into a parameter and would not miss one of them.
        """
        finalize_layerwise_reload(self.model, self.model_config)
        if self._tied:
            # The output layer is the embedding under another name. On a CPU it has a packed copy
            # of its own, which the reload of vLLM 0.32 leaves at the old weights.
            head = self.model.lm_head
            head.quant_method.process_weights_after_loading(head)
            self._missing -= {f"lm_head.{name}" for name, _ in head.named_parameters()}
        if self._missing:
            raise RuntimeError(
                f"{len(self._missing)} parameters got no new weights, the first is "
                f"{min(self._missing)}"
            )
        different = (self._names or self._given) ^ self._given
        if different:
            raise RuntimeError(
                f"{len(different)} weights differ from those of the first update: "
                f"{min(different)} {'is new' if min(different) in self._given else 'is missing'}"
            )
        self._names = self._given

    def shutdown(self) -> None:
        """Let go of the shared memory."""
        self._reader.close()


def _has_tied_head(model: Any, model_config: Any) -> bool:
    """Whether the output layer's weight is another module's; some checkpoints name it twice."""
    config = model_config.hf_config.get_text_config()
    if not getattr(config, "tie_word_embeddings", False):
        return False
    named = dict(model.named_parameters(remove_duplicate=False))
    head = named.pop(_HEAD, None)
    return head is not None and any(other is head for other in named.values())


if BACKEND not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(BACKEND, SharedMemoryEngine)
