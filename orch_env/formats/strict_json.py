"""JSON as the environment accepts it from a model: finite numbers, limited nesting.

Python's decoder accepts what other JSON readers do not: NaN, Infinity, 1e999, integers of a
thousand digits, nesting without end. All of it is refused here, so that no later code has to handle
it. Of repeated keys the last value counts, as in serving stacks.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

from orch_env.types.json import Json

MAX_DEPTH = 64
"""The deepest nesting of objects and lists that is read; a scalar has depth 0."""


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:24]} is out of range")
    return value


def _ranged(text: str) -> int:
    # Beyond 308 digits nothing fits a double; the limit is checked before the slow conversion.
    if len(text) > 300:
        digits = text.lstrip("-")
        if len(digits) > 308:
            raise ValueError(f"the number {text[:24]}... is out of range")
    return int(text)


_decoder = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, parse_int=_ranged)
_raw_decode: Callable[[str, int], tuple[Json, int]] = _decoder.raw_decode

_BLANK = re.compile(r"[ \t\r\n]*")
# A string (an unfinished one runs to the end, which keeps the scan linear), or a comma with nothing
# but blanks between it and the bracket that closes.
_TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+(?:"|\\?\Z))|,(?=[ \t\r\n]*[}\]])', re.DOTALL)


def skip_blanks(text: str, start: int) -> int:
    """Index of the first character at or after ``start`` that is no JSON white space."""
    found = _BLANK.match(text, start)
    return found.end() if found else start


def decode_at(text: str, start: int, depth: int = MAX_DEPTH) -> tuple[Json, int]:
    """Decode the JSON value that begins at ``start``; return it and the index after it.

    Args:
        text: holds the value.
        start: where it begins.
        depth: the deepest nesting; one more where a list of calls is read.

    Raises:
        ValueError: there is none, or it breaks one of this module's limits; the message is one
            short sentence, with positions counted from ``start``.
    """
    try:
        value, end = _raw_decode(text, start)
    except json.JSONDecodeError as problem:
        raise ValueError(f"{problem.msg} (character {problem.pos - start})") from None
    except RecursionError:
        raise ValueError(f"nested deeper than {depth} levels") from None
    if _is_deep(value, depth):
        raise ValueError(f"nested deeper than {depth} levels")
    return value, end


def decode(text: str) -> Json:
    """Decode a whole text as one JSON value, blanks around it allowed.

    Raises:
        ValueError: as :func:`decode_at`, or something follows the value.
    """
    value, end = decode_at(text, skip_blanks(text, 0))
    if skip_blanks(text, end) != len(text):
        raise ValueError(f"text follows the JSON value (character {end})")
    return value


def without_trailing_commas(text: str) -> str:
    """The text without commas right before a closing bracket, outside strings."""
    return _TRAILING_COMMA.sub(lambda m: m.group(1) or "", text)


def _is_deep(value: Json, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        below: list[Json] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(node.values())
            elif isinstance(node, list):
                below.extend(node)
        # Only containers matter for depth; dropping scalars keeps a wide value cheap.
        level = [node for node in below if isinstance(node, dict | list)]
        if not level:
            return False
    return True
