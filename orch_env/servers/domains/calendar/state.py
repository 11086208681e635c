"""The calendar's tables, and the questions that several of its tools ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated

from orch_env.servers.domains.calendar.records import Answer, Event, Owner, Person, Room
from orch_env.servers.domains.calendar.recurrence import (
    LONGEST_MINUTES,
    WEEKDAYS,
    Span,
    first_overlap,
    spans,
    spans_between,
)
from orch_env.servers.domains.calendar.zones import (
    FIRST_YEAR,
    LAST_YEAR,
    exists,
    to_local,
    to_utc,
)
from orch_env.servers.framework.arguments import Format, Length, Pattern, Range
from orch_env.servers.framework.errors import InvalidArguments, NotFound
from orch_env.servers.framework.server import Server
from orch_env.servers.framework.table import Table
from orch_env.types.json import JsonObject

PersonId = Annotated[str, Pattern("PN-[0-9]{4}")]
RoomId = Annotated[str, Pattern("RM-[0-9]{4}")]
EventId = Annotated[str, Pattern("EV-[0-9]{5}")]
Date = Annotated[str, Format("date")]
WHOLE_MINUTES = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}"
DateTime = Annotated[str, Format("date-time"), Pattern(WHOLE_MINUTES)]
TimeOfDay = Annotated[str, Format("time")]
Title = Annotated[str, Length(1, 80)]
Minutes = Annotated[int, Range(5, LONGEST_MINUTES)]

PERSON_HINT = "find_person and list_people give ids."
ROOM_HINT = "list_rooms gives ids."
EVENT_HINT = (
    "find_event and list_events give the ids of events that you organise or are invited to."
)


class State(Server):
    """The tables of a company's calendar, seen by one of its people."""

    owner: Table[Owner]
    people: Table[Person]
    rooms: Table[Room]
    events: Table[Event]

    @property
    def me(self) -> Person:
        """Whose calendar this is."""
        return self.people[self.owner["me"].person]

    @property
    def now_utc(self) -> datetime:
        """The session's time, which is local time of the owner's zone."""
        check_year(self.now)
        return to_utc(self.now, self.me.zone)

    def person(self, person: str | None) -> Person:
        """The person of an id, the owner for None."""
        if person is None:
            return self.me
        if person not in self.people:
            raise NotFound(f"No person {person}. {PERSON_HINT}", reason="unknown_person")
        return self.people[person]

    def visible(self, event: str) -> Event:
        """An event that the owner organises or is invited to; others do not exist for tools."""
        found = self.events.get(event)
        if found is None or found.answer_of(self.me.id) is None:
            raise NotFound(
                f"No event {event} in your calendar. {EVENT_HINT}", reason="unknown_event"
            )
        return found

    def mine(self) -> Iterator[tuple[Event, Answer]]:
        """The owner's events that stand, with the owner's answers."""
        me = self.me.id
        for event in self.events.values():
            answer = event.answer_of(me)
            if answer is not None and not event.cancelled:
                yield event, answer

    def standing(self, start: datetime, end: datetime) -> Iterator[Event]:
        """Events that are not cancelled, without most that cannot meet a window of UTC time.

        Most events take place once, and the text of their start tells at once that they are far.
        """
        first = (start - timedelta(days=2)).isoformat()
        last = (end + timedelta(days=2)).isoformat()
        for event in self.events.values():
            timing = event.timing
            if (timing.rule is not None or first < timing.start < last) and not event.cancelled:
                yield event

    def taken(
        self, person: str, start: datetime, end: datetime
    ) -> Iterator[tuple[Span, Event, Answer]]:
        """A person's occurrences in a window of UTC time, with the person's answers."""
        for event in self.standing(start, end):
            answer = event.answer_of(person)
            if answer is not None:
                for span in spans_between(event.timing, start, end):
                    yield span, event, answer

    def is_over(self, event: Event) -> bool:
        """Whether the last occurrence of an event has begun."""
        left = spans(event.timing)
        return not left or left[-1].start <= self.now_utc

    def utc_of(self, local: str, zone: str) -> datetime:
        """The UTC time of a local time that a tool was given.

        Raises:
            InvalidArguments: a time that clocks in the zone skip, or a year without a rule.
        """
        time = datetime.fromisoformat(local)
        check_year(time)
        if not exists(time, zone):
            raise InvalidArguments(
                f"Clocks in {zone} skip {local}, because summer time begins; "
                "take a time an hour later.",
                reason="no_such_time",
            )
        return to_utc(time, zone)

    def rooms_taken(self, wanted: Sequence[Span], but: str | None = None) -> dict[str, Span]:
        """Rooms that an event has at one of these times, with the first such time.

        Args:
            wanted: occurrences.
            but: an event that does not count.
        """
        taken: dict[str, Span] = {}
        for event in self.standing(wanted[0].start, wanted[-1].start):
            if event.room is not None and event.id != but:
                met = first_overlap(wanted, event.timing)
                if met is not None and event.room not in taken:
                    taken[event.room] = met[0]
        return taken

    def window(self, first_date: str | None, days: int, zone: str) -> tuple[datetime, datetime]:
        """The UTC time of whole local days; today is the first for None."""
        first = datetime.fromisoformat(first_date or self.today)
        check_year(first)
        return to_utc(first, zone), to_utc(first + timedelta(days=days), zone)


def check_year(day: date) -> None:
    """Refuse a year for which the zones' rules do not hold."""
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise InvalidArguments(
            f"This calendar knows the years {FIRST_YEAR} to {LAST_YEAR}, not {day.year}.",
            reason="unknown_year",
        )


def show(utc: datetime, zone: str) -> str:
    """A UTC time as local time, ``2025-03-03T09:30``."""
    return to_local(utc, zone).isoformat(timespec="minutes")


def show_span(span: Span, zone: str) -> JsonObject:
    """An occurrence as tools give it, its times in ``zone``."""
    return {
        "occurrence": span.occurrence,
        "start": show(span.start, zone),
        "end": show(span.end, zone),
        "zone": zone,
    }


def working_windows(
    person: Person, start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """A person's working hours on each local day that touches a window, all in UTC."""
    day = to_local(start, person.zone).date()
    last = to_local(end, person.zone).date()
    while day <= last:
        if WEEKDAYS[day.weekday()] in person.hours.days:
            yield (
                to_utc(datetime.fromisoformat(f"{day}T{person.hours.start}"), person.zone),
                to_utc(datetime.fromisoformat(f"{day}T{person.hours.end}"), person.zone),
            )
        day += timedelta(days=1)


def works(person: Person, span: Span) -> bool:
    """Whether an occurrence lies within a person's working hours."""
    begins = to_local(span.start, person.zone)
    ends = to_local(span.end, person.zone)
    hours = person.hours
    return (
        begins.date() == ends.date()
        and WEEKDAYS[begins.weekday()] in hours.days
        and hours.start <= begins.isoformat()[11:16]
        and ends.isoformat()[11:16] <= hours.end
    )
