"""Copies a cache with keys of version 1 into one with the newest keys.

A version-1 file stores arguments with the pieces of comma-joined strings sorted and without the
trailing zeros of decimal strings. The gold calls of its tasks have the spelling that was recorded:
where tasks are given, a recording is kept under the spelling of the gold calls that pin it, or
else under that of a gold call with its old key. Recordings of which no gold call is known keep the
stored spelling.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from orch_env.cache.store import RecordedCall, ResponseCache
from orch_env.types import OrchError, Task
from orch_env.types.json import Json, JsonObject
from orch_env.values import SchemaRules, canonical_text
from orch_env.values.canonical_v1 import is_sorted_set


@dataclass(slots=True)
class Rekeyed:
    """What became of the calls of a cache.

    Attributes:
        calls: distinct calls of the source.
        merged: how many fewer the target has, because they are one call now.
        split: how many more it has, because gold calls show that they were several.
        restored: calls of the source whose spelling the tasks gave.
        order_unknown: calls that hold a comma-joined string whose order the source does not keep.
    """

    calls: int = 0
    merged: int = 0
    split: int = 0
    restored: int = 0
    order_unknown: int = 0

    def to_dict(self) -> JsonObject:
        """The plain form."""
        return asdict(self)


def rekey(source: ResponseCache, target: ResponseCache, tasks: Sequence[Task] = ()) -> Rekeyed:
    """Write everything that ``source`` holds into ``target`` under the target's keys.

    Args:
        source: open for reading, with keys of version 1.
        target: new, open for writing; the caller commits.
        tasks: tasks that were imported with the source.

    Raises:
        OrchError: the source has newer keys already, or a task pins what it does not hold.
    """
    if source.key_version != 1:
        raise OrchError(f"cache {source.path!r} has keys of version {source.key_version} already")
    for spec in source.catalogue.values():
        target.put_tool(spec, inferred=source.is_inferred(spec.name))
    spellings = _Spellings(source, tasks)
    kept: dict[bytes, set[bytes]] = defaultdict(set)
    moved: dict[tuple[bytes, bytes], bytes] = {}
    unknown: set[bytes] = set()
    for old, call in source.stored():
        digest = bytes.fromhex(call.digest)
        answer = source.get_variant(old, digest)
        assert answer is not None
        for arguments in spellings.of(old, call):
            target.put(
                call.tool,
                arguments,
                answer.text,
                is_error=answer.is_error,
                metadata=answer.metadata,
            )
            new = target.key(call.tool, arguments)
            kept[old].add(new)
            moved.setdefault((old, digest), new)
        if old not in spellings.known and _order_is_lost(
            call.arguments, SchemaRules.of(_schema(source, call.tool))
        ):
            unknown.add(old)
    _pin(source, target, tasks, moved)
    made = set().union(*kept.values())
    several = sum(len(keys) - 1 for keys in kept.values())
    return Rekeyed(
        calls=len(kept),
        merged=len(kept) + several - len(made),
        split=several,
        restored=len(spellings.known),
        order_unknown=len(unknown),
    )


class _Spellings:
    """How recorded calls were spelt, as far as gold calls tell.

    Attributes:
        known: old keys of gold calls.
    """

    def __init__(self, source: ResponseCache, tasks: Sequence[Task]) -> None:
        self._pinned: dict[tuple[bytes, bytes], dict[str, JsonObject]] = defaultdict(dict)
        self._unpinned: dict[bytes, dict[str, JsonObject]] = defaultdict(dict)
        self._first: dict[bytes, JsonObject] = {}
        for task in tasks:
            pins = source.pins_of(task)
            for key, digests in pins.items():
                for digest in digests:
                    if not source.holds(key, digest):
                        raise OrchError(
                            f"task {task.id!r} pins response {digest.hex()}, which cache "
                            f"{source.path!r} does not hold for that call: give the tasks that "
                            "were imported with it"
                        )
            for call in task.gold_calls:
                key, text = source.key(call.name, call.arguments), canonical_text(call.arguments)
                self._first.setdefault(key, call.arguments)
                if call.response is None:
                    self._unpinned[key][text] = call.arguments
                else:
                    self._pinned[key, bytes.fromhex(call.response)][text] = call.arguments
        self.known = frozenset(self._first)

    def of(self, key: bytes, call: RecordedCall) -> list[JsonObject]:
        """The spellings under which a recording is kept, at least one."""
        digest = bytes.fromhex(call.digest)
        found = dict(self._pinned.get((key, digest), {}))
        if call.variant == 0:  # what answers a gold call that pins nothing
            found |= self._unpinned.get(key, {})
        return list(found.values()) or [self._first.get(key, call.arguments)]


def _pin(
    source: ResponseCache,
    target: ResponseCache,
    tasks: Sequence[Task],
    moved: dict[tuple[bytes, bytes], bytes],
) -> None:
    pins: dict[str, list[tuple[bytes, bytes]]] = defaultdict(list)
    for task_id, key, digest in source.stored_pins():
        pins[task_id].append((moved.get((key, digest), key), digest))
    for task_id, pairs in pins.items():
        target.pin_keys(task_id, pairs)
    for task in tasks:
        if task.id in pins:
            target.pin(task)


def _schema(source: ResponseCache, tool: str) -> JsonObject | None:
    spec = source.catalogue.get(source.resolve(tool) or tool)
    return spec.parameters if spec is not None else None


def _order_is_lost(value: Json, rules: SchemaRules | None) -> bool:
    """Whether the value holds a string whose pieces version 1 sorted, and which is no set."""
    return any(
        is_sorted_set(text) and (at is None or at.separator != ",")
        for text, at in _texts(value, rules)
    )


def _texts(value: Json, rules: SchemaRules | None) -> Iterator[tuple[str, SchemaRules | None]]:
    if isinstance(value, str):
        yield value, rules
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(item, rules.items(number) if rules is not None else None)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, rules.member(key) if rules is not None else None)
