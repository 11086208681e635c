"""Writes to a cache. On SQLite a writer works on a copy and renames it when it commits.

Readers open the file as immutable, without locks, so a file that is open must never change. A
writer copies the file, changes the copy in one transaction, and replaces the original by an atomic
rename; readers of the old file go on reading it. A lock file keeps a second writer out. Databases
with a URL use their own transactions.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, delete, event, insert, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from orch_env.cache import reader as sql
from orch_env.cache.header import APPLICATION_ID
from orch_env.cache.models import Base, Meta, Payload, Pin, Response, Tool
from orch_env.cache.payload import CODEC, digest_of, encode
from orch_env.cache.reader import EngineReader, engine_of, key_version_of, shown
from orch_env.cache.seal import PLACEHOLDER, seal
from orch_env.types import OrchError, ToolSpec
from orch_env.types.file_lock import FileLock
from orch_env.types.json import JsonObject


class CacheWriter:
    """One open transaction on a cache. Use it through ``open_cache(path, write=True)``.

    Args:
        path: the SQLite file, made if it is missing; ``None`` with ``url``.
        url: an SQLAlchemy URL of another database.

    Attributes:
        reader: reads what was written so far.
        key_version: of the keys; a new cache has the newest, an old one keeps its own.

    Raises:
        OrchError: another process is writing, or the place cannot be written.
    """

    def __init__(self, path: Path | None, url: str | None = None) -> None:
        self._path = path
        self._place = path or shown(url or "")
        self._staging: Path | None = None
        self._lock: FileLock | None = None
        if path is not None:
            self._lock = _take_lock(path)
            self._staging = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with self._told():
                self._engine = self._open_engine(url)
                self._connection: Connection = self._engine.connect()
                Base.metadata.create_all(self._connection)
        except OrchError:
            self._release()
            raise
        self.reader = EngineReader(self._connection)
        self.key_version = key_version_of(self.reader)

    def _open_engine(self, url: str | None) -> Engine:
        if self._staging is None:
            assert url is not None
            return engine_of(url)
        assert self._path is not None
        # We hold the lock, so such files are left over from processes that were killed.
        for stale in self._path.parent.glob(f".{glob.escape(self._path.name)}.*.partial"):
            stale.unlink(missing_ok=True)
        if self._path.exists():
            shutil.copyfile(self._path, self._staging)
        engine = create_engine(URL.create("sqlite", database=str(self._staging)))
        event.listen(engine, "connect", _prepare_sqlite)
        return engine

    def put(
        self, key: bytes, tool: str, arguments: str, text: str, is_error: bool, metadata: JsonObject
    ) -> bytes:
        """Store one response; the same text for the same call is stored once. Returns its digest.

        Args:
            key: 16-byte call key.
            tool: canonical tool name.
            arguments: canonical JSON text of the arguments.
            text: the exact response text.
            is_error: whether the tool answered with an error.
            metadata: plain data stored with the text; that of the first recording is kept.
        """
        digest = digest_of(text, is_error=is_error)
        execute = self._connection.execute
        with self._told():
            payload = execute(select(Payload.id).where(Payload.digest == digest)).scalar()
            if payload is None:
                data = encode(text, is_error=is_error, metadata=metadata)
                statement = insert(Payload).values(digest=digest, data=data).returning(Payload.id)
                payload = execute(statement).scalar_one()
            rows = execute(
                select(Response.variant, Response.payload).where(Response.key == key)
            ).all()
            if all(stored != payload for _, stored in rows):
                variant = max((number for number, _ in rows), default=-1) + 1
                execute(
                    insert(Response).values(
                        key=key, variant=variant, tool=tool, arguments=arguments, payload=payload
                    )
                )
        return digest

    def put_tool(self, spec: ToolSpec, *, inferred: bool) -> None:
        """Store or replace one catalogue entry."""
        text = json.dumps(spec.to_dict(), ensure_ascii=True)  # property order is the author's
        with self._told():
            self._connection.execute(delete(Tool).where(Tool.name == spec.name))
            self._connection.execute(
                insert(Tool).values(name=spec.name, spec=text, inferred=int(inferred))
            )

    def rekey(
        self, name: str, known_as: Iterable[str], key_of: Callable[[JsonObject], bytes]
    ) -> None:
        """Key the calls of a tool again, and their pins; calls that fall together become variants.

        Args:
            name: the tool's canonical name.
            known_as: the names under which its calls are stored.
            key_of: arguments -> 16-byte key.
        """
        with self._told():
            found = self._connection.execute(
                select(Response, Payload.digest)
                .join(Payload)
                .where(Response.tool.in_(list(known_as)))
            )
            rows = sorted(found.all(), key=lambda row: (row.arguments, row.variant))
            moved = {
                (bytes(row.key), bytes(row.digest)): key_of(json.loads(row.arguments))
                for row in rows
            }
            if all(key == new for (key, _), new in moved.items()):
                return
            self._connection.execute(delete(Response).where(Response.tool.in_(list(known_as))))
            calls: dict[bytes, dict[int, str]] = {}
            for row in rows:
                answers = calls.setdefault(moved[bytes(row.key), bytes(row.digest)], {})
                answers.setdefault(row.payload, row.arguments)
            for key, answers in calls.items():
                for variant, (payload, text) in enumerate(answers.items()):
                    self._connection.execute(
                        insert(Response).values(
                            key=key,
                            variant=variant,
                            tool=name,
                            arguments=text,
                            payload=payload,
                        )
                    )
            self._move_pins(moved)

    def _move_pins(self, moved: Mapping[tuple[bytes, bytes], bytes]) -> None:
        pins: dict[str, list[tuple[bytes, bytes]]] = {}
        touched: set[str] = set()
        for task, key, _, digest in self.reader.rows(sql.PINS):
            pair = bytes(key), bytes(digest)
            pins.setdefault(task, []).append((moved.get(pair, pair[0]), pair[1]))
            if pair in moved:
                touched.add(task)
        for task in touched:
            self.pin(task, pins[task])

    def pin(self, task: str, pins: Iterable[tuple[bytes, bytes]]) -> None:
        """Replace a task's pins by (call key, payload digest) pairs in gold order."""
        seen: dict[bytes, int] = {}
        with self._told():
            self._connection.execute(delete(Pin).where(Pin.task == task))
            for key, digest in pins:
                position = seen.get(key, 0)
                seen[key] = position + 1
                self._connection.execute(
                    insert(Pin).values(task=task, key=key, position=position, digest=digest)
                )

    def commit(self) -> None:
        """Write the content digest, then make everything visible at once."""
        facts = {"schema": str(self.key_version), "codec": CODEC}
        if self.key_version > 1:
            facts["key_version"] = str(self.key_version)
        if self._staging is not None:
            facts["seal"] = PLACEHOLDER
        try:
            with self._told():
                facts["digest"] = content_digest(self.reader)
                self._connection.execute(delete(Meta))
                for key, value in facts.items():
                    self._connection.execute(insert(Meta).values(key=key, value=value))
                if self._staging is not None:
                    self._connection.exec_driver_sql(f"PRAGMA user_version = {self.key_version}")
                self._connection.commit()
                self._connection.close()
                self._engine.dispose()
                if self._staging is not None and self._path is not None:
                    seal(self._staging)
                    _flush(self._staging)
                    os.replace(self._staging, self._path)
        finally:
            self.close()

    def close(self) -> None:
        """Drop what was not committed. A second call does nothing."""
        with suppress(SQLAlchemyError):  # a full disk: nothing of it is kept anyway
            self._connection.close()
        self._engine.dispose()
        self._release()

    def _release(self) -> None:
        if self._staging is not None:
            self._staging.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell what a driver or the system raises in one line."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OSError) as problem:
            raise _cannot_be_written(self._place, problem) from problem


def content_digest(reader: sql.Reader) -> str:
    """Hex BLAKE2b-128 over all calls, tools and pins, independent of the file's layout."""
    total = hashlib.blake2b(digest_size=16)
    for statement in (sql.CALLS, sql.TOOLS, sql.PINS):
        total.update(statement.encode())
        for row in reader.rows(statement):
            for field in row:
                data = (
                    bytes(field) if isinstance(field, bytes | memoryview) else str(field).encode()
                )
                total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Open the copy without journal and syncs: it is deleted if anything fails."""
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _take_lock(path: Path) -> FileLock:
    """Take the writer's lock: an exclusive lock on a file next to the cache."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        if lock.take():
            return lock
    except OSError as problem:
        raise _cannot_be_written(path, problem) from problem
    raise OrchError(
        f"cache {str(path)!r} is being written by another process: wait for it to finish "
        f"(if there is none, remove {str(lock.holder)!r})"
    )


def _cannot_be_written(place: object, problem: Exception) -> OrchError:
    cause = problem.orig if isinstance(problem, DBAPIError) and problem.orig else problem
    reason = cause.strerror if isinstance(cause, OSError) else None
    return OrchError(f"cache {str(place)!r} cannot be written: {reason or cause}")
