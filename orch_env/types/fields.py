"""Fields of a record that came from a file: of the right JSON type, or one line that says why not.

A text where a list is meant is refused and never taken apart into letters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from orch_env.types.errors import OrchError
from orch_env.types.json import Json
from orch_env.types.text import is_encodable, shortened

T = TypeVar("T")
D = TypeVar("D")

_WORDS: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}
_ACCEPTED: dict[type, Any] = {dict: Mapping, list: (list, tuple), float: (int, float)}


def value_of(data: Mapping[str, Any], name: str, kind: type[T], default: D) -> T | D:
    """The field of a record, ``default`` where it is missing or null.

    Raises:
        OrchError: it has another type; true and false are no numbers.
    """
    value = data.get(name)
    if value is None:
        return default
    return of_kind(value, kind, repr(name))


def list_of(data: Mapping[str, Any], name: str, kind: type[T]) -> tuple[T, ...]:
    """The entries of a list; none where the field is missing or null.

    Raises:
        OrchError: it is no list, or an entry has another type.
    """
    listed = value_of(data, name, list, ())
    return tuple(of_kind(item, kind, f"'{name}' entry {n}") for n, item in enumerate(listed))


def name_of(data: Mapping[str, Any], field_name: str, what: str) -> str:
    """A non-empty text that names something in files and databases.

    Raises:
        OrchError: it is missing, empty, no text, or holds a lone surrogate, which has no UTF-8
            bytes.
    """
    value = data.get(field_name)
    if not isinstance(value, str) or not value:
        raise OrchError(f"{what} needs a non-empty string {field_name!r}, got {got(value)}")
    if not is_encodable(value):
        raise OrchError(
            f"{what}: {field_name!r} {value!r} holds half a character (a lone surrogate), which no "
            "file can store"
        )
    if "\0" in value:
        raise OrchError(f"{what}: {field_name!r} {value!r} holds a NUL, which no cache can store")
    return value


def of_kind(value: Json, kind: type[T], what: str) -> T:
    """The value, if it has the JSON type that ``kind`` stands for.

    Raises:
        OrchError: it has another.
    """
    accepted = _ACCEPTED.get(kind, kind)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise OrchError(f"{what} must be {_WORDS[kind]}, got {got(value)}")
    return value  # type: ignore[no-any-return]


def got(value: Json, limit: int = 60) -> str:
    """A value as an error message shows it, in at most ``limit`` characters."""
    return shortened(repr(value), limit)
