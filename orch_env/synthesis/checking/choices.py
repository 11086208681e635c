"""Whether a text tells one element of a recorded list from its siblings."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from orch_env.provenance.information import folded, key_of, occurs_in
from orch_env.provenance.names import key_parts
from orch_env.synthesis.checking.reading import ORDINALS, whole_number
from orch_env.types.json import Json, escape, find, leaves

_POSITION = re.compile(r"\b(\d{1,3})(?:st|nd|rd|th)\b")
_FIRST_FEW = re.compile(r"\b(?:first|top)\s+(\d{1,2}|[a-z]+)\b")
_ALL = re.compile(r"\b(?:each|every|all|both)\b")
_WORD = re.compile(r"[a-z]+")
_TWO_LETTERS = re.compile(r"[^\W_]{2}")
_LONGEST = 120
"""Characters of a text that names something."""
_LOWEST = {
    "cheapest": "price cost fare amount total fee rate",
    "least": "",
    "lowest": "",
    "smallest": "",
    "fewest": "",
    "minimum": "",
    "nearest": "distance dist km miles",
    "closest": "distance dist km miles",
    "shortest": "duration distance length time minutes",
    "fastest": "duration time minutes",
    "quickest": "duration time minutes",
    "earliest": "time date start departure begin",
    "soonest": "time date start departure begin",
    "oldest": "date year time created",
    "youngest": "age",
}
_HIGHEST = {
    "highest": "",
    "most": "",
    "best": "rating score review stars rank",
    "top": "rating score review stars rank",
    "largest": "",
    "biggest": "",
    "greatest": "",
    "maximum": "",
    "longest": "duration distance length time minutes",
    "latest": "time date start departure begin created",
    "newest": "time date year created",
    "oldest": "age",
    "dearest": "price cost fare amount total fee rate",
}
"""Superlative -> words of the fields that it can be about; none: the words after it say."""
SUPERLATIVES_OF: dict[str, tuple[str, ...]] = {}
"""Word of a field -> the superlatives that are about it: distance is meant by ``nearest``."""
for _superlative, _fields in [*_LOWEST.items(), *_HIGHEST.items()]:
    for _field in _fields.split():
        SUPERLATIVES_OF[_field] = (*SUPERLATIVES_OF.get(_field, ()), _superlative)
_AFTER = 4
"""Words after a superlative that can name its field."""
_ALIKE = 4
"""Letters in which two words must begin alike to be of one family (``rated``, ``rating``)."""
_SPELT = {"expensive": "price", "costly": "price", "affordable": "price", "rated": "rating"}


class Choice:
    """One element among its siblings.

    Args:
        whole: the list.
        at: the element's index.
        below: pointer from an element to the value that is read.
    """

    def __init__(self, whole: Sequence[Json], at: int, below: str) -> None:
        self._whole, self._at = whole, at
        mine = key_of(find(whole[at], below))
        self._others = [n for n, e in enumerate(whole) if key_of(find(e, below)) != mine]

    @property
    def is_open(self) -> bool:
        """Whether another element would give another value."""
        return bool(self._others)

    def told_by(self, said: str, used: Collection[int]) -> bool:
        """Whether a text tells the element apart.

        Args:
            said: the text, prepared by ``folded``.
            used: the elements of this list that gold reads.
        """
        return (
            (len(used) == len(self._whole) and _ALL.search(said) is not None)
            or self._by_position(said)
            or self._by_label(said, used)
            or self._by_extreme(said)
        )

    def _by_position(self, said: str) -> bool:
        count, place = len(self._whole), self._at + 1
        if place in map(int, _POSITION.findall(said)) or (
            place == count and occurs_in("last", said)
        ):
            return True
        if any(number == place and occurs_in(word, said) for word, number in ORDINALS.items()):
            return True
        few = [whole_number(word) or 0 for word in _FIRST_FEW.findall(said)]
        return any(place <= number for number in few)

    def _by_label(self, said: str, used: Collection[int]) -> bool:
        """Whether the text has a label that no sibling has, and no label of an unused sibling."""
        for path, label in _labels(self._whole[self._at]):
            if not occurs_in(label, said):
                continue
            mine = folded(label)
            found = {n: _label(find(self._whole[n], path)) for n in self._others}
            rivals = {n: folded(text) for n, text in found.items() if text is not None}
            rest = said.replace(mine, " ; ")
            if mine not in rivals.values() and not any(
                occurs_in(rival, said if mine in rival else rest)
                for n, rival in rivals.items()
                if n not in used or mine in rival
            ):
                return True
        return False

    def _by_extreme(self, said: str) -> bool:
        words = _WORD.findall(said)
        for place, word in enumerate(words):
            for table, lowest in ((_LOWEST, True), (_HIGHEST, False)):
                if word not in table:
                    continue
                after = [_SPELT.get(w, w) for w in words[place + 1 : place + 1 + _AFTER]]
                fields = table[word].split() or after
                if word == "most" and not set(after) & {"price", "rating"} and not fields:
                    continue
                if self._is_extreme(fields, lowest):
                    return True
        return False

    def _is_extreme(self, fields: Sequence[str], lowest: bool) -> bool:
        """Whether a number of the element, of such a name, is the least or greatest of all."""
        sign = 1 if lowest else -1
        others = [dict(_numbers(self._whole[n])) for n in self._others]
        for path, number in _numbers(self._whole[self._at]):
            names = [part for token in path.split("/") for part in key_parts("/" + token)]
            if not any(_alike(name, field) for name in names for field in fields):
                continue
            rivals = [found[path] for found in others if path in found]
            if rivals and all(sign * number < sign * rival for rival in rivals):
                return True
        return False


def _alike(one: str, other: str) -> bool:
    return one == other or (min(len(one), len(other)) >= _ALIKE and one[:_ALIKE] == other[:_ALIKE])


def _labels(element: Json, at: str = "") -> Iterator[tuple[str, str]]:
    """The texts of an element that name it, without those in lists below."""
    if (text := _label(element)) is not None:
        yield at, text
    elif isinstance(element, dict):
        for name, value in element.items():
            yield from _labels(value, f"{at}/{escape(name)}")


def _label(value: Json) -> str | None:
    """A text that can name something."""
    if isinstance(value, str) and len(value) < _LONGEST and _TWO_LETTERS.search(value):
        return value
    return None


def _numbers(element: Json) -> Iterator[tuple[str, float]]:
    """The numbers of an element, and its dates and times as numbers that order alike."""
    for path, value in leaves(element) if isinstance(element, dict) else ():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield path, float(value)
        elif isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d.*|\d\d:\d\d", value):
            yield path, float(re.sub(r"\D", "", value)[:14] or 0)
        elif isinstance(value, str) and re.fullmatch(r"-?\d+(?:\.\d+)?", value):
            yield path, float(value)
