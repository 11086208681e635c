"""What a company's calendar holds: people with working hours, rooms, and events."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orch_env.servers.domains.calendar.recurrence import Timing


class Answer(StrEnum):
    """What an invited person said."""

    UNANSWERED = "unanswered"
    ACCEPTED = "accepted"
    TENTATIVE = "tentative"
    DECLINED = "declined"


@dataclass(frozen=True, slots=True)
class WorkingHours:
    """When a person works, local time of the person's zone: ``09:00`` to ``17:30`` on some days."""

    days: tuple[str, ...]
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class Person:
    """A colleague: team, office and working hours."""

    id: str
    name: str
    email: str
    team: str
    city: str
    zone: str
    hours: WorkingHours


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose calendar this is; the table has one row, ``me``."""

    id: str
    person: str


@dataclass(frozen=True, slots=True)
class Room:
    """A meeting room in an office."""

    id: str
    name: str
    city: str
    seats: int


@dataclass(frozen=True, slots=True)
class Invitee:
    """A person invited to an event, and the answer."""

    person: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Event:
    """A meeting or a series of meetings; who organises it takes part without an answer."""

    id: str
    title: str
    organiser: str
    timing: Timing
    room: str | None
    invitees: tuple[Invitee, ...]
    cancelled: bool = False

    def answer_of(self, person: str) -> Answer | None:
        """A person's answer; an organiser has accepted, and None is for who is not invited."""
        if self.organiser == person:
            return Answer.ACCEPTED
        for invitee in self.invitees:
            if invitee.person == person:
                return invitee.answer
        return None

    @property
    def people(self) -> tuple[str, ...]:
        """The organiser and everybody who is invited."""
        return (self.organiser, *(i.person for i in self.invitees))

    @property
    def coming(self) -> tuple[str, ...]:
        """The organiser and those who did not decline."""
        return tuple(p for p in self.people if self.answer_of(p) is not Answer.DECLINED)
