"""Look-ups: one constant SQL statement each, on a connection of this thread.

Building a statement per call costs ten times the look-up itself, so constant SQL goes directly to
the sqlite3 driver, which keeps it prepared. On another database the same SQL runs through
SQLAlchemy. A connection belongs to one process and one thread; after a fork or in a new thread the
first look-up opens a new one.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

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
        self._path = path
        self._uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        self._pid = os.getpid()
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []

    def _connection(self) -> sqlite3.Connection:
        if self._pid != os.getpid():
            _OF_PARENTS.extend(self._opened)
            self._opened, self._local, self._pid = [], threading.local(), os.getpid()
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._uri, uri=True, check_same_thread=False)
            connection.execute(f"PRAGMA mmap_size = {self._path.stat().st_size}")
            self._local.connection = connection
            self._opened.append(connection)
        return connection

    def one(self, sql: str, parameters: Mapping[str, Any] = _NONE) -> Row | None:
        """See :class:`Reader`."""
        try:
            row: Row | None = self._connection().execute(sql, parameters).fetchone()
        except UnicodeEncodeError:
            return None  # a lone surrogate in a task id: nothing of that name can be stored
        except (sqlite3.Error, OSError, UnicodeDecodeError) as problem:
            raise _damaged(self._path, problem) from problem
        return row

    def rows(self, sql: str, parameters: Mapping[str, Any] = _NONE) -> Sequence[Row]:
        """See :class:`Reader`."""
        try:
            return self._connection().execute(sql, parameters).fetchall()
        except (sqlite3.Error, OSError, UnicodeDecodeError) as problem:
            raise _damaged(self._path, problem) from problem

    def close(self) -> None:
        """See :class:`Reader`."""
        if self._pid == os.getpid():
            for connection in self._opened:
                connection.close()
        self._opened, self._local = [], threading.local()


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


def _damaged(path: Path, problem: Exception) -> OrchError:
    return OrchError(
        f"cache {str(path)!r} is damaged ({problem}): "
        "run `orch cache verify` on it, or import it again"
    )
