"""The world of a seed: a company with five offices, and what stands in its calendar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

from orch_env.servers.domains.calendar.records import (
    Answer,
    Event,
    Invitee,
    Owner,
    Person,
    Room,
    WorkingHours,
)
from orch_env.servers.domains.calendar.recurrence import (
    WEEKDAYS,
    Deviation,
    Rule,
    Timing,
    first_overlap,
    spans,
)
from orch_env.servers.domains.calendar.state import State, works
from orch_env.servers.framework.chance import Chance, words

OFFICES = (
    ("London", "Europe/London"),
    ("Berlin", "Europe/Berlin"),
    ("Helsinki", "Europe/Helsinki"),
    ("New York", "America/New_York"),
    ("Chicago", "America/Chicago"),
    ("San Francisco", "America/Los_Angeles"),
    ("Sao Paulo", "America/Sao_Paulo"),
    ("Bengaluru", "Asia/Kolkata"),
    ("Singapore", "Asia/Singapore"),
    ("Tokyo", "Asia/Tokyo"),
    ("Sydney", "Australia/Sydney"),
)
TEAMS = ("Design", "Finance", "Research", "Sales", "Support", "Logistics")
KINDS = (
    "planning",
    "review",
    "kick-off",
    "retrospective",
    "demo",
    "workshop",
    "check-in",
    "hand-over",
    "budget round",
    "risk review",
)
NUM_OFFICES = 5
TEAM_SIZE = 4
ROOM_SEATS = (4, 6, 8, 12)
SINGLE_EVENTS = 72
"""Meetings that take place once, from a week before the epoch to four weeks after it."""
CLASHES = 4
"""How many of the owner's meetings overlap with an accepted one."""
WORK_WEEK = WEEKDAYS[:5]


def build(state: State, chance: Chance, epoch: str) -> None:
    """Fill the tables of a new world."""
    offices = chance.draw(OFFICES, NUM_OFFICES)
    _add_rooms(state, chance, [city for city, _ in offices])
    _add_people(state, chance, offices)
    me = chance.pick(list(state.people))
    state.owner["me"] = Owner("me", me)
    planner = Planner(state, chance, date.fromisoformat(epoch))
    planner.add_team_series()
    planner.add_own_series(me)
    titles = planner.new_titles()
    for number in range(SINGLE_EVENTS):
        # The owner's calendar is what the tools show: a good part of all meetings is in it.
        organiser = me if number % 6 == 0 else chance.pick(list(state.people))
        planner.add_single(next(titles), organiser, also=me if number % 3 == 1 else None)
    planner.add_clashes(me, titles)


def _add_rooms(state: State, chance: Chance, cities: Sequence[str]) -> None:
    names = iter(chance.shuffled(words("meeting_rooms")))
    for city in cities:
        for seats in ROOM_SEATS:
            room = chance.id("RM-", 4, state.rooms)
            state.rooms[room] = Room(room, next(names), city, seats)


