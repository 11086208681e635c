"""The data flow of an episode: what the model could know when, and which dependencies it kept.

A *data edge* is an argument leaf that takes its value from an earlier output: it holds when the
model call carries gold's value there and had seen it. A *state edge* is a dependency that carries
no value: it holds when a successful call equal to the producer stands earlier (calls of one
message run in order).

Order is judged by *visibility*, not by position: a value counts as carried over if it stood in the
query or in the result of an earlier turn, whichever call produced it, in gold's spelling or in the
model's; calls of one message cannot see each other's results. Results count untruncated. Error
texts of the environment itself do not count: they echo what the model wrote, and would make a guess
look like knowledge.

In the second edition a result does not show what its own call sent either, unless it has all that
gold takes from it, in place. What the user says later is visible from then on, and a step that
waits for the user is one dependency more.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple, TypeVar

from orch_env.rewards.matching.arguments import EQUAL, Comparison
from orch_env.rewards.matching.calls import MadeCall
from orch_env.rewards.matching.text_index import TextIndex, sent
from orch_env.types import Episode, GoldCall, ValueRef
from orch_env.types.json import Json, JsonObject, find, leaves
from orch_env.values.canonical import normal

T = TypeVar("T")


class Visibility:
    """When each value was visible in one episode. Not shared between episodes.

    Args:
        query: what the user says; at first, where ``followups`` are given.
        episode: a finished or running episode.
        followups: what the user says later; ``None`` for the first edition, where the query has it
            all and a result shows what its own call sent.
        trusted: positions of calls whose results show also what they sent.
    """

    __slots__ = ("_texts", "_verbatim", "_whole")

    def __init__(
        self,
        query: TextIndex,
        episode: Episode,
        followups: Sequence[TextIndex] | None = None,
        trusted: Container[int] = (),
    ) -> None:
        # (turn in which it was read, the text, the arguments of the call that it answers)
        self._texts: list[tuple[int, TextIndex, JsonObject | None]] = [(-1, query, None)]
        heard = 0
        positions = count()
        for number, turn in enumerate(episode.turns):
            for exchange in turn.exchanges:
                result, position = exchange.result, next(positions)
                if result.error is None or not result.error.echoes:
                    shown = followups is None or position in trusted
                    sender = None if shown else exchange.call.arguments
                    self._texts.append((number, result.derived(TextIndex), sender))
            if followups and not turn.exchanges:
                self._texts += [(number, said, None) for said in followups[heard : heard + 1]]
                heard += 1
        self._verbatim: dict[tuple[type, Json], int | None] = {}
        self._whole: dict[tuple[type, Json], int | None] = {}

    def known_to(self, call: MadeCall, value: Json) -> bool:
        """Whether the model had seen ``value`` when it made ``call``.

        An object or list is seen when all its leaves are; so is a comma-joined text when all its
        pieces are.
        """
        if isinstance(value, dict | list):
            if value:
                return all(self.known_to(call, leaf) for _, leaf in leaves(value))
            return any(turn < call.turn and text.shows(value) for turn, text, _ in self._texts)
        # A plain copy is found without reading the texts before it.
        for known, shows in (
            (self._verbatim, TextIndex.shows_verbatim),
            (self._whole, TextIndex.shows),
        ):
            turn = self._first_turn(known, value, shows)
            if turn is not None and turn < call.turn:
                return True
        if isinstance(value, str) and "," in value:
            pieces = [piece.strip() for piece in value.split(",")]
            return all(self.known_to(call, piece) for piece in pieces if piece)
        return False

    def _first_turn(
        self,
        known: dict[tuple[type, Json], int | None],
        scalar: Json,
        shows: Callable[[TextIndex, Json], bool],
    ) -> int | None:
        """The turn of the first text that shows a scalar; each text is looked at once."""
        key = (scalar.__class__, scalar)
        if key in known:
            return known[key]
        for turn, text, sender in self._texts:
            if shows(text, scalar) and (sender is None or not sent(sender, scalar)):
                known[key] = turn
                return turn
        known[key] = None
        return None


@dataclass(frozen=True, slots=True)
class GoldEdges:
    """The dependencies of one gold call.

    Attributes:
        data: pointer of each leaf that takes its value from an earlier output -> the value.
        state: numbers of gold calls that must have run before, without a value carried.
        sources: pointer of each leaf in ``data`` -> where its value comes from.
        heard: how many follow-ups the user must have said before.
        echoed: pointers of leaves in ``data`` whose producers had sent the value -> those.
    """

    data: Mapping[str, Json]
    state: tuple[int, ...]
    sources: Mapping[str, ValueRef]
    heard: int = 0
    echoed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def edges_of(call: GoldCall, given: JsonObject) -> GoldEdges:
    """Read a gold call's dependencies out of its provenance and ``depends_on``.

    Args:
        call: the gold call.
        given: what its arguments state. A value that may be left out carries nothing.
    """
    carried = {normal(pointer): ref for pointer, ref in call.provenance.items() if ref.producers()}
    values = {pointer: find(given, pointer, _ABSENT) for pointer in carried}
    data = {pointer: value for pointer, value in values.items() if value is not _ABSENT}
    return GoldEdges(data, call.state_dependencies(), {p: carried[p] for p in data})


def with_echoes(edges: GoldEdges, calls: Sequence[GoldCall]) -> GoldEdges:
    """The dependencies, with those marked whose value the producer itself had sent.

    Whoever made that call knew the value, and its result does not show it. It is enough then that
    the producer ran.

    Args:
        edges: of one gold call.
        calls: all gold calls, by number.
    """
    echoed = {
        pointer: tuple(sorted(ref.producers()))
        for pointer, ref in edges.sources.items()
        if any(
            sent(calls[producer].arguments, leaf)
            for producer in ref.producers()
            for _, leaf in leaves(edges.data[pointer])
        )
    }
    return replace(edges, echoed=echoed) if echoed else edges


class EdgeCheck(NamedTuple):
    """How a model call keeps the dependencies of a gold call.

    Attributes:
        broken: one sentence part per broken dependency.
        share: of the others, 1 without any.
    """

    broken: tuple[str, ...]
    share: float


def check_edges(
    call: MadeCall,
    edges: GoldEdges,
    comparison: Comparison,
    ran: Mapping[int, int],
    visibility: Visibility,
    heard: Sequence[int] = (),
) -> EdgeCheck:
    """Check a model call against the dependencies of a gold call.

    Args:
        call: the model call.
        edges: the dependencies of the gold call it is compared with.
        comparison: of its arguments with that gold call's.
        ran: number of each gold call that ran, or was stood for -> position of the first such call.
        visibility: what the model had seen when.
        heard: for each turn, how many follow-ups the user had said; needed for edges that ask.
    """
    count = len(edges.data) + len(edges.state) + (edges.heard > 0)
    if not count:
        return _NOTHING_BROKEN
    broken: list[str] = []
    for pointer, value in edges.data.items():
        if not _carries(pointer, comparison):
            broken.append(f"{pointer} does not carry the value of the earlier output")
        elif not _seen(call, pointer, value, comparison, visibility) and not (
            pointer in edges.echoed
            and all(ran.get(p, call.position) < call.position for p in edges.echoed[pointer])
        ):
            broken.append(f"{pointer} has a value that no earlier turn showed")
    for producer in edges.state:
        if ran.get(producer, call.position) >= call.position:
            broken.append(f"gold call {producer} must have run before")
    if edges.heard and heard[call.turn] < edges.heard:
        broken.append(f"it had to wait for the user's follow-up {edges.heard}")
    if not broken:
        return _NOTHING_BROKEN
    return EdgeCheck(tuple(broken), 1.0 - len(broken) / count)


_ABSENT: Json = object()
_NOTHING_BROKEN = EdgeCheck((), 1.0)


def _carries(pointer: str, comparison: Comparison) -> bool:
    status = comparison.leaves.get(pointer)
    if status is not None:
        return status == EQUAL
    # Not a leaf of its own: an object or a list that was copied entirely.
    return all(status == EQUAL for status in _below(comparison.leaves, pointer))


def _seen(
    call: MadeCall, pointer: str, gold: Json, comparison: Comparison, visibility: Visibility
) -> bool:
    if visibility.known_to(call, gold):
        return True
    made = comparison.made.get(pointer, _ABSENT)
    if made is _ABSENT:
        return all(visibility.known_to(call, leaf) for leaf in _below(comparison.made, pointer))
    if made.__class__ is gold.__class__ and made == gold:
        return False
    return visibility.known_to(call, made)


def _below(leaves_: Mapping[str, T], pointer: str) -> list[T]:
    return [found for at, found in leaves_.items() if at.startswith(f"{pointer}/")]
