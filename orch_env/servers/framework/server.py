"""The base class of servers: the tables of a class are its state, its methods are tools.

A domain module declares records, tables and tools, and fills the world of a seed:

    class Library(Server):
        name = "library"
        books: Table[Book]

        def populate(self, random: Random) -> None: ...

        @read
        def find_book(self, title: str) -> JsonObject: ...

        @write
        def lend_book(self, book: BookId) -> JsonObject: ...
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from orch_env.servers.framework.arguments import schema_of
from orch_env.servers.framework.records import check_record
from orch_env.servers.framework.table import Lock, Table
from orch_env.types import ToolSpec
from orch_env.types.bounded_store import BoundedStore
from orch_env.types.json import Json

Method = TypeVar("Method", bound=Callable[..., Json])


class Access(StrEnum):
    """What a tool may do to the state."""

    READ = "read"
    """Only reads; the state hash is the same afterwards."""
    WRITE = "write"
    """Changes the state when it succeeds, and changes nothing when it fails."""


def read(method: Method) -> Method:
    """Declare a method as a tool that only reads the state."""
    method.__dict__["access"] = Access.READ
    return method


def write(method: Method) -> Method:
    """Declare a method as a tool that changes the state."""
    method.__dict__["access"] = Access.WRITE
    return method


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool of a server: what the model sees, and whether it may change the state."""

    spec: ToolSpec
    access: Access


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
        epoch: the world's date, ISO 8601, for tasks without one.
        tools: tool name -> tool, collected from the methods, in order of definition.
        worlds: seed -> world, as many as fit into :data:`WORLDS_MB`.
        seed: the seed of this session's world.
        today: this session's date, ISO 8601; servers never read the machine's clock.
    """

    name: ClassVar[str]
    epoch: ClassVar[str] = "2025-01-01"
    tools: ClassVar[Mapping[str, Tool]]
    worlds: ClassVar[BoundedStore[int, World]]
    _records: ClassVar[Mapping[str, type[Any]]]

    def __init_subclass__(cls) -> None:
        tools: dict[str, Tool] = {}
        for name, method in vars(cls).items():
            access = getattr(method, "access", None)
            if isinstance(access, Access):
                description, parameters = schema_of(method)
                only_reads = access is Access.READ
                spec = ToolSpec(name, description, parameters, read_only=only_reads)
                tools[name] = Tool(spec, access)
        cls.tools = tools
        cls.worlds = BoundedStore(WORLDS_MB << 20)
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
        today: str | None = None,
    ) -> None:
        """Open a view of ``tables``. Only sessions and :meth:`world` call this."""
        self.seed = seed
        self.today = today or self.epoch
        self.tables: tuple[Table[Any], ...] = tuple(
            Table(record.__name__.lower(), record, tables.get(name, {}), lock, key=name)
            for name, record in self._records.items()
        )
        for table in self.tables:
            setattr(self, table.key, table)

    def populate(self, random: Random) -> None:
        """Fill the tables of a new world.

        Args:
            random: seeded by (server name, world seed); use no other source of chance.
        """
        raise TypeError(f"server {type(self).__name__} does not define populate()")

    @classmethod
    def world(cls, seed: int) -> World:
        """The world of a seed: the same in every process, and kept for later sessions."""
        found = cls.worlds.get(seed)
        if found is None:
            server = cls({}, Lock(writable=True), seed=seed)
            server.populate(Random(f"{cls.name}/{seed}"))
            tables = {table.key: table.changes() for table in server.tables}
            plain = {table.key: table.changes_to_json() for table in server.tables}
            text = json.dumps([cls.name, plain], sort_keys=True)
            found = World(tables, hashlib.blake2b(text.encode(), digest_size=16).hexdigest())
            cls.worlds.put(seed, found, _BYTES_PER_CHAR * len(text))
        return found

    def new_id(self, prefix: str, *causes: str, taken: Table[Any]) -> str:
        """An id for a new record: ``prefix`` and four digits that cannot be guessed.

        It depends only on the seed, the causes and the ids that are taken, so the same call gets
        the same id anywhere in a trajectory.

        Args:
            prefix: such as ``"K-"``.
            causes: what the record is made from, usually ids.
            taken: the table of the record; an id that is in it is not used.
        """
        for attempt in range(10_000):
            text = json.dumps([self.name, self.seed, prefix, causes, attempt])
            number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
            found = f"{prefix}{number % 10_000:04d}"
            if found not in taken:
                return found
        raise RuntimeError(f"no id is left for prefix {prefix!r}")
