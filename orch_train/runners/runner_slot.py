"""One place among the Ray runners: the actor in it, its state, and when it is filled again.

    down --start--> starting --weights served--> healthy
      ^                |                            |
      +----------- lose (backoff, restart_at) ------+        or `gone`, when no restart is left

A slot is the same over all restarts; the actor in it is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from orch_train.runners.ledger import Ticket

MAX_BACKOFF_S = 30.0


class SlotState(StrEnum):
    """Where a slot stands."""

    DOWN = "down"
    """No actor; one is started at ``restart_at``."""
    STARTING = "starting"
    """An actor loads its model and the weights."""
    HEALTHY = "healthy"
    """An actor serves the current weights."""
    GONE = "gone"
    """No actor, and no restart is left."""


class Sent(NamedTuple):
    """A group in flight: which attempt it is, when it was sent, how many episodes it has."""

    ticket: Ticket
    at: float
    episodes: int


@dataclass(slots=True)
class RunnerSlot:
    """One runner's place. Times are readings of a monotonic clock, in seconds.

    Attributes:
        index: number of the slot, from 0.
        state: see `SlotState`.
        actor: handle of the actor, while there is one.
        pid: its process id, once known.
        ready: reference whose answer ends ``starting``.
        sent_version: the version of the weights that were sent to it last.
        deadline: when ``starting`` counts as failed.
        restart_at: when a ``down`` slot is filled again.
        failures: failures since it last brought back a group; they lengthen the backoff.
        tasks: reference of each sample call in flight -> what was sent.
        probe: reference of an unanswered ping and when it was sent.
        heard_at: when it last gave a sign of life.
    """

    index: int
    state: SlotState = SlotState.DOWN
    actor: Any = None
    pid: int | None = None
    ready: Any = None
    sent_version: int = -1
    deadline: float = 0.0
    restart_at: float = 0.0
    failures: int = 0
    tasks: dict[Any, Sent] = field(default_factory=dict)
    probe: tuple[Any, float] | None = None
    heard_at: float = 0.0

    @property
    def load(self) -> int:
        """Episodes in flight."""
        return sum(sent.episodes for sent in self.tasks.values())

    def starting(self, actor: Any, ready: Any, version: int, deadline: float) -> None:
        """An actor was made and the weights were sent."""
        self.state, self.actor, self.ready = SlotState.STARTING, actor, ready
        self.sent_version, self.deadline = version, deadline

    def healthy(self, now: float) -> None:
        """The actor serves the weights."""
        self.state, self.ready, self.heard_at = SlotState.HEALTHY, None, now

    def lost(self, now: float, first_delay: float, *, again: bool) -> Any:
        """The actor is dead or given up; returns its handle, to be killed."""
        actor = self.actor
        delay = min(MAX_BACKOFF_S, first_delay * 2.0 ** min(self.failures, 16))
        self.state = SlotState.DOWN if again else SlotState.GONE
        self.restart_at = now + delay
        self.failures += 1
        self.actor = self.ready = self.pid = self.probe = None
        self.tasks.clear()
        return actor
