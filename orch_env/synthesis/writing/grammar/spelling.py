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
_WITH_YEAR = {
    "{month} {day}": "{month} {day}, {year}",
    "{month} {day}{th}": "{month} {day}{th}, {year}",
    "{short} {day}": "{short} {day}, {year}",
    "{day} {month}": "{day} {month} {year}",
    "{day} {short}": "{day} {short} {year}",
}
_FORMS = sorted(_WITH_YEAR)
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


class Speller:
    """Spells dates and times of one request alike.

    Args:
        today: the task's date; the year is left out where the next such date is meant.
        chance: chooses the spellings.
    """

    def __init__(self, today: date | None, chance: Chance) -> None:
        self._today = today
        self._chance = chance
        self._form = chance.pick(_FORMS)
        self._clock = chance.pick(["24", "a.m.", "am", "am"])

    def said(self, day: date) -> str:
        """A date without a preposition."""
        today, chance = self._today, self._chance
        away = (day - today).days if today is not None else None
        if away == 0:
            return "today"
        if away == 1 and chance.often(0.6):
            return "tomorrow"
        if away is None or not 0 <= away <= _SAYABLE_DAYS:
            return self._filled(_WITH_YEAR[self._form], day)
        if away < 60 and chance.often(0.12):
            return self._filled(f"{{weekday}}, {self._form}", day)
        return self._filled(self._form, day)

    def days(self, first: date, last: date) -> tuple[str, str]:
        """A first and a last date; in one month the second may be a mere number."""
        said = self.said(first), self.said(last)
        months = said[0].startswith(MONTHS[first.month - 1][:3]) and "," not in "".join(said)
        if months and (first.year, first.month) == (last.year, last.month):
            bare = re.search(r"\d+[a-z]*$", said[1])
            if bare is not None and self._chance.often(0.5):
                return said[0], bare[0]
        return said

    def time(self, text: str) -> str | None:
        """A time of day, ``None`` if the text is none."""
        found = _TIME.fullmatch(text)
        if found is None:
            return None
        hour, minute = int(found[1]), int(found[2])
        if self._clock == "24":
            return f"{hour}:{minute:02d}"
        if (hour, minute) == (12, 0):
            return "noon"
        half = ("a" if hour < 12 else "p") + self._clock[1:]
        return f"{hour % 12 or 12}{f':{minute:02d}' if minute else ''} {half}"

    def _filled(self, form: str, day: date) -> str:
        month = MONTHS[day.month - 1]
        return form.format(
            month=month,
            short=month[:3] if len(month) > 4 else month,
            day=day.day,
            th=_suffix(day.day),
            weekday=DAYS[day.weekday()],
            year=day.year,
        )


def is_bare(text: str) -> bool:
    """Whether a date stands without "on"."""
    return text.split(" ", 1)[0] in ("today", "tomorrow")


def on(text: str) -> str:
    """A date with its preposition."""
    return text if is_bare(text) else f"on {text}"


def _suffix(number: int) -> str:
    if 10 <= number % 100 <= 20:
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def count_said(number: int, chance: Chance) -> str:
    """A small whole number, as a word or in digits."""
    if 0 < number < 7 and chance.often(0.5):
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
