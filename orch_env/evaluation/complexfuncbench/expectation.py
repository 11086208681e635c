"""Which golden calls are expected now: ComplexFuncBench's turn logic as a pure state machine.

The rules, in the order in which they apply after each message:

1. calls that were matched are removed; a *free* one wherever it stands, even in a later turn;
2. if anything matched, the next golden turn joins the expectation;
3. while only free calls remain expected, the next golden turn joins too (so also at the start).

Free calls are look-ups that a model may make whenever it likes, or leave out: they are dropped
before "everything done" is judged, while the totals still count them.

The published code has two quirks. They are followed unless ``strict`` is set, because published
numbers include them. (a) If a `Search_Hotels` with ``search_type=hotel`` is expected, all expected
calls count as free. (b) `Location_to_Lat_Long` is free while the episode runs but is not dropped at
its end.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from orch_env.types import GoldCall, Task
from orch_env.types.json import JsonObject
from orch_env.values import values_equal

LOOKUPS = frozenset(
    {
        "Location_to_Lat_Long",
        "Search_Attraction_Location",
        "Search_Car_Location",
        "Search_Flight_Location",
        "Search_Hotel_Destination",
        "Taxi_Search_Location",
    }
)
"""The six location look-ups, free whatever their arguments."""
HOTEL_SEARCH = "Search_Hotels"
"""Free as well with ``search_type=hotel``: it looks up one hotel by its id."""
KEPT_AT_THE_END = "Location_to_Lat_Long"


class Freedom(Enum):
    """Why a golden call is free."""

    NOT_FREE = "not_free"
    LOOKUP = "lookup"
    HOTEL_SEARCH = "hotel_search"
    OPTIONAL = "optional"


@dataclass(frozen=True, slots=True)
class GoldenCall:
    """One golden call.

    Attributes:
        number: its position in the flattened gold trace.
        turn: index of its golden turn.
        name: the tool.
        arguments: as recorded.
        freedom: whether and why it may be made whenever, or left out.
    """

    number: int
    turn: int
    name: str
    arguments: JsonObject
    freedom: Freedom

    @property
    def free(self) -> bool:
        """Whether it may be made whenever, or left out."""
        return self.freedom is not Freedom.NOT_FREE


def golden_calls(task: Task) -> tuple[GoldenCall, ...]:
    """The golden calls of a task; a task's optional calls are free ones."""
    found: list[GoldenCall] = []
    for turn, step in enumerate(task.gold):
        for call in step:
            found.append(GoldenCall(len(found), turn, call.name, call.arguments, _freedom_of(call)))
    return tuple(found)


def _freedom_of(call: GoldCall) -> Freedom:
    if call.name in LOOKUPS:
        return Freedom.LOOKUP
    if call.name == HOTEL_SEARCH and values_equal(call.arguments.get("search_type"), "hotel"):
        return Freedom.HOTEL_SEARCH
    return Freedom.OPTIONAL if call.optional else Freedom.NOT_FREE


class Expectation:
    """The state machine. It starts with turn 0 and whatever rule 3 adds to it.

    Args:
        calls: all golden calls, by number.
        strict: leave the published code's two quirks out.
    """

    def __init__(self, calls: Sequence[GoldenCall], *, strict: bool = False) -> None:
        self._calls = tuple(calls)
        self._strict = strict
        self._turns = max((call.turn for call in calls), default=-1) + 1
        self._made: set[int] = set()
        self._opened = 0
        self._open_next()
        self._open_while_free()

    @property
    def expected(self) -> tuple[GoldenCall, ...]:
        """The calls expected now, in gold order."""
        return tuple(c for c in self._calls if c.turn < self._opened and c.number not in self._made)

    @property
    def exhausted(self) -> bool:
        """Whether no golden call is left at all, free ones included."""
        return self._opened == self._turns and not self.expected

    @property
    def done(self) -> bool:
        """Whether everything that had to be done is done: only droppable calls are left."""
        return self._opened == self._turns and all(self._droppable(c) for c in self.expected)

    @property
    def made(self) -> int:
        """How many golden calls were made."""
        return len(self._made)

    @property
    def total(self) -> int:
        """How many golden calls there are, free ones included."""
        return len(self._calls)

    @property
    def total_turns(self) -> int:
        """How many golden turns there are."""
        return self._turns

    @property
    def turns_reached(self) -> int:
        """Index of the first golden turn with a call remaining; all turns once ``done``."""
        if self.done:
            return self._turns
        return min(c.turn for c in self._calls if c.number not in self._made)

    def was_made(self, call: GoldenCall) -> bool:
        """Whether this golden call was matched before."""
        return call.number in self._made

    def accept(self, numbers: Collection[int]) -> None:
        """Take note of the golden calls that a message matched, at least one of them.

        ``numbers`` may name free calls that were made before: they count once.
        """
        self._made.update(numbers)
        self._open_next()
        self._open_while_free()

    def _open_next(self) -> None:
        self._opened = min(self._opened + 1, self._turns)

    def _open_while_free(self) -> None:
        while self._opened < self._turns and self._only_free():
            self._open_next()

    def _only_free(self) -> bool:
        expected = self.expected
        if not self._strict and any(c.freedom is Freedom.HOTEL_SEARCH for c in expected):
            return True
        return all(c.free for c in expected)

    def _droppable(self, call: GoldenCall) -> bool:
        if not self._strict and call.name == KEPT_AT_THE_END and call.freedom is Freedom.LOOKUP:
            return False
        return call.free
