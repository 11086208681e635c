"""Tools that change the calendar: plan, invite, answer, move, cancel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Literal

from orch_env.servers.domains.calendar.records import Answer, Event, Invitee, Person, WorkingHours
from orch_env.servers.domains.calendar.recurrence import (
    WEEKDAYS,
    Deviation,
    Repeat,
    Rule,
    Span,
    Timing,
    Weekday,
    first_overlap,
    rule_dates,
    spans,
)
from orch_env.servers.domains.calendar.state import (
    ROOM_HINT,
    Date,
    DateTime,
    EventId,
    Minutes,
    PersonId,
    RoomId,
    State,
    TimeOfDay,
    Title,
    show,
    show_span,
    works,
)
from orch_env.servers.domains.calendar.zones import ZoneName, to_local, to_utc
from orch_env.servers.framework.arguments import Length, Range
from orch_env.servers.framework.errors import InvalidArguments, NotFound, ToolRefusal
from orch_env.servers.framework.server import write
from orch_env.types.json import JsonObject

People = Annotated[list[PersonId], Length(1, 20)]
DAYS_AHEAD = 366
"""How many days ahead events can be planned."""


class PlanningTools(State):
    """What the owner does with events."""

    @write
    def create_event(
        self,
        title: Title,
        start: DateTime,
        minutes: Minutes,
        invitees: People | None = None,
        room: RoomId | None = None,
        zone: ZoneName | None = None,
        ignore_conflicts: bool = False,
    ) -> JsonObject:
        """Plan an event that takes place once; you organise it.

        Args:
            title: What the event is called.
            start: Local start in zone; find_meeting_time gives times that suit everybody.
            minutes: How long it lasts.
            invitees: The ids of the people to invite; find_person gives them.
            room: The meeting room's id; list_rooms gives it.
            zone: The time zone of start; your own if left out.
            ignore_conflicts: True plans it although somebody is busy or off work then.
        """
        timing = Timing(start, minutes, zone or self.me.zone)
        return self._plan(title, timing, invitees or [], room, ignore_conflicts)

    @write
    def create_recurring_event(
        self,
        title: Title,
        start: DateTime,
        minutes: Minutes,
        repeat: Repeat,
        every: Annotated[int, Range(1, 12)] = 1,
        weekdays: Annotated[list[Weekday], Length(1, 7)] | None = None,
        count: Annotated[int, Range(1, 400)] | None = None,
        until: Date | None = None,
        invitees: People | None = None,
        room: RoomId | None = None,
        zone: ZoneName | None = None,
        ignore_conflicts: bool = False,
    ) -> JsonObject:
        """Plan a series of events; you organise it. Give either count or until.

        Args:
            title: What the event is called.
            start: Local start of the first occurrence, in zone.
            minutes: How long each occurrence lasts.
            repeat: By days, by weeks, on the start's day of the month, or on the start's weekday
                of the month (such as the second Tuesday).
            every: 1 for every day, week or month, 2 for every second one.
            weekdays: For weekly: on which days; the start's weekday if left out.
            count: How many occurrences.
            until: The last possible date.
            invitees: The ids of the people to invite; find_person gives them.
            room: The meeting room's id; list_rooms gives it.
            zone: The time zone in which the series keeps its time; your own if left out.
            ignore_conflicts: True plans it although somebody is busy or off work then.
        """
        if (count is None) == (until is None):
            raise InvalidArguments("Give either count or until.", reason="needs_one_end")
        if weekdays is not None and repeat != "weekly":
            raise InvalidArguments(
                "weekdays are for weekly events; leave them out.", reason="weekdays_not_weekly"
            )
        days: tuple[str, ...] = ()
        if repeat == "weekly":
            first = WEEKDAYS[date.fromisoformat(start[:10]).weekday()]
            days = tuple(d for d in WEEKDAYS if d in (weekdays or (first,)))
        rule = Rule(repeat, every, days, count, until)
        timing = Timing(start, minutes, zone or self.me.zone, rule)
        return self._plan(title, timing, invitees or [], room, ignore_conflicts)

    @write(idempotent=True)
    def invite_people(
        self, event: EventId, people: People, ignore_conflicts: bool = False
    ) -> JsonObject:
        """Invite more people to an event that you organise.

        Args:
            event: The event's id; find_event gives it.
            people: The ids of the people to invite; find_person gives them.
            ignore_conflicts: True invites them although they are busy or off work then.
        """
        found = self._organised(event)
        invited = self._invited(people, [found.organiser, *(i.person for i in found.invitees)])
        made = replace(found, invitees=(*found.invitees, *invited))
        self._check_seats(made)
        if not ignore_conflicts:
            self._check_people(made, [i.person for i in invited], self._ahead(made))
        self.events[event] = made
        return {"event": event, "invited": len(made.invitees)}

    @write(idempotent=True)
    def respond_to_invitation(
        self,
        event: EventId,
        answer: Literal["accepted", "tentative", "declined"],
        ignore_conflicts: bool = False,
    ) -> JsonObject:
        """Answer an invitation, or change your answer; it holds for all occurrences.

        Args:
            event: The event's id; find_event and list_events give it.
            answer: Your answer.
            ignore_conflicts: True accepts although you are busy then.
        """
        found = self._standing(event)
        if found.organiser == self.me.id:
            raise ToolRefusal(
                "You organise this event; only invited people answer. cancel_event cancels it.",
                reason="own_event",
            )
        given = Answer(answer)
        if found.answer_of(self.me.id) is given:
            raise ToolRefusal(f"Your answer is {answer} already.", reason="nothing_to_change")
        if given is Answer.ACCEPTED and not ignore_conflicts:
            self._check_free(found, [self.me.id], self._ahead(found))
        self.events[event] = replace(
            found,
            invitees=tuple(
                replace(i, answer=given) if i.person == self.me.id else i for i in found.invitees
            ),
        )
        return {"event": event, "title": found.title, "answer": answer}

    @write(destructive=True, idempotent=True)
    def reschedule_event(
        self,
        event: EventId,
        start: DateTime,
        minutes: Minutes | None = None,
        occurrence: Date | None = None,
        zone: ZoneName | None = None,
        ignore_conflicts: bool = False,
    ) -> JsonObject:
        """Move an event that you organise, or one occurrence of a series.

        Where a whole event moves, everybody is asked anew. A series that has begun moves only
        by single occurrences.

        Args:
            event: The event's id; find_event gives it.
            start: The new local start, in zone.
            minutes: The new length; as before if left out.
            occurrence: The date that names the occurrence to move; get_event and list_events
                give it. The whole event if left out.
            zone: The time zone of start; your own if left out.
            ignore_conflicts: True moves it although somebody is busy or off work then.
        """
        found = self._organised(event)
        begins = self._future(start, zone or self.me.zone)
        local = show(begins, found.timing.zone)
        if to_utc(datetime.fromisoformat(local), found.timing.zone) != begins:
            raise InvalidArguments(
                f"Clocks in {found.timing.zone} show {local} twice, because summer time ends, and "
                "the event would take the first; take another time.",
                reason="no_such_time",
            )
        if occurrence is None:
            made = self._moved(found, local, minutes or found.timing.minutes)
            changed: Sequence[Span] = spans(made.timing)
        else:
            old = self._occurrence(found, occurrence)
            length = minutes or int((old.end - old.start).total_seconds()) // 60
            timing = _deviating(found.timing, Deviation(occurrence, local, length))
            made = replace(found, timing=timing)
            changed = [s for s in spans(timing) if s.occurrence == occurrence]
        if spans(made.timing) == spans(found.timing):
            raise ToolRefusal("It takes place then already.", reason="nothing_to_change")
        self._check_times(made, changed, ignore_conflicts)
        self.events[event] = made
        return {"event": event, "title": made.title, **show_span(changed[0], self.me.zone)}

    @write(destructive=True, idempotent=True)
    def cancel_event(self, event: EventId, occurrence: Date | None = None) -> JsonObject:
        """Cancel an event that you organise, or one occurrence of a series.

        Args:
            event: The event's id; find_event gives it.
            occurrence: The date that names the occurrence to cancel; get_event and list_events
                give it. The whole event if left out.
        """
        found = self._organised(event)
        if occurrence is None:
            self.events[event] = replace(found, cancelled=True)
        else:
            self._occurrence(found, occurrence)
            gone = Deviation(occurrence, None, found.timing.minutes)
            self.events[event] = replace(found, timing=_deviating(found.timing, gone))
        return {"event": event, "title": found.title, "cancelled": occurrence or "all"}

    @write(destructive=True, idempotent=True)
    def set_working_hours(
        self,
        days: Annotated[list[Weekday], Length(1, 7)],
        start: TimeOfDay,
        end: TimeOfDay,
    ) -> JsonObject:
        """Set on which days and from when to when you work, in your time zone.

        Args:
            days: The days on which you work.
            start: When you begin, such as 09:00.
            end: When you finish, such as 17:30.
        """
        if start >= end:
            raise InvalidArguments(
                f"Working hours from {start} to {end} end before they begin.", reason="bad_hours"
            )
        hours = WorkingHours(tuple(d for d in WEEKDAYS if d in days), start, end)
        me = self.me
        if me.hours == hours:
            raise ToolRefusal("Your working hours are these already.", reason="nothing_to_change")
        self.people[me.id] = replace(me, hours=hours)
        return {"working_days": list(hours.days), "start": start, "end": end, "zone": me.zone}

    # -- planning --------------------------------------------------------------------------------

    def _plan(
        self, title: str, timing: Timing, people: list[str], room: str | None, ignoring: bool
    ) -> JsonObject:
        """Check a new event of the owner and add it."""
        self._future(timing.start, timing.zone)
        self._check_rule(timing)
        me = self.me.id
        if room is not None and room not in self.rooms:
            raise NotFound(f"No room {room}. {ROOM_HINT}", reason="unknown_room")
        event = self.new_id("EV-", title, timing.start, timing.zone, taken=self.events, digits=5)
        made = Event(event, title, me, timing, room, self._invited(people, [me]))
        self._check_seats(made)
        every = spans(timing)
        self._check_times(made, every, ignoring)
        self.events[event] = made
        return {
            "event": event,
            "title": title,
            "occurrences": len(every),
            **show_span(every[0], self.me.zone),
        }

    def _invited(self, people: list[str], already: list[str]) -> tuple[Invitee, ...]:
        """New invitees; each person is known and is not invited yet."""
        seen = list(already)
        for person in people:
            name = self.person(person).name
            if person in seen:
                raise ToolRefusal(
                    f"{name} takes part already; leave {person} out.", reason="already_invited"
                )
            seen.append(person)
        return tuple(Invitee(person, Answer.UNANSWERED) for person in people)

    def _moved(self, event: Event, start: str, minutes: int) -> Event:
        """A whole event at a new time; all are asked anew, and single changes are gone."""
        rule = event.timing.rule
        if rule is not None:
            first = spans(event.timing)[0]
            if first.start <= self.now_utc:
                raise ToolRefusal(
                    "The series has begun; move single occurrences with occurrence, or cancel it "
                    "and plan another.",
                    reason="series_has_begun",
                )
            if len(rule.weekdays) == 1:
                weekday = WEEKDAYS[date.fromisoformat(start[:10]).weekday()]
                rule = replace(rule, weekdays=(weekday,))
        timing = Timing(start, minutes, event.timing.zone, rule)
        self._check_rule(timing)
        asked = tuple(replace(i, answer=Answer.UNANSWERED) for i in event.invitees)
        return replace(event, timing=timing, invitees=asked)

    # -- what is refused -------------------------------------------------------------------------

    def _standing(self, event: str) -> Event:
        """An event that is neither cancelled nor over."""
        found = self.visible(event)
        if found.cancelled:
            raise ToolRefusal("This event was cancelled.", reason="event_cancelled")
        if self.is_over(found):
            raise ToolRefusal("This event has begun or is over.", reason="event_over")
        return found

    def _organised(self, event: str) -> Event:
        """An event that stands and that the owner organises."""
        found = self.visible(event)
        if found.organiser != self.me.id:
            name = self.people[found.organiser].name
            raise ToolRefusal(
                f"{name} organises this event, and only who organises it can change it; "
                "respond_to_invitation answers it.",
                reason="not_organiser",
            )
        return self._standing(event)

    def _occurrence(self, event: Event, occurrence: str) -> Span:
        """An occurrence that has not begun, by the date that names it."""
        for span in spans(event.timing):
            if span.occurrence == occurrence:
                if span.start <= self.now_utc:
                    raise ToolRefusal("This occurrence has begun or is over.", reason="event_over")
                if event.timing.rule is None:
                    break
                return span
        raise NotFound(
            f"The event has no occurrence {occurrence} that could be changed alone; get_event "
            "shows the next ones.",
            reason="no_such_occurrence",
        )

    def _future(self, start: str, zone: str) -> datetime:
        """The UTC time of a start that lies ahead and not too far."""
        begins = self.utc_of(start, zone)
        if begins <= self.now_utc:
            now = show(self.now_utc, zone)
            raise InvalidArguments(
                f"{start} in {zone} has passed; it is {now} there.", reason="in_the_past"
            )
        if begins > self.now_utc + timedelta(days=DAYS_AHEAD):
            raise _too_far(self._last_date)
        return begins

    @property
    def _last_date(self) -> date:
        return self.now.date() + timedelta(days=DAYS_AHEAD)

    def _check_rule(self, timing: Timing) -> None:
        """Refuse a rule that its start does not fit, or that goes on for too long."""
        rule, first = timing.rule, date.fromisoformat(timing.start[:10])
        if rule is None:
            return
        if rule.until is not None and rule.until < first.isoformat():
            raise InvalidArguments(
                f"until {rule.until} lies before the start {first}.", reason="ends_before_start"
            )
        weekday = WEEKDAYS[first.weekday()]
        if rule.weekdays and weekday not in rule.weekdays:
            raise InvalidArguments(
                f"{first} is a {weekday}, which is not one of the weekdays; begin on one of them.",
                reason="start_not_in_series",
            )
        last = self._last_date
        dates = list(rule_dates(replace(rule, until=None), first, last))
        too_many = rule.count is not None and rule.count > len(dates)
        if too_many or (rule.until is not None and rule.until > last.isoformat()):
            raise _too_far(last)

    def _check_seats(self, event: Event) -> None:
        if event.room is None:
            return
        room, people = self.rooms[event.room], len(event.people)
        if people > room.seats:
            raise ToolRefusal(
                f"{room.name} has {room.seats} seats for {people} people; take a larger "
                "room, which list_rooms gives, or invite fewer people.",
                reason="room_too_small",
                seats=room.seats,
            )

    def _ahead(self, event: Event) -> list[Span]:
        now = self.now_utc
        return [s for s in spans(event.timing) if s.start > now]

    def _check_times(self, event: Event, changed: Sequence[Span], ignoring: bool) -> None:
        """Refuse occurrences that meet each other, a taken room or, if asked, people's time."""
        for one, other in pairwise(spans(event.timing)):
            if other.start < one.end:
                raise ToolRefusal(
                    "Two occurrences of the event would overlap; make it shorter or choose "
                    "another time.",
                    reason="overlaps_itself",
                )
        taken = self.rooms_taken(changed, but=event.id)
        if event.room in taken:
            name, zone = self.rooms[event.room].name, self.me.zone
            at = show(taken[event.room].start, zone)
            raise ToolRefusal(
                f"{name} is taken at {at} ({zone}); take another room, which list_rooms gives, or "
                "another time.",
                reason="room_taken",
                start=at,
                zone=zone,
            )
        if not ignoring:
            self._check_people(event, event.coming, changed)

    def _check_people(self, event: Event, people: Sequence[str], changed: Sequence[Span]) -> None:
        for person in (self.people[p] for p in people):
            for span in changed:
                if not works(person, span):
                    raise _off_work(person, span)
        self._check_free(event, people, changed)

    def _check_free(self, event: Event, people: Sequence[str], changed: Sequence[Span]) -> None:
        """Refuse where one of the people is busy with another event."""
        for other in self.standing(changed[0].start, changed[-1].start):
            if other.id == event.id:
                continue
            busy = [p for p in people if other.answer_of(p) is Answer.ACCEPTED]
            met = first_overlap(changed, other.timing) if busy else None
            if met is not None:
                person = self.people[busy[0]]
                zone = self.me.zone
                at = show(met[0].start, zone)
                raise ToolRefusal(
                    f"{person.name} is busy at {at} ({zone}); choose another time, which "
                    "find_meeting_time gives, or set ignore_conflicts.",
                    reason="person_busy",
                    person=person.id,
                    start=at,
                    zone=zone,
                )


def _deviating(timing: Timing, deviation: Deviation) -> Timing:
    """A series with one more occurrence cancelled or moved."""
    others = [d for d in timing.deviations if d.occurrence != deviation.occurrence]
    made = sorted([*others, deviation], key=lambda d: d.occurrence)
    return replace(timing, deviations=tuple(made))


def _too_far(last: date) -> InvalidArguments:
    return InvalidArguments(
        f"Events can be planned up to {last}; end earlier or take fewer occurrences.",
        reason="too_far_ahead",
        last_date=last.isoformat(),
    )


def _off_work(person: Person, span: Span) -> ToolRefusal:
    at = to_local(span.start, person.zone).isoformat(timespec="minutes")
    hours, days = person.hours, ", ".join(person.hours.days)
    return ToolRefusal(
        f"{at} ({person.zone}) is outside the working hours of {person.name}: {hours.start} to "
        f"{hours.end} on {days}. Choose another time, which find_meeting_time gives, or set "
        "ignore_conflicts.",
        reason="outside_working_hours",
        person=person.id,
    )
