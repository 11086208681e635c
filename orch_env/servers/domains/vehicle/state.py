"""The cars' tables, what time does to them, and the laws that always hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, NoReturn

from orch_env.servers import Chance, NotFound, Pattern, Server, Table, ToolRefusal
from orch_env.servers.domains.vehicle.records import (
    DOORS,
    SEATS,
    ZONES,
    Car,
    Door,
    DoorState,
    Gear,
    Lights,
    Mode,
    Place,
    Road,
    SavedPlace,
    Seat,
    Service,
    Town,
    Trip,
    Tyre,
    Window,
    Zone,
)
from orch_env.servers.domains.vehicle.roads import Network, Position
from orch_env.servers.domains.vehicle.world import make_world

ACCESSORY_MINUTES = 10
STRONG_DIFFERENCE_CELSIUS = 8

CarId = Annotated[str, Pattern("CAR-[0-9]{4}")]
PlaceId = Annotated[str, Pattern("PL-[0-9]{4}")]


class CarState(Server):
    """The tables, and what all parts of a car share."""

    cars: Table[Car]
    doors: Table[Door]
    seats: Table[Seat]
    windows: Table[Window]
    zones: Table[Zone]
    tyres: Table[Tyre]
    towns: Table[Town]
    roads: Table[Road]
    places: Table[Place]
    saved_places: Table[SavedPlace]
    trips: Table[Trip]
    services: Table[Service]

    def populate(self, chance: Chance) -> None:
        """Make the region, and the cars with where they have been and what they do now."""
        for record in make_world(chance):
            for table in self.tables:
                if type(record) is table.record:
                    table[record.label if isinstance(record, SavedPlace) else record.id] = record

    def settle(self) -> None:
        """End a charge that has reached its limit, and accessory power after ten minutes."""
        for car in self.cars.values():
            if car.mode is Mode.CHARGING:
                if self.charge_of(car) == _charge_limit(car):
                    self.enter(self.change(car, charge_wh=_charge_limit(car)), Mode.OFF)
            elif car.mode is Mode.ACCESSORY and self._minutes_since(car) >= ACCESSORY_MINUTES:
                self.enter(car, Mode.OFF)

    # -- what follows from the tables --------------------------------------------------------------

    @property
    def network(self) -> Network:
        """The roads of the region."""
        return Network(self.roads, self.places)

    def place_of(self, car: Car) -> Place | None:
        """The place where a car stands, if it stands at one."""
        return self.places.get(car.node) if car.towards is None else None

    def rate_of(self, car: Car) -> int:
        """Watt-hours that a car uses for 100 metres, climate control included."""
        rate = car.rate_wh
        for zone in ZONES:
            held = self.zones[f"{car.id}:{zone}"]
            if held.fan:
                difference = abs(held.celsius - car.outside_celsius)
                rate += 2 if difference >= STRONG_DIFFERENCE_CELSIUS else 1
        return rate

    def range_of(self, car: Car) -> int:
        """Metres that a car's charge lasts for, whole hundreds."""
        return self.charge_of(car) // self.rate_of(car) * 100

    def charge_of(self, car: Car) -> int:
        """Watt-hours in a car's battery now; a running charge counts by the minute."""
        if car.mode is not Mode.CHARGING:
            return car.charge_wh
        gained = self._minutes_since(car) * self.places[car.node].charger_wh
        return min(car.charge_wh + gained, _charge_limit(car))

    def limit_of(self, car: Car) -> int:
        """The speed limit (km/h) on the road that a driving car is on."""
        return self.network.leg(car.node, car.towards or car.path[0])[1]

    def _minutes_since(self, car: Car) -> int:
        passed = self.now - datetime.fromisoformat(car.mode_since)
        return max(0, passed // timedelta(minutes=1))

    # -- changes that several tools share ----------------------------------------------------------

    def change(self, car: Car, **changes: Any) -> Car:
        """Replace fields of a car."""
        self.cars[car.id] = replace(car, **changes)
        return self.cars[car.id]

    def enter(self, car: Car, mode: Mode) -> Car:
        """Change a car's mode; cruise control, climate control and lights follow it."""
        changes: dict[str, Any] = {"mode": mode, "mode_since": self.now.isoformat()}
        if mode is not Mode.DRIVING:
            changes["cruise_kmh"] = 0
        if mode in (Mode.OFF, Mode.ACCESSORY):
            for zone in ZONES:
                held = self.zones[f"{car.id}:{zone}"]
                self.zones[held.id] = replace(held, fan=0)
        if mode is Mode.OFF and car.lights in (Lights.LOW, Lights.HIGH):
            changes["lights"] = Lights.OFF
        return self.change(car, **changes)

    # -- refusals that several tools share ---------------------------------------------------------

    def need_car(self, car: str) -> Car:
        """The car of an id.

        Raises:
            NotFound: there is none.
        """
        if car not in self.cars:
            raise NotFound(f"There is no car {car}; find_car gives ids.", reason="unknown_car")
        return self.cars[car]

    def need_place(self, place: str) -> Place:
        """The place of an id.

        Raises:
            NotFound: there is none.
        """
        if place not in self.places:
            raise NotFound(
                f"There is no place {place}; find_place and search_places give ids.",
                reason="unknown_place",
            )
        return self.places[place]

    def need_mode(self, car: Car, *modes: Mode, what: str) -> None:
        """Refuse unless a car is in one of these modes.

        Args:
            car: the car.
            modes: where the tool works.
            what: what is refused, as the subject of a sentence.
        """
        if car.mode in modes:
            return
        if car.mode is Mode.DRIVING:
            raise ToolRefusal(
                f"{what} is refused while the car is driving: press the brake pedal with set_brake "
                "to stop it first.",
                reason="vehicle_moving",
            )
        if car.mode is Mode.CHARGING:
            raise ToolRefusal(
                f"{what} is refused while the car is charging: unplug it first.",
                reason="charging",
            )
        raise ToolRefusal(
            f"{what} needs the mode {' or '.join(modes)}, and the car is {car.mode}: set_power "
            "changes that.",
            reason="wrong_mode",
            mode=car.mode.value,
        )

    def refuse_already(self, what: str) -> NoReturn:
        """Refuse a call that would change nothing."""
        raise ToolRefusal(f"{what} already, so there is nothing to do.", reason="already_set")

    # -- laws --------------------------------------------------------------------------------------

    def invariants(self) -> Iterator[str]:
        """One sentence for each law that is broken now."""
        for car in self.cars.values():
            for broken in (
                *self._broken_by_mode(car),
                *self._broken_while_driving(car),
                *self._broken_on_the_road(car),
                *self._broken_in_the_log(car),
            ):
                yield f"{car.name}: {broken}"

    def _broken_by_mode(self, car: Car) -> Iterator[str]:
        unpowered = car.mode in (Mode.OFF, Mode.ACCESSORY)
        if car.gear is not Gear.PARK and (unpowered or car.mode is Mode.CHARGING or car.cable):
            yield f"it is {car.mode} in {car.gear}, with cable: {car.cable}"
        if unpowered and any(self.zones[f"{car.id}:{zone}"].fan for zone in ZONES):
            yield f"the climate control runs in mode {car.mode}"
        if car.mode is Mode.OFF and car.lights in (Lights.LOW, Lights.HIGH):
            yield "the headlights are on without power"
        if car.mode is Mode.CHARGING and not car.cable:
            yield "it is charging without a cable"
        if car.gear is Gear.NEUTRAL and not (car.brake_held or car.parking_brake):
            yield "it can roll away"
        if not 0 <= car.charge_wh <= car.capacity_wh:
            yield f"it holds {car.charge_wh} Wh of {car.capacity_wh}"

    def _broken_while_driving(self, car: Car) -> Iterator[str]:
        if car.mode is not Mode.DRIVING:
            if car.cruise_kmh or car.trip is not None:
                yield "it stands, and cruise control or a trip goes on"
            return
        if car.gear is not Gear.DRIVE or car.brake_held or car.parking_brake:
            yield "it is driving against a brake or out of gear"
        if any(self.doors[f"{car.id}:{door}"].state is DoorState.OPEN for door in DOORS):
            yield "it is driving with an open door"
        seats = [self.seats[f"{car.id}:{seat}"] for seat in SEATS]
        if any(seat.occupied and not seat.belted for seat in seats):
            yield "it is driving with an open belt"
        if not car.path or car.trip not in self.trips:
            yield "it is driving without a route or a trip"
        elif car.cruise_kmh > self.limit_of(car):
            yield "its cruise control is above the limit"

    def _broken_on_the_road(self, car: Car) -> Iterator[str]:
        if (car.towards is None) != (car.past_m == 0):
            yield "it is neither at a node nor between two"
        if car.towards is not None and car.past_m >= self.network.leg(car.node, car.towards)[0]:
            yield "it is beyond the end of its road"
        place = self.place_of(car)
        if car.cable and (place is None or not place.charger_wh):
            yield "it is plugged in away from a charger"

    def _broken_in_the_log(self, car: Car) -> Iterator[str]:
        trips = sorted(
            (trip for trip in self.trips.values() if trip.car == car.id),
            key=lambda trip: trip.start_odometer_m,
        )
        ends = [trip.start_odometer_m + trip.metres for trip in trips]
        if ends != [*(trip.start_odometer_m for trip in trips[1:]), car.odometer_m]:
            yield "its trips do not add up to its odometer"


def position_of(car: Car) -> Position:
    """Where a car is on the road network."""
    return Position(car.node, car.towards, car.past_m)


def kilometres(metres: int) -> float:
    """Metres, whole hundreds, as kilometres."""
    return metres / 1000


def _charge_limit(car: Car) -> int:
    """Watt-hours at which a running charge ends."""
    return car.capacity_wh * car.charge_limit // 100
