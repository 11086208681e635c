"""Short texts for people: the nearest known name, and long texts cut short."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_COMPARED_CHARS = 200
"""Characters of a word that are compared; a model may write a name of a megabyte."""


def nearest(word: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Up to ``most`` known names that are spelt like ``word``, the closest first."""
    return difflib.get_close_matches(word[:_COMPARED_CHARS], list(known), n=most)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` with the nearest known name; empty where none is near."""
    found = nearest(word, known)
    return f" (did you mean {found[0]!r}?)" if found else ""


def shortened(text: str, limit: int) -> str:
    """A text of at most ``limit`` characters: a longer one is cut and ends in ``...``."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
