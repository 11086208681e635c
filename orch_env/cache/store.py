"""`ResponseCache`: recorded responses by call, several variants each, pinned per task.

    >>> with open_cache("cache.db", write=True) as cache:
    ...     cache.put("Search_Car_Location", {"query": "Oslo"}, '{"data": []}')
    >>> open_cache("cache.db").get("Search_Car_Location", {"query": "Oslo"}).text
    '{"data": []}'

A call may have several recorded responses (5% of real calls do), so a look-up is made *for a
task*: it returns the variant that the task was recorded with, or variant 0.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orch_env.cache import reader as sql
from orch_env.cache.catalogue import Catalogue
from orch_env.cache.header import KEY_VERSIONS, check_file, too_new
from orch_env.cache.payload import CachedResponse, decode
from orch_env.cache.reader import FileReader, Reader, key_version_of
from orch_env.tasks.files import bundled, exists
from orch_env.types import GoldCall, OrchError, Task, ToolSpec
from orch_env.types.json import JsonObject
from orch_env.types.text import is_encodable

if TYPE_CHECKING:
    from types import TracebackType

    from orch_env.cache.writer import CacheWriter


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One row of the cache: a call, the number of its variant, and the digest of the answer."""

    tool: str
    arguments: JsonObject
    variant: int
    digest: str


