"""Which values the model could know, and from when on: the data edges of a trajectory.

The hard decision: order is judged by *visibility*, not by position. A value that a gold call takes
from an earlier output counts as carried over if it stood in the query or in the result of an
earlier turn, whichever call produced it; calls of one message cannot see each other's results.
Results count in full, before any truncation. Error texts of the environment itself do not count:
they echo what the model wrote, and would make a guess look like knowledge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orch_env.rewards.matching.calls import MadeCall
from orch_env.rewards.presets.graduated.text_index import IndexCache, TextIndex
from orch_env.types import Episode, ErrorType
from orch_env.types.json import Json, leaves

__all__ = ["INDEXES", "QUERY_TURN", "TextIndex", "Visibility"]

QUERY_TURN = -1
"""The turn at which everything in the query is visible: before the first one."""

INDEXES = IndexCache(max_chars=32_000_000)
"""Indexes of results and queries, shared by all episodes; at most some 150 MB. All responses of the
public ComplexFuncBench are 18 million characters."""

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
    """When each value was visible in one episode. Not shared between episodes.

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

    def known_to(self, call: MadeCall, value: Json) -> bool:
        """Whether the model had seen ``value`` when it made ``call``.

        An object or list is seen when all its leaves are; so is a comma-joined text when all its
        pieces are.
        """
        if isinstance(value, dict | list):
            if value:
                return all(self.known_to(call, leaf) for _, leaf in leaves(value))
            return any(
                index.shows(value)
                for (turn, _), index in zip(self._texts, self._all_indexes(), strict=False)
                if turn < call.turn
            )
        # A plain copy is found without searching the words of every text before it.
        at = self._first_place(self._first_leaf, value, TextIndex.has_leaf)
        if at is not None and self._texts[at][0] < call.turn:
            return True
        at = self._first_place(self._first, value, TextIndex.shows)
        if at is not None and self._texts[at][0] < call.turn:
            return True
        if isinstance(value, str) and "," in value:
            pieces = [piece.strip() for piece in value.split(",")]
            return all(self.known_to(call, piece) for piece in pieces if piece)
        return False

    def _first_place(
        self,
        known: dict[tuple[type, Json], int | None],
        scalar: Json,
        holds: Callable[[TextIndex, Json], bool],
    ) -> int | None:
        """The first text that holds a scalar; texts are looked at in order, and each once."""
        key = (type(scalar), scalar)
        if key in known:
            return known[key]
        known[key] = None
        for at, index in enumerate(self._all_indexes()):
            if holds(index, scalar):
                known[key] = at
                break
        return known[key]

    def _all_indexes(self) -> Iterator[TextIndex]:
        """The index of each text in order, those not made yet as they are come to."""
        yield from self._indexes
        for _, text in self._texts[len(self._indexes) :]:
            index = INDEXES.get(text)
            self._indexes.append(index)
            yield index
