"""What the checker reads in a text: dates, times and numbers, in spellings that people use."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from orch_env.synthesis.checking.dates import contradictions, dates_said, without_dates
from orch_env.synthesis.checking.reading import numbers_said, times_said, without_times

THURSDAY = date(2024, 11, 28)


def days(*texts: str) -> set[date]:
    return {date.fromisoformat(text) for text in texts}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tomorrow", days("2024-11-29")),
        ("the day after tomorrow", days("2024-11-30")),
        ("in five days", days("2024-12-03")),
        ("in two weeks", days("2024-12-12")),
        ("Dec 5", days("2024-12-05")),
        ("5th of December", days("2024-12-05")),
        ("the fifth of December", days("2024-12-05")),
        ("December twenty-first", days("2024-12-21")),
        ("12/05", days("2024-12-05")),
        ("25/12", days("2024-12-25")),
        ("5.12.2024", days("2024-12-05")),
        ("January 3", days("2025-01-03")),
        ("from 5 to 12 December", days("2024-12-05", "2024-12-12")),
        ("Dec 5-12", days("2024-12-05", "2024-12-12")),
        ("between 30 November and 3 December", days("2024-11-30", "2024-12-03")),
        ("on Friday", days("2024-11-29")),
        ("next Friday", days("2024-11-29", "2024-12-06")),
        ("Friday, December 6", days("2024-12-06")),
        ("from tomorrow until Sunday", days("2024-11-29", "2024-12-01")),
        ("Christmas", days("2024-12-25")),
        ("December 5 at 8 am", days("2024-12-05")),
        ("for 2 adults", set()),
        ("May I ask for the second hotel?", set()),
    ],
)
def test_a_date_is_read_as_a_person_means_it(text: str, expected: set[date]) -> None:
    assert dates_said(text, THURSDAY) == expected


@pytest.mark.parametrize(
    "text", ["from Dec 5 for three nights", "Dec 5, three days later", "a 3-night stay from Dec 5"]
)
def test_a_length_counts_from_a_date(text: str) -> None:
    assert date(2024, 12, 8) in dates_said(text, THURSDAY)


def test_a_counted_day_is_counted_from_the_first() -> None:
    read = dates_said("We arrive on December 5, 2024; a tour on the third day.", None)
    assert date(2024, 12, 7) in read and date(2024, 12, 8) not in read


def test_a_day_without_its_month_has_that_of_the_date_before() -> None:
    text = "on December 7th, 2024, and return it on the 9th."
    assert dates_said(text, None) == days("2024-12-07", "2024-12-09", "2025-01-09")


def test_without_a_today_the_year_comes_from_the_text() -> None:
    text = "from November 15th to November 20th, 2024"
    assert dates_said(text, None) == days("2024-11-15", "2024-11-20")
    assert dates_said("on November 15th", None) == set()


def test_every_day_is_read_in_every_spelling_as_dateutil_reads_it() -> None:
    parse = pytest.importorskip("dateutil.parser").parse
    spellings = ("%B %d, %Y", "%d %B %Y", "%b %d, %Y", "%Y-%m-%d", "%m/%d/%Y", "%A, %B %d, %Y")
    for ahead in range(0, 800, 3):
        day = THURSDAY + timedelta(days=ahead)
        for spelling in spellings:
            text = day.strftime(spelling)
            assert dates_said(text, THURSDAY) == {parse(text).date()} == {day}, text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8 am", {"08:00"}),
        ("8:30 p.m.", {"20:30"}),
        ("8.30 am", {"08:30"}),
        ("08:00", {"08:00"}),
        ("17h30", {"17:30"}),
        ("12 pm", {"12:00"}),
        ("12 am", {"00:00"}),
        ("noon", {"12:00"}),
        ("midnight", {"00:00"}),
        ("half past two", {"02:30", "14:30"}),
        ("quarter to five", {"04:45", "16:45"}),
        ("8 o'clock in the morning", {"08:00"}),
        ("three in the afternoon", {"15:00"}),
        ("5 in the evening", {"17:00"}),
        ("8 adults", set()),
    ],
)
def test_a_time_is_read_as_a_person_means_it(text: str, expected: set[str]) -> None:
    assert times_said(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two adults and 3 children", {2.0, 3.0}),
        ("at most 1,200.50 euros", {1200.5}),
        ("forty-two guests", {40.0, 2.0, 42.0}),
        ("within 20km", {20.0}),
        ("latitude 39.9042, longitude -73.7781", {39.9042, -73.7781}),
        ("on Dec 8 at 8 am", set()),
        ("in 5 days", set()),
    ],
)
def test_digits_of_dates_and_times_are_no_numbers(text: str, expected: set[float]) -> None:
    assert numbers_said(without_dates(without_times(text))) == expected


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Thursday, November 28, 2024", 0),
        ("Friday, November 28, 2024", 1),
        ("Today is 28 November 2024.", 0),
        ("Today is 29 November 2024.", 1),
        ("It's Thursday, November 28, 2024 today.", 0),
        ("It's on November 29.", 0),
    ],
)
def test_a_false_weekday_and_a_false_today_are_noticed(text: str, wrong: int) -> None:
    assert len(list(contradictions(text, THURSDAY))) == wrong
