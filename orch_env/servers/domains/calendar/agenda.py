"""Tools that read the calendar: events, conflicts, free and busy time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Annotated, Literal

from orch_env.servers.domains.calendar.records import Answer, Event, Person
from orch_env.servers.domains.calendar.recurrence import Span, spans
from orch_env.servers.domains.calendar.state import (
    Date,
    EventId,
    Minutes,
    PersonId,
    State,
    Title,
    show,
    show_span,
    working_windows,
)
from orch_env.servers.domains.calendar.zones import ZoneName
from orch_env.servers.framework.arguments import Length, Range
from orch_env.servers.framework.errors import NotFound, ToolRefusal
from orch_env.servers.framework.server import read
from orch_env.types.json import JsonObject

Interval = tuple[datetime, datetime]
Days = Annotated[int, Range(1, 31)]
Limit = Annotated[int, Range(1, 50)]

BUSY = (Answer.ACCEPTED,)
MAY_BE_BUSY = (Answer.TENTATIVE, Answer.UNANSWERED)
HALF_HOUR = timedelta(minutes=30)
NEXT_SHOWN = 3
"""How many coming occurrences get_event gives."""


class AgendaTools(State):
    """What is in the calendar, and when people have time."""

    @read
    def find_event(self, title: Title) -> JsonObject:
        """Find an event of your calendar by its title, with its next occurrence in your time zone.

        Args:
            title: The whole title of the event.
        """
        found = [e for e, _ in self.mine() if e.title.lower() == title.lower()]
        if not found:
            raise NotFound(
                f"No event in your calendar is called {title}; list_events searches by a part of "
                "the title.",
                reason="unknown_event",
            )
        if len(found) > 1:
            raise ToolRefusal(
                f"{len(found)} events are called {title}; take the id of the one you mean.",
                reason="ambiguous_title",
                events=[{"event": e.id, "start": e.timing.start} for e in found[:5]],
            )
        (event,) = found
        every, now = spans(event.timing), self.now_utc
        coming = [s for s in every if s.end > now] or every[-1:]
        return {
            **self._brief(event),
            "repeats": event.timing.rule is not None,
            "next": show_span(coming[0], self.me.zone) if coming else None,
        }

    @read
    def get_event(self, event: EventId) -> JsonObject:
        """All about an event: rule, room, invited people with their answers, what comes next.

        Args:
            event: The event's id; find_event and list_events give it.
        """
        found = self.visible(event)
        timing, rule = found.timing, found.timing.rule
        room = None if found.room is None else self.rooms[found.room]
        now = self.now_utc
        coming = (s for s in spans(timing) if s.end > now and not found.cancelled)
        return {
            **self._brief(found),
            "cancelled": found.cancelled,
            "start": timing.start,
            "minutes": timing.minutes,
            "zone": timing.zone,
            "rule": rule
            and {
                "repeat": rule.repeat,
                "every": rule.every,
                "weekdays": list(rule.weekdays),
                "count": rule.count,
                "until": rule.until,
            },
            "cancelled_occurrences": [d.occurrence for d in timing.deviations if not d.start],
            "moved_occurrences": [d.occurrence for d in timing.deviations if d.start],
            "room": room and {"room": room.id, "name": room.name, "city": room.city},
            "invitees": [
                {
                    "person": i.person,
                    "name": self.people[i.person].name,
                    "answer": i.answer.value,
                }
                for i in found.invitees
            ],
            "next": [show_span(s, self.me.zone) for s in islice(coming, NEXT_SHOWN)],
        }

    @read
    def list_events(
        self,
        first_date: Date | None = None,
        days: Days = 1,
        text: Title | None = None,
        answer: Literal["organiser", "unanswered", "accepted", "tentative", "declined"]
        | None = None,
        limit: Limit = 20,
    ) -> JsonObject:
        """List what your calendar holds on some days, by start, in your time zone.

        Args:
            first_date: The first day; today if left out.
            days: How many days.
            text: Only events with this text in the title.
            answer: Only events that you gave this answer, or that you organise.
            limit: How many at most.
        """
        zone = self.me.zone
        start, end = self.window(first_date, days, zone)
        found = [
            (span, event)
            for span, event, given in self.taken(self.me.id, start, end)
            if (text is None or text.lower() in event.title.lower())
            and (answer is None or answer == self._role(event, given))
        ]
        found.sort(key=_by_time)
        shown = [{**self._brief(event), **show_span(span, zone)} for span, event in found[:limit]]
        return {"zone": zone, "count": len(found), "events": shown}

    @read
    def check_conflicts(
        self, first_date: Date | None = None, days: Days = 1, limit: Limit = 10
    ) -> JsonObject:
        """Find pairs of events that overlap and that you organise or have accepted, by start.

        Args:
            first_date: The first day; today if left out.
            days: How many days.
            limit: How many pairs at most.
        """
        zone = self.me.zone
        start, end = self.window(first_date, days, zone)
        taken = self.taken(self.me.id, start, end)
        busy = [(span, event) for span, event, given in taken if given in BUSY]
        found = sorted(busy, key=_by_time)
        pairs = [
            (first, second)
            for place, first in enumerate(found)
            for second in takewhile(_begins_before(first[0].end), found[place + 1 :])
        ]
        shown = [
            {
                "first": {**self._brief(first[1]), **show_span(first[0], zone)},
                "second": {**self._brief(second[1]), **show_span(second[0], zone)},
            }
            for first, second in pairs[:limit]
        ]
        return {"zone": zone, "count": len(pairs), "conflicts": shown}

    @read
    def get_free_busy(
        self, date: Date, person: PersonId | None = None, zone: ZoneName | None = None
    ) -> JsonObject:
        """When a person works, is busy, or may be busy on a day; what the events are stays private.

        Args:
            date: The day, from midnight to midnight in zone.
            person: The person's id; find_person gives it. Yourself if left out.
            zone: The time zone of the day and of the answer; your own if left out.
        """
        who = self.person(person)
        shown_in = zone or self.me.zone
        start, end = self.window(date, 1, shown_in)
        working = _clipped(working_windows(who, start, end), start, end)
        taken = list(self.taken(who.id, start, end))
        busy, tentative = (
            _merged(_clipped(((s.start, s.end) for s, _, a in taken if a in answers), start, end))
            for answers in (BUSY, MAY_BE_BUSY)
        )
        return {
            "person": who.id,
            "name": who.name,
            "zone": shown_in,
            "working": _shown(working, shown_in),
            "busy": _shown(busy, shown_in),
            "tentative": _shown(tentative, shown_in),
        }

    @read
    def find_meeting_time(
        self,
        people: Annotated[list[PersonId], Length(1, 10)],
        minutes: Minutes,
        first_date: Date | None = None,
        days: Annotated[int, Range(1, 14)] = 5,
        limit: Annotated[int, Range(1, 10)] = 1,
    ) -> JsonObject:
        """Find the earliest times when you and others all work and nobody is busy.

        Meetings begin on the half hour; tentative events do not count as busy.

        Args:
            people: The other people's ids; find_person gives them.
            minutes: How long the meeting lasts.
            first_date: The first day, in your time zone; today if left out.
            days: How many days to search.
            limit: How many times to give at most.
        """
        zone = self.me.zone
        start, end = self.window(first_date, days, zone)
        start = max(start, self.now_utc)
        everybody = [self.me, *(self.person(p) for p in people)]
        length = timedelta(minutes=minutes)
        found = list(islice(self._common_starts(everybody, start, end, length), limit))
        if not found:
            raise ToolRefusal(
                "There is no time at which all of you work and nobody is busy; search more days, "
                "or for a shorter meeting, or ask fewer people.",
                reason="no_common_time",
            )
        times = [{"start": show(s, zone), "end": show(s + length, zone)} for s in found]
        return {"zone": zone, "minutes": minutes, "times": times}

    def _common_starts(
        self, people: Sequence[Person], start: datetime, end: datetime, length: timedelta
    ) -> Iterator[datetime]:
        """Half hours from which on all people work and are free for ``length``, in order."""
        free: list[Interval] = [(start, end)]
        busy: list[Interval] = []
        for person in people:
            free = _shared(free, list(working_windows(person, start, end)))
            taken = self.taken(person.id, start, end)
            busy += [(span.start, span.end) for span, _, given in taken if given in BUSY]
        for begins, ends in _without(free, _merged(busy)):
            at = begins + (datetime.min - begins) % HALF_HOUR
            while at + length <= ends:
                yield at
                at += HALF_HOUR

    def _role(self, event: Event, answer: Answer | None) -> str | None:
        """The owner's answer as tools say it: ``organiser`` where there is no other."""
        return "organiser" if event.organiser == self.me.id else answer

    def _brief(self, event: Event) -> JsonObject:
        return {
            "event": event.id,
            "title": event.title,
            "organiser": self.people[event.organiser].name,
            "answer": self._role(event, event.answer_of(self.me.id)),
        }


