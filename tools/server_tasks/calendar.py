"""Natural requests to the calendar, and one short way into each of its refusals."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from orch_env.servers.domains.calendar import Calendar
from orch_env.servers.domains.calendar.records import Answer, Event, Person
from orch_env.servers.domains.calendar.recurrence import Span, first_overlap, spans
from orch_env.servers.domains.calendar.state import show, works
from orch_env.servers.domains.calendar.zones import ZONES, to_utc
from orch_env.servers.framework.chance import Chance
from tools.server_tasks.chains import Chain, call, chain, out, refusal, together

# -- draws from the start state ----------------------------------------------------------------


def mine(calendar: Calendar, wanted: Callable[[Event, Answer], bool]) -> list[Event]:
    """The owner's events that have an occurrence ahead, in a window of four weeks."""
    now = calendar.now_utc
    return [
        event
        for event, answer in calendar.mine()
        if wanted(event, answer)
        and any(now < s.start < now + timedelta(days=28) for s in spans(event.timing))
        and spans(event.timing)[-1].start > now
    ]


def own(calendar: Calendar, event: Event) -> bool:
    """Whether the owner organises the event."""
    return event.organiser == calendar.me.id


def ahead(calendar: Calendar, event: Event) -> list[Span]:
    """The occurrences of an event that have not begun."""
    return [s for s in spans(event.timing) if s.start > calendar.now_utc]


def busy_then(calendar: Calendar, person: str, wanted: list[Span], but: str) -> bool:
    """Whether a person is busy with another event at one of these times."""
    return any(
        event.id != but
        and not event.cancelled
        and event.answer_of(person) is Answer.ACCEPTED
        and first_overlap(wanted, event.timing) is not None
        for event in calendar.events.values()
    )


def others(calendar: Calendar) -> list[Person]:
    """Everybody but the owner."""
    return [p for p in calendar.people.values() if p.id != calendar.me.id]