def _add_people(state: State, chance: Chance, offices: Sequence[tuple[str, str]]) -> None:
    firm = "".join(
        c for c in chance.pick(words("companies")).lower() if c.isascii() and c.isalpha()
    )
    count = len(TEAMS) * TEAM_SIZE
    first_names = chance.draw(words("first_names"), count)
    surnames = chance.draw(words("surnames"), count)
    for number, (first, last) in enumerate(zip(first_names, surnames, strict=True)):
        city, zone = chance.pick(offices)
        begins = chance.between(16, 19)
        ends = begins + chance.between(16, 18)
        days = WORK_WEEK
        if chance.often(0.15):
            days = chance.pick((WEEKDAYS[:4], WEEKDAYS[1:5], WEEKDAYS[1:6]))
        person = chance.id("PN-", 4, state.people)
        state.people[person] = Person(
            person,
            f"{first} {last}",
            f"{first}.{last}@{firm}.example".lower().replace(" ", ""),
            TEAMS[number // TEAM_SIZE],
            city,
            zone,
            WorkingHours(tuple(days), _clock(begins), _clock(ends)),
        )


def _clock(half_hours: int) -> str:
    """The time of day after this many half hours."""
    return f"{half_hours // 2:02d}:{half_hours % 2 * 30:02d}"


@dataclass(slots=True)
class Planner:
    """Adds events to a world so that no room is taken twice.

    Attributes:
        accepted: person -> timings of the events that the person organises or has accepted.
        booked: room -> timings of its events.
    """

    state: State
    chance: Chance
    epoch: date
    accepted: dict[str, list[Timing]] = field(default_factory=dict)
    booked: dict[str, list[Timing]] = field(default_factory=dict)

    def new_titles(self) -> Iterator[str]:
        """Titles such as "Kestrel budget round", each once."""
        projects = words("code_names")
        return iter(self.chance.shuffled([f"{p} {kind}" for p in projects for kind in KINDS]))

    def add_team_series(self) -> None:
        """Each team meets weekly; some have stand-ups, monthly or fortnightly meetings too."""
        for team in TEAMS:
            people = [p.id for p in self.state.people.values() if p.team == team]
            lead = people[0]
            start = self._monday(-self.chance.between(3, 8))
            weekday = self.chance.pick(WORK_WEEK)
            count = self.chance.between(16, 30)
            weekly = Rule("weekly", 1, (weekday,), count=count)
            self._add_series(f"{team} weekly", lead, people[1:], start, 60, weekly)
            extra = self.chance.between(0, 3)
            until = (self.epoch + timedelta(days=self.chance.between(60, 150))).isoformat()
            if extra == 0:
                rule = Rule("weekly", 1, tuple(WORK_WEEK), until=until)
                self._add_series(f"{team} stand-up", lead, people[1:], start, 15, rule)
            elif extra == 1:
                rule = Rule("monthly_by_weekday", 1, until=until)
                self._add_series(f"{team} monthly figures", lead, people[1:], start, 60, rule)
            elif extra == 2:
                rule = Rule("monthly_by_date", 1, count=6)
                self._add_series(f"{team} report", lead, people[1:3], start, 30, rule)
            else:
                rule = Rule("weekly", 2, (self.chance.pick(WORK_WEEK),), until=until)
                self._add_series(f"{team} backlog", lead, people[1:], start, 45, rule)

    def add_own_series(self, me: str) -> None:
        """The owner has a series that runs and two that have not begun."""
        people = self.chance.shuffled([p for p in self.state.people if p != me])
        projects = self.chance.draw(words("code_names"), 3)
        for number, (project, weeks) in enumerate(zip(projects, (-5, 1, 2), strict=True)):
            rule = Rule("weekly", 1, (self.chance.pick(WORK_WEEK),), count=12)
            invited = people[2 * number : 2 * number + 2]
            self._add_series(f"{project} steering", me, invited, self._monday(weeks), 30, rule)

    def add_single(self, title: str, organiser: str, also: str | None) -> None:
        """A meeting on a random day, if the organiser has time for it on some day."""
        others = [p for p in self.state.people if p not in (organiser, also)]
        invited = self.chance.draw(others, self.chance.between(1, 4))
        if also is not None and also != organiser:
            invited.append(also)
        minutes = self.chance.pick((30, 30, 45, 60, 60, 90))
        for _ in range(20):
            day = self.epoch + timedelta(days=self.chance.between(-7, 28))
            timing = self._timing(organiser, day, minutes)
            if timing is not None and self._free(organiser, timing):
                return self._add(title, organiser, timing, invited)
        return None

    def add_clashes(self, me: str, titles: Iterator[str]) -> None:
        """Meetings that the owner accepted although another one was accepted before."""
        mine = [
            e
            for e in self.state.events.values()
            if e.answer_of(me) is Answer.ACCEPTED
            and e.timing.rule is None
            and e.timing.start[:10] > self.epoch.isoformat()
        ]
        for event in self.chance.draw(mine, min(CLASHES, len(mine))):
            organiser = self.chance.pick([p for p in self.state.people if p not in event.people])
            timing = replace(event.timing, minutes=event.timing.minutes + 15)
            made = self._event(next(titles), organiser, timing, None)
            self._keep(replace(made, invitees=(Invitee(me, Answer.ACCEPTED),)))

    def _monday(self, weeks: int) -> date:
        return self.epoch + timedelta(weeks=weeks, days=-self.epoch.weekday())

    def _add_series(
        self,
        title: str,
        lead: str,
        invited: Sequence[str],
        week: date,
        minutes: int,
        rule: Rule,
    ) -> None:
        """A series from a week on, if the lead has time for it on some day of its rule."""
        for _ in range(40):
            day = week + timedelta(days=self.chance.between(0, 4))
            if rule.weekdays and WEEKDAYS[day.weekday()] not in rule.weekdays:
                continue
            timing = self._timing(lead, day, minutes)
            if timing is None or not self._free(lead, replace(timing, rule=rule)):
                continue
            return self._add(title, lead, self._deviating(replace(timing, rule=rule)), invited)
        return None

    def _deviating(self, timing: Timing) -> Timing:
        """Now and then one coming occurrence was cancelled, and one was moved by a day."""
        if timing.rule is None or timing.rule.repeat == "daily" or len(timing.rule.weekdays) > 1:
            return timing
        coming = [s for s in spans(timing) if s.occurrence > self.epoch.isoformat()][:8]
        if len(coming) < 4 or not self.chance.often(0.6):
            return timing
        gone, moved = self.chance.draw(coming, 2)
        new_day = date.fromisoformat(moved.occurrence) + timedelta(days=1)
        changed = [
            Deviation(gone.occurrence, None, timing.minutes),
            Deviation(moved.occurrence, f"{new_day}{timing.start[10:]}", timing.minutes),
        ]
        return replace(timing, deviations=tuple(sorted(changed, key=lambda d: d.occurrence)))

    def _timing(self, person: str, day: date, minutes: int) -> Timing | None:
        """A time of a day within a person's hours, None where the person does not work."""
        who = self.state.people[person]
        timing = Timing(f"{day}T{_clock(self.chance.between(17, 35))}", minutes, who.zone)
        return timing if works(who, spans(timing)[0]) else None

    def _free(self, person: str, timing: Timing) -> bool:
        every = spans(timing)
        return not any(first_overlap(every, t) for t in self.accepted.get(person, ()))

    def _add(self, title: str, organiser: str, timing: Timing, invited: Sequence[str]) -> None:
        """Add an event: who has no time for it declined or did not answer."""
        invitees = []
        for person in invited:
            options = [Answer.DECLINED, Answer.UNANSWERED, Answer.TENTATIVE]
            if self._free(person, timing):
                options = [Answer.ACCEPTED] * 5 + [Answer.UNANSWERED] * 2 + options
            invitees.append(Invitee(person, self.chance.pick(options)))
        room = self._room(organiser, timing, len(invited) + 1)
        made = self._event(title, organiser, timing, room)
        self._keep(replace(made, invitees=tuple(invitees)))

    def _event(self, title: str, organiser: str, timing: Timing, room: str | None) -> Event:
        event = self.chance.id("EV-", 5, self.state.events)
        return Event(event, title, organiser, timing, room, ())

    def _keep(self, event: Event) -> None:
        self.state.events[event.id] = event
        for person in event.people:
            if event.answer_of(person) is Answer.ACCEPTED:
                self.accepted.setdefault(person, []).append(event.timing)
        if event.room is not None:
            self.booked.setdefault(event.room, []).append(event.timing)

    def _room(self, organiser: str, timing: Timing, people: int) -> str | None:
        """The smallest free room of the organiser's office; one meeting in four has none."""
        if self.chance.often(0.25):
            return None
        city, every = self.state.people[organiser].city, spans(timing)
        for room in self.state.rooms.values():
            fits = room.city == city and room.seats >= people
            if fits and not any(first_overlap(every, t) for t in self.booked.get(room.id, ())):
                return room.id
        return None
