"""One rank of a learner group: a `Learner` over shards, in a Ray actor of its own.

The hard decision: a rank gets the whole batch and deals itself its share. Advantages and counts
are cheap and come out the same everywhere, so ranks agree without a word before they compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from transformers import PreTrainedTokenizerBase

from orch_train.config import Settings
from orch_train.learner.group.sharding import ShardedRanks, join_group, read_by_first
from orch_train.learner.learner import Learner
from orch_train.learner.reference import FrozenReference
from orch_train.models.load import load_model
from orch_train.trajectory.sample import Group
from orch_train.weight_sync.buckets import Manifest, Weights
from orch_train.weight_sync.collective import Meeting
from orch_train.weight_sync.delivery import Sender
from orch_train.weight_sync.object_store import pack

Parcel = tuple[dict[str, Any], dict[str, str]]
"""Packed tensors by name, and for every further name of a tied tensor the name it stands under."""


class LearnerRank:
    """What runs in the actor; see `LearnerGroup` for the protocol.

    Args:
        rank: of this process, from 0.
        size: number of ranks.
        settings: of the learner; the same on every rank.
        model: the model's folder or id; every rank reads its configuration, the first its weights.
        reference: the same of a KL penalty's reference; ``None``: there is none, or with LoRA the
            model without its adapters.
    """

    def __init__(
        self, rank: int, size: int, settings: Settings, model: str, reference: str | None
    ) -> None:
        self._rank, self._size = rank, size
        self._settings, self._model, self._reference = settings, model, reference
        self._store: Any = None
        self._learner: Learner | None = None
        self._done = 0.0
        self._keeps = False
        self._gathered: Weights = {}
        self._sender: Sender | None = None

    def open_store(self) -> tuple[str, int]:
        """On the first rank: where the others find it, as (host, port)."""
        import ray

        host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        return host, self._store.port

    def join(self, host: str, port: int, timeout_s: float) -> None:
        """Meet the other ranks and take this rank's shard of the model that the first one reads."""
        device = self._settings.learners.device
        store = self._store or TCPStore(host, port, is_master=False)
        join_group(store, self._rank, self._size, device, timeout_s)
        reference = None
        if self._reference is not None:
            # Every rank holds the reference whole: it has no gradient and no optimizer state.
            folder, dtype = self._reference, self._settings.model.dtype
            reference = FrozenReference(lambda: load_model(folder, dtype, device))
        ranks = ShardedRanks(device)
        self._learner = Learner(read_by_first(self._model, ranks), self._settings, reference, ranks)

    def update(self, groups: Sequence[Group]) -> dict[str, float]:
        """`Learner.update`; metrics are those of the whole group."""
        self._done = 0.0
        return self.learner.update(groups, self._note)

    def progress(self) -> float:
        """Share of the running update that this rank has done, 0..1."""
        return self._done

    def get_weights(self) -> Parcel | None:
        """`Learner.get_weights` in a form that Ray maps without a copy; on the first rank only."""
        weights = self.learner.get_weights()
        if self._rank:
            return None
        first: dict[int, str] = {}
        again: dict[str, str] = {}
        own: dict[str, Tensor] = {}
        for name, tensor in weights.items():
            known = first.setdefault(tensor.data_ptr(), name) if tensor.numel() else name
            if known == name:
                own[name] = tensor
            else:
                again[name] = known
        if self._keeps:
            self._gathered = weights
        return pack(own), again

    def keep_gathered(self) -> None:
        """From now on `get_weights` keeps what it gathered, for `send_gathered`."""
        self._keeps = True

    def send_gathered(self, manifest: Manifest, meeting: Meeting, serial: int) -> str | None:
        """Be rank 0 of a collective transfer of what was gathered last; see `Sender.send`."""
        if self._sender is None:
            self._sender = Sender(meeting.backend)
        return self._sender.send(self._gathered, manifest, meeting, serial)

    def save(self, folder: str, tokenizer: PreTrainedTokenizerBase | None) -> None:
        """`Learner.save`; the first rank writes."""
        self.learner.save(folder, tokenizer)

    def save_model(self, folder: str, tokenizer: PreTrainedTokenizerBase | None) -> None:
        """`Learner.save_model`; the first rank writes."""
        self.learner.save_model(folder, tokenizer)

    def load(self, folder: str) -> int:
        """`Learner.load`; returns the number of updates."""
        self.learner.load(folder)
        return self.learner.num_updates

    @property
    def learner(self) -> Learner:
        """The learner, once the rank has joined."""
        assert self._learner is not None
        return self._learner

    def _note(self, done: int, total: int) -> None:
        self._done = done / max(total, 1)
