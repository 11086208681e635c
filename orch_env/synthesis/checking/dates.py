"""The dates that a text names, read without knowing who wrote it.

A date without its year takes it from the task's today (the next such date), or, where there is
none, from the years that the text names. "Five days later" counts from today and from each date
that the text names: the reader gives every date that the text can mean, not the most likely one.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable, Iterator
from datetime import date, timedelta

from orch_env.synthesis.checking.reading import COUNT, ORDINALS, whole_number

_MONTHS = {
    name: number
    for number, full in enumerate(
        [
            "january",
            "february",
            "march",
            "april",
            "may",
            "june",
            "july",
            "august",
            "september",
            "october",
            "november",
            "december",
        ],
        start=1,
    )
    for name in (full, full[:3])
} | {"sept": 9}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_HOLIDAYS = {
    r"christmas eve": (12, 24),
    r"christmas(?! eve)": (12, 25),
    r"new year's eve": (12, 31),
    r"new year's(?: day)?(?! eve)": (1, 1),
    r"valentine's day": (2, 14),
    r"halloween": (10, 31),
}
_MONTH = rf"({'|'.join(sorted(_MONTHS, key=len, reverse=True))})\b\.?"
_WORDS = "|".join(sorted(ORDINALS, key=len, reverse=True))
_DAY = rf"(\d{{1,2}}(?:st|nd|rd|th)?|twenty[- ](?:{_WORDS})|thirty[- ]first|thirtieth|{_WORDS})\b"
_YEAR = r"(?:,?\s+(?:of\s+|in\s+)?(\d{4})\b)?"
_TO = r"\s*(?:-|\u2013|\u2014|to|until|till|through|and|or|,)\s*(?:the\s+)?"
_NO_CLOCK = r"(?!\s*(?:[:.]\d|[ap]\.?m\b|o'?clock|in the (?:morn|after|even)))"
_MONTH_FIRST = re.compile(
    rf"\b{_MONTH}\s+(?:the\s+)?{_DAY}{_NO_CLOCK}(?:{_TO}{_DAY}{_NO_CLOCK}(?!\s+{_MONTH}))?{_YEAR}"
)
_DAY_FIRST = re.compile(rf"\b(?:{_DAY}{_TO})?{_DAY}[\s-]+(?:of\s+)?{_MONTH}[,-]?{_YEAR}")
_ISO = re.compile(r"\b(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})\b")
_SLASHED = re.compile(r"(?<![\d/])(\d{1,2})([/.])(\d{1,2})(?:\2(\d{4}|\d{2}))?(?![\d/%]|\.\d)")
_BARE_DAY = re.compile(
    r"\bthe\s+(\d{1,2})(?:st|nd|rd|th)\b"
    r"(?=\s*(?:$|[.,;:?!)]|\n|(?:at|and|to|for|in|or|by|until|of that)\b))"
)
_WHOLE_MONTH = re.compile(
    rf"\b(?:in|throughout|all of|the month of|during)\s+{_MONTH}(?!\s+\d{{1,2}}\b){_YEAR}"
)
_STEP = re.compile(
    rf"\b(?:in|after)\s+{COUNT}\s+(day|week|night)s?\b(?:'\s*time)?"
    rf"|\b{COUNT}\s+(day|week|night)s?\s+(?:from now|later|after|from then|before|earlier|hence)"
)
_STAY = re.compile(
    rf"\b{COUNT}[\s-]+(?:[a-z]+\s+)?(day|night|week)s?(?!\s+(?:later|from now|ago|before))\b"
)
_NEXT_DAY = re.compile(r"\b(?:next|following) (?:day|morning)\b|\bday after\b(?! tomorrow)")
_DAY_BEFORE = re.compile(r"\b(?:previous day|day before|day earlier)\b")
_ONE_DATE = re.sub(
    r"\((?!\?)",
    "(?:",
    rf"(?:{_MONTH}\s+(?:the\s+)?{_DAY}{_YEAR}|{_DAY}\s+(?:of\s+)?{_MONTH}{_YEAR}|\d{{4}}-\d\d-\d\d)",
)
"""One date, without groups."""
_DATED = re.compile(rf"\b({'|'.join(_WEEKDAYS)}),?\s+(?:the\s+)?({_ONE_DATE})")
_DAY_NAME = rf"(?:(?:{'|'.join(_WEEKDAYS)}),?\s+)?(?:the\s+)?"
_NOW = re.compile(
    rf"\btoday is\s+{_DAY_NAME}({_ONE_DATE})"
    rf"|\bit(?:'s| is)\s+{_DAY_NAME}({_ONE_DATE})(?=\s+today|[.;]|$)"
)
_FULL_YEAR = re.compile(r"\b((?:19|20)\d{2})\b")
_FURTHEST = 92
"""Days that a stay may last at most."""


def dates_said(text: str, today: date | None) -> set[date]:
    """The dates that a text can mean.

    Args:
        text: what was said.
        today: the task's date; without it, years come from the text and nothing else is relative.
    """
    low = text.casefold().replace("\u2019", "'")
    years = sorted({int(year) for year in _FULL_YEAR.findall(low)})
    named = set(_named(low, today, years))
    found = named | set(_relative(low, today) if today is not None else ())
    months = {(day.year, day.month) for day in found} or {(d.year, d.month) for d in (today,) if d}
    for bare in _BARE_DAY.findall(low):
        for year, month in sorted(months):
            found.update(_made(year, month, int(bare)))
            found.update(_made(year + month // 12, month % 12 + 1, int(bare)))
    return found | set(_steps(low, found | ({today} if today is not None else set()), today))


def contradictions(text: str, today: date | None) -> Iterator[str]:
    """What is wrong with the dates by themselves: a weekday that is not theirs, another today."""
    low = text.casefold().replace("\u2019", "'")
    years = sorted({int(year) for year in _FULL_YEAR.findall(low)})
    for name, rest in _DATED.findall(low):
        days = set(_named(rest, today, years))
        if len(days) == 1 and (day := days.pop()).weekday() != _WEEKDAYS.index(name):
            yield f"{day} is no {name.title()}"
    for one, other in _NOW.findall(low) if today is not None else ():
        days = set(_named(one or other, today, years))
        if days and today not in days:
            yield f"it says that today is {min(days)}, but the task's today is {today}"


def without_dates(low: str) -> str:
    """The text (in small letters) with its dates blanked, so that their digits are no numbers."""
    for pattern in (_ISO, _MONTH_FIRST, _DAY_FIRST, _SLASHED, _BARE_DAY, _STEP):
        low = pattern.sub(" ; ", low)
    return low


def _named(low: str, today: date | None, years: list[int]) -> Iterator[date]:
    """The dates that are named by month and day, and by a holiday's name."""
    for year, month, day in _ISO.findall(low):
        yield from _made(int(year), int(month), int(day))
    for month, first, second, _, year in _MONTH_FIRST.findall(low):
        for day in filter(None, (first, second)):
            yield from _with_year(year, _MONTHS[month], _day(day), today, years)
    for first, second, month, year in _DAY_FIRST.findall(low):
        for day in filter(None, (first, second)):
            yield from _with_year(year, _MONTHS[month], _day(day), today, years)
    for one, mark, other, year in _SLASHED.findall(low):
        if mark == "." and not year:
            continue
        left, right = int(one), int(other)
        month, date_ = (right, left) if mark == "." or left > 12 else (left, right)
        full = f"20{year}" if len(year) == 2 else year
        yield from _with_year(full, month, date_, today, years)
    for pattern, (month, date_) in _HOLIDAYS.items():
        if re.search(rf"\b{pattern}", low):
            yield from _with_year("", month, date_, today, years)
    if "thanksgiving" in low:
        for year in years or ([today.year] if today is not None else []):
            first = date(year, 11, 1)
            yield first + timedelta(days=(3 - first.weekday()) % 7 + 21)
    for month, year in _WHOLE_MONTH.findall(low):
        number = _MONTHS[month]
        for at in [int(year)] if year else years[:1]:
            last = monthrange(at, number)[1]
            yield from (date(at, number, 1), date(at, number, last))


