"""Spellings of dates and times: one day or instant is one value, a guess is none."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch_env.values import SchemaRules, difference, values_equal

DATE = {"type": "string", "format": "date"}
TIME = {"type": "string", "format": "time"}
DATE_TIME = {"type": "string", "format": "date-time"}

ONE_DAY = [
    "2024-10-13",
    "2024/10/13",
    "2024.10.13",
    "13.10.2024",
    "13/10/2024",
    "10/13/2024",
    "October 13, 2024",
    "october 13th 2024",
    "Oct 13 2024",
    "Oct. 13, 2024",
    "13 Oct 2024",
    "13-Oct-2024",
    "13th October, 2024",
    "  13  OCTOBER 2024 ",
]
ONE_TIME = [
    "14:00",
    "14:00:00",
    "14:00:00.000",
    "2 PM",
    "2pm",
    "2:00 pm",
    "02:00 p.m.",
    "2:00:00PM",
]
ONE_INSTANT = [
    "2024-10-13T14:00:00Z",
    "2024-10-13 14:00Z",
    "2024-10-13t14:00:00.000z",
    "2024-10-13T14:00:00+00:00",
    "2024-10-13T14:00:00-0000",
    "2024-10-13T16:00:00+02:00",
    "2024-10-12T23:00:00-15",
    "October 13, 2024 2 PM Z",
]
ONE_LOCAL_TIME = ["2024-10-13T14:00:00", "2024-10-13 14:00", "13 Oct 2024, 2 pm"]
NO_DAY = [
    ("2024-02-30", "2024/02/30"),
    ("2024-13-01", "2024/13/01"),
    ("13/13/2024", "13.13.2024"),
    ("Octember 13, 2024", "octember 13 2024"),
    ("0000-01-01", "0000/01/01"),
    ("24-10-13", "24/10/13"),
]
FREE_TEXT = SchemaRules.of(None, respelt=True)
MAYBE_ELSE = [
    ("2024.10.13", "2024-10-13"),  # a version
    ("2024.1.2", "2024.01.02"),
    ("5551-10-12", "5551/10/12"),  # an id
    ("0042-01-02", "0042-1-2"),
    ("03/04/2024", "2024-03-04"),  # two days
    ("10-12-2024", "2024-12-10"),
    ("12:30-14:00", "12:30:00-14:00"),  # from one time to another
    ("10:00-12", "10:00:00 -12:00"),
    ("2024-10-13 10:00-12:00", "2024-10-13T22:00Z"),
    ("13 Oct 2024, 2 pm -04", "2024-10-13T18:00Z"),
    ("2024-10-13 10:00 - 12:00", "2024-10-13 10:00 - 12:00:00"),
    ("20241013", "2024-10-13"),
    ("1400", "14:00"),
    ("2:5", "02:05"),
    ("3.10", "3:10"),
    ("on 2024-10-13", "on 13 Oct 2024"),
    ("2024-10-13, 2024-10-14", "13 Oct 2024, 14 Oct 2024"),
]
NO_TIME = ["24:00", "14:60", "13 PM", "0 AM", "14:00:60", "14", "14:0"]


@pytest.mark.parametrize(
    ("spellings", "schema"),
    [
        (ONE_DAY, DATE),
        (ONE_DAY, DATE_TIME),
        (ONE_TIME, TIME),
        (ONE_INSTANT, DATE_TIME),
        (ONE_LOCAL_TIME, DATE_TIME),
    ],
)
def test_all_spellings_of_one_moment_are_one_value(
    spellings: list[str], schema: dict[str, str]
) -> None:
    for spelling in spellings:
        assert values_equal(spelling, spellings[0], schema), spelling


def test_without_the_format_a_spelling_is_a_text() -> None:
    assert not values_equal("2024-10-13", "Oct 13 2024")
    assert not values_equal("2024-10-13", "Oct 13 2024", {"type": "string"})
    assert not values_equal("14:00", "2 PM", DATE)


@pytest.mark.parametrize(
    "spellings",
    [
        [day for day in ONE_DAY if day != "2024.10.13"],
        ONE_TIME,
        ONE_INSTANT,
        ONE_LOCAL_TIME,
        ["2024-10-13 10:00:00-05:00", "2024-10-13T15:00Z", "2024-10-13T10:00-05:00"],
        ["14:00Z", "2 pm Z"],
    ],
)
def test_free_text_may_spell_a_moment_where_that_is_asked_for(spellings: list[str]) -> None:
    for spelling in spellings:
        for schema in (None, {"type": "string"}, {"description": "When."}):
            rules = SchemaRules.of(schema, respelt=True)
            assert values_equal(spelling, spellings[0], rules)
            assert values_equal([{"x": spelling}], [{"x": spellings[0]}], rules)
    assert not any(values_equal(spellings[0], other) for other in spellings[1:])


def test_another_moment_is_another_value_in_free_text() -> None:
    moments = ["13 Oct 2024", "14 Oct 2024", "2 pm", "2 am", "13 Oct 2024 2 pm", "14:00Z"]
    moments += ["2024-10-13T14:00Z", "2024-10-13T00:00", "2023-10-13", "Oct 2024", "13", "2"]
    for n, one in enumerate(moments):
        assert not any(values_equal(one, other, FREE_TEXT) for other in moments[n + 1 :])


@pytest.mark.parametrize(("one", "other"), MAYBE_ELSE)
def test_free_text_that_may_be_something_else_is_no_date(one: str, other: str) -> None:
    assert not values_equal(one, other, FREE_TEXT)
    assert not values_equal(one, other, SchemaRules.of({"type": "string"}, respelt=True))
    assert values_equal(one, one, FREE_TEXT)


def test_a_difference_in_free_text_says_what_was_read() -> None:
    for gold, phrase in [
        ("15:00", "the time 15:00:00"),
        ("15:00Z", "the time 15:00:00Z"),
        ("13 Oct 2024", "the date 2024-10-13"),
        ("13 Oct 2024 3 pm", "the date-time 2024-10-13T15:00:00"),
        ("Oslo", "'Oslo'"),
    ]:
        assert difference("2 pm", gold, FREE_TEXT) == f"'2 pm' is not {phrase}"


@given(st.from_regex(r"[0-9]{1,4}[-:/. ][0-9]{1,2}([-:/. ][0-9ap]{1,4}m?)?", fullmatch=True))
def test_only_dates_and_times_have_other_spellings_in_free_text(text: str) -> None:
    for other in (text.upper(), f" {text} ", text.replace(":", ":0"), f"0{text}"):
        if values_equal(text, other, FREE_TEXT) and not values_equal(text, other):
            assert any(values_equal(text, other, form) for form in (DATE, TIME, DATE_TIME))


@pytest.mark.parametrize("day", ["2024-03-04", "2024-04-03", "3/4/2024", "4 March 2024"])
def test_a_spelling_with_two_readings_equals_only_itself(day: str) -> None:
    assert values_equal("03/04/2024", "03/04/2024", DATE)
    assert not values_equal("03/04/2024", day, DATE)


def test_two_readings_of_one_day_are_no_ambiguity() -> None:
    assert values_equal("04/04/2024", "2024-04-04", DATE)


@pytest.mark.parametrize(("text", "other"), NO_DAY)
def test_what_names_no_day_has_no_other_spelling(text: str, other: str) -> None:
    assert values_equal(text, text, DATE)
    assert not values_equal(text, other, DATE)


@pytest.mark.parametrize("text", NO_TIME)
def test_no_time_equals_no_time_of_day(text: str) -> None:
    for hour in range(24):
        assert not values_equal(text, f"{hour:02}:00", TIME)


def test_12_am_is_midnight_and_12_pm_is_noon() -> None:
    assert values_equal("12 AM", "00:00", TIME)
    assert values_equal("12:30 pm", "12:30", TIME)


def test_a_time_without_an_offset_is_no_instant() -> None:
    assert not values_equal("2024-10-13T14:00:00", "2024-10-13T14:00:00Z", DATE_TIME)
    assert not values_equal("14:00", "14:00Z", TIME)
    assert not values_equal("14:00+02:00", "12:00Z", TIME)
    assert values_equal("14:00+02:00", "2 pm +0200", TIME)


def test_midnight_is_not_the_whole_day() -> None:
    assert not values_equal("2024-10-13", "2024-10-13T00:00:00", DATE_TIME)


def test_fractions_of_a_second_count() -> None:
    assert not values_equal("14:00:00.1", "14:00", TIME)
    assert values_equal("14:00:00.10", "14:00:00.1", TIME)
    assert not values_equal("14:00:00.1234567891", "14:00:00.123456789", TIME)


def test_instants_outside_the_calendar_are_texts() -> None:
    assert not values_equal("0001-01-01T00:00+01:00", "0001-01-01T00:00:00+01:00", DATE_TIME)


@given(st.dates())
def test_every_day_has_its_spellings(day: date) -> None:
    month = "January February March April May June July August September October November December"
    name = month.split()[day.month - 1]
    iso = day.isoformat()
    year = f"{day.year:04}"
    assert values_equal(iso, f"{name} {day.day}, {year}", DATE)
    assert values_equal(iso, f"{day.day} {name[:3]} {year}", DATE)
    other = (day - timedelta(days=1)) if day > date.min else day + timedelta(days=1)
    assert not values_equal(f"{name} {day.day}, {year}", other.isoformat(), DATE)


@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_instants_are_equal_in_every_zone(moment: datetime, offset: int) -> None:
    instant = moment.replace(tzinfo=UTC)
    there = instant.astimezone(timezone(timedelta(minutes=offset)))
    assert values_equal(instant.isoformat(), there.isoformat(" "), DATE_TIME)
    later = (there + timedelta(seconds=1)).isoformat()
    assert not values_equal(instant.isoformat(), later, DATE_TIME)
