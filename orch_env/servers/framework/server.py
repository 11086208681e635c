"""The base class of servers: the tables of a class are its state, its methods are tools.

A domain module declares records, tables and tools, and fills the world of a seed:

    class Library(Server):
        name = "library"
        books: Table[Book]

        def populate(self, chance: Chance) -> None: ...

        @read
        def find_book(self, title: str) -> JsonObject: ...

        @write(idempotent=True)
        def return_book(self, book: BookId) -> JsonObject: ...
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints, overload

from orch_env.servers.framework.arguments import schema_of
from orch_env.servers.framework.chance import Chance
from orch_env.servers.framework.clock import Clock
from orch_env.servers.framework.records import check_record
from orch_env.servers.framework.table import Lock, Table
from orch_env.types import ToolSpec
from orch_env.types.bounded_store import BoundedStore
from orch_env.types.json import Json

Method = TypeVar("Method", bound=Callable[..., Json])


class Access(StrEnum):
    """What a tool may do to the state."""

    READ = "READ"
    """Only reads; the state hash is the same afterwards."""
    WRITE = "WRITE"
    """Changes the state when it succeeds, and changes nothing when it fails."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool of a server: what the model sees, and what it may do to the state.

    Attributes:
        spec: name, description and schema.
        access: whether it may change the state.
        destructive: whether it can lose, undo or overwrite what was there.
        idempotent: whether the same call again changes nothing more.
    """

    spec: ToolSpec
    access: Access
    destructive: bool = False
    idempotent: bool = True


@dataclass(frozen=True, slots=True)
class _Declared:
    """What a decorator says of a method."""

    access: Access
    destructive: bool = False
    idempotent: bool = True


def read(method: Method) -> Method:
    """Declare a method as a tool that only reads the state."""
    method.__dict__["declared"] = _Declared(Access.READ)
    return method


@overload
def write(method: Method, /) -> Method: ...
@overload
def write(*, destructive: bool = False, idempotent: bool = False) -> Callable[[Method], Method]: ...


def write(method: Any = None, /, *, destructive: bool = False, idempotent: bool = False) -> Any:
    """Declare a method as a tool that changes the state: ``@write`` or ``@write(...)``.

    Args:
        method: the method, where the decorator stands alone.
        destructive: it can lose, undo or overwrite what was there.
        idempotent: the same call again changes nothing more: it succeeds without a change or is
            refused.
    """

    def declare(method: Method) -> Method:
        method.__dict__["declared"] = _Declared(Access.WRITE, destructive, idempotent)
        return method

    return declare if method is None else declare(method)


WORLDS_MB = 64
"""Megabytes of worlds that one server keeps in a process."""
_BYTES_PER_CHAR = 3
"""What a world takes in memory, by character of its JSON; 2.3 were measured."""


@dataclass(frozen=True, slots=True)
class World:
    """The state that all sessions of one (server, seed) start from.

    Attributes:
        tables: table name -> id -> record.
        digest: hex digest of everything in it.
    """

    tables: Mapping[str, Mapping[str, Any]]
    digest: str


class Server:
    """Base of all servers. An instance is the state of one session.

    Attributes:
        name: the server's name in tasks and in the registry.
        category: what it belongs to, such as ``"Finance"``.
        epoch: the date on which its worlds stand, ISO 8601; sessions without a date start on it.
        tools: tool name -> tool, collected from the methods, in order of definition.
        worlds: seed -> world, as many as fit into :data:`WORLDS_MB`.
        seed: the seed of this session's world.
    """

    name: ClassVar[str]
    category: ClassVar[str] = ""
    epoch: ClassVar[str] = "2025-01-01"
    tools: ClassVar[Mapping[str, Tool]]
    worlds: ClassVar[BoundedStore[int, World]]
    settles: ClassVar[bool] = False
    _records: ClassVar[Mapping[str, type[Any]]]

    def __init_subclass__(cls) -> None:
        tools: dict[str, Tool] = {}
        for base in cls.__mro__:
            for name, method in vars(base).items():
                declared = getattr(method, "declared", None)
                if isinstance(declared, _Declared) and name not in tools:
                    description, parameters = schema_of(method)
                    only_reads = declared.access is Access.READ
                    spec = ToolSpec(name, description, parameters, read_only=only_reads)
                    tools[name] = Tool(
                        spec, declared.access, declared.destructive, declared.idempotent
                    )
        cls.tools = tools
        cls.worlds = BoundedStore(WORLDS_MB << 20)
        cls.settles = cls.settle is not Server.settle
        cls._records = {
            name: get_args(hint)[0]
            for name, hint in get_type_hints(cls).items()
            if get_origin(hint) is Table
        }
        for record in cls._records.values():
            check_record(record)

    def __init__(
        self,
        tables: Mapping[str, Mapping[str, Any]],
        lock: Lock,
        *,
        seed: int,
        clock: Clock,
    ) -> None:
        """Open a view of ``tables``. Only sessions and :meth:`world` call this."""
        self.seed = seed
        self.clock = clock
        self.tables: tuple[Table[Any], ...] = tuple(
            Table(record.__name__.lower(), record, tables.get(name, {}), lock, key=name)
            for name, record in self._records.items()
        )
        for table in self.tables:
            setattr(self, table.key, table)

    @property
    def now(self) -> datetime:
        """The session's time, without a zone; the machine's clock is never read."""
        return self.clock.now

    @property
    def today(self) -> str:
        """The session's date, ISO 8601."""
        return self.clock.now.date().isoformat()

    def populate(self, chance: Chance) -> None:
        """Fill the tables of a new world.

        Args:
            chance: seeded by (server name, world seed); use no other source of chance.
        """
        raise TypeError(f"server {type(self).__name__} does not define populate()")

    def settle(self) -> None:
        """Apply to the tables what has fallen due by :attr:`now`.

        It runs before each tool. What it changed is kept where a WRITE succeeds and dropped
        otherwise, so a READ sees it and leaves the state as it was.
        """

    def invariants(self) -> Iterator[str]:
        """One sentence for each law of this domain that the state breaks now.

        Tests ask after each write; a session never does.
        """
        return iter(())

    @classmethod
    def world(cls, seed: int) -> World:
        """The world of a seed: the same in every process, and kept for later sessions."""
        found = cls.worlds.get(seed)
        if found is None:
            server = cls({}, Lock(writable=True), seed=seed, clock=Clock(cls.epoch))
            server.populate(Chance(f"{cls.name}/{seed}"))
            tables = {table.key: table.changes() for table in server.tables}
            plain = {table.key: table.changes_to_json() for table in server.tables}
            text = json.dumps([cls.name, plain], sort_keys=True)
            found = World(tables, hashlib.blake2b(text.encode(), digest_size=16).hexdigest())
            cls.worlds.put(seed, found, _BYTES_PER_CHAR * len(text))
        return found

    def chance(self, *causes: str) -> Chance:
        """Chance for one event: the same for the same seed and causes, anywhere in a trajectory."""
        return Chance(json.dumps([self.name, self.seed, causes]))

    def new_id(self, prefix: str, *causes: str, taken: Table[Any], digits: int = 4) -> str:
        """An id for a new record: ``prefix`` and digits that cannot be guessed.

        It depends only on the seed, the causes and the ids that are taken, so the same call gets
        the same id anywhere in a trajectory.

        Args:
            prefix: such as ``"K-"``.
            causes: what the record is made from, usually ids.
            taken: the table of the record; an id that is in it is not used.
            digits: how many digits.
        """
        for attempt in range(10_000):
            text = json.dumps([self.name, self.seed, prefix, causes, attempt])
            number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
            found = f"{prefix}{number % 10**digits:0{digits}d}"
            if found not in taken:
                return found
        raise RuntimeError(f"no id is left for prefix {prefix!r}")