def _by_time(found: tuple[Span, Event]) -> tuple[datetime, datetime, str]:
    span, event = found
    return span.start, span.end, event.id


def _begins_before(end: datetime) -> Callable[[tuple[Span, Event]], bool]:
    return lambda found: found[0].start < end


def _shown(intervals: Sequence[Interval], zone: str) -> list[JsonObject]:
    return [{"start": show(start, zone), "end": show(end, zone)} for start, end in intervals]


def _clipped(intervals: Iterator[Interval], start: datetime, end: datetime) -> list[Interval]:
    """The parts of intervals within a window; empty ones are left out."""
    cut = ((max(s, start), min(e, end)) for s, e in intervals)
    return [(s, e) for s, e in cut if s < e]


def _merged(intervals: Sequence[Interval]) -> list[Interval]:
    """The same time in intervals that neither touch nor overlap, in order."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _shared(ours: Sequence[Interval], theirs: Sequence[Interval]) -> list[Interval]:
    """The time that is in both, in order."""
    return [part for start, end in ours for part in _clipped(iter(theirs), start, end)]


def _without(intervals: Sequence[Interval], taken: Sequence[Interval]) -> Iterator[Interval]:
    """What is left of the intervals when the taken time, in order, is cut out."""
    for start, end in intervals:
        for s, e in taken:
            if s < end and e > start:
                if start < s:
                    yield start, s
                start = max(start, e)
        if start < end:
            yield start, end
