"""What the cars and the region around them consist of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orch_env.servers import Stamp


class Mode(StrEnum):
    """What the car does; every tool depends on it."""

    OFF = "off"
    """Parked without power."""
    ACCESSORY = "accessory"
    """Power for windows and lights; switches itself off after ten minutes."""
    ON = "on"
    """Ready to drive, standing."""
    DRIVING = "driving"
    """Moving along the route."""
    CHARGING = "charging"
    """Parked at a charger, taking current."""


class Gear(StrEnum):
    """The position of the gear selector."""

    PARK = "park"
    REVERSE = "reverse"
    NEUTRAL = "neutral"
    DRIVE = "drive"


class Lights(StrEnum):
    """The position of the light switch."""

    OFF = "off"
    PARKING = "parking"
    LOW = "low"
    HIGH = "high"


class DoorState(StrEnum):
    """A locked door is also closed."""

    OPEN = "open"
    CLOSED = "closed"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class Town:
    """A town, whose centre is a node of the road network."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Road:
    """A road between the centres of two towns; its id is made of theirs, the smaller one first."""

    id: str
    name: str
    metres: int
    limit_kmh: int


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to drive to, ``lane_m`` metres from its town's centre.

    Attributes:
        charger_wh: watt-hours that its charger gives in a minute; 0 without a charger.
        closed_on: for a workshop, the weekday on which it is closed besides the weekend (0 is
            Monday).
        full_on: for a workshop, dates on which it takes no more cars.
    """

    id: str
    name: str
    kind: str
    town: str
    lane_m: int
    charger_wh: int = 0
    air_pump: bool = False
    closed_on: int | None = None
    full_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SavedPlace:
    """The club's own name for a place."""

    label: str
    place: str


@dataclass(frozen=True, slots=True)
class Car:
    """The state of a car as a whole; its parts have tables of their own.

    Attributes:
        rate_wh: watt-hours for 100 metres without climate control.
        node: the town or place where it stands, or that it left last.
        towards: the neighbouring node that it has set out for; ``None`` at a node.
        past_m: metres behind ``node``.
        path: nodes that the route still passes, the destination last; empty without a route.
        trip: the trip under way.
        mode_since: when the mode began.
    """

    id: str
    name: str
    capacity_wh: int
    charge_wh: int
    rate_wh: int
    odometer_m: int
    outside_celsius: int
    node: str
    mode: Mode = Mode.OFF
    gear: Gear = Gear.PARK
    brake_held: bool = False
    parking_brake: bool = True
    cable: bool = False
    charge_limit: int = 0
    lights: Lights = Lights.OFF
    cruise_kmh: int = 0
    towards: str | None = None
    past_m: int = 0
    path: tuple[str, ...] = ()
    trip: str | None = None
    mode_since: Stamp = ""


# The parts of a car have ids such as "CAR-2914:front_left".
DOORS = ("front_left", "front_right", "rear_left", "rear_right", "boot")
SEATS = ("driver", "passenger", "rear_left", "rear_middle", "rear_right")
WINDOWS = ("front_left", "front_right", "rear_left", "rear_right")
ZONES = ("driver", "passenger", "rear")
TYRES = ("front_left", "front_right", "rear_left", "rear_right")


@dataclass(frozen=True, slots=True)
class Door:
    """A door or the boot of a car."""

    id: str
    state: DoorState


@dataclass(frozen=True, slots=True)
class Seat:
    """A seat and its belt."""

    id: str
    occupied: bool
    belted: bool


@dataclass(frozen=True, slots=True)
class Window:
    """A window, open by so many per cent."""

    id: str
    open_percent: int


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone of the climate control; fan 0 is off."""

    id: str
    celsius: int
    fan: int


@dataclass(frozen=True, slots=True)
class Tyre:
    """A tyre; pressures in tenths of a bar."""

    id: str
    decibar: int
    recommended_decibar: int


@dataclass(frozen=True, slots=True)
class Trip:
    """A drive without a stop. ``start`` and ``end`` are places, ``None`` on the open road."""

    id: str
    car: str
    date: str
    start: str | None
    end: str | None
    start_odometer_m: int
    metres: int
    used_wh: int


@dataclass(frozen=True, slots=True)
class Service:
    """Maintenance that falls due by date or by odometer, whichever comes first."""

    id: str
    car: str
    item: str
    due_date: str
    due_odometer_m: int
    workshop: str | None = None
    booked_for: str | None = None
