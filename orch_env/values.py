"""The one canonical form and equality of argument values.

Cache keys, rewards, provenance and scorers all ask this module, so that a value that hits the
cache is also the value that a reward calls right. The hard decision: numbers and plain decimal
strings are one value (`dest_id` is a string in one tool's output and a number in the next one's
input), and a comma-joined list without blanks is a set (`"a,b"` equals `"b,a"`), unless its
pieces are decimal fractions, where order carries meaning (coordinates).

Whole numbers are compared exactly (strings of up to 18 digits), fractions as doubles (strings of up
to 17 digits behind the point: as many as printing a double can need).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

from orch_env.types.json import Json

MAX_DEPTH = 128
"""Levels of nesting that are looked at. No tool's arguments nest so deep; what lies below is
replaced by a marker, so that hostile input is compared instead of exhausting the stack."""

_TOO_DEEP = "<nested too deep>"
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,14})\.[0-9]{1,17}", re.ASCII)
_JOINED = re.compile(r"[^\s,]+(?:,[^\s,]+)+")
_FRACTION = re.compile(r"-?[0-9]+\.[0-9]+", re.ASCII)


def canonical(value: Json) -> Json:
    """Return the canonical form of a JSON value, itself a JSON value.

    Integral floats and plain decimal strings (no leading zeros, no exponent) become numbers;
    set-like strings have their pieces sorted; objects and lists are canonicalised inside, to
    ``MAX_DEPTH`` levels. Booleans and null stay apart from 0, 1 and "".
    """
    return _canonical(value, MAX_DEPTH)


def _canonical(value: Json, depth: int) -> Json:
    if isinstance(value, str):
        return _canonical_text(value)
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
    if _WHOLE.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        number = float(text)
        return int(number) if number.is_integer() else number
    if _JOINED.fullmatch(text):
        pieces = text.split(",")
        if not all(_FRACTION.fullmatch(p) for p in pieces):
            return ",".join(sorted(pieces))
    return text


def canonical_text(value: Json) -> str:
    """Canonical JSON text: sorted keys, no blanks, ASCII. Equal texts are equal values."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def values_equal(left: Json, right: Json) -> bool:
    """Whether two JSON values are the same value (never raises, true is not 1)."""
    if isinstance(left, str) and isinstance(right, str) and left == right:
        return True
    if isinstance(left, dict | list | tuple) or isinstance(right, dict | list | tuple):
        return canonical_text(left) == canonical_text(right)
    one, other = canonical(left), canonical(right)
    if isinstance(one, bool) is not isinstance(other, bool):
        return False
    return bool(one == other or (one != one and other != other))  # NaN is the same value as NaN


def types_compatible(left: Json, right: Json) -> bool:
    """Whether two JSON values have compatible types: equal values, or the same JSON type.

    Integers and floats are one type; booleans are not numbers.
    """
    return _json_type(left) == _json_type(right) or values_equal(left, right)


def _json_type(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list | tuple) else "object"


def call_key(tool: str, arguments: dict[str, Any]) -> bytes:
    """The 128-bit BLAKE2b digest of (tool, canonical arguments): 16 bytes, the cache's key."""
    text = json.dumps([tool, canonical(arguments)], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).digest()


def calls_equal(name: str, arguments: dict[str, Any], other: str, others: dict[str, Any]) -> bool:
    """Whether two calls are the same call up to the equality of values."""
    return name == other and values_equal(arguments, others)
