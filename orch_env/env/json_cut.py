"""Cut a JSON result so that it stays valid JSON and says what was left out.

A cut in the middle of a text takes the end of it, closing brackets included. Here lists lose their
last items and strings their ends instead, all to the same length, and each says how much is
missing.
"""

from __future__ import annotations

import json

from orch_env.types.json import Json

_LEAST_STRING = 24


def cut_json(text: str, limit: int) -> str | None:
    """The text with its long lists and strings cut until it has ``limit`` characters at most.

    Of the ways to cut, the one that keeps most is taken: every list to the same number of items,
    every string to the same number of characters.

    Returns:
        Valid JSON that fits, the text itself if it fits; ``None`` if it is no JSON, or if it does
        not fit even with one item a list and short strings.

    Example:
        >>> cut_json('{"names": ["Ada", "Ben", "Cleo", "Dan", "Eve"]}', 44)
        '{"names": ["Ada", "[cut: 4 of 5 items]"]}'
    """
    if len(text) <= limit:
        return text
    try:
        value: Json = json.loads(text)
        return _fitting(value, limit)
    except (ValueError, RecursionError):
        return None


def _fitting(value: Json, limit: int) -> str | None:
    """The value with the largest scale that fits."""
    if not _fits(value, 0, limit):
        return None
    low, high = 0, 16 * max(_longest(value), 1).bit_length()
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(value, middle, limit) else (low, middle)
    return _dumped(value, low)


def _fits(value: Json, scale: int, limit: int) -> bool:
    return len(_dumped(value, scale)) <= limit


def _dumped(value: Json, scale: int) -> str:
    """The value with room that grows with ``scale``: an eighth of a doubling a step."""
    grown = 2 ** (scale / 8)
    return json.dumps(_shortened(value, int(grown), int(_LEAST_STRING * grown)))


def _shortened(value: Json, items: int, characters: int) -> Json:
    if isinstance(value, str):
        missing = len(value) - characters
        if missing <= 0:
            return value
        return f"{value[:characters]}[cut: {missing} of {len(value)} characters]"
    if isinstance(value, list):
        kept: list[Json] = [_shortened(item, items, characters) for item in value[:items]]
        if len(value) > items:
            kept.append(f"[cut: {len(value) - items} of {len(value)} items]")
        return kept
    if isinstance(value, dict):
        return {key: _shortened(item, items, characters) for key, item in value.items()}
    return value


def _longest(value: Json) -> int:
    """Length of the longest list or string in it."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return max([len(value), *map(_longest, value)])
    if isinstance(value, dict):
        return max(map(_longest, value.values()), default=0)
    return 0
