"""The calendar against its oracle (`dateutil` and `zoneinfo`), and its rules as claims."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from orch_env.servers import ServerSession, open_session
from orch_env.servers.domains.calendar import Calendar
from orch_env.servers.domains.calendar.zones import ZONES, exists, to_local, to_utc
from orch_env.types.json import JsonObject
from tests.orch_env.property_tiers import FEW, hold
from tests.orch_env.servers.calendar_oracle import (
    DAYS,
    FREQUENCIES,
    Model,
    Taking,
    in_utc,
    meet,
    skipped,
    takings,
    told,
)
from tools.server_tasks.chains import templates_of

PAGE = Path(__file__).parents[3] / "docs/servers/calendar.md"
NOON = "T12:00"


@pytest.fixture(autouse=True)
def _a_bug_in_the_server_fails_the_test() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*the model got a tool_error.*")
        yield


def ask(session: ServerSession, tool: str, /, **arguments: Any) -> Any:
    """The result of a call that must succeed."""
    result = session.call(tool, arguments)
    assert result.error is None, result.text
    return json.loads(result.text)


def refused(session: ServerSession, tool: str, /, **arguments: Any) -> JsonObject:
    """The details of a call that must be refused and change nothing."""
    before = session.state_hash()
    result = session.call(tool, arguments)
    assert result.error is not None, result.text
    assert session.state_hash() == before
    error = json.loads(result.text)["error"]
    return {**error["details"], "message": error["message"]}


def day_after(session: ServerSession, days: int) -> str:
    return (session.clock.now.date() + timedelta(days=days)).isoformat()


# -- time zones ----------------------------------------------------------------------------------

YEARS = st.datetimes(datetime(2020, 1, 2), datetime(2099, 12, 30))


def agrees(time: datetime, zone: str) -> None:
    time = time.replace(second=0, microsecond=0)
    law = ZoneInfo(zone)
    local = time.replace(tzinfo=UTC).astimezone(law).replace(tzinfo=None, fold=0)
    assert to_local(time, zone) == local
    assert to_utc(time, zone) == time.replace(tzinfo=law).astimezone(UTC).replace(tzinfo=None)
    assert exists(time, zone) != skipped(time.strftime("%Y-%m-%dT%H:%M"), zone)


def test_the_zones_agree_with_the_tz_database_at_any_time() -> None:
    hold(200, agrees, YEARS, st.sampled_from(sorted(ZONES)))


def the_switches_agree(zone: str, years: range) -> None:
    for year in years:
        for month in (3, 4, 10, 11):
            for day in range(1, 32 if month in (3, 10) else 31):
                sunday = datetime(year, month, day)
                if sunday.weekday() == 6:
                    # Sydney changes at 16:00 UTC of the Saturday, Los Angeles at 10:00 UTC.
                    for half_hours in range(-17, 22):
                        at = sunday + timedelta(minutes=30 * half_hours)
                        agrees(at, zone)
                        agrees(at - timedelta(minutes=1), zone)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Los_Angeles", "Australia/Sydney"])
def test_the_zones_agree_around_each_switch(zone: str) -> None:
    the_switches_agree(zone, range(2025, 2027))


@pytest.mark.long
@pytest.mark.parametrize("zone", sorted(ZONES))
def test_the_zones_agree_around_each_switch_of_many_years(zone: str) -> None:
    the_switches_agree(zone, range(2020, 2100, 4))


def test_a_time_is_converted_by_the_zones_of_the_day() -> None:
    """The United States change three weeks before Europe does."""
    calendar = open_session("calendar")
    for day, expected in (("03-01", "09:00"), ("03-17", "10:00"), ("04-10", "09:00")):
        shown = ask(
            calendar,
            "convert_time",
            time=f"2025-{day}T14:00",
            from_zone="Europe/London",
            to_zone="America/New_York",
        )
        assert shown["time"] == f"2025-{day}T{expected}"
        assert shown["zone"] == "America/New_York"
    gap = {"time": "2025-03-30T02:30", "from_zone": "Europe/Berlin", "to_zone": "UTC"}
    assert refused(calendar, "convert_time", **gap)["reason"] == "no_such_time"
    for year, known in ((2019, False), (2020, True), (2099, True), (2100, False)):
        wanted = {"time": f"{year}-06-01T12:00", "from_zone": "UTC", "to_zone": "UTC"}
        assert (calendar.call("convert_time", wanted).error is None) == known


# -- series --------------------------------------------------------------------------------------


@st.composite
def series(draw: st.DrawFn, first: int = 1, last: int = 200) -> dict[str, Any]:
    """Arguments of a series, most of them right."""
    start = date(2025, 3, 17) + timedelta(days=draw(st.integers(first, last)))
    hour, minute = draw(st.integers(0, 23)), draw(st.sampled_from((0, 15, 30)))
    arguments: dict[str, Any] = {
        "title": "Oracle series",
        "start": f"{start}T{hour:02d}:{minute:02d}",
        "minutes": draw(st.sampled_from((5, 30, 60, 600, 1440))),
        "repeat": draw(st.sampled_from(sorted(FREQUENCIES))),
        "every": draw(st.integers(1, 4)),
        "zone": draw(st.sampled_from(sorted(ZONES))),
        "ignore_conflicts": True,
    }
    if arguments["repeat"] == "weekly" and draw(st.booleans()):
        days = draw(st.lists(st.sampled_from(DAYS), min_size=1, max_size=4, unique=True))
        arguments["weekdays"] = [*days, DAYS[start.weekday()]]
    if draw(st.booleans()):
        arguments["count"] = draw(st.integers(1, 40))
    else:
        until = start + timedelta(days=draw(st.integers(0, 160)))
        arguments["until"] = until.isoformat()
    return arguments


def listed(session: ServerSession, text: str, first: date, days: int) -> list[JsonObject]:
    """What list_events says of a title, over as many windows as it takes."""
    found: list[JsonObject] = []
    while days > 0:
        window = min(days, 31)
        shown = ask(
            session,
            "list_events",
            first_date=first.isoformat(),
            days=window,
            text=text,
            limit=50,
        )
        found += [e for e in shown["events"] if e not in found]
        first, days = first + timedelta(days=window), days - window
    return found


def a_series_is_dateutils(arguments: dict[str, Any], seed: int) -> None:
    session = open_session("calendar", seed)
    model = Model(session)
    wrong, event = model.create(arguments)
    result = session.call("create_recurring_event", arguments)
    assert (result.error is not None) == bool(wrong), (result.text, wrong)
    if wrong:
        assert json.loads(result.text)["error"]["details"]["reason"] in wrong
        return
    expected = takings(event)
    assert json.loads(result.text)["occurrences"] == len(expected)
    shown = listed(session, "Oracle series", date(2025, 3, 16), 420)
    assert [(e["occurrence"], e["start"], e["end"]) for e in shown] == [
        (t.occurrence, told(t.start, model.zone), told(t.end, model.zone)) for t in expected
    ]


def test_a_series_has_the_occurrences_that_dateutil_gives_it() -> None:
    hold(FEW, a_series_is_dateutils, series(), st.integers(0, 3))


@pytest.mark.long
def test_many_series_have_the_occurrences_that_dateutil_gives_them() -> None:
    hold(1000, a_series_is_dateutils, series(0, 380), st.integers(0, 20))


# -- the calendar against a second one -------------------------------------------------------------

SLOTS = [f"{hour:02d}:{minute:02d}" for hour in range(6, 20) for minute in (0, 30)]


class CalendarMachine(RuleBasedStateMachine):
    """Random calls; the model says for which reasons each may be refused, and what each gives."""

    def __init__(self) -> None:
        super().__init__()
        self.session = open_session("calendar", 2)
        self.model = Model(self.session)
        self.written = False

    def write(
        self, tool: str, arguments: JsonObject, wrong: set[str], made: dict[str, Any]
    ) -> None:
        """Make a call; it is refused for one of the reasons, or gives the event."""
        before = self.session.state_hash()
        result = self.session.call(tool, arguments)
        body = json.loads(result.text)
        if wrong:
            assert result.error is not None, (tool, arguments, wrong, result.text)
            assert body["error"]["details"]["reason"] in wrong, (tool, arguments, wrong, body)
            assert self.session.state_hash() == before
            return
        assert result.error is None, (tool, arguments, result.text)
        made["id"] = body["event"]
        self.model.events[made["id"]] = made
        self.written = True

    @invariant()
    def nothing_is_broken(self) -> None:
        if self.written:
            assert list(self.session.server.invariants()) == []
            self.written = False

    # What the rules draw from.

    def day(self, days: int) -> str:
        return day_after(self.session, days)

    def event(self, data: st.DataObject, organised: bool, repeats: bool = False) -> dict[str, Any]:
        options = self.model.own() if organised else self.model.mine()
        ids = sorted(e["id"] for e in options if e["timing"]["rule"] or not repeats)
        return self.model.events[data.draw(st.sampled_from(ids), "event")]

    def people_ids(self, data: st.DataObject, fewest: int, most: int) -> list[str]:
        ids = sorted(self.model.people)
        drawn = st.lists(
            st.sampled_from(ids), min_size=fewest, max_size=most, unique=data.draw(st.booleans())
        )
        return data.draw(drawn, "people")

    def drawn_times(self, data: st.DataObject, last: int) -> dict[str, Any]:
        """A start, now and then that of an event of the owner."""
        zone = data.draw(st.sampled_from([None, None, *sorted(ZONES)]), "zone")
        found: dict[str, Any] = {} if zone is None else {"zone": zone}
        day = self.day(data.draw(st.integers(-1, last), "day"))
        found["start"] = f"{day}T{data.draw(st.sampled_from(SLOTS), 'slot')}"
        if data.draw(st.booleans(), "at an event's time"):
            ahead = [t for t in takings(self.event(data, organised=False)) if day <= t.occurrence]
            if ahead:
                found["start"] = told(ahead[0].start, zone or self.model.zone)
        return found

    def drawn_room(self, data: st.DataObject) -> str:
        used = sorted({e["room"] for e in self.model.mine() if e["room"] is not None})
        return data.draw(st.sampled_from([*used, *sorted(self.model.rooms)]), "room")

    @rule(data=st.data(), minutes=st.sampled_from((15, 45, 90)), ignoring=st.booleans())
    def create(self, data: st.DataObject, minutes: int, ignoring: bool) -> None:
        arguments = {"title": "Made up", "minutes": minutes, **self.drawn_times(data, 20)}
        arguments["invitees"] = self.people_ids(data, 1, 4)
        if ignoring:
            arguments["ignore_conflicts"] = True
        if data.draw(st.booleans(), "in a room"):
            arguments["room"] = self.drawn_room(data)
        self.write("create_event", arguments, *self.model.create(arguments))

    @rule(data=st.data(), arguments=series(), ignoring=st.booleans())
    def create_series(self, data: st.DataObject, arguments: Any, ignoring: bool) -> None:
        arguments = {**arguments, **self.drawn_times(data, 20), "minutes": 30}
        arguments["ignore_conflicts"] = ignoring
        if data.draw(st.booleans(), "in a room"):
            arguments["room"] = self.drawn_room(data)
        self.write("create_recurring_event", arguments, *self.model.create(arguments))

    @rule(data=st.data(), ignoring=st.booleans())
    def invite(self, data: st.DataObject, ignoring: bool) -> None:
        event, people = self.event(data, organised=True), self.people_ids(data, 1, 2)
        arguments = {"event": event["id"], "people": people, "ignore_conflicts": ignoring}
        self.write("invite_people", arguments, *self.model.invite(event, people, ignoring))

    @rule(
        data=st.data(),
        answer=st.sampled_from(("accepted", "tentative", "declined")),
        ignoring=st.booleans(),
    )
    def respond(self, data: st.DataObject, answer: str, ignoring: bool) -> None:
        event = self.event(data, organised=False)
        arguments = {"event": event["id"], "answer": answer, "ignore_conflicts": ignoring}
        self.write("respond_to_invitation", arguments, *self.model.respond(event, answer, ignoring))

    @rule(
        data=st.data(),
        organised=st.integers(0, 5),
        minutes=st.sampled_from((None, 20, 60)),
        ignoring=st.booleans(),
    )
    def reschedule(
        self, data: st.DataObject, organised: int, minutes: int | None, ignoring: bool
    ) -> None:
        one = data.draw(st.booleans(), "one occurrence")
        event = self.event(data, organised > 0, repeats=one and organised > 1)
        arguments = {"event": event["id"], **self.drawn_times(data, 20)}
        arguments["ignore_conflicts"] = ignoring
        if minutes is not None:
            arguments["minutes"] = minutes
        if one:
            arguments["occurrence"] = self.occurrence(data, event)
        self.write("reschedule_event", arguments, *self.model.reschedule(event, arguments))

    @rule(data=st.data(), organised=st.integers(0, 5))
    def cancel(self, data: st.DataObject, organised: int) -> None:
        single = data.draw(st.booleans(), "one occurrence")
        event = self.event(data, organised > 0, repeats=single and organised > 1)
        one = self.occurrence(data, event) if single else None
        arguments = {"event": event["id"], **({"occurrence": one} if one else {})}
        self.write("cancel_event", arguments, *self.model.cancel(event, one))

    def occurrence(self, data: st.DataObject, event: dict[str, Any]) -> str:
        dates = [t.occurrence for t in takings(event)]
        near = [d for d in dates if self.day(-8) < d < self.day(40)] or dates
        return data.draw(st.sampled_from([*near, self.day(3)]), "occurrence")

    @rule(
        days=st.lists(st.sampled_from(DAYS), min_size=1, unique=True),
        start=st.sampled_from(("07:00", "09:30")),
        end=st.sampled_from(("16:00", "19:00")),
    )
    def set_hours(self, days: list[str], start: str, end: str) -> None:
        hours = {"days": sorted(days, key=DAYS.index), "start": start, "end": end}
        me = self.model.people[self.model.me]
        arguments = {"days": days, "start": start, "end": end}
        result = self.session.call("set_working_hours", arguments)
        assert (result.error is not None) == (me["hours"] == hours)
        me["hours"] = hours

    @rule(offset=st.integers(-7, 25), days=st.integers(1, 3))
    def read_days(self, offset: int, days: int) -> None:
        model, day = self.model, self.day(offset)
        window = model.window(day, days, model.zone)
        answers = ("accepted", "tentative", "declined", "unanswered")
        held = model.held(model.me, *window, answers)
        shown = ask(self.session, "list_events", first_date=day, days=days, limit=50)
        assert shown["count"] == len(held)
        assert [
            (e["event"], e["occurrence"], e["start"], e["end"], e["zone"], e["answer"])
            for e in shown["events"]
        ] == [
            (
                event["id"],
                taking.occurrence,
                told(taking.start, model.zone),
                told(taking.end, model.zone),
                model.zone,
                model.role(event),
            )
            for taking, event in held[:50]
        ]
        busy = model.held(model.me, *window, ("accepted",))
        pairs = [(a, b) for n, a in enumerate(busy) for b in busy[n + 1 :] if meet(a[0], b[0])]
        clashes = ask(self.session, "check_conflicts", first_date=day, days=days, limit=50)
        assert clashes["count"] == len(pairs)
        assert [
            (c["first"]["event"], c["second"]["event"], c["second"]["start"])
            for c in clashes["conflicts"]
        ] == [(a[1]["id"], b[1]["id"], told(b[0].start, model.zone)) for a, b in pairs[:50]]

    @rule(data=st.data(), offset=st.integers(-3, 25), zone=st.sampled_from(sorted(ZONES)))
    def read_free_busy(self, data: st.DataObject, offset: int, zone: str) -> None:
        model, day = self.model, self.day(offset)
        person = data.draw(st.sampled_from(sorted(model.people)), "person")
        shown = ask(self.session, "get_free_busy", person=person, date=day, zone=zone)
        start, end = model.window(day, 1, zone)
        hours = model.people[person]["hours"]
        local_days = [date.fromisoformat(day) + timedelta(days=n) for n in (-1, 0, 1)]
        working = [
            Taking(*(in_utc(f"{d}T{hours[at]}", who_zone) for at in ("start", "end")), "")
            for who_zone in (model.people[person]["zone"],)
            for d in local_days
            if DAYS[d.weekday()] in hours["days"]
        ]
        for key, covered in (
            ("working", working),
            ("busy", [t for t, _ in model.held(person, start, end, ("accepted",))]),
            (
                "tentative",
                [t for t, _ in model.held(person, start, end, ("tentative", "unanswered"))],
            ),
        ):
            assert [(i["start"], i["end"]) for i in shown[key]] == [
                (told(s, zone), told(e, zone)) for s, e in model.minutes(covered, start, end)
            ], key

    @rule(
        data=st.data(),
        offset=st.integers(0, 15),
        days=st.integers(1, 3),
        minutes=st.sampled_from((25, 60, 120)),
        limit=st.integers(1, 10),
    )
    def read_meeting_times(
        self, data: st.DataObject, offset: int, days: int, minutes: int, limit: int
    ) -> None:
        model, day, people = self.model, self.day(offset), self.people_ids(data, 1, 2)
        expected = model.common_starts(people, day, days, minutes, limit)
        result = self.session.call(
            "find_meeting_time",
            {
                "people": people,
                "minutes": minutes,
                "first_date": day,
                "days": days,
                "limit": limit,
            },
        )
        body = json.loads(result.text)
        if not expected:
            assert body["error"]["details"]["reason"] == "no_common_time"
            return
        assert [t["start"] for t in body["times"]] == [told(t, model.zone) for t in expected]
        assert body["zone"] == model.zone

    @rule(data=st.data(), seats=st.integers(1, 9))
    def read_rooms(self, data: st.DataObject, seats: int) -> None:
        model = self.model
        city = data.draw(st.sampled_from(sorted({r["city"] for r in model.rooms.values()})))
        times = self.drawn_times(data, 20)
        zone = times.get("zone", model.zone)
        shown = self.session.call(
            "list_rooms", {"city": city, "seats": seats, "minutes": 60, **times}
        )
        if skipped(times["start"], zone):
            assert json.loads(shown.text)["error"]["details"]["reason"] == "no_such_time"
            return
        begins = in_utc(times["start"], zone)
        taking = Taking(begins, begins + timedelta(minutes=60), "")
        assert {r["room"] for r in json.loads(shown.text)["rooms"]} == {
            r["id"]
            for r in model.rooms.values()
            if r["city"] == city
            and r["seats"] >= seats
            and not model.room_taken(r["id"], taking, "")
        }

    @rule(data=st.data())
    def read_event(self, data: st.DataObject) -> None:
        model = self.model
        event, now = self.event(data, organised=False), self.model.now
        shown = ask(self.session, "get_event", event=event["id"])
        coming = [] if event["cancelled"] else [t for t in takings(event) if t.end > now]
        assert [(s["occurrence"], s["start"], s["end"]) for s in shown["next"]] == [
            (t.occurrence, told(t.start, model.zone), told(t.end, model.zone)) for t in coming[:3]
        ]
        assert [(i["person"], i["answer"]) for i in shown["invitees"]] == [
            (i["person"], i["answer"]) for i in event["invitees"]
        ]
        assert shown["answer"] == model.role(event)
        assert shown["cancelled"] == event["cancelled"]
        assert (shown["start"], shown["minutes"], shown["zone"]) == (
            event["timing"]["start"],
            event["timing"]["minutes"],
            event["timing"]["zone"],
        )


def test_the_calendar_behaves_like_the_oracle() -> None:
    run_state_machine_as_test(
        CalendarMachine, settings=settings(max_examples=12, stateful_step_count=25, deadline=None)
    )


@pytest.mark.long
def test_the_calendar_behaves_like_the_oracle_in_long_episodes() -> None:
    run_state_machine_as_test(
        CalendarMachine, settings=settings(max_examples=150, stateful_step_count=50, deadline=None)
    )


# -- rules as claims -------------------------------------------------------------------------------


@pytest.fixture
def session() -> ServerSession:
    return open_session("calendar", 0)


def weekly(session: ServerSession, **more: Any) -> dict[str, Any]:
    """A weekly series of the owner that begins in a week, ignoring conflicts."""
    arguments = {
        "title": "Kites",
        "start": day_after(session, 7) + NOON,
        "minutes": 30,
        "repeat": "weekly",
        "count": 4,
        "ignore_conflicts": True,
        **more,
    }
    made: dict[str, Any] = ask(session, "create_recurring_event", **arguments)
    return made


def test_a_moved_occurrence_keeps_its_name_and_the_others_stay(session: ServerSession) -> None:
    made = weekly(session)
    event, second = made["event"], day_after(session, 14)
    moved = {"event": event, "occurrence": second, "ignore_conflicts": True}
    start = day_after(session, 16) + "T15:00"
    shown = ask(session, "reschedule_event", start=start, minutes=50, **moved)
    assert (shown["occurrence"], shown["start"]) == (second, start)
    found = listed(session, "Kites", session.clock.now.date(), 31)
    assert [(e["occurrence"], e["start"][:10]) for e in found] == [
        (day_after(session, 7), day_after(session, 7)),
        (second, day_after(session, 16)),
        (day_after(session, 21), day_after(session, 21)),
        (day_after(session, 28), day_after(session, 28)),
    ]
    assert found[1]["end"].endswith("T15:50")
    about = ask(session, "get_event", event=event)
    assert about["moved_occurrences"] == [second] and about["cancelled_occurrences"] == []
    ask(session, "cancel_event", event=event, occurrence=second)
    about = ask(session, "get_event", event=event)
    assert about["cancelled_occurrences"] == [second] and about["moved_occurrences"] == []
    assert refused(session, "reschedule_event", start=start, **moved)["reason"] == (
        "no_such_occurrence"
    )


def test_a_series_keeps_its_local_time_when_summer_time_begins(session: ServerSession) -> None:
    made = weekly(session, start="2025-03-24T09:00", zone="Europe/Berlin", count=2)
    shown = [
        ask(session, "convert_time", time=n["start"], from_zone=n["zone"], to_zone="UTC")["time"]
        for n in ask(session, "get_event", event=made["event"])["next"]
    ]
    assert shown == ["2025-03-24T08:00", "2025-03-31T07:00"]


def test_a_month_without_the_day_is_left_out(session: ServerSession) -> None:
    start = {"start": "2025-03-31T12:00", "zone": "UTC"}
    made = weekly(session, repeat="monthly_by_date", count=3, **start)
    about = ask(session, "get_event", event=made["event"])
    assert [n["occurrence"] for n in about["next"]] == ["2025-03-31", "2025-05-31", "2025-07-31"]
    assert about["rule"] == {
        "repeat": "monthly_by_date",
        "every": 1,
        "weekdays": [],
        "count": 3,
        "until": None,
    }


def test_moving_a_whole_event_asks_everybody_anew_and_forgets_single_changes(
    session: ServerSession,
) -> None:
    person = ask(session, "list_people")["people"][0]
    if person["person"] == session.server.me.id:
        person = ask(session, "list_people")["people"][1]
    made = weekly(session, invitees=[person["person"]])
    ask(session, "cancel_event", event=made["event"], occurrence=day_after(session, 14))
    start = day_after(session, 9) + "T13:00"
    shown = ask(
        session, "reschedule_event", event=made["event"], start=start, ignore_conflicts=True
    )
    assert shown["occurrence"] == day_after(session, 9)
    about = ask(session, "get_event", event=made["event"])
    assert about["cancelled_occurrences"] == []
    weekday = DAYS[date.fromisoformat(start[:10]).weekday()]
    assert about["rule"]["weekdays"] == [weekday]
    assert [i["answer"] for i in about["invitees"]] == ["unanswered"]
    again = {"event": made["event"], "start": start, "ignore_conflicts": True}
    assert refused(session, "reschedule_event", **again)["reason"] == "nothing_to_change"


def test_a_series_on_several_weekdays_moves_only_onto_one_of_them(session: ServerSession) -> None:
    made = weekly(session, start="2025-03-24T12:00", weekdays=["wednesday", "monday"], count=5)
    about = ask(session, "get_event", event=made["event"])
    assert about["rule"]["weekdays"] == ["monday", "wednesday"]
    move = {"event": made["event"], "ignore_conflicts": True}
    wrong = refused(session, "reschedule_event", start="2025-03-25T12:00", **move)
    assert wrong["reason"] == "start_not_in_series"
    ask(session, "reschedule_event", start="2025-03-26T12:00", **move)


def test_an_hour_that_comes_twice_in_the_events_zone_is_refused(session: ServerSession) -> None:
    made = ask(
        session,
        "create_event",
        title="Night shift",
        start="2025-10-25T12:00",
        minutes=30,
        zone="Europe/Berlin",
        ignore_conflicts=True,
    )
    move = {"event": made["event"], "zone": "UTC", "ignore_conflicts": True}
    wrong = refused(session, "reschedule_event", start="2025-10-26T01:30", **move)
    assert wrong["reason"] == "no_such_time" and "twice" in wrong["message"]
    ask(session, "reschedule_event", start="2025-10-26T00:30", **move)
    assert ask(session, "get_event", event=made["event"])["start"] == "2025-10-26T02:30"


def test_events_can_be_planned_for_366_days_and_not_longer(session: ServerSession) -> None:
    arguments = {"title": "Far", "minutes": 30, "ignore_conflicts": True}
    last = session.clock.now + timedelta(days=366)
    near = last.isoformat(timespec="minutes")
    ask(session, "create_event", start=near, **arguments)
    far = (session.clock.now + timedelta(days=366, minutes=1)).isoformat(timespec="minutes")
    wrong = refused(session, "create_event", start=far, **arguments)
    assert wrong["reason"] == "too_far_ahead"
    assert wrong["last_date"] == last.date().isoformat()
    now = session.clock.now.isoformat(timespec="minutes")
    assert refused(session, "create_event", start=now, **arguments)["reason"] == "in_the_past"


def test_a_person_is_busy_until_the_minute_an_event_ends(session: ServerSession) -> None:
    day = next(
        d
        for d in (day_after(session, n) for n in range(1, 30))
        if not ask(session, "list_events", first_date=d)["count"]
        and DAYS[date.fromisoformat(d).weekday()] in session.server.me.hours.days
    )
    hours = session.server.me.hours
    plan = {"title": "Back to back", "minutes": 30}
    ask(session, "create_event", start=f"{day}T{hours.start}", **plan)
    later = datetime.fromisoformat(f"{day}T{hours.start}") + timedelta(minutes=29)
    wrong = refused(session, "create_event", start=later.isoformat()[:16], **plan)
    assert wrong["reason"] == "person_busy" and wrong["person"] == session.server.me.id
    later += timedelta(minutes=1)
    ask(session, "create_event", start=later.isoformat()[:16], **plan)
    late = datetime.fromisoformat(f"{day}T{hours.end}") - timedelta(minutes=29)
    wrong = refused(session, "create_event", start=late.isoformat()[:16], **plan)
    assert wrong["reason"] == "outside_working_hours"


def test_events_of_others_do_not_exist_for_tools(session: ServerSession) -> None:
    me = session.server.me.id
    hidden = next(e for e in session.server.events.values() if me not in e.people)
    assert refused(session, "get_event", event=hidden.id)["reason"] == "unknown_event"
    assert refused(session, "cancel_event", event=hidden.id)["reason"] == "unknown_event"
    assert refused(session, "find_event", title=hidden.title)["reason"] == "unknown_event"


def test_find_event_gives_the_next_occurrence_or_the_last(session: ServerSession) -> None:
    made = weekly(session, title="Every DAY", repeat="daily", count=3)
    found = ask(session, "find_event", title="every day")
    assert found["event"] == made["event"] and found["repeats"] is True
    assert found["next"]["occurrence"] == day_after(session, 7)
    over = next(e for e, _ in session.server.mine() if session.server.is_over(e))
    shown = ask(session, "find_event", title=over.title)
    assert shown["repeats"] is False and shown["next"]["occurrence"] == over.timing.start[:10]
    for day in (7, 8, 9):
        ask(session, "cancel_event", event=made["event"], occurrence=day_after(session, day))
    assert ask(session, "find_event", title="every day")["next"] is None


@pytest.mark.parametrize(("minutes_early", "begun"), [(0, True), (1, False)])
def test_what_begins_this_minute_has_begun(minutes_early: int, begun: bool) -> None:
    model = Model(open_session("calendar", 0))
    own = [e for e in model.own() if takings(e)[-1].start > model.now]
    single = next(e for e in own if not e["timing"]["rule"])
    repeated = next(e for e in own if e["timing"]["rule"])
    for event, occurrence in ((single, None), (repeated, takings(repeated)[-2].occurrence)):
        (taking,) = (t for t in takings(event) if occurrence in (None, t.occurrence))
        now = told(taking.start - timedelta(minutes=minutes_early), model.zone)
        arguments = {"event": event["id"], **({"occurrence": occurrence} if occurrence else {})}
        calendar = open_session("calendar", 0, now)
        if begun:
            assert refused(calendar, "cancel_event", **arguments)["reason"] == "event_over"
        else:
            ask(calendar, "cancel_event", **arguments)


def test_people_are_found_by_name_team_and_city(session: ServerSession) -> None:
    me = ask(session, "find_person", name="ME")
    assert me["person"] == session.server.me.id
    assert me == ask(session, "find_person", name=me["name"].upper())
    everybody = ask(session, "list_people", limit=50)
    assert everybody["count"] == len(everybody["people"]) == len(session.server.people) == 24
    names = [p["name"] for p in everybody["people"]]
    assert names == sorted(set(names))
    for key in ("team", "city"):
        some = ask(session, "list_people", **{key: me[key]})
        expected = [p for p in everybody["people"] if p[key] == me[key]]
        assert some == {"count": len(expected), "people": expected}
    first = ask(session, "list_people", limit=2)
    assert first == {"count": 24, "people": everybody["people"][:2]}


def test_rooms_are_listed_by_size_and_those_too_small_are_left_out(
    session: ServerSession,
) -> None:
    city = session.server.me.city
    every = ask(session, "list_rooms", city=city)["rooms"]
    assert [r["seats"] for r in every] == sorted(r["seats"] for r in every)
    assert {r["room"] for r in every} == {
        r.id for r in session.server.rooms.values() if r.city == city
    }
    assert ask(session, "list_rooms", city=city, seats=6)["rooms"] == every[1:]


def test_list_events_filters_by_text_and_answer(session: ServerSession) -> None:
    every = ask(session, "list_events", days=21, limit=50)
    assert every["count"] == len(every["events"])
    assert {e["answer"] for e in every["events"]} >= {"organiser", "unanswered", "accepted"}
    for answer in ("organiser", "unanswered", "accepted", "tentative", "declined"):
        some = ask(session, "list_events", days=21, limit=50, answer=answer)["events"]
        assert some == [e for e in every["events"] if e["answer"] == answer]
    some = ask(session, "list_events", days=21, limit=50, text="REVIEW")["events"]
    assert some == [e for e in every["events"] if "review" in e["title"].lower()] != []
    few = ask(session, "list_events", days=21, limit=3)
    assert few["count"] == every["count"] and few["events"] == every["events"][:3]
    assert ask(session, "list_events")["events"] == [
        e for e in every["events"] if e["start"][:10] == session.server.today
    ]


def test_worlds_differ_and_give_every_kind_of_work() -> None:
    for seed in range(8):
        calendar = open_session("calendar", seed)
        server = calendar.server
        assert isinstance(server, Calendar)
        assert list(server.invariants()) == []
        titles = [e.title for e in server.events.values()]
        assert len(titles) == len(set(titles)) >= 80
        assert ask(calendar, "check_conflicts", days=31)["count"] >= 2
        assert len({p.zone for p in server.people.values()}) >= 3


def test_an_invariant_sees_a_broken_world() -> None:
    """The laws are not vacuous."""
    server = open_session("calendar", 0).server
    server.events._lock.writable = True
    events = [e for e in server.events.values() if e.room is not None and e.timing.rule is None]
    one, other = events[:2]
    server.events[other.id] = replace(other, room=one.room, timing=one.timing)
    assert any("at one time" in law for law in server.invariants())
    server.events[other.id] = replace(other, invitees=other.invitees * 20)
    assert {law.split(" ", 1)[1][:10] for law in server.invariants()} == {
        "invites a ",
        "has more p",
    }


# -- the page --------------------------------------------------------------------------------------


def test_the_page_lists_every_tool_and_refusal_of_the_server() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (READ|WRITE)[^|]*\|", page, re.M)
    assert rows == [(name, tool.access.value) for name, tool in Calendar.tools.items()]
    reasons = re.findall(r"^\| `(\w+)` \| [^RW|]", page, re.M)
    assert sorted(set(reasons)) == sorted(templates_of("calendar").refusals)
    sources = (Path(__file__).parents[3] / "orch_env/servers/domains/calendar").glob("*.py")
    raised = {r for s in sources for r in re.findall(r'reason=f?"(\w+)', s.read_text("utf-8"))}
    assert {r for r in raised if r != "unknown_"} <= set(reasons)
