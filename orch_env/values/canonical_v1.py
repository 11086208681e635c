"""Edition 1 of the plain canonical form: the keys of version-1 cache files, and nothing else.

Files on disk hold keys made here: no change may alter a key that could be computed before. It
differs from :mod:`orch_env.values.canonical` in three rules: trailing zeros of decimal strings do
not count, a comma-joined list without blanks is a set unless its pieces are decimal fractions, and
text is not normalised.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any

from orch_env.types.json import Json
from orch_env.values.canonical import MAX_DEPTH, TOO_DEEP, text_of

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,14})\.[0-9]{1,17}", re.ASCII)
_NUMBER_BEGINS = frozenset("-0123456789")
_JOINED = re.compile(r"[^\s,]+(?:,[^\s,]+)+")
_FRACTION = re.compile(r"-?[0-9]+\.[0-9]+", re.ASCII)


def call_key_v1(tool: str, arguments: dict[str, Any]) -> bytes:
    """The 16-byte key of a call in a version-1 file."""
    text = text_of([tool, _canonical(arguments, MAX_DEPTH)])
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).digest()


def canonical_text_v1(value: Json) -> str:
    """The text that a version-1 file stores of a call's arguments."""
    return text_of(_canonical(value, MAX_DEPTH))


def is_sorted_set(text: str) -> bool:
    """Whether edition 1 sorts the pieces of this text, so that their order is not kept."""
    return _JOINED.fullmatch(text) is not None and not all(
        _FRACTION.fullmatch(piece) for piece in text.split(",")
    )


def _canonical(value: Json, depth: int) -> Json:
    if isinstance(value, str):
        plain = value[:1] not in _NUMBER_BEGINS and "," not in value
        return value if plain else _canonical_text(value)
    if isinstance(value, int) or value is None:
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else value
    if isinstance(value, dict | list | tuple):
        if depth == 0:
            return TOO_DEEP
        if isinstance(value, dict):
            return {str(key): _canonical(item, depth - 1) for key, item in value.items()}
        return [_canonical(item, depth - 1) for item in value]
    return value


def _canonical_text(text: str) -> Json:
    if text[:1] in _NUMBER_BEGINS:
        if _WHOLE.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text):
            number = float(text)
            return int(number) if number.is_integer() else number
    return ",".join(sorted(text.split(","))) if is_sorted_set(text) else text
