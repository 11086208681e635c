"""How alike two different texts are: one word in another case, or a word more."""

from __future__ import annotations

import unicodedata

SAME_WORDS, MORE_WORDS = 0.9, 0.7
"""The likeness of two texts that differ only in letter case, blanks, accents and punctuation; and
of two of which one has all words of the other."""
MAX_TEXT = 1024
"""Longer texts (in characters) are alike to none."""
_LONG_WORD = 3


def likeness(made: str, gold: str) -> float:
    """How alike two different texts are: ``SAME_WORDS``, ``MORE_WORDS`` or 0; symmetric.

    A word with a digit may be an id or a number. It is no word more or less.
    """
    if len(made) > MAX_TEXT or len(gold) > MAX_TEXT:
        return 0.0
    one, other = _words(made), _words(gold)
    if not one or not other:
        return 0.0
    if one == other:
        return SAME_WORDS
    some, all_ = sorted((set(one), set(other)), key=len)
    if not some <= all_ or all(len(word) < _LONG_WORD for word in some):
        return 0.0
    if any(c.isdigit() for word in all_ - some for c in word):
        return 0.0
    return MORE_WORDS


def _words(text: str) -> list[str]:
    """The words of a text without case, accents and punctuation."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(c if c.isalnum() else " " for c in plain if not unicodedata.combining(c))
    return kept.split()
