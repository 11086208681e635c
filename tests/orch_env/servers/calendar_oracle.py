"""A second calendar: `dateutil` makes the series and `zoneinfo` the zones.

It keeps events as plain data and finds out by brute force what a call must give, or for which
reasons it may be refused. Nothing of it comes from the server's code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from dateutil import rrule

from orch_env.servers import ServerSession
from orch_env.servers.framework.records import to_json

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
RRULE_DAYS = (rrule.MO, rrule.TU, rrule.WE, rrule.TH, rrule.FR, rrule.SA, rrule.SU)
FREQUENCIES = {
    "daily": rrule.DAILY,
    "weekly": rrule.WEEKLY,
    "monthly_by_date": rrule.MONTHLY,
    "monthly_by_weekday": rrule.MONTHLY,
}
AHEAD = timedelta(days=366)


class Taking(NamedTuple):
    """One occurrence, in UTC, with the date of its rule."""

    start: datetime
    end: datetime
    occurrence: str


def in_utc(local: str | datetime, zone: str) -> datetime:
    """A local time in UTC; the first of two, and past the gap as RFC 5545 says."""
    time = datetime.fromisoformat(local) if isinstance(local, str) else local
    return time.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def told(utc: datetime, zone: str) -> str:
    """A time as tools give it."""
    return utc.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%dT%H:%M")


def skipped(local: str, zone: str) -> bool:
    return told(in_utc(local, zone), zone) != local


def starts(rule: dict[str, Any] | None, first: datetime) -> list[datetime]:
    """All local starts of a rule that ends."""
    if rule is None:
        return [first]
    weekday = RRULE_DAYS[first.weekday()]
    byweekday = None
    if rule["repeat"] == "weekly":
        byweekday = [RRULE_DAYS[DAYS.index(d)] for d in rule["weekdays"]]
    elif rule["repeat"] == "monthly_by_weekday":
        byweekday = weekday((first.day - 1) // 7 + 1)
    until = rule["until"] and datetime.fromisoformat(rule["until"] + "T23:59:59")
    made = rrule.rrule(
        FREQUENCIES[rule["repeat"]],
        dtstart=first,
        interval=rule["every"],
        byweekday=byweekday,
        count=rule["count"],
        until=until,
    )
    return list(made)


@lru_cache(maxsize=4096)
def _takings(timing: str) -> tuple[Taking, ...]:
    data = json.loads(timing)
    deviations = {d["occurrence"]: d for d in data["deviations"]}
    found = []
    for start in starts(data["rule"], datetime.fromisoformat(data["start"])):
        day = start.date().isoformat()
        at: str | datetime | None = start
        minutes = data["minutes"]
        if day in deviations:
            at, minutes = deviations[day]["start"], deviations[day]["minutes"]
        if at is not None:
            begins = in_utc(at, data["zone"])
            found.append(Taking(begins, begins + timedelta(minutes=minutes), day))
    return tuple(sorted(found))


def takings(event: dict[str, Any]) -> tuple[Taking, ...]:
    """All occurrences of an event, by start."""
    return _takings(json.dumps(event["timing"], sort_keys=True))


def meet(one: Taking, other: Taking) -> bool:
    return one.start < other.end and other.start < one.end


class Model:
    """What the calendar holds, by what was read at the start and the calls that succeeded."""

    def __init__(self, session: ServerSession) -> None:
        self.session = session
        server: Any = session.server
        self.people = {k: to_json(v) for k, v in server.people.items()}
        self.rooms = {k: to_json(v) for k, v in server.rooms.items()}
        self.events = {k: to_json(v) for k, v in server.events.items()}
        self.me: str = server.owner["me"].person

    @property
    def zone(self) -> str:
        return str(self.people[self.me]["zone"])

    @property
    def now(self) -> datetime:
        return in_utc(self.session.clock.now, self.zone)

    # -- questions -----------------------------------------------------------------------------

    def answer(self, event: dict[str, Any], person: str) -> str | None:
        if event["organiser"] == person:
            return "accepted"
        answers = [i["answer"] for i in event["invitees"] if i["person"] == person]
        return answers[0] if answers else None

    def role(self, event: dict[str, Any]) -> str | None:
        return "organiser" if event["organiser"] == self.me else self.answer(event, self.me)

    def mine(self) -> list[dict[str, Any]]:
        return [e for e in self.events.values() if self.answer(e, self.me) is not None]

    def own(self) -> list[dict[str, Any]]:
        return [e for e in self.mine() if e["organiser"] == self.me]

    def window(self, day: str, days: int, zone: str) -> tuple[datetime, datetime]:
        first = datetime.fromisoformat(day)
        return in_utc(first, zone), in_utc(first + timedelta(days=days), zone)

    def held(
        self, person: str, start: datetime, end: datetime, answers: Iterable[str]
    ) -> list[tuple[Taking, dict[str, Any]]]:
        asked = Taking(start, end, "")
        return sorted(
            (
                (taking, event)
                for event in self.events.values()
                if not event["cancelled"] and self.answer(event, person) in answers
                for taking in takings(event)
                if meet(taking, asked)
            ),
            key=lambda found: (found[0].start, found[0].end, found[1]["id"]),
        )

    def works(self, person: str, start: datetime, end: datetime) -> bool:
        who = self.people[person]
        begins, ends = told(start, who["zone"]), told(end, who["zone"])
        hours = who["hours"]
        day = DAYS[date.fromisoformat(begins[:10]).weekday()]
        return (
            day in hours["days"]
            and f"{begins[:10]}T{hours['start']}" <= begins
            and ends <= f"{begins[:10]}T{hours['end']}"
        )

    def busy(self, person: str, taking: Taking, but: str) -> bool:
        held = self.held(person, taking.start, taking.end, ("accepted",))
        return any(event["id"] != but for _, event in held)

    def room_taken(self, room: str, taking: Taking, but: str) -> bool:
        return any(
            meet(taking, other)
            for event in self.events.values()
            if event["room"] == room and event["id"] != but and not event["cancelled"]
            for other in takings(event)
        )

    def minutes(self, intervals: Iterable[Taking], start: datetime, end: datetime) -> list[Any]:
        """The minutes of a window that some interval covers, as intervals."""
        length = int((end - start).total_seconds()) // 60
        marked = [False] * (length + 1)
        for taking in intervals:
            first = max(0, int((taking.start - start).total_seconds()) // 60)
            last = min(length, int((taking.end - start).total_seconds()) // 60)
            for minute in range(first, last):
                marked[minute] = True
        found, began = [], None
        for minute, taken in enumerate(marked):
            if taken and began is None:
                began = minute
            elif not taken and began is not None:
                found.append((start + timedelta(minutes=began), start + timedelta(minutes=minute)))
                began = None
        return found

    def common_starts(
        self, people: list[str], day: str, days: int, minutes: int, limit: int
    ) -> list[datetime]:
        start, end = self.window(day, days, self.zone)
        length, found = timedelta(minutes=minutes), []
        at = start
        while at + length <= end and len(found) < limit:
            taking = Taking(at, at + length, "")
            if at >= self.now and all(
                self.works(p, at, at + length) and not self.busy(p, taking, "")
                for p in [self.me, *people]
            ):
                found.append(at)
            at += timedelta(minutes=30)
        return found

    # -- why a call may be refused ---------------------------------------------------------------

    def wrong_with_start(self, local: str, zone: str) -> set[str]:
        begins = in_utc(local, zone)
        wrong = {
            "no_such_time": skipped(local, zone),
            "in_the_past": begins <= self.now,
            "too_far_ahead": begins > self.now + AHEAD,
        }
        return {reason for reason, holds in wrong.items() if holds}

    def wrong_with_rule(self, event: dict[str, Any]) -> set[str]:
        rule, start = event["timing"]["rule"], datetime.fromisoformat(event["timing"]["start"])
        if rule is None:
            return set()
        wrong = set()
        last = self.session.clock.now.date() + AHEAD
        if rule["until"] is not None:
            if rule["until"] < start.date().isoformat():
                wrong.add("ends_before_start")
            if rule["until"] > last.isoformat():
                wrong.add("too_far_ahead")
        elif starts(rule, start)[-1].date() > last:
            wrong.add("too_far_ahead")
        if rule["weekdays"] and DAYS[start.weekday()] not in rule["weekdays"]:
            wrong.add("start_not_in_series")
        return wrong

    def wrong_with_times(
        self, event: dict[str, Any], changed: list[Taking], ignoring: bool
    ) -> set[str]:
        wrong = set()
        every = takings(event)
        if any(meet(a, b) for n, a in enumerate(every) for b in every[n + 1 : n + 3]):
            wrong.add("overlaps_itself")
        if event["room"] and any(self.room_taken(event["room"], t, event["id"]) for t in changed):
            wrong.add("room_taken")
        if not ignoring:
            coming = [i["person"] for i in event["invitees"] if i["answer"] != "declined"]
            wrong |= self.wrong_with_people(event, [event["organiser"], *coming], changed)
        return wrong

    def wrong_with_people(
        self, event: dict[str, Any], people: list[str], changed: Iterable[Taking]
    ) -> set[str]:
        wrong = set()
        for taking in changed:
            if not all(self.works(p, taking.start, taking.end) for p in people):
                wrong.add("outside_working_hours")
            if any(self.busy(p, taking, event["id"]) for p in people):
                wrong.add("person_busy")
        return wrong

    def wrong_with_seats(self, event: dict[str, Any]) -> set[str]:
        room = event["room"]
        full = room is not None and len(event["invitees"]) + 1 > self.rooms[room]["seats"]
        return {"room_too_small"} if full else set()

    def wrong_with_event(self, event: dict[str, Any], organising: bool) -> set[str]:
        if organising and event["organiser"] != self.me:
            return {"not_organiser"}
        if event["cancelled"]:
            return {"event_cancelled"}
        every = takings(event)
        return set() if every and every[-1].start > self.now else {"event_over"}

    # -- calls -----------------------------------------------------------------------------------

    def create(self, arguments: dict[str, Any]) -> tuple[set[str], dict[str, Any]]:
        """Why a new event may be refused, and the event."""
        zone = arguments.get("zone", self.zone)
        repeat = arguments.get("repeat")
        rule = None
        start = arguments["start"]
        if repeat is not None:
            if ("count" in arguments) == ("until" in arguments):
                return {"needs_one_end"}, {}
            if "weekdays" in arguments and repeat != "weekly":
                return {"weekdays_not_weekly"}, {}
            day = DAYS[datetime.fromisoformat(start).weekday()]
            weekdays = arguments.get("weekdays", [day]) if repeat == "weekly" else []
            rule = {
                "repeat": repeat,
                "every": arguments.get("every", 1),
                "weekdays": sorted(set(weekdays), key=DAYS.index),
                "count": arguments.get("count"),
                "until": arguments.get("until"),
            }
        people = arguments.get("invitees", [])
        event = {
            "id": "",
            "title": arguments["title"],
            "organiser": self.me,
            "timing": {
                "start": start,
                "minutes": arguments["minutes"],
                "zone": zone,
                "rule": rule,
                "deviations": [],
            },
            "room": arguments.get("room"),
            "invitees": [{"person": p, "answer": "unanswered"} for p in people],
            "cancelled": False,
        }
        wrong = self.wrong_with_start(start, zone) | self.wrong_with_rule(event)
        if wrong:
            return wrong, event
        if len({self.me, *people}) <= len(people):
            return {"already_invited"}, event
        wrong = self.wrong_with_seats(event)
        ignoring = arguments.get("ignore_conflicts", False)
        return wrong | self.wrong_with_times(event, list(takings(event)), ignoring), event

    def invite(
        self, event: dict[str, Any], people: list[str], ignoring: bool
    ) -> tuple[set[str], dict[str, Any]]:
        wrong = self.wrong_with_event(event, organising=True)
        if wrong:
            return wrong, event
        already = {event["organiser"], *(i["person"] for i in event["invitees"])}
        if len(already | set(people)) < len(already) + len(people):
            return {"already_invited"}, event
        made = deepcopy(event)
        made["invitees"] += [{"person": p, "answer": "unanswered"} for p in people]
        wrong = self.wrong_with_seats(made)
        if not ignoring:
            ahead = [t for t in takings(event) if t.start > self.now]
            wrong |= self.wrong_with_people(event, people, ahead)
        return wrong, made

    def respond(
        self, event: dict[str, Any], answer: str, ignoring: bool
    ) -> tuple[set[str], dict[str, Any]]:
        wrong = self.wrong_with_event(event, organising=False)
        if event["organiser"] == self.me:
            wrong.add("own_event")
        elif self.answer(event, self.me) == answer:
            wrong.add("nothing_to_change")
        elif answer == "accepted" and not ignoring:
            ahead = [t for t in takings(event) if t.start > self.now]
            if any(self.busy(self.me, t, event["id"]) for t in ahead):
                wrong.add("person_busy")
        made = deepcopy(event)
        for invitee in made["invitees"]:
            if invitee["person"] == self.me:
                invitee["answer"] = answer
        return wrong, made

    def cancel(
        self, event: dict[str, Any], occurrence: str | None
    ) -> tuple[set[str], dict[str, Any]]:
        wrong = self.wrong_with_event(event, organising=True)
        made = deepcopy(event)
        if occurrence is None:
            made["cancelled"] = True
            return wrong, made
        wrong = wrong or self.wrong_with_occurrence(event, occurrence)
        if not wrong:
            self.deviate(made, occurrence, None, event["timing"]["minutes"])
        return wrong, made

    def wrong_with_occurrence(self, event: dict[str, Any], occurrence: str) -> set[str]:
        found = [t for t in takings(event) if t.occurrence == occurrence]
        if found and found[0].start <= self.now:
            return {"event_over"}
        if not found or event["timing"]["rule"] is None:
            return {"no_such_occurrence"}
        return set()

    def deviate(
        self, event: dict[str, Any], occurrence: str, start: str | None, minutes: int
    ) -> None:
        kept = [d for d in event["timing"]["deviations"] if d["occurrence"] != occurrence]
        kept.append({"occurrence": occurrence, "start": start, "minutes": minutes})
        event["timing"]["deviations"] = sorted(kept, key=lambda d: str(d["occurrence"]))

    def reschedule(
        self, event: dict[str, Any], arguments: dict[str, Any]
    ) -> tuple[set[str], dict[str, Any]]:
        zone = arguments.get("zone", self.zone)
        wrong = self.wrong_with_event(event, organising=True)
        wrong = wrong or self.wrong_with_start(arguments["start"], zone)
        if wrong:
            return wrong, event
        begins = in_utc(arguments["start"], zone)
        local = told(begins, event["timing"]["zone"])
        if in_utc(local, event["timing"]["zone"]) != begins:
            return {"no_such_time"}, event
        made, timing = deepcopy(event), event["timing"]
        occurrence = arguments.get("occurrence")
        if occurrence is not None:
            wrong = self.wrong_with_occurrence(event, occurrence)
            if wrong:
                return wrong, event
            (old,) = (t for t in takings(event) if t.occurrence == occurrence)
            length = int((old.end - old.start).total_seconds()) // 60
            self.deviate(made, occurrence, local, arguments.get("minutes", length))
            changed = [t for t in takings(made) if t.occurrence == occurrence]
        else:
            rule = made["timing"]["rule"]
            if rule is not None:
                if takings(event)[0].start <= self.now:
                    return {"series_has_begun"}, event
                if len(rule["weekdays"]) == 1:
                    rule["weekdays"] = [DAYS[datetime.fromisoformat(local).weekday()]]
            minutes = arguments.get("minutes", timing["minutes"])
            made["timing"] |= {"start": local, "minutes": minutes, "deviations": []}
            wrong = self.wrong_with_rule(made)
            if wrong:
                return wrong, event
            for invitee in made["invitees"]:
                invitee["answer"] = "unanswered"
            changed = list(takings(made))
        if takings(made) == takings(event):
            return {"nothing_to_change"}, event
        ignoring = arguments.get("ignore_conflicts", False)
        return self.wrong_with_times(made, changed, ignoring), made
