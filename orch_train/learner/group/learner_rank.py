"""One rank of a learner group: a `Learner`, over shards if there are several, in a Ray actor.

A rank gets the whole batch and takes its own share. Advantages and counts are cheap and come out
the same everywhere, so ranks agree without a message before they compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from orch_env.types import OrchError
from orch_train.config import Settings
from orch_train.learner.group.ranks import OneProcess, Ranks, ShardedRanks
from orch_train.learner.learner import Learner
from orch_train.learner.reference import FrozenReference
from orch_train.models.load import load_model, load_outline
from orch_train.models.small_files import read_small_files
from orch_train.storage.rescue import first_line
from orch_train.trajectory.sample import Group
from orch_train.weight_sync.buckets import Manifest
from orch_train.weight_sync.collective import GroupAddress, TransferError, WeightSender
from orch_train.weight_sync.object_store import PackedWeights, pack


def load_learner(
    model: str, settings: Settings, reference: str | None, ranks: Ranks | None = None
) -> Learner:
    """A learner of the model in a folder.

    Args:
        model: folder or id; the first rank reads its weights, the others its configuration.
        settings: the whole configuration.
        reference: folder or id of a KL penalty's reference, held whole by every rank: it has no
            gradient and no optimizer state. ``None``: there is none, or with LoRA the model
            without its adapters.
        ranks: the processes that share the model; ``None``: this one alone.

    Raises:
        OrchError: the model cannot be read or does not suit.
    """
    ranks, frozen = ranks or OneProcess(), None
    if reference is not None:
        dtype, device = settings.model.dtype, settings.learners.device
        frozen = FrozenReference(lambda: load_model(reference, dtype, device))
    read = load_outline(model) if ranks.rank else load_model(model)
    files = {} if ranks.rank else read_small_files(model)
    return Learner(read, settings, frozen, ranks, files)


class LearnerRank:
    """What runs in the actor; see `LearnerGroup` for the protocol.

    Args:
        rank: of this process, from 0.
        size: number of ranks.

    Attributes:
        ranks: this process alone until it has joined others.
        learner: what `build` made.
    """

    learner: Learner

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.ranks: Ranks = OneProcess()
        self._store: Any = None
        self._done = 0.0
        self._held: dict[int, dict[str, Tensor]] = {}
        self._sender = WeightSender()

    def open_store(self) -> tuple[str, int]:
        """On the first of several ranks: where the others find it, as (host, port)."""
        import ray

        host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        return host, self._store.port

    def join(self, host: str, port: int, device: str, timeout_s: float) -> None:
        """Form the process group with the other ranks."""
        store = self._store or TCPStore(host, port, is_master=False)
        self.ranks = ShardedRanks(store, self.rank, self.size, device, timeout_s)

    def build(self, model: str, settings: Settings, reference: str | None) -> None:
        """Make the learner, together with the other ranks; see `load_learner`."""
        self.learner = load_learner(model, settings, reference, self.ranks)

    def update(self, groups: Sequence[Group]) -> dict[str, float]:
        """`Learner.update`; metrics are those of the whole group."""
        self._done = 0.0
        return self.learner.update(groups, self._note)

    def progress(self) -> float:
        """Share of the running update that this rank has done, 0..1."""
        return self._done

    def get_weights(self) -> PackedWeights | None:
        """`Learner.get_weights` in a form that Ray maps without a copy; on the first rank only."""
        weights = self.learner.get_weights()
        return None if self.rank else pack(weights)

    def hold_weights(self, number: int) -> Manifest | None:
        """On the first rank: keep a copy of the weights under a number, for the transfer.

        A learner that is alone keeps it on its own device, which has room for the whole model;
        the first of several, whose device has room for a shard, in host memory.
        """
        weights = self.learner.get_weights(device=None if self.size == 1 else "cpu")
        if self.rank:
            return None
        self._held[number] = weights
        return Manifest.of(weights)

    def send_held(self, number: int, address: GroupAddress, transfer_id: int) -> str | None:
        """Send weights that are held to the runners; returns why not every one got them."""
        weights = self._held_from(number)
        try:
            self._sender.send(weights, Manifest.of(weights), address, transfer_id)
        except TransferError as problem:
            return str(problem)
        return None

    def fetch_held(self, number: int) -> PackedWeights:
        """Weights that are held, in a form that Ray maps without a copy."""
        return pack(self._held_from(number))

    def save(self, folder: str) -> None:
        """`Learner.save`; the first rank writes."""
        with _write_errors():
            self.learner.save(folder)

    def rescue(self, folder: str) -> str:
        """`Learner.rescue`; the first rank writes, and says what."""
        return self.learner.rescue(folder)

    def save_model(self, folder: str) -> None:
        """`Learner.save_model`; the first rank writes."""
        with _write_errors():
            self.learner.save_model(folder)

    def load(self, folder: str) -> int:
        """`Learner.load`; returns the number of updates."""
        self.learner.load(folder)
        return self.learner.num_updates

    def _held_from(self, number: int) -> dict[str, Tensor]:
        """Held weights; once a version is used, no older one is needed any more."""
        for older in [held for held in self._held if held < number]:
            del self._held[older]
        return self._held[number]

    def _note(self, done: int, total: int) -> None:
        self._done = done / max(total, 1)


@contextmanager
def _write_errors() -> Iterator[None]:
    """A folder that cannot be written is no reason to end the group, whatever a library raised."""
    try:
        yield
    except Exception as problem:
        raise OrchError(first_line(problem)) from problem
