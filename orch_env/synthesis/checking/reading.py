"""The numbers and times of day that a text names, read without knowing who wrote it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_CARDINALS = {word: number for number, word in enumerate(_SMALL)} | {
    word: 10 * number for number, word in enumerate(_TENS, 2)
}
ORDINALS = {
    word: number
    for number, word in enumerate(
        (
            *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"),
            *("tenth", "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth"),
            *("sixteenth", "seventeenth", "eighteenth", "nineteenth", "twentieth"),
        ),
        start=1,
    )
}
"""Ordinal word -> its number, to 20."""

_WORD_NUMBER = "|".join(sorted(_CARDINALS, key=len, reverse=True))
COUNT = rf"(\d+|an?(?: couple of)?|{_WORD_NUMBER})"
"""A number in digits or in one word, as a group that :func:`whole_number` reads."""

_PART_OF_DAY = r"(?:in the|at|this|that|tomorrow)\s+(morning|afternoon|evening|night)"
_CLOCK = re.compile(
    rf"\b(?:(half|quarter)\s+(past|to)\s+)?(?:(\d{{1,2}})(?:[:.h](\d{{2}}))?|({_WORD_NUMBER}))"
    rf"(?:\s*o'?clock)?\s*(?:([ap])\.?\s?m\b\.?|{_PART_OF_DAY})"
)
_HALF = re.compile(rf"\b(half|quarter)\s+(past|to)\s+(?:(\d{{1,2}})|({_WORD_NUMBER}))\b")
_PLAIN = re.compile(
    rf"\b([01]?\d|2[0-3])(?::|h)([0-5]\d)\b(?!\s*[ap]\.?\s?m\b)"
    rf"|\b(?:(\d{{1,2}})|({_WORD_NUMBER}))\s+o'?clock"
)
_LATER = re.compile(
    rf"\b(?:in\s+{COUNT}\s+(minute|hour)s?\b|{COUNT}\s+(minute|hour)s?\s+(later|earlier|from now))"
)
_NAMED = {"noon": "12:00", "midday": "12:00", "midnight": "00:00"}
_NUMBER = re.compile(r"(?<![\w.,])[-\u2212]?\d+(?:,\d{3})*(?:\.\d+)?(?!\d)(?!(?:st|nd|rd|th)\b)")
_WORD = re.compile(r"[a-z]+")


def whole_number(word: str) -> int | None:
    """The number that a word or some digits mean; an article is one, a couple two."""
    if word.isdecimal():
        return int(word)
    if word.startswith("a couple"):
        return 2
    return 1 if word in ("a", "an") else _CARDINALS.get(word)


def times_said(text: str) -> set[str]:
    """The times of day that a text names, as ``HH:MM``; both halves of the day where it is open."""
    low = text.casefold().replace("\u2019", "'")
    found = {clock for word, clock in _NAMED.items() if re.search(rf"\b{word}\b", low)}
    for part, side, digits, minute, word, half, day in _CLOCK.findall(low):
        hour = whole_number(digits or word)
        if hour is None or hour > 24:
            continue
        afternoon = half == "p" or (day in ("afternoon", "evening", "night") and hour != 12)
        if half or day:
            hour = hour % 12 + (12 if afternoon or (day == "afternoon" and hour == 12) else 0)
        found.add(_clock(hour, int(minute or 0), part, side))
    low = _CLOCK.sub(" ; ", low)
    for part, side, digits, word in _HALF.findall(low):
        hour = whole_number(digits or word)
        if hour is not None and hour <= 24:
            found.update(_clock(h, 0, part, side) for h in (hour, hour + 12))
    for hours, minutes, digits, word in _PLAIN.findall(_HALF.sub(" ; ", low)):
        if hours:
            found.add(f"{int(hours):02d}:{minutes}")
        elif (hour := whole_number(digits or word)) is not None:
            found.update(
                _clock(h, 0, "", "") for h in ((hour, hour + 12) if hour < 12 else (hour,))
            )
    for one, unit, other, unit_of_other, way in _LATER.findall(low):
        count = whole_number(one or other)
        if count is not None and count <= 600:
            step = count * (60 if "hour" in (unit, unit_of_other) else 1)
            found |= {_shifted(t, -step if way == "earlier" else step) for t in found}
    return found


def _clock(hour: int, minute: int, part: str, side: str) -> str:
    """``HH:MM`` of an hour and a minute, moved by a half or a quarter."""
    step = {"half": 30, "quarter": 15}.get(part, 0)
    return _shifted(f"{hour % 24:02d}:{minute % 60:02d}", -step if side == "to" else step)


def _shifted(clock: str, minutes: int) -> str:
    return f"{datetime.strptime(clock, '%H:%M') + timedelta(minutes=minutes):%H:%M}"


def without_times(text: str) -> str:
    """The text with its times of day blanked, so that their digits are no numbers."""
    low = text.casefold().replace("\u2019", "'")
    for pattern in (_CLOCK, _HALF, _PLAIN):
        low = pattern.sub(" ; ", low)
    return low


def numbers_said(text: str) -> set[float]:
    """The numbers that a text names, in digits or in words."""
    low = text.casefold()
    found = {
        float(n.replace(",", "").replace("\u2212", "-"))
        for n in _NUMBER.findall(low.replace(" - ", " ; "))
    }
    words = _WORD.findall(low)
    for word, after in zip(words, [*words[1:], ""], strict=False):
        value = _CARDINALS.get(word)
        if value is None:
            continue
        found.add(float(value))
        unit = _CARDINALS.get(after, 0)
        if word in _TENS and 0 < unit < 10:
            found.add(float(value + unit))
        elif after in ("hundred", "thousand"):
            found.add(float(value * (100 if after == "hundred" else 1000)))
    if re.search(r"\b(?:couple|both|pair|my (?:wife|husband|partner) and (?:i|me))\b", low):
        found.add(2.0)
    if re.search(r"\b(?:myself|alone|single|solo|just me|an? (?:adult|person|room|child))\b", low):
        found.add(1.0)
    return found