def reachable(calendar: Calendar, chance: Chance) -> Person | None:
    """A colleague who shares at least two working hours a day with the owner."""
    me, day = calendar.me, calendar.now
    found = []
    for person in others(calendar):
        common = 0
        for half_hour in range(48):
            at = to_utc(day.replace(hour=half_hour // 2, minute=half_hour % 2 * 30), me.zone)
            span = Span(at, at + timedelta(minutes=30), "")
            common += works(me, span) and works(person, span)
        if common >= 4 and set(person.hours.days) & set(me.hours.days):
            found.append(person)
    return chance.pick(found) if found else None


def open_invitation(calendar: Calendar, chance: Chance) -> Event | None:
    """An unanswered invitation to an event for which the owner is free."""
    me = calendar.me.id
    found = [
        e
        for e in mine(calendar, lambda e, a: a is Answer.UNANSWERED)
        if not busy_then(calendar, me, ahead(calendar, e), e.id)
    ]
    return chance.pick(found) if found else None


def own_single(calendar: Calendar, chance: Chance) -> Event | None:
    """An event ahead that the owner organises and that takes place once."""
    found = mine(calendar, lambda e, a: own(calendar, e) and e.timing.rule is None)
    return chance.pick(found) if found else None


def own_series(calendar: Calendar, chance: Chance, begun: bool) -> Event | None:
    """A series that the owner organises."""
    found = [
        e
        for e in mine(calendar, lambda e, a: own(calendar, e) and e.timing.rule is not None)
        if (spans(e.timing)[0].start <= calendar.now_utc) == begun
    ]
    return chance.pick(found) if found else None


def said(day: str) -> str:
    """A date as a person says it."""
    return f"{day} ({('Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun')[weekday(day)]})"


def weekday(day: str) -> int:
    """0 for Monday."""
    return date.fromisoformat(day).weekday()


def work_days(calendar: Calendar) -> list[str]:
    """The owner's next ten days of work after today."""
    names = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    days = [(calendar.now.date() + timedelta(days=n)).isoformat() for n in range(1, 22)]
    return [d for d in days if names[weekday(d)] in calendar.me.hours.days][:10]


TOPICS = (
    "Hiring plan",
    "Supplier call",
    "Release notes",
    "Press questions",
    "Travel budget",
    "Office move",
    "Training plan",
    "Customer letters",
)

# -- requests ----------------------------------------------------------------------------------


@chain("answer_invitation")
def answer_invitation(calendar: Calendar, chance: Chance) -> Chain | None:
    """Answer one invitation by its title."""
    event = open_invitation(calendar, chance)
    if event is None:
        return None
    answer, words = chance.pick(
        [
            ("accepted", "accept the invitation to"),
            ("declined", "decline the invitation to"),
            ("tentative", "answer tentatively to"),
        ]
    )
    query = chance.pick([f'Please {words} "{event.title}".', f'Could you {words} "{event.title}"?'])
    return Chain(
        query,
        call("find_event", title=event.title),
        call("respond_to_invitation", event=out(0, "/event"), answer=answer),
    )


@chain("invite_colleague")
def invite_colleague(calendar: Calendar, chance: Chance) -> Chain | None:
    """Invite one more person to an event of the owner."""
    event = own_single(calendar, chance)
    if event is None or event.room is not None:
        return None
    free = [
        p
        for p in others(calendar)
        if p.id not in event.people
        and works(p, spans(event.timing)[0])
        and not busy_then(calendar, p.id, ahead(calendar, event), event.id)
    ]
    if not free:
        return None
    person = chance.pick(free)
    query = chance.pick(
        [
            f'Add {person.name} to my event "{event.title}".',
            f'{person.name} should come to "{event.title}" too; please send an invitation.',
        ]
    )
    return Chain(
        query,
        together(call("find_event", title=event.title), call("find_person", name=person.name)),
        call("invite_people", event=out(0, "/event"), people=[out(1, "/person")]),
    )


@chain("meet_colleague")
def meet_colleague(calendar: Calendar, chance: Chance) -> Chain | None:
    """Plan a meeting at the first time that suits two people."""
    person = reachable(calendar, chance)
    if person is None:
        return None
    topic, minutes = chance.pick(TOPICS), chance.pick((30, 45, 60))
    query = chance.pick(
        [
            f'Plan "{topic}" with {person.name}, {minutes} minutes, at the first time in the next '
            "14 days, from today on, when we are both free.",
            f"Find the earliest {minutes} minutes that suit {person.name} and me within 14 days "
            f'from today and put "{topic}" there.',
        ]
    )
    return Chain(
        query,
        call("find_person", name=person.name),
        call("find_meeting_time", people=[out(0, "/person")], minutes=minutes, days=14),
        call(
            "create_event",
            title=topic,
            start=out(1, "/times/0/start"),
            minutes=minutes,
            invitees=[out(0, "/person")],
        ),
    )


@chain("meet_in_a_room")
def meet_in_a_room(calendar: Calendar, chance: Chance) -> Chain | None:
    """The same in the smallest free room of an office."""
    person = reachable(calendar, chance)
    if person is None:
        return None
    topic, seats = chance.pick(TOPICS), chance.pick((4, 6, 8))
    query = (
        f'Plan "{topic}" with {person.name} for 30 minutes at our first common free time within '
        f"14 days from today, in the smallest free room with at least {seats} seats in the office "
        f"where {person.name} works."
    )
    return Chain(
        query,
        call("find_person", name=person.name),
        call("find_meeting_time", people=[out(0, "/person")], minutes=30, days=14),
        call(
            "list_rooms",
            city=out(0, "/city"),
            seats=seats,
            start=out(1, "/times/0/start"),
            minutes=30,
        ),
        call(
            "create_event",
            title=topic,
            start=out(1, "/times/0/start"),
            minutes=30,
            invitees=[out(0, "/person")],
            room=out(2, "/rooms/0/room"),
        ),
    )


@chain("skip_next_occurrence")
def skip_next_occurrence(calendar: Calendar, chance: Chance) -> Chain | None:
    """Cancel the next occurrence of a series."""
    event = own_series(calendar, chance, begun=True)
    # A moved occurrence may have begun or overlap with the next; the request stays plain.
    if event is None or not ahead(calendar, event):
        return None
    coming = [s for s in spans(event.timing) if s.end > calendar.now_utc]
    if coming[0].start <= calendar.now_utc:
        return None
    query = chance.pick(
        [
            f'The next "{event.title}" will not take place; cancel just that one.',
            f'Cancel only the next occurrence of "{event.title}", please.',
        ]
    )
    return Chain(
        query,
        call("find_event", title=event.title),
        call("get_event", event=out(0, "/event")),
        call("cancel_event", event=out(0, "/event"), occurrence=out(1, "/next/0/occurrence")),
    )


@chain("time_for_colleague")
def time_for_colleague(calendar: Calendar, chance: Chance) -> Chain | None:
    """At what time an event takes place for a person elsewhere."""
    me = calendar.me
    events = mine(calendar, lambda e, a: e.timing.rule is None)
    people = [p for p in others(calendar) if p.zone != me.zone]
    if not events or not people:
        return None
    event, person = chance.pick(events), chance.pick(people)
    query = chance.pick(
        [
            f'When does "{event.title}" begin for {person.name}, on the clocks over there?',
            f'I need the local start of "{event.title}" where {person.name} works.',
        ]
    )
    return Chain(
        query,
        together(call("find_event", title=event.title), call("find_person", name=person.name)),
        call(
            "convert_time",
            time=out(0, "/next/start"),
            from_zone=out(0, "/next/zone"),
            to_zone=out(1, "/zone"),
        ),
        answer=out(2, "/time"),
    )


@chain("resolve_clash")
def resolve_clash(calendar: Calendar, chance: Chance) -> Chain | None:
    """Decline the event of another person that overlaps with one of the owner's."""
    me = calendar.me
    days: dict[str, list[tuple[Event, Span]]] = {}
    for event, answer in calendar.mine():
        if answer is Answer.ACCEPTED:
            for span in ahead(calendar, event):
                days.setdefault(show(span.start, me.zone)[:10], []).append((event, span))
    found = []
    for day, held in sorted(days.items()):
        pairs = [
            (one, other)
            for n, one in enumerate(held)
            for other in held[n + 1 :]
            if one[1].start < other[1].end and other[1].start < one[1].end
        ]
        if len(pairs) == 1:
            first, second = sorted(pairs[0], key=lambda f: (f[1].start, f[1].end))
            if second[1].end > first[1].end and not own(calendar, second[0]):
                found.append(day)
    if not found:
        return None
    day = chance.pick(found)
    query = chance.pick(
        [
            f"On {said(day)} two of my meetings overlap. Decline the one that ends later.",
            f"Which two events clash on {said(day)}? Please decline the one with the later end.",
        ]
    )
    return Chain(
        query,
        call("check_conflicts", first_date=day),
        call("respond_to_invitation", event=out(0, "/conflicts/0/second/event"), answer="declined"),
    )


@chain("answer_by_day")
def answer_by_day(calendar: Calendar, chance: Chance) -> Chain | None:
    """Answer the one open invitation of a day."""
    zone = calendar.me.zone
    days: dict[str, int] = {}
    for event in mine(calendar, lambda e, a: a is Answer.UNANSWERED):
        for span in ahead(calendar, event):
            day = show(span.start, zone)[:10]
            days[day] = days.get(day, 0) + 1
            if show(span.end, zone)[:10] != day:
                days[day] += 1
    single = [d for d, n in sorted(days.items()) if n == 1 and d != calendar.today]
    if not single:
        return None
    day = chance.pick(single)
    query = chance.pick(
        [
            f"There is one invitation for {said(day)} that I have not answered. Say maybe.",
            f"Answer my open invitation on {said(day)} as tentative.",
        ]
    )
    return Chain(
        query,
        call("list_events", first_date=day, answer="unanswered"),
        call("respond_to_invitation", event=out(0, "/events/0/event"), answer="tentative"),
    )


@chain("start_team_series")
def start_team_series(calendar: Calendar, chance: Chance) -> Chain | None:
    """A weekly series with everybody of another team."""
    me = calendar.me
    team = chance.pick(sorted({p.team for p in others(calendar)} - {me.team}))
    members = sorted((p for p in others(calendar) if p.team == team), key=lambda p: p.name)
    day, count = chance.pick(work_days(calendar)), chance.between(3, 12)
    hour, topic = chance.between(9, 15), chance.pick(TOPICS)
    query = chance.pick(
        [
            f'Start a weekly series "{topic}" with everybody in {team}: the first on {said(day)} '
            f"at {hour:02d}:00, 30 minutes, {count} times, whether or not they are free.",
            f'From {said(day)} on, {hour:02d}:00, I want "{topic}" every week with the whole '
            f"{team} team, {count} occurrences of 30 minutes; ignore conflicts.",
        ]
    )
    return Chain(
        query,
        call("list_people", team=team),
        call(
            "create_recurring_event",
            title=topic,
            start=f"{day}T{hour:02d}:00",
            minutes=30,
            repeat="weekly",
            count=count,
            invitees=[out(0, f"/people/{n}/person") for n in range(len(members))],
            ignore_conflicts=True,
        ),
    )


@chain("is_colleague_free")
def is_colleague_free(calendar: Calendar, chance: Chance) -> Chain | None:
    """When a person is busy on a day."""
    person, day = chance.pick(others(calendar)), chance.pick(work_days(calendar))
    query = chance.pick(
        [
            f"When is {person.name} busy on {said(day)}?",
            f"Show me the free and busy times of {person.name} on {said(day)}.",
        ]
    )
    return Chain(
        query,
        call("find_person", name=person.name),
        call("get_free_busy", person=out(0, "/person"), date=day),
    )


@chain("new_hours_then_meet")
def new_hours_then_meet(calendar: Calendar, chance: Chance) -> Chain | None:
    """Change the owner's working hours and look for a time within the new ones."""
    person = reachable(calendar, chance)
    if person is None:
        return None
    start = chance.pick(("07:30", "08:15"))
    end = chance.pick(("18:15", "18:45"))
    query = (
        f"I now work Monday to Friday from {start} to {end}; set that. Then tell me the first 30 "
        f"minutes in the next 14 days, from today on, when {person.name} and I are both free."
    )
    return Chain(
        query,
        together(
            call(
                "set_working_hours",
                days=["monday", "tuesday", "wednesday", "thursday", "friday"],
                start=start,
                end=end,
            ),
            call("find_person", name=person.name),
        ),
        call("find_meeting_time", people=[out(1, "/person")], minutes=30, days=14, after=(0,)),
        answer=out(2, "/times/0/start"),
    )


@chain("move_to_first_common_time")
def move_to_first_common_time(calendar: Calendar, chance: Chance) -> Chain | None:
    """Move an event to the first time that suits a person."""
    person, event = reachable(calendar, chance), own_single(calendar, chance)
    if person is None or event is None or event.room is not None:
        return None
    query = (
        f'Move "{event.title}" to the first half-hour within 14 days from today when both '
        f"{person.name} and I are free, and make it 30 minutes long. The others can cope: ignore "
        "their conflicts."
    )
    return Chain(
        query,
        together(call("find_event", title=event.title), call("find_person", name=person.name)),
        call("find_meeting_time", people=[out(1, "/person")], minutes=30, days=14),
        call(
            "reschedule_event",
            event=out(0, "/event"),
            start=out(2, "/times/0/start"),
            minutes=30,
            ignore_conflicts=True,
        ),
    )


@chain("move_one_occurrence")
def move_one_occurrence(calendar: Calendar, chance: Chance) -> Chain | None:
    """Move the next occurrence of a series without a room to a time in another zone."""
    event = own_series(calendar, chance, begun=False)
    if event is None or event.room is not None or len(ahead(calendar, event)) < 2:
        return None
    zone = chance.pick([z for z in ZONES if z not in ("UTC", calendar.me.zone)])
    day = show(ahead(calendar, event)[0].start, zone)[:10]
    hour = chance.between(11, 13)
    query = (
        f'Just this once, the first "{event.title}" should begin at {hour}:20 {zone} time on '
        f"{said(day)}. Ignore conflicts."
    )
    return Chain(
        query,
        call("find_event", title=event.title),
        call(
            "reschedule_event",
            event=out(0, "/event"),
            occurrence=out(0, "/next/occurrence"),
            start=f"{day}T{hour}:20",
            zone=zone,
            ignore_conflicts=True,
        ),
    )


# -- refusals ----------------------------------------------------------------------------------


def create(calendar: Calendar, start: str, /, **more: Any) -> Chain:
    """A request for an event that the calendar refuses."""
    arguments: dict[str, Any] = {"title": "Supplier call", "minutes": 30, **more}
    return Chain(
        f'Plan "Supplier call" at {start}.', call("create_event", start=start, **arguments)
    )


def series(calendar: Calendar, start: str, /, **more: Any) -> Chain:
    """A request for a series that the calendar refuses."""
    arguments: dict[str, Any] = {"title": "Supplier call", "minutes": 30, **more}
    return Chain(
        f'Plan "Supplier call" as a series from {start}.',
        call("create_recurring_event", start=start, **arguments),
    )


@refusal("unknown_person")
def nobody(calendar: Calendar, chance: Chance) -> Chain | None:
    """A name that nobody has."""
    return Chain("Where does Nemo Nobody work?", call("find_person", name="Nemo Nobody"))


@refusal("unknown_event")
def no_event(calendar: Calendar, chance: Chance) -> Chain | None:
    """A title that no event has."""
    return Chain('When is "Grand opening"?', call("find_event", title="Grand opening"))


@refusal("unknown_room")
def no_room(calendar: Calendar, chance: Chance) -> Chain | None:
    """A room that does not exist."""
    free = [f"RM-{n:04d}" for n in range(100) if f"RM-{n:04d}" not in calendar.rooms]
    return create(calendar, f"{work_days(calendar)[0]}T12:00", room=free[0], ignore_conflicts=True)


@refusal("unknown_city")
def no_office(calendar: Calendar, chance: Chance) -> Chain | None:
    """A city without an office."""
    return Chain("Which rooms are there in Atlantis?", call("list_rooms", city="Atlantis"))


@refusal("unknown_team")
def no_team(calendar: Calendar, chance: Chance) -> Chain | None:
    """A team that does not exist."""
    return Chain("Who works in Astronomy?", call("list_people", team="Astronomy"))


@refusal("ambiguous_title")
def two_of_a_title(calendar: Calendar, chance: Chance) -> Chain | None:
    """Two events of one title."""
    one, other = (f"{day}T12:00" for day in work_days(calendar)[:2])
    plan = [
        call("create_event", title="Supplier call", start=s, minutes=30, ignore_conflicts=True)
        for s in (one, other)
    ]
    return Chain(
        'Plan "Supplier call" twice, then show it.',
        *plan,
        call("find_event", title="Supplier call"),
    )


@refusal("in_the_past")
def yesterday(calendar: Calendar, chance: Chance) -> Chain | None:
    """A start before now."""
    day = (calendar.now.date() - timedelta(days=1)).isoformat()
    return create(calendar, f"{day}T12:00")


@refusal("too_far_ahead")
def next_decade(calendar: Calendar, chance: Chance) -> Chain | None:
    """A series beyond what can be planned."""
    day = work_days(calendar)[0]
    return series(calendar, f"{day}T12:00", repeat="weekly", count=90)


@refusal("unknown_year")
def in_1980(calendar: Calendar, chance: Chance) -> Chain | None:
    """A year for which no zone has a rule."""
    return Chain(
        "What did clocks in Tokyo show at noon UTC on 1 May 1980?",
        call("convert_time", time="1980-05-01T12:00", from_zone="UTC", to_zone="Asia/Tokyo"),
    )


@refusal("no_such_time")
def skipped_hour(calendar: Calendar, chance: Chance) -> Chain | None:
    """An hour that spring leaves out."""
    day = date(calendar.now.year + 1, 3, 31)
    day -= timedelta(days=(day.weekday() + 1) % 7)
    return create(calendar, f"{day}T02:30", zone="Europe/Berlin")


@refusal("needs_one_end")
def endless(calendar: Calendar, chance: Chance) -> Chain | None:
    """A series without an end."""
    return series(calendar, f"{work_days(calendar)[0]}T12:00", repeat="daily")


@refusal("ends_before_start")
def over_before_it_begins(calendar: Calendar, chance: Chance) -> Chain | None:
    """A series whose last date lies before its first."""
    first, second = work_days(calendar)[:2]
    return series(calendar, f"{second}T12:00", repeat="daily", until=first)


@refusal("start_not_in_series")
def wrong_weekday(calendar: Calendar, chance: Chance) -> Chain | None:
    """A series on Sundays that begins on another day."""
    days = [d for d in work_days(calendar) if weekday(d) != 6]
    return series(calendar, f"{days[0]}T12:00", repeat="weekly", weekdays=["sunday"], count=4)


@refusal("weekdays_not_weekly")
def daily_on_mondays(calendar: Calendar, chance: Chance) -> Chain | None:
    """Weekdays for a daily series."""
    start = f"{work_days(calendar)[0]}T12:00"
    return series(calendar, start, repeat="daily", weekdays=["monday"], count=4)


@refusal("overlaps_itself")
def longer_than_a_gap(calendar: Calendar, chance: Chance) -> Chain | None:
    """An occurrence moved onto the next one."""
    event = own_series(calendar, chance, begun=False)
    if event is None or event.timing.deviations:
        return None
    first, second = ahead(calendar, event)[:2]
    zone = calendar.me.zone
    if second.start - first.start < timedelta(days=1):
        return None
    start = show(second.start, zone)
    return Chain(
        f'Move the first "{event.title}" to {start}.',
        call("find_event", title=event.title),
        call(
            "reschedule_event",
            event=out(0, "/event"),
            occurrence=out(0, "/next/occurrence"),
            start=start,
        ),
    )


@refusal("room_too_small")
def full_room(calendar: Calendar, chance: Chance) -> Chain | None:
    """More people than seats."""
    me = calendar.me
    people = [p.name for p in others(calendar)][:4]
    start = f"{work_days(calendar)[0]}T12:00"
    finds = [call("find_person", name=name) for name in people]
    return Chain(
        f'Plan "Supplier call" with {", ".join(people)} in the smallest room of {me.city}.',
        together(*finds, call("list_rooms", city=me.city)),
        call(
            "create_event",
            title="Supplier call",
            start=start,
            minutes=30,
            invitees=[out(n, "/person") for n in range(4)],
            room=out(4, "/rooms/0/room"),
        ),
    )


@refusal("room_taken")
def booked_room(calendar: Calendar, chance: Chance) -> Chain | None:
    """A room in which another event takes place."""
    found = mine(calendar, lambda e, a: e.room is not None and e.timing.rule is None)
    if not found:
        return None
    event = chance.pick(found)
    start = show(spans(event.timing)[0].start, calendar.me.zone)
    return Chain(
        f'Put "Supplier call" into the room and the time of "{event.title}", {start}.',
        call("find_event", title=event.title),
        call("get_event", event=out(0, "/event")),
        call(
            "create_event",
            title="Supplier call",
            start=start,
            minutes=30,
            room=out(1, "/room/room"),
            ignore_conflicts=True,
        ),
    )


@refusal("person_busy")
def double_booked(calendar: Calendar, chance: Chance) -> Chain | None:
    """An invitation to accept although the owner is busy then."""
    me = calendar.me.id
    found = [
        e
        for e in mine(calendar, lambda e, a: a is not Answer.ACCEPTED)
        if busy_then(calendar, me, ahead(calendar, e), e.id)
    ]
    if not found:
        return None
    event = chance.pick(found)
    return Chain(
        f'Accept "{event.title}".',
        call("find_event", title=event.title),
        call("respond_to_invitation", event=out(0, "/event"), answer="accepted"),
    )


@refusal("outside_working_hours")
def at_night(calendar: Calendar, chance: Chance) -> Chain | None:
    """An event in the middle of the night."""
    return create(calendar, f"{work_days(calendar)[0]}T03:00")


@refusal("no_common_time")
def a_whole_day(calendar: Calendar, chance: Chance) -> Chain | None:
    """A meeting that is longer than any working day."""
    person = chance.pick(others(calendar))
    return Chain(
        f"When can {person.name} and I meet for 20 hours?",
        call("find_person", name=person.name),
        call("find_meeting_time", people=[out(0, "/person")], minutes=1200),
    )


@refusal("incomplete_time")
def half_a_time(calendar: Calendar, chance: Chance) -> Chain | None:
    """A start without a length."""
    city = calendar.me.city
    start = f"{work_days(calendar)[0]}T12:00"
    return Chain(
        f"Which rooms in {city} are free from {start} on?",
        call("list_rooms", city=city, start=start),
    )


@refusal("not_organiser")
def of_somebody_else(calendar: Calendar, chance: Chance) -> Chain | None:
    """An event of another person to cancel."""
    found = mine(calendar, lambda e, a: not own(calendar, e))
    event = chance.pick(found)
    return Chain(
        f'Cancel "{event.title}".',
        call("find_event", title=event.title),
        call("cancel_event", event=out(0, "/event")),
    )


@refusal("own_event")
def my_own(calendar: Calendar, chance: Chance) -> Chain | None:
    """An answer to an event that the owner organises."""
    event = own_single(calendar, chance)
    if event is None:
        return None
    return Chain(
        f'Accept "{event.title}".',
        call("find_event", title=event.title),
        call("respond_to_invitation", event=out(0, "/event"), answer="accepted"),
    )


@refusal("already_invited")
def twice(calendar: Calendar, chance: Chance) -> Chain | None:
    """A person who is invited already."""
    event = own_single(calendar, chance)
    if event is None or not event.invitees:
        return None
    person = calendar.people[event.invitees[0].person]
    return Chain(
        f'Invite {person.name} to "{event.title}".',
        together(call("find_event", title=event.title), call("find_person", name=person.name)),
        call("invite_people", event=out(0, "/event"), people=[out(1, "/person")]),
    )


@refusal("nothing_to_change")
def the_same_again(calendar: Calendar, chance: Chance) -> Chain | None:
    """The answer that was given before."""
    found = mine(calendar, lambda e, a: a is Answer.ACCEPTED and not own(calendar, e))
    if not found:
        return None
    event = chance.pick(found)
    return Chain(
        f'Accept "{event.title}".',
        call("find_event", title=event.title),
        call("respond_to_invitation", event=out(0, "/event"), answer="accepted"),
    )


@refusal("series_has_begun")
def running_series(calendar: Calendar, chance: Chance) -> Chain | None:
    """A series to move as a whole that runs already."""
    event = own_series(calendar, chance, begun=True)
    if event is None:
        return None
    start = f"{work_days(calendar)[0]}T12:00"
    return Chain(
        f'Move all of "{event.title}" to {start}.',
        call("find_event", title=event.title),
        call("reschedule_event", event=out(0, "/event"), start=start),
    )


@refusal("no_such_occurrence")
def wrong_date(calendar: Calendar, chance: Chance) -> Chain | None:
    """A date on which a series has no occurrence."""
    event = own_series(calendar, chance, begun=False)
    if event is None:
        return None
    day = date.fromisoformat(event.timing.start[:10]) + timedelta(days=2)
    return Chain(
        f'Cancel "{event.title}" on {day}.',
        call("find_event", title=event.title),
        call("cancel_event", event=out(0, "/event"), occurrence=day.isoformat()),
    )


@refusal("event_cancelled")
def cancelled_twice(calendar: Calendar, chance: Chance) -> Chain | None:
    """An event that was cancelled before."""
    event = own_single(calendar, chance)
    if event is None:
        return None
    return Chain(
        f'Cancel "{event.title}", and once more.',
        call("find_event", title=event.title),
        call("cancel_event", event=out(0, "/event")),
        call("cancel_event", event=out(0, "/event"), after=(1,)),
    )


@refusal("event_over")
def last_week(calendar: Calendar, chance: Chance) -> Chain | None:
    """An answer to an event that took place last week."""
    found = [
        e
        for e, _ in calendar.mine()
        if not own(calendar, e) and e.timing.rule is None and calendar.is_over(e)
    ]
    if not found:
        return None
    event = chance.pick(found)
    return Chain(
        f'Decline "{event.title}".',
        call("find_event", title=event.title),
        call("respond_to_invitation", event=out(0, "/event"), answer="declined"),
    )


@refusal("bad_hours")
def backwards(calendar: Calendar, chance: Chance) -> Chain | None:
    """Working hours that end before they begin."""
    return Chain(
        "I work on Mondays from 17:00 to 09:00.",
        call("set_working_hours", days=["monday"], start="17:00", end="09:00"),
    )
