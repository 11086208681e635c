"""How informative a value is: whether two places can hold it by chance.

Dates and times never count as informative, however long they are: searches repeat them, and time
tables hold nearly all of them. A letter of a word counts half as much as a character of an id.
"""

from __future__ import annotations

import math
import re
from typing import Any

from orch_env.types.json import Json
from orch_env.values import canonical, json_type
from orch_env.values.canonical import normal

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
"""A value with this many bits that equals an earlier output was read from it."""
SMALL_INTEGER = 31
"""Counts, ages, ratings and page numbers up to this one are trivial."""


def key_of(value: Json) -> Key:
    """A hashable key; two leaves have the same key iff ``values_equal`` holds."""
    form = canonical(value)
    return json_type(form), None if isinstance(form, list | dict) else form


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


def is_distinctive(value: Json) -> bool:
    """Whether an equality with an earlier output is enough evidence by itself."""
    return not is_temporal(value) and bits(value) >= ENOUGH_BITS


def is_void(value: Json) -> bool:
    """Whether a value says nothing: null, a boolean, an empty text, list or object."""
    return value is None or isinstance(value, bool) or value in ("", [], {})


def is_trivial(value: Json, parameter: str) -> bool:
    """Whether a value is void, a small number or a code, and so needs no source."""
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


def occurs_in(value: Json, text: str) -> bool:
    """Whether a scalar is a literal part of ``text``, which :func:`folded` has prepared.

    Case and blanks do not matter; a match may not be part of a longer word or number.
    """
    if is_void(value) or isinstance(value, list | dict):
        return False
    wanted = folded(str(value) if isinstance(value, str) else repr(canonical(value)))
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
    """Whether the character at ``at``, next to a match, makes it part of a longer word or number.

    Args:
        text: the text.
        at: the neighbour's position; outside of the text there is none.
        step: -1 before the match, 1 after it.
        edge: the match's own character beside it.
    """
    if not 0 <= at < len(text) or not edge.isalnum():
        return False
    if text[at] in _INSIDE_NUMBERS and edge.isdigit():
        beyond = at + step
        return 0 <= beyond < len(text) and text[beyond].isdigit()
    return text[at].isalnum()


def folded(text: str) -> str:
    """The text without differences of case, quotes, blanks and form, for :func:`occurs_in`."""
    folded = normal(text).replace("\u2019", "'").replace("\u2018", "'").casefold()
    return " ".join(folded.split())
