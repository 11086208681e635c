"""Records of a server's state as plain data and back, by their type hints.

A record is a frozen dataclass whose fields are strings, numbers, booleans, enums of strings,
``T | None``, ``tuple[T, ...]`` or records; nothing else, because a snapshot must be JSON.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Mapping
from enum import Enum
from typing import (
    Annotated,
    Any,
    ClassVar,
    Protocol,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from orch_env.types.json import Json, JsonObject


class Record(Protocol):
    """A frozen dataclass instance."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


R = TypeVar("R", bound=Record)

_STAMP = "session time"
Stamp: TypeAlias = Annotated[str, _STAMP]
"""A field that holds the session's time at some call (created at, changed at).

It belongs to the state, but not to what rewards compare: a good episode may take a call more.
"""


def to_json(record: Record, *, stamps: bool = True) -> JsonObject:
    """A record as plain data; :func:`from_json` undoes it.

    Args:
        record: the record.
        stamps: whether to keep the fields of type :data:`Stamp`.
    """
    return {name: _plain(getattr(record, name), stamps) for name in _fields(type(record), stamps)}


def from_json(kind: type[R], data: Mapping[str, Json]) -> R:
    """Build a record of type ``kind`` from plain data.

    Raises:
        TypeError: a field's type hint is none of the supported ones, or a field is missing.
    """
    hints = _hints(kind)
    return kind(**{name: _typed(hints[name], value) for name, value in data.items()})


def check_record(kind: type[Any]) -> None:
    """Raise ``TypeError`` unless ``kind`` is a frozen dataclass (tables share its instances)."""
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise TypeError(f"{kind.__name__} must be a frozen dataclass to be kept in a table")


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


@functools.cache
def _fields(kind: type[Any], stamps: bool) -> tuple[str, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(n for n in kind.__dataclass_fields__ if stamps or not _is_stamp(hints[n]))


def _is_stamp(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return _STAMP in get_args(hint)
    return get_origin(hint) in (Union, types.UnionType) and any(map(_is_stamp, get_args(hint)))


def _plain(value: Any, stamps: bool) -> Json:
    if value is None or type(value) in _SCALARS:
        return value
    if isinstance(value, tuple):
        return [_plain(item, stamps) for item in value]
    return value.value if isinstance(value, Enum) else to_json(value, stamps=stamps)


_SCALARS = frozenset({str, int, float, bool})


def _typed(hint: Any, value: Json) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (a for a in get_args(hint) if a is not types.NoneType)
        return _typed(inner, value)
    if origin is tuple:
        inner, _ = get_args(hint)
        return tuple(_typed(inner, item) for item in value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_json(hint, value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    if hint in (str, int, float, bool):
        return value
    raise TypeError(f"a record field cannot have the type {hint!r}")
