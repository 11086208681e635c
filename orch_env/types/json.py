"""The JSON value type and RFC 6901 pointers, shared by every record in this package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

Json: TypeAlias = Any  # None | bool | int | float | str | list[Json] | dict[str, Json]
JsonObject: TypeAlias = dict[str, Any]


def parse_json(text: str, unreadable: Json = None) -> Json:
    """The JSON value of a text; ``unreadable`` if it has none or is nested too deeply to read."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return unreadable


def parse_whole(text: str) -> Json:
    """The JSON value of a text from a file.

    Raises:
        ValueError: the text is no JSON, is nested too deeply to read, or gives a key twice in one
            object, so that one of its values would be lost.
    """
    try:
        return _decode_whole(text)
    except RecursionError:
        raise ValueError("it is nested too deeply to read") from None


def _without_repeats(pairs: list[tuple[str, Json]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is given twice in one object")
    return found


_decode_whole = json.JSONDecoder(object_pairs_hook=_without_repeats).decode


def escape(token: str) -> str:
    """Escape one reference token of a JSON Pointer (RFC 6901, section 3)."""
    return token.replace("~", "~0").replace("/", "~1")


def unescape(token: str) -> str:
    """Undo :func:`escape`."""
    return token.replace("~1", "/").replace("~0", "~")


def leaves(value: Json, pointer: str = "") -> Iterator[tuple[str, Json]]:
    """Yield ``(pointer, scalar)`` for every leaf of ``value``, depth first.

    Empty lists and objects are leaves too: they are values that a caller can get wrong.
    """
    stack: list[tuple[str, Json]] = [(pointer, value)]
    while stack:
        at, node = stack.pop()
        if isinstance(node, dict) and node:
            stack.extend((f"{at}/{escape(str(k))}", node[k]) for k in reversed(list(node)))
        elif isinstance(node, list) and node:
            stack.extend((f"{at}/{i}", node[i]) for i in reversed(range(len(node))))
        else:
            yield at, node


_DIGITS = 10
"""Digits that no index of a list has; Python refuses to read thousands of them."""


def find(value: Json, pointer: str, otherwise: Json = None) -> Json:
    """What ``pointer`` names inside ``value``; ``otherwise`` if it names nothing."""
    try:
        return resolve(value, pointer)
    except KeyError:
        return otherwise


def resolve(value: Json, pointer: str) -> Json:
    """Return what ``pointer`` names inside ``value``.

    Raises:
        KeyError: the pointer names nothing; the message holds the pointer.
    """
    if pointer == "":
        return value
    if not pointer.startswith("/"):
        raise KeyError(f"{pointer!r} is no JSON Pointer: it must be empty or start with '/'")
    node = value
    for raw in pointer[1:].split("/"):
        token = unescape(raw)
        if isinstance(node, dict) and token in node:
            node = node[token]
        elif (
            isinstance(node, list)
            and token.isascii()
            and token.isdigit()
            and len(token) < _DIGITS
            and int(token) < len(node)
        ):
            node = node[int(token)]
        else:
            raise KeyError(f"{pointer!r} names nothing in the value")
    return node
