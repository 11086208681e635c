"""Closing answers as text: their words, their numbers, their items.

Nothing here depends on a language, apart from ``and``, which separates items. Words are compared
without case and punctuation, and numbers are written with a decimal point.
"""

from __future__ import annotations

import re
import unicodedata

from orch_env.types.json import Json, parse_json
from orch_env.values import canonical_text

_MINUS = str.maketrans({"\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": "-"})
_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb"

# Signs and separators inside numbers stay: 3.5 is not 35, -5 is not 5, 10:30 is one time.
_PUNCTUATION = re.compile(
    rf"(?<![0-9])[,:]|[.,:](?![0-9])|[;!?(){{}}\[\]_*{_QUOTES}]|(?<=\w)-|-(?![0-9])"
)

# One number: not part of a word, an id (K-0042), a date (2024-10-05), a time or a decimal comma.
_NUMBER = re.compile(
    r"(?<![\w.])(?<!\w-)(?<![0-9][:/,])"
    r"([-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?)"
    r"(?![0-9]|[-:/,.][0-9])"
)
_BULLET = re.compile(r"^\s*(?:[-*\u2022]|[0-9]+[.)])\s+")
_COMMAS = re.compile(r"[,;]")
_AND = re.compile(r"\band\b|&", re.IGNORECASE)
_WHOLE_DIGITS = 18


def normalised(text: str) -> str:
    """The words of a text: NFKC, lower case, without punctuation, single blanks.

    Punctuation between digits stays (``3.5``, ``10:30``), and so do a number's sign and all
    symbols that carry meaning (``%``, ``+``, ``/``, ``#``). A text of punctuation alone stays as
    it is.

    Example:
        >>> normalised("  The “Grand Hotel”, Oslo! ")
        'the grand hotel oslo'
    """
    # Folding case may undo the composition, hence NFKC twice.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    folded = folded.translate(_MINUS)
    words = " ".join(_PUNCTUATION.sub(" ", folded).split())
    return words or " ".join(folded.split())


def numbers_in(text: str) -> list[int | float]:
    """The numbers of a text in order; thousands may have commas, units may follow at once.

    Digits inside words, ids, dates, times and decimal commas are no numbers.

    Example:
        >>> numbers_in("Room K-12 on 2024-10-05: $1,250.50 for 2 nights")
        [1250.5, 2]
    """
    return [_number(found) for found in _NUMBER.findall(text.translate(_MINUS))]


def _number(text: str) -> int | float:
    plain = text.replace(",", "")
    digits = plain.lstrip("+-")
    if digits.isdigit() and len(digits) <= _WHOLE_DIGITS:
        return int(plain)
    return float(plain)


def item_sets(value: Json) -> list[frozenset[str]]:
    """The sets of items that a list, or a text that lists, can be read as; at least one.

    Text is read as a JSON list if it is one, else as lines, as pieces between commas and
    semicolons, and as pieces between those and ``and``: ``"Trinidad and Tobago, Cuba"`` is two
    items and three. Items are compared as normalised words, numbers by their value; a repeated
    item is one.
    """
    if isinstance(value, list | tuple):
        return [frozenset(map(_item, value))]
    if not isinstance(value, str):
        return [frozenset({_item(value)})]
    listed = parse_json(value)
    if isinstance(listed, list):
        return [frozenset(map(_item, listed))]
    lines = [_BULLET.sub("", line) for line in value.splitlines()]
    pieces = [piece for line in lines for piece in _COMMAS.split(line)]
    words = [word for piece in pieces for word in _AND.split(piece)]
    return [
        frozenset(_item(part) for part in parts if part.strip()) for parts in (lines, pieces, words)
    ]


def _item(value: Json) -> str:
    return canonical_text(normalised(value) if isinstance(value, str) else value)
