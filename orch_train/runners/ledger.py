"""Who samples which group, how often it was tried, and whether it has come back: exactly once.

A pure state machine without I/O and without clocks. A group is *waiting*, *running* (one attempt
on one runner) or *done*; the only moves are those below. The hard decision: a group's identity is
its id and an attempt's identity is its number, so that an answer of an attempt that was given up
is told apart from the one that is waited for and is dropped, whatever it says.

    waiting --take--> running --finish--> done
       ^                 |
       +------ lose -----+      (again, unless the attempts are used up)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from orch_env.types import OrchError


class HasId(Protocol):
    """Anything with an id that is unique within one call of `sample`."""

    @property
    def id(self) -> str:
        """The group's id."""
        ...


RequestT = TypeVar("RequestT", bound=HasId)


class GroupFailed(OrchError):
    """A group was lost as often as allowed; carries the reason of the last attempt."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One attempt at one group."""

    group: str
    attempt: int


class GroupLedger(Generic[RequestT]):
    """The book of one batch of groups.

    Args:
        requests: the groups to sample, in the order in which they start.
        max_attempts: times that a group is tried before `GroupFailed`.

    Raises:
        ValueError: two requests share an id.
    """

    def __init__(self, requests: Sequence[RequestT], *, max_attempts: int) -> None:
        self._requests = {request.id: request for request in requests}
        if len(self._requests) != len(requests):
            raise ValueError("two requests of one batch share an id")
        self._max_attempts = max_attempts
        self._waiting = deque(self._requests)
        self._attempts = dict.fromkeys(self._requests, 0)
        self._running: dict[str, Hashable] = {}
        self._done: set[str] = set()
        self.reissued = 0

    @property
    def complete(self) -> bool:
        """True once every group is done."""
        return len(self._done) == len(self._requests)

    @property
    def waiting(self) -> int:
        """Groups that no runner has."""
        return len(self._waiting)

    def running_on(self, runner: Hashable) -> list[Ticket]:
        """The attempts that a runner has in flight, in the order in which it got them."""
        return [
            Ticket(group, self._attempts[group])
            for group, owner in self._running.items()
            if owner == runner
        ]

    def take(self, runner: Hashable) -> tuple[Ticket, RequestT] | None:
        """Give the next waiting group to a runner; ``None`` if none waits."""
        if not self._waiting:
            return None
        group = self._waiting.popleft()
        self._attempts[group] += 1
        self._running[group] = runner
        return Ticket(group, self._attempts[group]), self._requests[group]

    def finish(self, ticket: Ticket) -> bool:
        """Record an answer; False if this attempt is no longer waited for (drop the answer)."""
        if not self._is_current(ticket):
            return False
        del self._running[ticket.group]
        self._done.add(ticket.group)
        return True

    def lose(self, ticket: Ticket, why: str) -> bool:
        """Give up an attempt: its group goes to the head of the queue; False if it was stale.

        Raises:
            GroupFailed: it was the last attempt that the group had.
        """
        if not self._is_current(ticket):
            return False
        del self._running[ticket.group]
        if ticket.attempt >= self._max_attempts:
            raise GroupFailed(
                f"group {ticket.group!r} failed {ticket.attempt} times, the last time: {why}"
            )
        self._waiting.appendleft(ticket.group)
        self.reissued += 1
        return True

    def lose_runner(self, runner: Hashable, why: str) -> int:
        """Give up everything that a dead runner had; returns how many groups that was."""
        lost: Iterable[Ticket] = reversed(self.running_on(runner))
        return sum(self.lose(ticket, why) for ticket in lost)

    def _is_current(self, ticket: Ticket) -> bool:
        return ticket.group in self._running and self._attempts.get(ticket.group) == ticket.attempt
