"""The way of an order from the warehouse to the door: every step follows from when it was placed.

The warehouse works from Monday to Friday. What is ordered before 14:00 goes out the same day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Literal

from orch_env.servers.domains.shopping.records import Order

CUT_OFF, PACKED, SHIPPED, DELIVERED = 14, 16, 18, 12
"""Hours of the day of the latest order for the same day, and of the three steps."""
RETURN_DAYS = 30
"""Days after delivery on which goods can be sent back."""

StatusName = Literal["placed", "packed", "shipped", "delivered", "cancelled"]


class Status(StrEnum):
    """Where an order stands."""

    PLACED = "placed"
    PACKED = "packed"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Steps:
    """When an order leaves the warehouse and arrives."""

    packed: datetime
    shipped: datetime
    delivered: datetime


def steps(placed_at: datetime, days: int) -> Steps:
    """The steps of an order.

    Args:
        placed_at: when it was placed.
        days: working days from the warehouse to the door.
    """
    day = placed_at.date()
    if placed_at.hour >= CUT_OFF:
        day += timedelta(days=1)
    while day.weekday() > 4:
        day += timedelta(days=1)
    arrives = day
    for _ in range(days):
        arrives += timedelta(days=3 if arrives.weekday() == 4 else 1)
    return Steps(_at(day, PACKED), _at(day, SHIPPED), _at(arrives, DELIVERED))


def steps_of(order: Order) -> Steps:
    """The steps of an order that was placed."""
    return steps(datetime.fromisoformat(order.placed_at), order.days)


def status_of(order: Order, now: datetime) -> Status:
    """Where an order stands at a time."""
    if order.cancelled:
        return Status.CANCELLED
    done = steps_of(order)
    if now >= done.delivered:
        return Status.DELIVERED
    if now >= done.shipped:
        return Status.SHIPPED
    return Status.PACKED if now >= done.packed else Status.PLACED


def last_return_day(order: Order) -> date:
    """The last date on which goods of an order can be sent back."""
    return steps_of(order).delivered.date() + timedelta(days=RETURN_DAYS)


def _at(day: date, hour: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour)
