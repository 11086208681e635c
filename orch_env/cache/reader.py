"""Look-ups: one constant SQL statement each.

Building a statement per call costs ten times the look-up itself, so constant SQL goes directly to
the sqlite3 driver, which keeps it prepared. On another database the same SQL runs through
SQLAlchemy. A connection belongs to one process and serves one look-up at a time: there are as many
as look-ups ever ran side by side, however many threads came and went.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from orch_env.cache.header import KEY_VERSIONS
from orch_env.types import OrchError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_OF_CALL = (
    "SELECT p.digest, p.data FROM responses r JOIN payloads p ON p.id = r.payload "
    "WHERE r.key = :key"
)
FIRST = f"{_OF_CALL} AND r.variant = 0"
WITH_DIGEST = f"{_OF_CALL} AND p.digest = :digest"
ALL_VARIANTS = f"{_OF_CALL} ORDER BY r.variant"
HOLDS = WITH_DIGEST.replace("p.digest, p.data", "1")
PINNED = (
    "SELECT p.digest, p.data FROM pins n JOIN payloads p ON p.digest = n.digest "
    "WHERE n.task = :task AND n.key = :key ORDER BY n.position LIMIT 1"
)
# The text of these three is part of a cache's content digest: a change makes old files differ.
TOOLS = "SELECT name, spec, inferred FROM tools ORDER BY name"
CALLS = (
    "SELECT r.key, r.variant, r.tool, r.arguments, p.digest FROM responses r "
    "JOIN payloads p ON p.id = r.payload ORDER BY r.tool, r.arguments, r.variant"
)
PINS = "SELECT task, key, position, digest FROM pins ORDER BY task, key, position"
META = "SELECT key, value FROM meta"
PAYLOADS = "SELECT digest, data FROM payloads ORDER BY digest"
COUNTS = (
    "SELECT (SELECT count(*) FROM responses), (SELECT count(*) FROM payloads), "
    "(SELECT count(*) FROM tools), (SELECT count(DISTINCT key) FROM responses WHERE variant > 0)"
)

Row = Sequence[Any]
_NONE: Mapping[str, Any] = {}
_OF_PARENTS: list[sqlite3.Connection] = []  # a child process must not close them


class Reader(Protocol):
    """Runs one of the constant statements above."""

    def one(self, sql: str, parameters: Mapping[str, Any] = _NONE) -> Row | None:
        """The first row, ``None`` if there is none."""
        ...

    def rows(self, sql: str, parameters: Mapping[str, Any] = _NONE) -> Sequence[Row]:
        """All rows."""
        ...

    def close(self) -> None:
        """Close what is open; the next look-up opens again."""
        ...


class FileReader:
    """Reads a finished SQLite file that never changes: memory-mapped, without locks."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        self._pid = os.getpid()
        self._free: list[sqlite3.Connection] = []

    def _connection(self) -> sqlite3.Connection:
        """A connection that no other thread uses, until it is put back into ``_free``."""
        if self._pid != os.getpid():
            _OF_PARENTS.extend(self._free)
            self._free, self._pid = [], os.getpid()
        try:
            return self._free.pop()
        except IndexError:
            connection = sqlite3.connect(self._uri, uri=True, check_same_thread=False)
            connection.execute(f"PRAGMA mmap_size = {self._path.stat().st_size}")
            return connection

    def one(self, sql: str, parameters: Mapping[str, Any] = _NONE) -> Row | None:
        """See :class:`Reader`."""
        try:
            connection = self._connection()
            try:
                row: Row | None = connection.execute(sql, parameters).fetchone()
            except UnicodeEncodeError:
                row = None  # a lone surrogate in a task id: nothing of that name can be stored
        except (sqlite3.Error, OSError, UnicodeDecodeError) as problem:
            raise _unreadable(self._path, problem) from problem
        self._free.append(connection)
        return row

    def rows(self, sql: str, parameters: Mapping[str, Any] = _NONE) -> Sequence[Row]:
        """See :class:`Reader`."""
        try:
            connection = self._connection()
            rows = connection.execute(sql, parameters).fetchall()
        except (sqlite3.Error, OSError, UnicodeDecodeError) as problem:
            raise _unreadable(self._path, problem) from problem
        self._free.append(connection)
        return rows

    def close(self) -> None:
        """See :class:`Reader`."""
        if self._pid == os.getpid():
            for connection in self._free:
                connection.close()
        self._free = []


def key_version_of(reader: Reader) -> int:
    """The version of a cache's call keys; a cache without any facts is new and has the newest."""
    facts = dict(tuple(row) for row in reader.rows(META))
    return int(facts.get("key_version", 1)) if facts else KEY_VERSIONS[-1]


def engine_of(url: str) -> Engine:
    """An engine for another database.

    Raises:
        OrchError: the URL is none, or its driver is not installed.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return create_engine(url)
    except (SQLAlchemyError, ImportError, ValueError) as problem:
        raise OrchError(f"cache {shown(url)!r} cannot be opened: {problem}") from problem


def shown(url: str) -> str:
    """A URL without its password."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):
        return url.rpartition("@")[2]


class EngineReader:
    """Reads through SQLAlchemy: other databases, and the uncommitted rows of a writer.

    Args:
        source: an engine (a connection per look-up, from its pool), or a writer's connection.
    """

    def __init__(self, source: Engine | Connection) -> None:
        from sqlalchemy import Engine, text

        self._engine = source if isinstance(source, Engine) else None
        self._connection = None if isinstance(source, Engine) else source
        self._text = text
        self._prepared: dict[str, Any] = {}

    def rows(self, sql: str, parameters: Mapping[str, Any] = _NONE) -> Sequence[Row]:
        """See :class:`Reader`."""
        from sqlalchemy.exc import SQLAlchemyError

        statement = self._prepared.get(sql)
        if statement is None:
            statement = self._prepared[sql] = self._text(sql)
        try:
            if self._connection is not None:
                return self._connection.execute(statement, dict(parameters)).all()
            assert self._engine is not None
            with self._engine.connect() as connection:
                return connection.execute(statement, dict(parameters)).all()
        except UnicodeEncodeError:
            return []
        except SQLAlchemyError as problem:
            raise OrchError(f"the cache database cannot be read: {problem}") from problem

    def one(self, sql: str, parameters: Mapping[str, Any] = _NONE) -> Row | None:
        """See :class:`Reader`."""
        return next(iter(self.rows(sql, parameters)), None)

    def close(self) -> None:
        """See :class:`Reader`."""
        if self._engine is not None:
            self._engine.dispose()


_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})


def _unreadable(path: Path, problem: Exception) -> OrchError:
    """What kept the file from being read: the system, or damage."""
    code = getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    try:
        path.open("rb").close()  # SQLite does not say why it cannot open a file; the system does
    except OSError as reason:
        problem = reason
    if isinstance(problem, OSError):
        return OrchError(f"cache {str(path)!r} cannot be read: {problem.strerror}")
    if code not in _DAMAGE:
        return OrchError(f"cache {str(path)!r} cannot be read: {problem}")
    return OrchError(
        f"cache {str(path)!r} is damaged ({problem}): "
        "run `orch cache verify` on it, or import it again"
    )
