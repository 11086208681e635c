"""Which values the model could know, and from when on: the data edges of a trajectory.

The hard decision: order is judged by *visibility*, not by position. A value that a gold call takes
from an earlier output counts as carried over if it stood in the query or in the result of an
earlier turn, whichever call produced it; calls of one message cannot see each other's results.
Results count in full, before any truncation. Error texts of the environment itself do not count:
they echo what the model wrote, and would make a guess look like knowledge. Nor does a call's own
result count for the same call made again, or repeating a lucky guess would pay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from orch_env.rewards.graduated.text_index import IndexCache, TextIndex
from orch_env.rewards.made_calls import MadeCall
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
        keys: canonical identity of each of its calls, in order; without them no call's own result
            is told from another's.
    """

    __slots__ = ("_first", "_first_leaf", "_indexes", "_texts")

    def __init__(self, query: str, episode: Episode, keys: Sequence[str | None] = ()) -> None:
        self._texts: list[tuple[int, str, str | None]] = [(QUERY_TURN, query, None)]
        position = 0
        for number, turn in enumerate(episode.turns):
            for index, (call, result) in enumerate(zip(turn.calls, turn.results, strict=False)):
                if call.error not in _ECHOES:
                    at = position + index
                    key = keys[at] if at < len(keys) else None
                    self._texts.append((number, result, key))
            position += len(turn.calls)
        self._indexes: list[TextIndex] = []
        self._first: dict[tuple[type, Json], int | None] = {}
        self._first_leaf: dict[tuple[type, Json], int | None] = {}

    def known_to(self, call: MadeCall, value: Json) -> bool:
        """Whether the model had seen ``value`` when it made ``call``.

        An object or list is seen when all its leaves are; so is a comma-joined text when all its
        pieces are. What the very same call returned before does not count: it echoes the guess
        that is being made again.
        """
        if isinstance(value, dict | list):
            if value:
                return all(self.known_to(call, leaf) for _, leaf in leaves(value))
            return any(index.shows(value) for index in self._seen_before(call))
        # A plain copy is found without searching the words of every text before it.
        at = self._first_place(self._first_leaf, value, TextIndex.has_leaf)
        if at is not None and self._counts(at, call):
            return True
        at = self._first_place(self._first, value, TextIndex.shows)
        if at is not None and self._texts[at][0] < call.turn:
            if self._counts(at, call):
                return True
            if any(index.shows(value) for index in self._seen_before(call)):
                return True
        if isinstance(value, str) and "," in value:
            pieces = [piece.strip() for piece in value.split(",")]
            return all(self.known_to(call, piece) for piece in pieces if piece)
        return False

    def _counts(self, at: int, call: MadeCall) -> bool:
        turn, _, key = self._texts[at]
        return turn < call.turn and (key is None or key != call.key)

    def _seen_before(self, call: MadeCall) -> Iterator[TextIndex]:
        for at, index in enumerate(self._all_indexes()):
            if self._counts(at, call):
                yield index

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
        for _, text, _ in self._texts[len(self._indexes) :]:
            index = INDEXES.get(text)
            self._indexes.append(index)
            yield index
