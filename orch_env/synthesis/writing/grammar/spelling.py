"""How dates, times and numbers are spelt."""

from __future__ import annotations

import re
from datetime import date

from orch_env.servers.framework.chance import Chance

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
COUNTS = [
    "no",
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
]
ORDINALS = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
]
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::00)?")
_SAYABLE_DAYS = 300
"""A date without its year is the next one after today; further away the year is said."""


def today_said(today: date, chance: Chance, style: int) -> str:
    """A date as one says what day it is today."""
    weekday, month = DAYS[today.weekday()], MONTHS[today.month - 1]
    options = (
        f"{weekday}, {month} {today.day}, {today.year}",
        f"{today.day} {month} {today.year}",
        f"{month} {today.day}, {today.year}",
    )
    return options[(style + chance.between(0, 1)) % len(options)]


def date_said(day: date, today: date | None, chance: Chance, *, year: bool = False) -> str:
    """A date without a preposition; ``bare`` words such as "tomorrow" need none.

    Args:
        day: the date.
        today: the task's date; the year is left out where the next such date is meant.
        chance: chooses the spelling.
        year: say the year in any case.
    """
    away = (day - today).days if today is not None else None
    month = MONTHS[day.month - 1]
    short = month[:3] if len(month) > 4 else month
    weekday = DAYS[day.weekday()]
    if away == 0 and not year:
        return chance.pick(["today", f"{month} {day.day}"])
    if away == 1 and chance.often(0.6):
        return "tomorrow"
    if away is None or not 0 <= away <= _SAYABLE_DAYS or year:
        return chance.pick([f"{month} {day.day}, {day.year}", f"{day.day} {month} {day.year}"])
    options = [f"{month} {day.day}"] * 3 + [
        f"{month} {day.day}{_suffix(day.day)}",
        f"{short} {day.day}",
        f"{day.day} {month}",
        f"{weekday}, {month} {day.day}",
    ]
    return chance.pick(options)


def is_bare(text: str) -> bool:
    """Whether a date stands without "on"."""
    return text in ("today", "tomorrow")


def on(text: str) -> str:
    """A date with its preposition."""
    return text if is_bare(text) else f"on {text}"


def _suffix(number: int) -> str:
    if 10 <= number % 100 <= 20:
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def time_said(text: str, chance: Chance) -> str | None:
    """A time of day, ``None`` if the text is none."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    hour, minute = int(found[1]), int(found[2])
    half = "a.m." if hour < 12 else "p.m."
    twelve = hour % 12 or 12
    options = [f"{hour}:{minute:02d}"]
    if minute:
        options.append(f"{twelve}:{minute:02d} {half}")
    else:
        options += [f"{twelve} {half}", f"{twelve} {half.replace('.', '')}"]
        if hour == 12:
            options.append("noon")
    return chance.pick(options)


def count_said(number: int, chance: Chance) -> str:
    """A small whole number, as a word or in digits."""
    if 0 < number < len(COUNTS) and chance.often(0.5):
        return COUNTS[number]
    return str(number)


def listed(parts: list[str], word: str = "and") -> str:
    """Parts as a list in a sentence: "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def ordinal(position: int) -> str:
    """The ordinal of a place in a list: first for 0."""
    return ORDINALS[position] if position < len(ORDINALS) else f"{position + 1}th"