class ResponseCache:
    """A cache of recorded responses, safe to share between processes and threads for reading.

    Pickles to its path; a copy, a fork or a new thread opens its own handle on first use.

    Args:
        path: the cache file, or an SQLAlchemy URL of another database.
        write: take the writer's lock and work on a copy until :meth:`commit`.

    Attributes:
        hits: look-ups with a response.
        misses: tool name -> look-ups without a response.
    """

    def __init__(self, path: str | os.PathLike[str], *, write: bool = False) -> None:
        text = os.fspath(path)
        self._url = text if "://" in text else None
        self.path = text if self._url is None else sql.shown(text)
        # As seen from here: the process may change its folder before the file is opened again.
        self._file = Path() if self._url is not None else Path(text).absolute()
        self._writer: CacheWriter | None = None
        self.hits = 0
        self.misses: Counter[str] = Counter()
        self._forget()
        if write:
            self._begin()
        else:
            self._reader: Reader = self._open_reader()

    def _forget(self) -> None:
        self._catalogue: Catalogue | None = None

    def _open_reader(self) -> Reader:
        if self._url is not None:
            return sql.EngineReader(sql.engine_of(self._url))
        check_file(self._file)
        return FileReader(self._file)

    def _begin(self) -> None:
        from orch_env.cache.writer import CacheWriter

        path = None
        if self._url is None:
            if exists(self._file):
                check_file(self._file)
            # A symbolic link stays one: the file that it leads to is written.
            path = Path(os.path.realpath(self._file))
        self._writer = CacheWriter(path, self._url)
        self._reader = self._writer.reader

    # -- reading ---------------------------------------------------------------------------

    def get(
        self, tool: str, arguments: JsonObject, *, task: Task | str | None = None
    ) -> CachedResponse | None:
        """Return the recorded response of a call, ``None`` if there is none.

        Args:
            tool: the tool's name or one of its aliases.
            arguments: compared by their canonical form (:mod:`orch_env.values`) under the
                catalogue's schema of the tool.
            task: the task, or the id that it was imported with. Where it pins a variant of this
                call, only that variant is returned; without a pin, variant 0.

        Raises:
            OrchError: the file is damaged.
        """
        key = self.key(tool, arguments)
        if isinstance(task, str):
            row = self._reader.one(sql.PINNED, {"task": task, "key": key})
            if row is None:
                row = self._reader.one(sql.FIRST, {"key": key})
        else:
            digests = self.pins_of(task).get(key) if task is not None else None
            row = self.row(key, digests[0] if digests else None)
        if row is None:
            self.misses[tool] += 1
            return None
        self.hits += 1
        return self.decode(row)

    def row(self, key: bytes, digest: bytes | None) -> sql.Row | None:
        """Digest and packed payload of a recorded response: no counters, no alias look-up.

        Args:
            key: 16 bytes from :meth:`key`.
            digest: 16 bytes of the wanted variant; ``None`` means variant 0.
        """
        if digest is None:
            return self._reader.one(sql.FIRST, {"key": key})
        return self._reader.one(sql.WITH_DIGEST, {"key": key, "digest": digest})

    def get_variant(self, key: bytes, digest: bytes | None) -> CachedResponse | None:
        """A recorded response by key and digest; see :meth:`row`."""
        row = self.row(key, digest)
        return self.decode(row) if row is not None else None

    def holds(self, key: bytes, digest: bytes) -> bool:
        """Whether this call has a variant of this digest."""
        return self._reader.one(sql.HOLDS, {"key": key, "digest": digest}) is not None

    def is_pinned(self, tool: str, arguments: JsonObject, task_id: str) -> bool:
        """Whether a task was imported with a variant of this call."""
        pin = {"task": task_id, "key": self.key(tool, arguments)}
        return self._reader.one(sql.PINNED, pin) is not None

    def variants(self, tool: str, arguments: JsonObject) -> tuple[CachedResponse, ...]:
        """All recorded responses of a call, in order of recording."""
        rows = self._reader.rows(sql.ALL_VARIANTS, {"key": self.key(tool, arguments)})
        return tuple(self.decode(row) for row in rows)

    def key(self, tool: str, arguments: JsonObject) -> bytes:
        """The 16-byte key of a call; aliases of a tool give the same key."""
        tools = self._tools()
        return tools.key(tools.resolve(tool) or tool, arguments)

    @property
    def key_version(self) -> int:
        """The version of this cache's call keys."""
        return self._tools().key_version

    def pins_of(self, task: Task) -> Mapping[bytes, list[bytes]]:
        """Call key -> digests of the pinned variants, in the order of the task's gold calls."""
        pins: dict[bytes, list[bytes]] = {}
        for call in task.gold_calls:
            if call.response is not None:
                pins.setdefault(self.key(call.name, call.arguments), []).append(_digest(task, call))
        return pins

    def calls(self) -> Iterator[RecordedCall]:
        """Every recorded call with every variant, sorted by tool and canonical arguments."""
        return (call for _, call in self.stored())

    def stored(self) -> Iterator[tuple[bytes, RecordedCall]]:
        """:meth:`calls` with the key that each is stored under."""
        for key, variant, tool, arguments, digest in self._reader.rows(sql.CALLS):
            call = RecordedCall(tool, json.loads(arguments), variant, bytes(digest).hex())
            yield bytes(key), call

    def stored_pins(self) -> Iterator[tuple[str, bytes, bytes]]:
        """(task id, call key, response digest) of every pin, by task and position."""
        for task, key, _, digest in self._reader.rows(sql.PINS):
            yield task, bytes(key), bytes(digest)

    def is_inferred(self, name: str) -> bool:
        """Whether the catalogue's entry was guessed from recorded arguments."""
        return self._tools().inferred(name)

    @property
    def catalogue(self) -> Mapping[str, ToolSpec]:
        """The tools that this cache knows, by canonical name."""
        return self._tools().specs

    def resolve(self, name: str) -> str | None:
        """The canonical name of a tool or alias, ``None`` if the catalogue has neither."""
        return self._tools().resolve(name)

    def _tools(self) -> Catalogue:
        if self._catalogue is None:
            version = key_version_of(self._reader)
            if version not in KEY_VERSIONS:
                raise too_new(self.path, version)
            self._catalogue = Catalogue(self._reader.rows(sql.TOOLS), version)
        return self._catalogue

    def decode(self, row: sql.Row) -> CachedResponse:
        """Unpack a row.

        Raises:
            OrchError: the payload is damaged.
        """
        try:
            return decode(bytes(row[1]), bytes(row[0]))
        except ValueError as problem:
            raise OrchError(
                f"cache {self.path!r}: {problem}; run `orch cache verify`, or import it again"
            ) from problem

    # -- writing ---------------------------------------------------------------------------

    def put(
        self,
        tool: str,
        arguments: JsonObject,
        text: str,
        *,
        is_error: bool = False,
        metadata: JsonObject | None = None,
    ) -> str:
        """Record a response as a further variant of a call, unless the call has it already.

        Returns:
            The digest of the response, for ``GoldCall.response``.

        Raises:
            OrchError: the cache was opened for reading, or the tool has no usable name.
        """
        name = self.resolve(tool) or tool
        if not name or not _storable(name):
            raise OrchError(f"a recorded call needs a tool name of ordinary text, got {tool!r}")
        tools = self._tools()
        digest = self._writing().put(
            tools.key(name, arguments),
            name,
            tools.text(arguments),
            text,
            is_error,
            metadata or {},
        )
        return digest.hex()

    def put_tool(self, spec: ToolSpec, *, inferred: bool = False) -> str | ToolSpec:
        """Add a tool to the catalogue.

        An entry of the same name is kept, because earlier tasks name it, and gets the new aliases
        and, where it lacks that, whether the tool is read only. Only an inferred entry is replaced
        by a real one. Where the schema is new, the calls that were recorded before are keyed again.

        Args:
            spec: the tool.
            inferred: the spec was guessed from recorded arguments.

        Returns:
            What a task should hold: the name if the catalogue now has this spec, else the spec
            itself, which overrides the catalogue in that task.
        """
        writer, tools = self._writing(), self._tools()
        changed = tools.add(spec, inferred=inferred)
        if changed is not None:
            writer.put_tool(changed, inferred=tools.inferred(spec.name))
            if tools.key_version > 1:
                names = tools.names_of(spec.name)
                writer.rekey(spec.name, names, lambda call: tools.key(spec.name, call))
        entry = tools.specs[spec.name]
        same = (entry.description, entry.parameters) == (spec.description, spec.parameters)
        agree = spec.read_only in (None, entry.read_only)
        return spec.name if (same and agree) or inferred else spec

    def pin(self, task: Task) -> None:
        """Store which variants a task was recorded with, for ``get(..., task=ID)``."""
        pins = [
            (self.key(call.name, call.arguments), _digest(task, call))
            for call in task.gold_calls
            if call.response is not None
        ]
        self.pin_keys(task.id, pins)

    def pin_keys(self, task_id: str, pins: Iterable[tuple[bytes, bytes]]) -> None:
        """:meth:`pin` by (call key, response digest) pairs, in gold order."""
        if not _storable(task_id):
            raise OrchError(f"task id {task_id!r} holds characters that cannot be stored")
        self._writing().pin(task_id, pins)

    def _writing(self) -> CacheWriter:
        if self._writer is None:
            raise OrchError(
                f"cache {self.path!r} is open for reading: use open_cache(path, write=True)"
            )
        return self._writer

    def commit(self) -> None:
        """Make everything written so far visible at once, and become a reader."""
        self._writing().commit()
        self._writer = None
        self._forget()
        self._reader = self._open_reader()

    def close(self) -> None:
        """Close files and drop what was not committed. A second call does nothing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        else:
            self._reader.close()

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._writer is not None and kind is None:
                self.commit()
        finally:
            self.close()

    def __getstate__(self) -> JsonObject:
        if self._writer is not None:
            raise OrchError(f"cache {self.path!r} is open for writing and cannot be copied")
        return {"path": self._url or str(self._file)}

    def __setstate__(self, state: JsonObject) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    # -- inspecting ------------------------------------------------------------------------

    def stats(self) -> JsonObject:
        """Counts of the whole cache.

        Returns:
            ``responses`` (call, response) pairs; ``payloads`` distinct responses; ``tools`` in the
            catalogue; ``variants`` calls with more than one response; ``bytes`` of the file;
            ``schema`` version; ``key_version`` of the calls' keys; ``digest`` of the content.
        """
        counts = self._reader.one(sql.COUNTS)
        assert counts is not None
        facts = dict(tuple(row) for row in self._reader.rows(sql.META))
        names = ("responses", "payloads", "tools", "variants")
        return {
            **dict(zip(names, map(int, counts), strict=True)),
            "bytes": self._file.stat().st_size if self._url is None and self._file.exists() else 0,
            "schema": int(facts.get("schema", self.key_version)),
            "key_version": self.key_version,
            "digest": facts.get("digest"),
        }

    def verify(self) -> JsonObject:
        """Compute all digests again and compare.

        Returns:
            ``{ok, problems}``; each problem is one line for a person.
        """
        from orch_env.cache.verify import find_problems

        problems = find_problems(self._reader, None if self._url else self._file)
        return {"ok": not problems, "problems": problems}


def open_cache(path: str | os.PathLike[str], *, write: bool = False) -> ResponseCache:
    """Open a cache for reading, or for writing.

    Args:
        path: a cache file, the name of a bundled data set, or an SQLAlchemy URL.
        write: make the file if it is missing; nothing is visible to readers until ``commit()``
            or the end of the ``with`` block, and nothing at all if that block fails.

    Raises:
        OrchError: the file is missing, damaged, of another application, or newer than this code.
    """
    text = os.fspath(path)
    if "://" in text:
        text = _file_of(text)
    if not write and "://" not in text and not exists(text):
        found = bundled(text, "cache")
        if found is not None:
            return ResponseCache(found)
    return ResponseCache(text, write=write)


def _file_of(url: str) -> str:
    """The file that a SQLite URL names; another database's URL as it is."""
    parts = sql.engine_of(url).url
    if parts.get_backend_name() != "sqlite":
        return url
    if "?" in url or not parts.database or parts.database.startswith((":memory:", "file:")):
        raise OrchError(f"cache {url!r}: name a SQLite file by its path, not by a URL with options")
    return parts.database


def _digest(task: Task, call: GoldCall) -> bytes:
    try:
        digest = bytes.fromhex(call.response or "")
    except ValueError:
        digest = b""
    if len(digest) != 16:
        raise OrchError(
            f"task {task.id!r}: call {call.name!r} pins response {call.response!r}, "
            "which is no digest of 32 hex digits"
        )
    return digest


def _storable(text: str) -> bool:
    return "\x00" not in text and is_encodable(text)
