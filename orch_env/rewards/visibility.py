"""Which values the model could know, and from when on: the data edges of a trajectory.

The hard decision: order is judged by *visibility*, not by position. A value that a gold call takes
from an earlier output counts as carried over if it stood in the query or in the result of an
earlier turn, whichever call produced it; calls of one message cannot see each other's results.
Results count in full, before any truncation. Error texts of the environment itself do not count:
they echo what the model wrote, and would make a guess look like knowledge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from orch_env.rewards.made_calls import MadeCall
from orch_env.types import Episode, ErrorType
from orch_env.types.json import Json, leaves
from orch_env.values import canonical

QUERY_TURN = -1
"""The turn at which everything in the query is visible: before the first one."""

_ECHOES = frozenset(
    {
        ErrorType.MALFORMED_CALL,
        ErrorType.UNKNOWN_TOOL,
        ErrorType.INVALID_ARGUMENTS,
        ErrorType.NOT_RECORDED,
        ErrorType.LIMIT,
    }
)


class TextIndex:
    """The values that one text shows: every leaf of its JSON, and words inside its strings."""

    __slots__ = ("_numbers", "_others", "_strings", "_words")

    def __init__(self, text: str) -> None:
        self._numbers: set[int | float] = set()
        self._others: set[str] = set()
        self._strings: set[str] = set()
        words: list[str] = []
        for leaf in _scalars(text):
            if isinstance(leaf, str):
                words.append(leaf)
            value = canonical(leaf)
            if isinstance(value, str):
                self._strings.add(value)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                self._numbers.add(value)
            else:
                self._others.add(repr(value))
        self._words = "\n".join(words)

    def shows(self, scalar: Json) -> bool:
        """Whether a scalar is a leaf of the text or stands as a whole word in it."""
        value = canonical(scalar)
        if isinstance(value, str):
            return not value or value in self._strings or self._has_word(str(scalar))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value in self._numbers or self._has_word(str(scalar))
        return repr(value) in self._others

    def _has_word(self, word: str) -> bool:
        start = self._words.find(word)
        while start >= 0:
            if _stands_alone(self._words, start, start + len(word)):
                return True
            start = self._words.find(word, start + 1)
        return False


def _scalars(text: str) -> Iterator[Json]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        yield text
        return
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict) and node:
            yield from node
            stack.extend(node.values())
        elif isinstance(node, list) and node:
            stack.extend(node)
        else:
            yield node


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


@lru_cache(maxsize=512)
def index_text(text: str) -> TextIndex:
    """The index of a text, built once per distinct text (payloads repeat over a group)."""
    return TextIndex(text)


@dataclass(slots=True)
class Visibility:
    """When each value first became visible in one episode. Not shared between episodes."""

    query: str
    episode: Episode
    _memo: dict[str, int | None]

    @classmethod
    def of(cls, query: str, episode: Episode) -> Visibility:
        """The visibility of values in a finished or running episode."""
        return cls(query, episode, {})

    def first_turn(self, value: Json) -> int | None:
        """The first turn whose results show ``value``.

        Returns:
            ``QUERY_TURN`` if the query shows it, ``None`` if nothing does. An object or list is
            visible when all its leaves are; so is a comma-joined text when all its pieces are.
        """
        if isinstance(value, dict | list):
            return self._latest([leaf for _, leaf in leaves(value)])
        key = repr((type(value).__name__, value))
        if key not in self._memo:
            self._memo[key] = self._find(value)
        return self._memo[key]

    def known_to(self, call: MadeCall, value: Json) -> bool:
        """Whether the model had seen ``value`` when it made ``call``."""
        turn = self.first_turn(value)
        return turn is not None and turn < call.turn

    def _find(self, scalar: Json) -> int | None:
        if index_text(self.query).shows(scalar):
            return QUERY_TURN
        for number, turn in enumerate(self.episode.turns):
            for call, result in zip(turn.calls, turn.results, strict=False):
                if call.error not in _ECHOES and index_text(result).shows(scalar):
                    return number
        if isinstance(scalar, str) and "," in scalar:
            return self._latest([p for p in (p.strip() for p in scalar.split(",")) if p])
        return None

    def _latest(self, values: list[Json]) -> int | None:
        turns = [self.first_turn(v) for v in values]
        known = [t for t in turns if t is not None]
        return max(known, default=QUERY_TURN) if len(known) == len(turns) else None
