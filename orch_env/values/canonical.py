"""The canonical form of a JSON value, and the keys made from it.

* A number and its plain decimal string are one value: `dest_id` is a string in one tool's output
  and a number in another's input. A string is read as a number only if it is the shortest way to
  write that number: `"1.10"` may be a version, so it is text.
* Text is compared in Unicode's normal form C, names of members too. Everything else in it matters:
  in a comma-joined list the order, unless the schema calls it a set
  (:mod:`orch_env.values.by_schema`).
* Whole numbers are compared exactly (strings of up to 18 digits), fractions as doubles.

Files on disk hold keys made here: no change may alter a key that could be computed before. A rule
that must change becomes a new key version, as version 2 did beside
:mod:`orch_env.values.canonical_v1`.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from decimal import Decimal

from orch_env.types.json import Json

MAX_DEPTH = 128
"""Levels of nesting that are compared; deeper values become a marker. No tool's arguments nest so
deep, and without a limit hostile input would exhaust the stack."""
TOO_DEEP = "<nested too deep>"
"""What stands for a value that is nested deeper."""

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,14})\.[0-9]{0,16}[1-9]", re.ASCII)
_NUMBER_BEGINS = frozenset("-0123456789")
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_HUGE = 1 << 4096
"""Python may refuse to print greater integers in decimal."""


def canonical(value: Json) -> Json:
    """Return the canonical form of a JSON value, itself a JSON value.

    Integral floats and plain decimal strings (no leading or trailing zeros, no exponent) become
    numbers; text is normalised; objects and lists are canonicalised inside, to ``MAX_DEPTH``
    levels. Booleans and null do not equal 0, 1 and "".
    """
    return _canonical(value, MAX_DEPTH)


def _canonical(value: Json, depth: int) -> Json:
    if isinstance(value, str):
        if value[:1] in _NUMBER_BEGINS:
            return _read_number(value)
        return value if value.isascii() else normal(value)
    if isinstance(value, int) or value is None:
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else value
    if isinstance(value, dict | list | tuple):
        if depth == 0:
            return TOO_DEEP
        if isinstance(value, dict):
            value = with_normal_names(value)
            return {key: _canonical(item, depth - 1) for key, item in value.items()}
        return [_canonical(item, depth - 1) for item in value]
    return value


def normal(text: str) -> str:
    """The text in Unicode's normal form C; lone surrogates stay as they are."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def with_normal_names(value: dict[str, Json]) -> dict[str, Json]:
    """The object with the canonical names of its members; itself where nothing changes.

    Where two names differ only in their normal form, all keep theirs, so that no member is lost.
    """
    if all(key.__class__ is str and key.isascii() for key in value):
        return value
    named = {normal(str(key)): item for key, item in value.items()}
    return named if len(named) == len(value) else {str(key): i for key, i in value.items()}


def _read_number(text: str) -> Json:
    if _WHOLE.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        number = float(text)
        shortest = repr(number)
        if "e" in shortest:
            shortest = format(Decimal(shortest), "f")
        if shortest == text:
            return number
    return normal(text)


def canonical_text(value: Json) -> str:
    """Canonical JSON text: sorted keys, no blanks, ASCII. Equal texts are equal values."""
    return text_of(canonical(value))


def text_of(form: Json) -> str:
    """JSON text of a value that is canonical already."""
    try:
        return _encode(form)
    except ValueError:  # an integer of more digits than Python prints
        return _encode(_huge_as_hex(form))


def _huge_as_hex(form: Json) -> Json:
    if isinstance(form, dict):
        return {key: _huge_as_hex(item) for key, item in form.items()}
    if isinstance(form, list):
        return [_huge_as_hex(item) for item in form]
    if isinstance(form, int) and abs(form) >= _HUGE:
        return f"<integer {form:#x}>"
    return form
