"""A dict that is bounded by what its values cost; thread-safe."""

from __future__ import annotations

from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedStore(Generic[K, V]):
    """Values by key; the oldest make room for new ones.

    Args:
        most: bound on the sum of the costs.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.cost = 0
        self._kept: dict[K, tuple[V, int]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """The value of a key, ``None`` if it is not kept."""
        found = self._kept.get(key)
        return None if found is None else found[0]

    def put(self, key: K, value: V, cost: int) -> None:
        """Keep a value; one that costs more than the bound is not kept."""
        if cost > self.most:
            return
        with self._lock:
            self._drop(key)
            while self.cost + cost > self.most:
                self._drop(next(iter(self._kept)))
            self._kept[key] = (value, cost)
            self.cost += cost

    def _drop(self, key: K) -> None:
        _, cost = self._kept.pop(key, (None, 0))
        self.cost -= cost
