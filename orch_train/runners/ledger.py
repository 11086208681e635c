"""Who samples which group, how often it was tried, and whether it has come back: exactly once.

A pure state machine without I/O and without clocks. A group is *waiting*, *running* (one attempt
on one runner) or *done*; the only moves are those below. A group is known by its id, an attempt by
its number: the answer of an attempt that was given up is dropped, whatever it says.

    --add--> waiting --take--> running --finish--> done
                ^                 |
                +------ lose -----+      (again, unless the attempts are used up)

Groups may be added at any time. What is done is forgotten, so that one ledger serves a whole run.
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
    """One attempt at one group.

    Attributes:
        group: the group's id.
        attempt: number of the attempt among all of the ledger's, so that an id that comes again
            later is not taken for its earlier self.
    """

    group: str
    attempt: int


class GroupLedger(Generic[RequestT]):
    """The groups that are being sampled.

    Args:
        requests: the groups to sample, in the order in which they start.
        max_attempts: times that a group is tried before `GroupFailed`.

    Attributes:
        max_attempts: see above; may be changed.
        reissued: groups that were given out again, over the ledger's life.

    Raises:
        ValueError: two requests share an id.
    """

    def __init__(self, requests: Sequence[RequestT] = (), *, max_attempts: int) -> None:
        self._requests: dict[str, RequestT] = {}
        self.max_attempts = max_attempts
        self._waiting: deque[str] = deque()
        self._tries: dict[str, int] = {}
        self._running: dict[str, tuple[Hashable, int]] = {}
        self._attempts = 0
        self.reissued = 0
        self.add(requests)

    @property
    def running(self) -> int:
        """Groups that a runner has."""
        return len(self._running)

    def add(self, requests: Sequence[RequestT], *, first: bool = False) -> None:
        """Take further groups.

        Args:
            requests: in the order in which they start.
            first: they start before all that wait already.

        Raises:
            ValueError: an id is there already; nothing was added.
        """
        new = {request.id: request for request in requests}
        if len(new) != len(requests) or new.keys() & self._requests.keys():
            raise ValueError("two requests share an id")
        self._requests.update(new)
        self._tries.update(dict.fromkeys(new, 0))
        if first:
            self._waiting.extendleft(reversed(new))
        else:
            self._waiting.extend(new)

    def withdraw(self, groups: Iterable[str]) -> None:
        """Forget groups that are not done; their answers are dropped."""
        for group in set(groups) & self._requests.keys():
            self._forget(group)

    def next_request(self) -> RequestT | None:
        """What `take` would give; ``None`` if none waits."""
        return self._requests[self._waiting[0]] if self._waiting else None

    def running_on(self, runner: Hashable) -> list[Ticket]:
        """The attempts that a runner has in flight, in the order in which it got them."""
        return [
            Ticket(group, attempt)
            for group, (owner, attempt) in self._running.items()
            if owner == runner
        ]

    def take(self, runner: Hashable) -> tuple[Ticket, RequestT] | None:
        """Give the next waiting group to a runner; ``None`` if none waits."""
        if not self._waiting:
            return None
        group = self._waiting.popleft()
        self._attempts += 1
        self._tries[group] += 1
        self._running[group] = (runner, self._attempts)
        return Ticket(group, self._attempts), self._requests[group]

    def finish(self, ticket: Ticket) -> bool:
        """Record an answer; False if this attempt is no longer waited for (drop the answer)."""
        if not self._is_current(ticket):
            return False
        self._forget(ticket.group)
        return True

    def lose(self, ticket: Ticket, why: str) -> bool:
        """Give up an attempt: its group goes to the head of the queue; False if it was stale.

        Raises:
            GroupFailed: it was the last attempt that the group had.
        """
        if not self._is_current(ticket):
            return False
        del self._running[ticket.group]
        tries = self._tries[ticket.group]
        if tries >= self.max_attempts:
            del self._requests[ticket.group], self._tries[ticket.group]
            raise GroupFailed(f"group {ticket.group!r} failed {tries} times, the last time: {why}")
        self._waiting.appendleft(ticket.group)
        self.reissued += 1
        return True

    def lose_runner(self, runner: Hashable, why: str) -> int:
        """Give up everything that a dead runner had; returns how many groups that was."""
        lost: Iterable[Ticket] = reversed(self.running_on(runner))
        return sum(self.lose(ticket, why) for ticket in lost)

    def _is_current(self, ticket: Ticket) -> bool:
        running = self._running.get(ticket.group)
        return running is not None and running[1] == ticket.attempt

    def _forget(self, group: str) -> None:
        del self._requests[group], self._tries[group]
        if self._running.pop(group, None) is None:
            self._waiting.remove(group)
