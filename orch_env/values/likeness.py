"""How alike two texts are that are not equal: spelt otherwise, or a word more."""

from __future__ import annotations

import re
import unicodedata

SAME_WORDS, MORE_WORDS = 0.9, 0.7
"""The likeness of two texts that differ only in letter case, blanks, accents and punctuation; and
of two of which one has all words of the other."""
MAX_TEXT = 1024
"""Longer texts (in characters) are alike to none."""

_LONG_WORD = re.compile(r"[^\W\d_]{3}")
_SIGN = re.compile(r"[^\w\s]|_")
_NUMBER = re.compile(r"-?\d+(?:[^\w\s]\d+)*")
_OTHER_LETTER = 9
"""A mark of this or a lower combining class is no accent: it makes another letter (a nukta, a
virama, the voicing of kana)."""
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2012\u2013\u2014\u2212", "-"))
_SYMBOLS = frozenset("#%&*@")
"""Punctuation by Unicode's name, but part of what is said: C# is not C, 5% is not 5."""


def likeness(made: str, gold: str) -> float:
    """How alike two different texts are: ``SAME_WORDS``, ``MORE_WORDS`` or 0; symmetric.

    A number or an id is never a word more or less, nor is it the same in another order or with
    other signs: ``-5`` and ``5``, ``3.1`` and ``3-1`` have nothing in common.
    """
    if len(made) > MAX_TEXT or len(gold) > MAX_TEXT:
        return 0.0
    one, other = _words(made), _words(gold)
    if not one or not other:
        return 0.0
    if "".join(one) == "".join(other) and _numbers(one) == _numbers(other):
        return SAME_WORDS
    some, more = sorted((set(one), set(other)), key=len)
    if not some <= more or not any(map(_LONG_WORD.search, some)):
        return 0.0
    ids, others = ([word for word in words if _NUMBER.search(word)] for words in (one, other))
    return MORE_WORDS if ids == others else 0.0


def _numbers(words: list[str]) -> list[str]:
    return _NUMBER.findall(" ".join(words))


def _words(text: str) -> list[str]:
    """The words of a text without case, accents and the punctuation around and between them."""
    if not text.isascii():
        folded = unicodedata.normalize("NFKD", text.casefold()).translate(_DASHES)
        text = "".join(c for c in folded if c.isascii() or not _is_unseen(c))
    return _SIGN.sub(_kept, text.casefold()).split()


def _is_unseen(character: str) -> bool:
    """Whether it is an accent, or a character without a shape such as a soft hyphen."""
    accent = unicodedata.combining(character) > _OTHER_LETTER
    return accent or unicodedata.category(character) == "Cf"


def _kept(sign: re.Match[str]) -> str:
    """A sign that is part of a word or a number, a blank for any other."""
    character, text, at = sign[0], sign.string, sign.start()
    kind = unicodedata.category(character)
    if kind[0] != "P":
        return character if kind[0] == "M" or kind in ("Sm", "Sc", "So") else " "
    before, after = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
    between = before.isdecimal() or (character in "-." and not before.isalnum())
    return character if character in _SYMBOLS or (between and after.isdecimal()) else " "
