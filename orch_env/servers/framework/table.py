"""A server's state: tables of frozen records, kept as changes over a shared world.

A session never copies its world. A world (one server, one seed) is built once and shared by all
sessions; a session keeps only the records that it changed. So opening a session is O(1), and the
cost of snapshot, restore, fork and rollback grows with the changes, not with the world. For that
records must be frozen: a tool replaces a record (`dataclasses.replace`) and never edits one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, ValuesView
from typing import Any, Generic, TypeVar

from orch_env.servers.framework.errors import NotFound
from orch_env.servers.framework.records import Record, from_json, to_json
from orch_env.types.json import JsonObject

R = TypeVar("R", bound=Record)


class Lock:
    """Whether the tables of one session may be written; all of them share it."""

    __slots__ = ("writable",)

    def __init__(self, writable: bool = False) -> None:
        self.writable = writable


class Table(MutableMapping[str, R], Generic[R]):
    """Records by id: the world's records with this session's changes.

    Args:
        name: what messages to the model call one record (``"ship"``).
        key: the table's name within its server (``"ships"``), in snapshots and states; two tables
            may hold records of one type.
        record: the record type, a frozen dataclass.
        base: the world's records; never written.
        lock: the session's lock. A write while it is not writable raises ``RuntimeError``: a tool
            that was declared READ tried to change the state.
    """

    __slots__ = ("_base", "_changes", "_lock", "key", "name", "record")

    def __init__(
        self, name: str, record: type[R], base: Mapping[str, R], lock: Lock, *, key: str
    ) -> None:
        self.name = name
        self.key = key
        self.record = record
        self._base = base
        self._changes: dict[str, R | None] = {}
        self._lock = lock

    def __getitem__(self, key: str) -> R:
        found = self._changes[key] if key in self._changes else self._base[key]
        if found is None:
            raise KeyError(key)
        return found

    def __setitem__(self, key: str, value: R) -> None:
        self._check_writable()
        if type(value) is not self.record:
            raise TypeError(f"table {self.name!r} holds {self.record.__name__}, got {value!r}")
        if self._base.get(key) == value:
            self._changes.pop(key, None)
        else:
            self._changes[key] = value

    def __delitem__(self, key: str) -> None:
        self._check_writable()
        _ = self[key]
        if key in self._base:
            self._changes[key] = None
        else:
            del self._changes[key]

    def __iter__(self) -> Iterator[str]:
        """Ids in the world's order, then new ones in the order of their ids.

        The order depends only on the state, not on the calls before, so that two sessions with
        equal hashes answer every later call with the same bytes.
        """
        changes = self._changes
        yield from (k for k in self._base if k not in changes or changes[k] is not None)
        yield from sorted(k for k in self._changes if k not in self._base)

    def values(self) -> ValuesView[R]:
        """The records in the order of their ids."""
        if not self._changes:
            return self._base.values()
        merged: dict[str, Any] = {**self._base}
        for key, record in sorted(self._changes.items()):
            if record is None:
                del merged[key]
            else:
                merged[key] = record
        return merged.values()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        if key in self._changes:
            return self._changes[key] is not None
        return key in self._base

    def need(self, key: str, hint: str = "") -> R:
        """The record with this id.

        Args:
            key: the id.
            hint: how the model gets a valid id (``"find_ship gives it"``).

        Raises:
            NotFound: there is none.
        """
        if key not in self:
            raise NotFound(f"No {self.name} {key}." + (f" {hint}" if hint else ""))
        return self[key]

    @property
    def changed(self) -> bool:
        """Whether anything differs from the world."""
        return bool(self._changes)

    def created(self) -> tuple[str, ...]:
        """Ids that the world does not have, sorted."""
        return tuple(sorted(key for key in self._changes if key not in self._base))

    def changes(self) -> dict[str, R | None]:
        """A copy of what differs from the world: id -> record, ``None`` where deleted."""
        return dict(self._changes)

    def reset(self, changes: dict[str, R | None]) -> None:
        """Replace all changes; the table keeps the dict itself."""
        self._changes = changes

    def changes_to_json(self) -> JsonObject:
        """The changes as plain data, sorted by id."""
        return {
            key: None if record is None else to_json(record)
            for key, record in sorted(self._changes.items())
        }

    def lasting_changes(self) -> JsonObject:
        """The changes as plain data, without session times and without what only they changed."""
        lasting: JsonObject = {}
        for key, record in sorted(self._changes.items()):
            made = None if record is None else to_json(record, stamps=False)
            base = self._base.get(key)
            if made is None or base is None or made != to_json(base, stamps=False):
                lasting[key] = made
        return lasting

    def changes_from_json(self, data: JsonObject) -> None:
        """Undo :meth:`changes_to_json`."""
        self._changes = {
            key: None if value is None else from_json(self.record, value)
            for key, value in data.items()
        }

    def _check_writable(self) -> None:
        if not self._lock.writable:
            raise RuntimeError(f"table {self.name!r} was written by a tool declared READ")
