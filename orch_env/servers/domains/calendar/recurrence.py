"""When an event takes place: once or by a rule, with occurrences that were cancelled or moved.

A series keeps its time of day in its own zone, whatever summer time does to UTC. An occurrence is
known by the date on which the rule puts it, also after it was moved.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import islice, takewhile
from typing import Literal, NamedTuple

from orch_env.servers.domains.calendar.zones import to_utc

Repeat = Literal["daily", "weekly", "monthly_by_date", "monthly_by_weekday"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: tuple[Weekday, ...] = (
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
)
LONGEST_MINUTES = 24 * 60
_A_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Rule:
    """How an event repeats; exactly one of ``count`` and ``until`` is set.

    Attributes:
        repeat: by days, weeks, or months; a month is met on the start's day of the month or on its
            weekday (the second Tuesday), and a month that lacks that day is left out.
        every: 2 for every second day, week or month.
        weekdays: of a weekly rule, in the order of the week, which begins on Monday.
        count: number of occurrences, cancelled and moved ones included.
        until: the last possible date, ISO 8601.
    """

    repeat: str
    every: int = 1
    weekdays: tuple[str, ...] = ()
    count: int | None = None
    until: str | None = None


@dataclass(frozen=True, slots=True)
class Deviation:
    """One occurrence that is not where its rule puts it.

    Attributes:
        occurrence: the date that the rule gives it, ISO 8601.
        start: local start in the event's zone where it was moved to, None if it was cancelled.
        minutes: how long it lasts.
    """

    occurrence: str
    start: str | None
    minutes: int


@dataclass(frozen=True, slots=True)
class Timing:
    """When an event takes place.

    Attributes:
        start: local start of the first occurrence, ``2025-03-03T09:30``.
        minutes: how long each lasts.
        zone: the zone of ``start``, of the rule's dates and of moved starts.
        rule: None for an event that takes place once.
        deviations: cancelled and moved occurrences, by date.
    """

    start: str
    minutes: int
    zone: str
    rule: Rule | None = None
    deviations: tuple[Deviation, ...] = ()


class Span(NamedTuple):
    """One occurrence: start and end in UTC, and the date that names it."""

    start: datetime
    end: datetime
    occurrence: str


FARTHEST = timedelta(days=800)
"""After its start a series is over, at the latest; the calendar is open for a year ahead."""


def rule_dates(rule: Rule | None, first: date, last: date) -> Iterator[date]:
    """The dates of a rule from ``first``, its start, to ``last``, deviations aside."""
    if rule is None:
        return iter((first,))
    if rule.until is not None:
        last = min(last, date.fromisoformat(rule.until))
    dates = takewhile(lambda day: day <= last, _endless_dates(rule, first))
    return islice(dates, rule.count)


@lru_cache(maxsize=8192)
def spans(timing: Timing) -> tuple[Span, ...]:
    """All occurrences that take place, by start."""
    start = datetime.fromisoformat(timing.start)
    deviations = {d.occurrence: d for d in timing.deviations}
    found = []
    for day in rule_dates(timing.rule, start.date(), start.date() + FARTHEST):
        local: datetime | None = datetime.combine(day, start.time())
        minutes = timing.minutes
        deviation = deviations.get(day.isoformat())
        if deviation is not None:
            minutes = deviation.minutes
            local = datetime.fromisoformat(deviation.start) if deviation.start else None
        if local is not None:
            begins = to_utc(local, timing.zone)
            found.append(Span(begins, begins + timedelta(minutes=minutes), day.isoformat()))
    return tuple(sorted(found))


def spans_between(timing: Timing, start: datetime, end: datetime) -> Iterator[Span]:
    """The occurrences that share some time with ``start`` to ``end`` (UTC), by start."""
    every = spans(timing)
    # No occurrence lasts longer than a day, so none before this one can reach into the window.
    for span in every[bisect_left(every, (start - _A_DAY,)) :]:
        if span.start >= end:
            return
        if span.end > start:
            yield span


def first_overlap(ours: Sequence[Span], other: Timing) -> tuple[Span, Span] | None:
    """The first of our occurrences that shares some time with one of another event, with that."""
    for span in ours:
        for met in spans_between(other, span.start, span.end):
            return span, met
    return None


def _endless_dates(rule: Rule, first: date) -> Iterator[date]:
    match rule.repeat:
        case "daily":
            return _daily(first, rule.every)
        case "weekly":
            return _weekly(first, rule.every, rule.weekdays)
        case "monthly_by_date":
            return _monthly_by_date(first, rule.every)
        case "monthly_by_weekday":
            return _monthly_by_weekday(first, rule.every)
    raise ValueError(f"no rule repeats {rule.repeat!r}")


def _daily(first: date, every: int) -> Iterator[date]:
    day = first
    while True:
        yield day
        day += timedelta(days=every)


def _weekly(first: date, every: int, weekdays: Sequence[str]) -> Iterator[date]:
    monday = first - timedelta(days=first.weekday())
    offsets = [timedelta(days=n) for n, name in enumerate(WEEKDAYS) if name in weekdays]
    while True:
        yield from (monday + offset for offset in offsets if monday + offset >= first)
        monday += timedelta(weeks=every)


def _months(first: date, every: int) -> Iterator[date]:
    """The first days of the months."""
    months = 12 * first.year + first.month - 1
    while True:
        yield date(months // 12, months % 12 + 1, 1)
        months += every


def _monthly_by_date(first: date, every: int) -> Iterator[date]:
    for month in _months(first, every):
        day = month + timedelta(days=first.day - 1)
        if day.month == month.month:
            yield day


def _monthly_by_weekday(first: date, every: int) -> Iterator[date]:
    weeks = (first.day - 1) // 7
    for month in _months(first, every):
        day = month + timedelta(days=(first.weekday() - month.weekday()) % 7 + 7 * weeks)
        if day.month == month.month:
            yield day
