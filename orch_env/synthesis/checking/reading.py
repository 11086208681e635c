"""What a person's text says, read without knowing who wrote it: dates, times and numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            ("january", "jan"),
            ("february", "feb"),
            ("march", "mar"),
            ("april", "apr"),
            ("may",),
            ("june", "jun"),
            ("july", "jul"),
            ("august", "aug"),
            ("september", "sept", "sep"),
            ("october", "oct"),
            ("november", "nov"),
            ("december", "dec"),
        ),
        start=1,
    )
    for name in names
}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
_TENS = {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80}
_MONTH = r"(" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\b\.?"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?\b"
_YEAR = r"(?:,?\s+(\d{4})\b)?"
_TO = r"\s*(?:-|\u2013|to|until|till|through|and)\s*"
_MONTH_FIRST = re.compile(
    rf"\b{_MONTH}\s+(?:the\s+)?{_DAY}(?:{_TO}(?:the\s+)?{_DAY}(?!\s*[:.]\d))?{_YEAR}"
)
_DAY_FIRST = re.compile(rf"\b(?:{_DAY}{_TO})?(?:the\s+)?{_DAY}\s+(?:of\s+)?{_MONTH}{_YEAR}")
_ISO = re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b")
_SLASHED = re.compile(r"\b(\d{1,2})/(\d{1,2})(?:/(\d{4}))?\b")
_IN_DAYS = re.compile(
    r"\b(?:in|after)\s+(\w+)\s+(day|week)s?\b|\b(\w+)\s+(day|week)s?\s+(?:from now|later)"
)
_NIGHTS = re.compile(r"\bfor\s+(?:the\s+)?(\w+)\s+(night|day|week)s?\b|\b(\w+)\s+(night)s\b")
_CLOCK = re.compile(
    r"\b(\d{1,2})(?::(\d{2}))?\s*([ap])\.?\s?m\b|\b(\d{1,2}):(\d{2})\b|\b(\d{1,2})\s+o'?clock"
)
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w])")
_WORD = re.compile(r"[a-z]+")


def whole_number(word: str) -> int | None:
    """The number that a word or some digits mean."""
    if word.isdigit():
        return int(word)
    if word in ("a", "an"):
        return 1
    if word in _UNITS:
        return _UNITS.index(word)
    return _TENS.get(word)


def dates_said(text: str, today: date | None) -> set[date]:
    """The dates that a text names; those without a year are the next ones after ``today``.

    Args:
        text: what was said.
        today: the task's date; without it only dates with a year are understood.
    """
    low = text.casefold().replace("\u2019", "'")
    found: set[date] = set()

    def add(year: str | None, month: int, day: int) -> None:
        if year is not None:
            found.update(_made(int(year), month, day))
        elif today is not None:
            for candidate in (today.year, today.year + 1):
                for made in _made(candidate, month, day):
                    if made >= today:
                        found.add(made)
                        return

    for year, month, day in _ISO.findall(low):
        add(year, int(month), int(day))
    for month, first, second, year in _MONTH_FIRST.findall(low):
        for day in (first, second):
            if day:
                add(year or None, _MONTHS[month], int(day))
    for first, second, month, year in _DAY_FIRST.findall(low):
        for day in (first, second):
            if day:
                add(year or None, _MONTHS[month], int(day))
    for month, day, year in _SLASHED.findall(low):
        add(year or None, int(month), int(day))
    if today is not None:
        found.update(_relative(low, today))
        for stay in list(found):
            found.update(stay + timedelta(days=days) for days in _lengths(low))
    return found


def _made(year: int, month: int, day: int) -> Iterator[date]:
    try:
        yield date(year, month, day)
    except ValueError:
        return


def _relative(low: str, today: date) -> Iterator[date]:
    if re.search(r"\b(today|tonight|this evening)\b", low):
        yield today
    if re.search(r"\btomorrow\b", low):
        yield today + timedelta(days=1)
    if "day after tomorrow" in low:
        yield today + timedelta(days=2)
    for one, unit, other, unit_of_other in _IN_DAYS.findall(low):
        count = whole_number(one or other)
        if count is not None:
            yield today + timedelta(days=count * (7 if "week" in (unit, unit_of_other) else 1))
    for number, name in enumerate(_WEEKDAYS):
        ahead = (number - today.weekday() - 1) % 7 + 1
        if re.search(rf"\bnext {name}\b", low):
            yield today + timedelta(days=ahead)
            yield today + timedelta(days=ahead + 7)
        elif re.search(rf"\b(?:this|on|coming) {name}\b(?!,)", low):
            yield today + timedelta(days=ahead)


def _lengths(low: str) -> Iterator[int]:
    for one, unit, other, _ in _NIGHTS.findall(low):
        count = whole_number(one or other)
        if count is not None and count <= 60:
            yield count * (7 if unit == "week" else 1)


def times_said(text: str) -> set[str]:
    """The times of day that a text names, as ``HH:MM``."""
    low = text.casefold()
    found: set[str] = set()
    for hour, minute, half, plain, minutes, clock in _CLOCK.findall(low):
        if half:
            twelve = int(hour) % 12 + (12 if half == "p" else 0)
            found.add(f"{twelve:02d}:{int(minute or 0):02d}")
        elif plain:
            found.add(f"{int(plain):02d}:{minutes}")
        elif clock:
            found.update((f"{int(clock):02d}:00", f"{(int(clock) + 12) % 24:02d}:00"))
    if re.search(r"\bnoon\b|\bmidday\b", low):
        found.add("12:00")
    if "midnight" in low:
        found.add("00:00")
    for number, word in enumerate(_UNITS):
        if re.search(rf"\bhalf past {word}\b", low):
            found.update((f"{number:02d}:30", f"{(number + 12) % 24:02d}:30"))
    return found


def numbers_said(text: str) -> set[float]:
    """The numbers that a text names, in digits or in words."""
    low = text.casefold()
    found = {float(number.replace(",", "")) for number in _NUMBER.findall(low)}
    words = _WORD.findall(low)
    for place, word in enumerate(words):
        value = whole_number(word) if word not in ("a", "an") else None
        if value is None:
            continue
        found.add(float(value))
        if word in _TENS or word == "twenty":
            after = whole_number(words[place + 1]) if place + 1 < len(words) else None
            if after is not None and 0 < after < 10:
                found.add(float(value + after))
    if re.search(r"\b(a couple|both|a pair)\b", low):
        found.add(2.0)
    if re.search(r"\bmyself\b|\balone\b|\bsingle\b|\ban adult\b|\bone adult\b", low):
        found.add(1.0)
    return found
