"""Which values a text shows: every leaf of its JSON, and whole words inside its strings.

An index is built step by step. A value that occurs verbatim in the text is found without parsing
it. Otherwise the leaves are read; and where the value is no leaf as it is written, which is rare
for a model that copies, their canonical forms. Answers do not depend on earlier look-ups.
"""

from __future__ import annotations

import json

from orch_env.types.json import Json, JsonObject, leaves, parse_json
from orch_env.values import SchemaRules, canonical, canonical_by_schema
from orch_env.values.canonical import normal

_NUMBER = SchemaRules.of({"type": "number"})
_BETWEEN_STRINGS = frozenset(",:}] \t\r\n")
_QUICK = frozenset({str, int, float})
_KEPT = 512
"""Answers of one index that are kept."""
_NUMBER_BEGINS = frozenset("-0123456789")
_BEFORE_NUMBER, _AFTER_NUMBER = (": ", ":", "[", ", ", ","), (",", "}", "]")


class TextIndex:
    """The values that one text shows."""

    __slots__ = ("_canonical", "_literals", "_numbers", "_shown", "_strings", "_text", "_words")

    def __init__(self, text: str) -> None:
        self._text = text
        self._strings: dict[str, None] | None = None
        self._numbers: set[int | float] = set()
        self._literals: set[str] = set()
        self._canonical: tuple[frozenset[str], frozenset[int | float]] | None = None
        self._words: str | None = None
        self._shown: dict[tuple[type, Json], bool] = {}

    def shows_verbatim(self, scalar: Json) -> bool:
        """A quick test: True only for what the text shows, False where :meth:`shows` must decide.

        A quoted string, or a number between the marks of JSON, is a leaf, or stands alone inside
        one. Escapes, quotes, and what begins like the marks between two strings give False.
        """
        if self._strings is not None:  # the leaves are read already
            return self._has_leaf(scalar)
        if type(scalar) not in _QUICK:
            return False
        try:
            value, text = str(scalar), self._text
        except ValueError:  # more digits than Python prints
            return False
        if not value or value[0] in _BETWEEN_STRINGS or '"' in value or "\\" in value:
            return False
        if value not in text:
            return False
        return f'"{value}"' in text or (
            value[0] in _NUMBER_BEGINS
            and any(f"{b}{value}{a}" in text for b in _BEFORE_NUMBER for a in _AFTER_NUMBER)
        )

    def shows(self, scalar: Json) -> bool:
        """Whether a scalar is a leaf of the text or a whole word in it."""
        if scalar.__class__ not in _QUICK:
            return self._looks_up(scalar)
        key = (scalar.__class__, scalar)
        found = self._shown.get(key)
        if found is None:
            found = self._looks_up(scalar)
            if len(self._shown) >= _KEPT:
                self._shown = {}
            self._shown[key] = found
        return found

    def _looks_up(self, scalar: Json) -> bool:
        if self._has_leaf(scalar):
            return True
        value = canonical(scalar)
        if isinstance(value, str):
            return not value or value in self._canonical_forms()[0] or self._has_word(scalar)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value in self._canonical_forms()[1] or self._has_word(scalar)
        return repr(value) in self._literals

    def _has_leaf(self, scalar: Json) -> bool:
        strings = self._read()
        kind = type(scalar)
        if kind is str:
            return scalar in strings
        return (kind is int or kind is float) and scalar in self._numbers

    def _read(self) -> dict[str, None]:
        """The strings; reads all leaves the first time. Two threads may both do it, alike."""
        if self._strings is not None:
            return self._strings
        strings: dict[str, None] = {}
        numbers, literals = self._numbers, self._literals
        # What is no JSON is one string: the text itself.
        stack = [[parse_json(self._text, self._text)]]
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
                    literals.add(repr(canonical(item)))
        self._strings = strings
        return strings

    def _canonical_forms(self) -> tuple[frozenset[str], frozenset[int | float]]:
        """The canonical strings and numbers; two threads may both compute them, with one result."""
        if self._canonical is None:
            seen = (*self._read(), *self._numbers)
            texts = (canonical(leaf) for leaf in seen)
            # A text that spells a number shows it, "2.50" too: the argument may be a number.
            numbers = (canonical_by_schema(leaf, _NUMBER) for leaf in seen)
            self._canonical = (
                frozenset(form for form in texts if isinstance(form, str)),
                frozenset(form for form in numbers if not isinstance(form, str)),
            )
        return self._canonical

    def _has_word(self, scalar: Json) -> bool:
        try:
            word = normal(str(scalar))
        except ValueError:  # an integer with more digits than Python prints; no text holds it
            return False
        if self._words is None:
            self._words = normal("\n".join(self._read()))
        return _occurs(word, self._words)


def sent(arguments: JsonObject, scalar: Json) -> bool:
    """Whether a call with these arguments sent a scalar, so that its result does not show it.

    It did if the scalar is one of the leaves of its arguments, or a whole word in one, in any
    letter case.
    """
    if not arguments:
        return False
    try:
        word = _plain_word(scalar)
    except ValueError:  # more digits than Python prints; no text holds it
        return False
    if word is not None:
        word = word.casefold()
        number = canonical(scalar) if word[0] in _NUMBER_BEGINS else None
        for argument in arguments.values():
            nested = argument.__class__ in (dict, list)
            for leaf in (inside for _, inside in leaves(argument)) if nested else (argument,):
                if leaf.__class__ is str:
                    if _occurs(word, leaf.casefold()):
                        return True
                elif number is not None and leaf.__class__ in _QUICK and canonical(leaf) == number:
                    return True
        return False
    try:
        text = json.dumps(arguments, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        return True  # what cannot be written as JSON may hold anything
    return TextIndex(text.casefold()).shows(
        scalar.casefold() if scalar.__class__ is str else scalar
    )


def _plain_word(scalar: Json) -> str | None:
    """The one way to write a scalar, ``None`` where there may be more than one."""
    if scalar.__class__ is float and scalar.is_integer():
        return str(int(scalar))
    if scalar.__class__ in (int, float):
        return str(scalar)
    if scalar.__class__ is str and scalar.isascii() and scalar and scalar.strip() == scalar:
        return scalar
    return None


def _occurs(word: str, text: str) -> bool:
    """Whether a word stands in a text, and not as a part of a longer word, number or date."""
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