def _day(text: str) -> int:
    digits = re.match(r"\d+", text)
    if digits is not None:
        return int(digits[0])
    if text.startswith("twenty") and text not in ORDINALS:
        return 20 + ORDINALS[re.split(r"[- ]", text)[1]]
    return {"thirtieth": 30}.get(text) or ORDINALS.get(text, 31)


def _made(year: int, month: int, day: int) -> Iterator[date]:
    try:
        yield date(year, month, day)
    except ValueError:
        return


def _with_year(
    year: str, month: int, day: int, today: date | None, years: list[int]
) -> Iterator[date]:
    if year:
        yield from _made(int(year), month, day)
    elif today is not None:
        for candidate in range(today.year, today.year + 9):
            for made in _made(candidate, month, day):
                if made >= today:
                    yield made
                    return
    else:
        for candidate in years:
            yield from _made(candidate, month, day)
            if month <= 2:
                yield from _made(candidate + 1, month, day)


def _relative(low: str, today: date) -> Iterator[date]:
    if re.search(r"\b(?:today|tonight|this (?:morning|afternoon|evening)|right now)\b", low):
        yield today
    if re.search(r"\btonight\b", low):
        yield today + timedelta(days=1)
    if re.search(r"(?<!day after )\btomorrow\b", low):
        yield today + timedelta(days=1)
    if "day after tomorrow" in low:
        yield today + timedelta(days=2)
    for number, name in enumerate(_WEEKDAYS):
        if name not in low:
            continue
        ahead = (number - today.weekday() - 1) % 7 + 1
        dated = rf"(?:,?\s+(?:the\s+)?(?:{_MONTH}|\d|(?:{_WORDS})\b)|,?\s*\()"
        for found in re.finditer(rf"\b(?:(\w+)\s+)?{name}\b(?!{dated})", low):
            yield today + timedelta(days=ahead)
            if found[1] == "next":
                yield today + timedelta(days=ahead + 7)


def _steps(low: str, base: set[date], today: date | None) -> Iterator[date]:
    """Dates at a distance from those of ``base``: "two days later", "for three nights"."""
    steps: set[int] = set()
    from_today: set[int] = set()
    for one, unit, other, unit_of_other in _STEP.findall(low):
        count = whole_number(one or other)
        if count is not None and count <= 400:
            days = count * (7 if "week" in (unit, unit_of_other) else 1)
            (from_today if one else steps).add(days)
    for word, unit in _STAY.findall(_STEP.sub(" ; ", low)):
        count = whole_number(word)
        if count is not None and 0 < count * (7 if unit == "week" else 1) <= _FURTHEST:
            steps.add(count * (7 if unit == "week" else 1))
    if _NEXT_DAY.search(low):
        steps.add(1)
    for word in re.findall(r"\b(second|third|fourth|fifth) day\b", low):
        steps.add(ORDINALS[word] - 1)
    if _DAY_BEFORE.search(low):
        steps.add(-1)
    if today is not None:
        started = {today + timedelta(days=days) for days in from_today}
    else:
        started = set(_moved(base, from_today))
    once = started | set(_moved(base | started, steps))
    yield from once
    yield from _moved(once, steps)


def _moved(base: Iterable[date], steps: Iterable[int]) -> Iterator[date]:
    for day in base:
        for step in steps:
            yield day + timedelta(days=step)
