"""How much a value says: whether two places that hold it can be equal by chance.

The hard decision: dates and times never count as informative, however long they are, because
searches echo them and time tables hold nearly all of them; a plain word counts half of an id.
"""

from __future__ import annotations

import math
import re
from typing import Any

from orch_env.types.json import Json
from orch_env.values import canonical

Key = tuple[str, Any]

_TEMPORAL = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?.*)?|\d{1,2}:\d{2}(?::\d{2})?"
    r"|\d{1,2}/\d{1,2}/\d{4}|\d{4}-\d{2}",
    re.ASCII,
)
_WORDS = re.compile(r"[^\W\d_]+(?:[\s'&.,-]+[^\W\d_]+)*")
_CODE_KEYS = re.compile(r"curren|language|locale|lang\b|country_?code", re.IGNORECASE)
_CODE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z]{2,3})?", re.ASCII)
_INSIDE_NUMBERS = ".,:-/"

ENOUGH_BITS = 20.0
"""From here on a fresh equality of values is taken as a flow of data by itself."""
SMALL_INTEGER = 31
"""Counts, ages, ratings and page numbers up to here are trivial."""


def key_of(value: Json) -> Key:
    """A hashable key; two scalars have one key iff ``values_equal`` holds."""
    seen = canonical(value)
    if isinstance(seen, bool):
        return "boolean", seen
    if isinstance(seen, int | float):
        return "number", seen
    if isinstance(seen, str):
        return "string", seen
    return "null" if seen is None else "empty", type(seen).__name__


def bits(value: Json) -> float:
    """Rough information content of a scalar in bits, from 0 (a boolean) up."""
    seen = canonical(value)
    if seen is None or isinstance(seen, bool | list | dict):
        return 0.0
    if isinstance(seen, int):
        digits = str(abs(seen)).rstrip("0") or "0"
        return math.log2(10) * len(digits) if abs(seen) > SMALL_INTEGER else 0.0
    if isinstance(seen, float):
        return math.log2(10) * len(repr(abs(seen)).replace(".", "").strip("0"))
    assert isinstance(seen, str)
    return (2.0 if _WORDS.fullmatch(seen) and not seen.isupper() else 4.0) * len(seen)


def is_temporal(value: Json) -> bool:
    """Whether a value is a date or a time of day."""
    return isinstance(value, str) and _TEMPORAL.fullmatch(value.strip()) is not None


def is_strong(value: Json) -> bool:
    """Whether a fresh equality with an earlier output is evidence enough by itself."""
    return not is_temporal(value) and bits(value) >= ENOUGH_BITS


def is_void(value: Json) -> bool:
    """Whether a value can carry nothing: null, a boolean, an empty text, list or object."""
    return value is None or isinstance(value, bool) or value in ("", [], {})


def is_trivial(value: Json, parameter: str) -> bool:
    """Whether a value is a default or a code that no query needs to determine."""
    seen = canonical(value)
    if is_void(value):
        return True
    if isinstance(seen, int):
        return abs(seen) <= SMALL_INTEGER
    return (
        isinstance(seen, str)
        and _CODE_KEYS.search(parameter) is not None
        and _CODE.fullmatch(seen) is not None
    )


def stands_in(value: Json, text: str) -> bool:
    """Whether a scalar stands literally in ``text``, which :func:`plain` has prepared.

    Case and blanks do not matter; a match may not be part of a longer word or number.
    """
    if is_void(value) or isinstance(value, list | dict):
        return False
    wanted = plain(str(value) if isinstance(value, str) else repr(canonical(value)))
    if not wanted:
        return False
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        before = _joins(text, start - 1, -1, wanted[0])
        if not before and not _joins(text, end, 1, wanted[-1]):
            return True
        start = text.find(wanted, start + 1)
    return False


def _joins(text: str, at: int, step: int, edge: str) -> bool:
    """Whether the character at ``at``, next to a match's edge, makes it part of something longer.

    Args:
        text: the text.
        at: the neighbour's position; beyond the text is no neighbour.
        step: -1 before the match, 1 after it.
        edge: the match's own character beside it.
    """
    if not 0 <= at < len(text) or not edge.isalnum():
        return False
    if text[at] in _INSIDE_NUMBERS and edge.isdigit():
        beyond = at + step
        return 0 <= beyond < len(text) and text[beyond].isdigit()
    return text[at].isalnum()


def plain(text: str) -> str:
    """Fold case, typographic quotes and blanks, for :func:`stands_in`."""
    folded = text.replace("\u2019", "'").replace("\u2018", "'").casefold()
    return " ".join(folded.split())
