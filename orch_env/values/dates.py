"""Spellings of dates, times and date-times, each read into one ISO 8601 spelling.

A spelling is read only if it has one meaning. Year first is always year-month-day. With the year
last, `13/10/2024` and `10/13/2024` name the same day, because there is no 13th month; `03/04/2024`
may be two days and is not read. Month names are English: a locale must not change a reward.

A time without an offset never equals one with an offset, because its instant is unknown. Instants
are compared in UTC.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

FORMATS = frozenset({"date", "time", "date-time"})
"""The values of JSON Schema's ``format`` that have spellings here."""

ANY_TEXT = "any text"
"""The kind of a text that may be a date, a time, a date-time or something else. It is read only
where nothing else is usual in that spelling. ``2024.10.1`` may be a version, so year first needs
dashes or slashes; ``13.10.2024`` is a date. ``10:00-12:00``, also after a date and a blank, may be
two times, so an offset with a minus needs seconds or a ``T`` before it, and a time alone has no
offset but ``Z``. Years are 1000 to 2999: other numbers may be ids."""

_NAMES = "january february march april may june july august september october november december"
_MONTHS = {name: number for number, name in enumerate(_NAMES.split(), 1)} | {"sept": 9}
_MONTHS |= {name[:3]: number for name, number in _MONTHS.items()}

_DIGITS = frozenset("0123456789")
_YEAR_FIRST = re.compile(r"([0-9]{4})([-/.])([0-9]{1,2})\2([0-9]{1,2})")
_VERSION = re.compile(r"[0-9]{4}\.")
_TWO_TIMES = re.compile(r".* [0-9]{1,2}(?::[0-9]{2})?(?: ?[ap]\.?m\.?)? ?-[0-9:]+")
_YEAR_LAST = re.compile(r"([0-9]{1,2})([-/.])([0-9]{1,2})\2([0-9]{4})")
_DAY_NAME = re.compile(r"([0-9]{1,2})(?:st|nd|rd|th)?[ -]([a-z]{3,9})\.?,?[ -]([0-9]{4})")
_NAME_DAY = re.compile(r"([a-z]{3,9})\.? ([0-9]{1,2})(?:st|nd|rd|th)?,? ([0-9]{4})")
_CLOCK = r"([0-9]{1,2})(?::([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?)?(?: ?([ap])\.?m\.?)?"
_OFFSET = r"(?: ?(z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?))?"
_TIME = re.compile(_CLOCK + _OFFSET)
_DATE_TIME = re.compile(r"(.{6,20}?)(?:t|,? )" + f"({_CLOCK}){_OFFSET}")


def read(text: str, kind: str) -> str | None:
    """Read a spelling of a date, time or date-time.

    Args:
        text: in lower case, with single blanks inside and none around; at most a few hundred
            characters.
        kind: one of ``FORMATS``, or ``ANY_TEXT``. A ``date-time`` may also be only a date.

    Returns:
        The ISO 8601 spelling (``2024-10-13``, ``14:00:00``, ``2024-10-13T14:00:00Z``), ``None`` if
        the text is no such spelling or has two meanings.
    """
    if kind == "date":
        return _read_date(text)
    if kind == "time":
        return _read_time(text)
    if kind == ANY_TEXT:
        return _read_any_text(text)
    return _read_date(text) or _read_date_time(text)


def name_of(spelling: str) -> str:
    """``date``, ``time`` or ``date-time``: what an ISO 8601 spelling made here is."""
    if "T" in spelling:
        return "date-time"
    return "date" if spelling[4] == "-" else "time"


def is_ambiguous(text: str) -> bool:
    """Whether the text (as for :func:`read`) names two days, such as ``03/04/2024``."""
    numbers = _YEAR_LAST.fullmatch(text)
    return numbers is not None and len(_readings(numbers)) > 1


def _read_any_text(text: str) -> str | None:
    if (text[:1] not in _DIGITS and text[:3] not in _MONTHS) or _VERSION.match(text):
        return None
    time = _TIME.fullmatch(text)
    if time is not None:
        return _read_time(text) if time[6] in (None, "z") else None
    moment = _read_date(text) or (None if _TWO_TIMES.fullmatch(text) else _read_date_time(text))
    return moment if moment is not None and moment[0] in "12" else None


def _read_date(text: str) -> str | None:
    found = _YEAR_FIRST.fullmatch(text)
    if found:
        return _iso_date(found[1], int(found[3]), found[4])
    found = _YEAR_LAST.fullmatch(text)
    if found:
        readings = _readings(found)
        return readings.pop() if len(readings) == 1 else None
    found = _DAY_NAME.fullmatch(text)
    if found:
        return _iso_date(found[3], _MONTHS.get(found[2], 0), found[1])
    found = _NAME_DAY.fullmatch(text)
    if found:
        return _iso_date(found[3], _MONTHS.get(found[1], 0), found[2])
    return None


def _readings(numbers: re.Match[str]) -> set[str]:
    one, other, year = numbers[1], numbers[3], numbers[4]
    both = {_iso_date(year, int(one), other), _iso_date(year, int(other), one)}
    return {reading for reading in both if reading is not None}


def _iso_date(year: str, month: int, day: str) -> str | None:
    try:
        return date(int(year), month, int(day)).isoformat()
    except ValueError:  # the 30th of February, the 13th month
        return None


def _read_time(text: str) -> str | None:
    found = _TIME.fullmatch(text)
    clock = None if found is None else _iso_clock(*found.groups()[:5])
    if found is None or clock is None:
        return None
    minutes = _offset_minutes(found[6])
    if minutes is None:
        return clock
    # Without a date, one instant may be on two days in two offsets: the offset is kept.
    sign, minutes = ("-", -minutes) if minutes < 0 else ("+", minutes)
    return f"{clock}{sign}{minutes // 60:02}:{minutes % 60:02}" if minutes else f"{clock}Z"


def _read_date_time(text: str) -> str | None:
    found = _DATE_TIME.fullmatch(text)
    day = None if found is None else _read_date(found[1])
    clock = None if found is None else _iso_clock(*found.groups()[2:7])
    if found is None or day is None or clock is None:
        return None
    minutes = _offset_minutes(found[8])
    if minutes is None:
        return f"{day}T{clock}"
    try:
        instant = datetime.fromisoformat(f"{day}T{clock[:8]}") - timedelta(minutes=minutes)
    except OverflowError:  # before the year 1 or after 9999
        return None
    return f"{instant.isoformat()}{clock[8:]}Z"


def _iso_clock(
    hour: str, minute: str | None, second: str | None, fraction: str | None, half: str | None
) -> str | None:
    """``hh:mm:ss`` with the fraction's digits; ``half`` is ``a`` or ``p`` for am and pm."""
    if minute is None and half is None:
        return None  # only a number
    h, m, s = int(hour), int(minute or 0), int(second or 0)
    if half is not None:
        if not 1 <= h <= 12:
            return None
        h = h % 12 + (12 if half == "p" else 0)
    if h > 23 or m > 59 or s > 59:
        return None
    digits = (fraction or "").rstrip("0")
    return f"{h:02}:{m:02}:{s:02}" + (f".{digits}" if digits else "")


def _offset_minutes(offset: str | None) -> int | None:
    if offset is None:
        return None
    if offset == "z":
        return 0
    minutes = int(offset[1:3]) * 60 + int(offset[3:].lstrip(":") or 0)
    return -minutes if offset[0] == "-" else minutes
