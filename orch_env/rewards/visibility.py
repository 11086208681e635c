"""Which values the model could know, and from when on: the data edges of a trajectory.

The hard decision: order is judged by *visibility*, not by position. A value that a gold call takes
from an earlier output counts as carried over if it stood in the query or in the result of an
earlier turn, whichever call produced it; calls of one message cannot see each other's results.
Results count in full, before any truncation. Error texts of the environment itself do not count:
they echo what the model wrote, and would make a guess look like knowledge.
"""

from __future__ import annotations

from orch_env.rewards.made_calls import MadeCall
from orch_env.rewards.text_index import IndexCache, TextIndex
from orch_env.types import Episode, ErrorType
from orch_env.types.json import Json, leaves

__all__ = ["INDEXES", "QUERY_TURN", "TextIndex", "Visibility"]

QUERY_TURN = -1
"""The turn at which everything in the query is visible: before the first one."""

INDEXES = IndexCache(max_chars=16_000_000)
"""Indexes of results and queries, shared by all episodes."""

_ECHOES = frozenset(
    {
        ErrorType.MALFORMED_CALL,
        ErrorType.UNKNOWN_TOOL,
        ErrorType.INVALID_ARGUMENTS,
        ErrorType.NOT_RECORDED,
        ErrorType.LIMIT,
    }
)


class Visibility:
    """When each value first became visible in one episode. Not shared between episodes.

    Args:
        query: everything the user says.
        episode: a finished or running episode.
    """

    __slots__ = ("_first", "_first_leaf", "_indexes", "_texts")

    def __init__(self, query: str, episode: Episode) -> None:
        self._texts: list[tuple[int, str]] = [(QUERY_TURN, query)]
        for number, turn in enumerate(episode.turns):
            self._texts += [
                (number, result)
                for call, result in zip(turn.calls, turn.results, strict=False)
                if call.error not in _ECHOES
            ]
        self._indexes: list[TextIndex] = []
        self._first: dict[tuple[type, Json], int | None] = {}
        self._first_leaf: dict[tuple[type, Json], int | None] = {}

    def first_turn(self, value: Json) -> int | None:
        """The first turn whose results show ``value``.

        Returns:
            ``QUERY_TURN`` if the query shows it, ``None`` if nothing does. An object or list is
            visible when all its leaves are; so is a comma-joined text when all its pieces are.
        """
        if isinstance(value, dict | list):
            return self._latest([leaf for _, leaf in leaves(value)])
        key = (type(value), value)
        if key not in self._first:
            self._first[key] = self._find(value)
        return self._first[key]

    def known_to(self, call: MadeCall, value: Json) -> bool:
        """Whether the model had seen ``value`` when it made ``call``."""
        if not isinstance(value, dict | list):
            # A plain copy is found without searching the words of every text before it.
            seen = self._leaf_turn(value)
            if seen is not None and seen < call.turn:
                return True
        turn = self.first_turn(value)
        return turn is not None and turn < call.turn

    def _leaf_turn(self, scalar: Json) -> int | None:
        key = (type(scalar), scalar)
        if key not in self._first_leaf:
            self._first_leaf[key] = next(
                (
                    turn
                    for at, (turn, _) in enumerate(self._texts)
                    if self._index(at).has_leaf(scalar)
                ),
                None,
            )
        return self._first_leaf[key]

    def _find(self, scalar: Json) -> int | None:
        for at, (turn, _) in enumerate(self._texts):
            if self._index(at).shows(scalar):
                return turn
        if isinstance(scalar, str) and "," in scalar:
            return self._latest([p for p in (p.strip() for p in scalar.split(",")) if p])
        return None

    def _latest(self, values: list[Json]) -> int | None:
        turns = [self.first_turn(v) for v in values]
        known = [t for t in turns if t is not None]
        return max(known, default=QUERY_TURN) if len(known) == len(turns) else None

    def _index(self, at: int) -> TextIndex:
        """The index of the text at a place; texts are looked at in order."""
        if at == len(self._indexes):
            self._indexes.append(INDEXES.get(self._texts[at][1]))
        return self._indexes[at]
