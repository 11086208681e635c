"""Which values a text shows: every leaf of its JSON, and whole words inside its strings.

The hard decision: an index is built lazily. Reading the leaves is cheap; their canonical forms are
only worked out when a value is not there as it is written, which is rare for a model that copies
what it was shown. What an index answers does not depend on what it was asked before.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from threading import Lock

from orch_env.types.json import Json
from orch_env.values import canonical


class TextIndex:
    """The values that one text shows."""

    __slots__ = ("_canonical", "_literals", "_numbers", "_strings", "_words")

    def __init__(self, text: str) -> None:
        self._strings: dict[str, None] = {}
        self._numbers: set[int | float] = set()
        self._literals: set[str] = set()
        self._canonical: tuple[frozenset[str], frozenset[int | float]] | None = None
        self._words: str | None = None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            self._strings[text] = None
        else:
            self._read(value)

    def has_leaf(self, scalar: Json) -> bool:
        """Whether a scalar is a leaf exactly as it is written here; a quick first look."""
        kind = type(scalar)
        if kind is str:
            return scalar in self._strings
        return (kind is int or kind is float) and scalar in self._numbers

    def shows(self, scalar: Json) -> bool:
        """Whether a scalar is a leaf of the text or stands as a whole word in it."""
        if self.has_leaf(scalar):
            return True
        value = canonical(scalar)
        if isinstance(value, str):
            return not value or value in self._canonical_forms()[0] or self._has_word(scalar)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value in self._canonical_forms()[1] or self._has_word(scalar)
        return repr(value) in self._literals

    def _read(self, value: Json) -> None:
        stack = [[value]]
        strings, numbers = self._strings, self._numbers
        while stack:
            for item in stack.pop():
                kind = type(item)
                if kind is str:
                    strings[item] = None
                elif kind is dict and item:
                    strings.update(dict.fromkeys(item))
                    stack.append(list(item.values()))
                elif kind is list and item:
                    stack.append(item)
                elif kind is int or kind is float:
                    numbers.add(item)
                else:
                    self._literals.add(repr(canonical(item)))

    def _canonical_forms(self) -> tuple[frozenset[str], frozenset[int | float]]:
        """The canonical strings and numbers; two threads may both work them out, alike."""
        if self._canonical is None:
            forms = [canonical(leaf) for leaf in (*self._strings, *self._numbers)]
            self._canonical = (
                frozenset(form for form in forms if isinstance(form, str)),
                frozenset(form for form in forms if not isinstance(form, str)),
            )
        return self._canonical

    def _has_word(self, scalar: Json) -> bool:
        try:
            word = str(scalar)
        except ValueError:  # an integer with more digits than Python prints; no text holds it
            return False
        if self._words is None:
            self._words = "\n".join(self._strings)
        text = self._words
        start = text.find(word)
        while start >= 0:
            if _stands_alone(text, start, start + len(word)):
                return True
            start = text.find(word, start + 1)
        return False


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether ``text[start:end]`` is not a part of a longer word, number or date."""
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    if text[start].isalnum() and before.isalnum():
        return False
    if text[end - 1].isalnum() and after.isalnum():
        return False
    if text[start].isdigit() and before in ("-", "."):
        # "5" is no value of its own inside "3.5", "10-05" or "-5"; inside "Tower-5" it is.
        two_before = text[start - 2 : start - 1] if start > 1 else ""
        if not two_before.isalpha():
            return False
    return not (
        text[end - 1].isdigit() and after in ("-", ".") and text[end + 1 : end + 2].isdigit()
    )


class IndexCache:
    """The most recently used indexes, bounded by the length of their texts; thread-safe.

    Payloads repeat over a group and over tasks. They differ in length by a factor of a thousand,
    so their number says nothing about memory. An index takes two to four bytes a character beside
    the text itself (measured on recorded payloads of JSON).

    Args:
        max_chars: sum of the lengths of the texts that are kept.
    """

    def __init__(self, max_chars: int) -> None:
        self._max_chars = max_chars
        self._chars = 0
        self._kept: OrderedDict[str, TextIndex] = OrderedDict()
        self._lock = Lock()

    def get(self, text: str) -> TextIndex:
        """The index of a text, built once while it is kept."""
        with self._lock:
            found = self._kept.get(text)
            if found is not None:
                self._kept.move_to_end(text)
                return found
        made = TextIndex(text)
        with self._lock:
            if text not in self._kept:
                self._kept[text] = made
                self._chars += len(text)
            while self._chars > self._max_chars:
                old, _ = self._kept.popitem(last=False)
                self._chars -= len(old)
        return made

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._chars = 0

    @property
    def chars(self) -> int:
        """Sum of the lengths of the texts that are kept."""
        return self._chars

    def __len__(self) -> int:
        return len(self._kept)
