"""The time of an episode: it starts at the task's date and moves by a fixed amount a call."""

from __future__ import annotations

from datetime import datetime, time, timedelta

from orch_env.types import OrchError

DAY_START = time(9, 0)
"""When a session starts on a date that is given without a time."""
PER_CALL = timedelta(minutes=1)
"""What each call adds, whatever its outcome."""


class Clock:
    """The session clock; the servers of one episode share it. The machine's clock is never read.

    Args:
        start: the episode's date or date and time, ISO 8601 without a zone.

    Raises:
        OrchError: ``start`` is neither.

    Attributes:
        start: when the episode starts.
        calls: how many calls were made.
        now: the time.
    """

    __slots__ = ("calls", "now", "start")

    def __init__(self, start: str) -> None:
        try:
            self.start = datetime.fromisoformat(start)
        except (TypeError, ValueError):
            raise OrchError(
                f"{start!r} is no date: a session starts at an ISO date such as 2025-03-03, or at "
                "a date and time such as 2025-03-03T14:30"
            ) from None
        if self.start.tzinfo is not None:
            raise OrchError(f"{start!r} has a time zone: session time is the world's own")
        if len(start) <= 10:
            self.start = datetime.combine(self.start, DAY_START)
        self.set(0)

    def set(self, calls: int) -> None:
        """Go to the time after this many calls."""
        self.calls = calls
        try:
            self.now = self.start + calls * PER_CALL
        except OverflowError:
            self.now = datetime.max

    def move(self) -> None:
        """One call was made."""
        self.set(self.calls + 1)
