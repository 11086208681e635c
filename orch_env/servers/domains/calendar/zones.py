"""Time zones by rule: the machine's tz database is never read, so a time is the same everywhere.

Each zone has its offset and, where it has summer time, the rule of today's law. The rules hold for
the years 2020 to 2099; a law that changes later changes nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Literal

ZoneName = Literal[
    "UTC",
    "Europe/London",
    "Europe/Berlin",
    "Europe/Helsinki",
    "America/New_York",
    "America/Chicago",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Asia/Singapore",
    "Asia/Tokyo",
    "Australia/Sydney",
]

FIRST_YEAR, LAST_YEAR = 2020, 2099
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Switch:
    """When clocks change: at an hour of the n-th (from 1) or the last (-1) Sunday of a month."""

    month: int
    sunday: int
    hour: int

    def of(self, year: int) -> datetime:
        """The date and hour of this year's switch."""
        if self.sunday == -1:
            # The months with such a switch have 31 days.
            last = datetime(year, self.month, 31, self.hour)
            return last - timedelta(days=(last.weekday() + 1) % 7)
        first = datetime(year, self.month, 1, self.hour)
        return first + timedelta(days=6 - first.weekday() + 7 * (self.sunday - 1))


@dataclass(frozen=True, slots=True)
class Summer:
    """A summer-time law; both hours are of standard time, or of UTC for the whole of Europe."""

    begins: Switch
    ends: Switch
    in_utc: bool = False


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone: its standard offset from UTC, and its summer-time law if it has one."""

    offset: timedelta
    summer: Summer | None = None


EUROPE = Summer(Switch(3, -1, 1), Switch(10, -1, 1), in_utc=True)
UNITED_STATES = Summer(Switch(3, 2, 2), Switch(11, 1, 1))
NEW_SOUTH_WALES = Summer(Switch(10, 1, 2), Switch(4, 1, 2))

ZONES: dict[str, Zone] = {
    "UTC": Zone(0 * HOUR),
    "Europe/London": Zone(0 * HOUR, EUROPE),
    "Europe/Berlin": Zone(1 * HOUR, EUROPE),
    "Europe/Helsinki": Zone(2 * HOUR, EUROPE),
    "America/New_York": Zone(-5 * HOUR, UNITED_STATES),
    "America/Chicago": Zone(-6 * HOUR, UNITED_STATES),
    "America/Los_Angeles": Zone(-8 * HOUR, UNITED_STATES),
    "America/Sao_Paulo": Zone(-3 * HOUR),
    "Asia/Kolkata": Zone(5.5 * HOUR),
    "Asia/Singapore": Zone(8 * HOUR),
    "Asia/Tokyo": Zone(9 * HOUR),
    "Australia/Sydney": Zone(10 * HOUR, NEW_SOUTH_WALES),
}


def to_utc(local: datetime, zone: str) -> datetime:
    """The UTC time of a local one, both without tzinfo.

    An hour that comes twice in autumn means the first; one that spring leaves out counts from the
    offset before the switch, as RFC 5545 says.
    """
    law = ZONES[zone]
    standard = local - law.offset
    if law.summer is not None and _is_summer(standard - HOUR, zone):
        return standard - HOUR
    return standard


def to_local(utc: datetime, zone: str) -> datetime:
    """The local time of a UTC one, both without tzinfo."""
    law = ZONES[zone]
    standard = utc + law.offset
    if law.summer is not None and _is_summer(utc, zone):
        return standard + HOUR
    return standard


def exists(local: datetime, zone: str) -> bool:
    """Whether clocks in the zone ever show this time: spring leaves one hour out."""
    return to_local(to_utc(local, zone), zone) == local


def _is_summer(utc: datetime, zone: str) -> bool:
    begins, ends = _switches(zone, utc.year)
    if begins < ends:
        return begins <= utc < ends
    return not ends <= utc < begins


@cache
def _switches(zone: str, year: int) -> tuple[datetime, datetime]:
    """This year's beginning and end of summer time, in UTC."""
    law = ZONES[zone]
    if law.summer is None:
        raise ValueError(f"zone {zone} has no summer time")
    shift = timedelta(0) if law.summer.in_utc else law.offset
    return law.summer.begins.of(year) - shift, law.summer.ends.of(year) - shift
