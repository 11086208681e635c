"""The canonical form of a JSON value, and the keys made from it.

* A number and its plain decimal string are one value: `dest_id` is a string in one tool's output
  and a number in another's input.
* A comma-joined list without blanks is a set (`"a,b"` equals `"b,a"`), unless its pieces are
  decimal fractions, where order matters (coordinates).
* Whole numbers are compared exactly (strings of up to 18 digits), fractions as doubles (strings of
  up to 17 digits after the point: a printed double needs no more).

Files on disk hold keys made here: no change may alter a key that could be computed before.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

from orch_env.types.json import Json

MAX_DEPTH = 128
"""Levels of nesting that are compared; deeper values become a marker. No tool's arguments nest so
deep, and without a limit hostile input would exhaust the stack."""

_TOO_DEEP = "<nested too deep>"
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,14})\.[0-9]{1,17}", re.ASCII)
_NUMBER_BEGINS = frozenset("-0123456789")
_JOINED = re.compile(r"[^\s,]+(?:,[^\s,]+)+")
_FRACTION = re.compile(r"-?[0-9]+\.[0-9]+", re.ASCII)
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_HUGE = 1 << 4096
"""Python may refuse to print greater integers in decimal."""


def canonical(value: Json) -> Json:
    """Return the canonical form of a JSON value, itself a JSON value.

    Integral floats and plain decimal strings (no leading zeros, no exponent) become numbers;
    set-like strings have their pieces sorted; objects and lists are canonicalised inside, to
    ``MAX_DEPTH`` levels. Booleans and null do not equal 0, 1 and "".
    """
    return _canonical(value, MAX_DEPTH)


def _canonical(value: Json, depth: int) -> Json:
    if isinstance(value, str):
        # Most texts are words, which are their own canonical form.
        plain = value[:1] not in _NUMBER_BEGINS and "," not in value
        return value if plain else _canonical_text(value)
    if isinstance(value, int) or value is None:
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else value
    if isinstance(value, dict | list | tuple):
        if depth == 0:
            return _TOO_DEEP
        if isinstance(value, dict):
            return {str(key): _canonical(item, depth - 1) for key, item in value.items()}
        return [_canonical(item, depth - 1) for item in value]
    return value


def _canonical_text(text: str) -> Json:
    # Most texts are words: these cheap tests avoid the patterns.
    if text[:1] in _NUMBER_BEGINS:
        if _WHOLE.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text):
            number = float(text)
            return int(number) if number.is_integer() else number
    if "," in text and _JOINED.fullmatch(text):
        pieces = text.split(",")
        if not all(_FRACTION.fullmatch(p) for p in pieces):
            return ",".join(sorted(pieces))
    return text


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


def call_key(tool: str, arguments: dict[str, Any]) -> bytes:
    """The 128-bit BLAKE2b digest of (tool, canonical arguments): 16 bytes, the cache's key."""
    text = text_of([tool, canonical(arguments)])
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).digest()
