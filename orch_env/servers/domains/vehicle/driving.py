"""Power, brakes, gears, driving along the route, cruise control."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Annotated, Any, Literal

from orch_env.servers import InvalidArguments, Range, ToolRefusal, write
from orch_env.servers.domains.vehicle.records import (
    DOORS,
    SEATS,
    TYRES,
    Car,
    DoorState,
    Gear,
    Lights,
    Mode,
    Trip,
)
from orch_env.servers.domains.vehicle.roads import LANE_LIMIT_KMH
from orch_env.servers.domains.vehicle.state import CarId, CarState, kilometres
from orch_env.types.json import JsonObject

MIN_CRUISE_KMH = 30
MAX_TYRE_LOSS_DECIBAR = 4


class DrivingTools(CarState):
    """The mode machine and its interlocks."""

    @write(idempotent=True)
    def set_power(self, car: CarId, power: Literal["off", "accessory", "on"]) -> JsonObject:
        """Switch a standing car off, on, or to accessory power, which ends after ten minutes.

        Args:
            car: The car's id; find_car gives it.
            power: 'on' needs the brake pedal held, the others gear park. A car that is driving or
                charging refuses all three.
        """
        its, wanted = self.need_car(car), Mode(power)
        if its.mode is wanted:
            self.refuse_already(f"The car is {power}")
        if its.mode in (Mode.DRIVING, Mode.CHARGING):
            self.need_mode(its, what="Switching the power")
        if wanted is Mode.ON:
            self._need_pedal(its, "Switching on")
        elif its.gear is not Gear.PARK:
            raise ToolRefusal(
                f"The power stays on in gear {its.gear}: shift to park first.",
                reason="gear_not_park",
            )
        self.enter(its, wanted)
        return {"mode": power}

    @write(idempotent=True)
    def set_brake(
        self, car: CarId, brake: Literal["pedal", "parking"], engaged: bool
    ) -> JsonObject:
        """Hold or release the brake pedal or the parking brake; the pedal stops a driving car.

        Args:
            car: The car's id; find_car gives it.
            brake: Which brake.
            engaged: true to hold it, false to release it. In neutral one of the two stays held;
                the parking brake is released only when the car is on.
        """
        its = self.need_car(car)
        if engaged == (its.brake_held if brake == "pedal" else its.parking_brake):
            self.refuse_already(f"The {brake} brake is {'engaged' if engaged else 'released'}")
        if brake == "parking" and engaged and its.mode is Mode.DRIVING:
            self.need_mode(its, what="The parking brake")
        if brake == "parking" and not engaged:
            self.need_mode(its, Mode.ON, what="Releasing the parking brake")
        other = its.parking_brake if brake == "pedal" else its.brake_held
        if its.gear is Gear.NEUTRAL and not engaged and not other:
            raise ToolRefusal(
                "In neutral the car would roll away: hold the other brake or shift to park first.",
                reason="would_roll",
            )
        if its.mode is Mode.DRIVING:
            its = self._stop(its)
        if brake == "pedal":
            its = self.change(its, brake_held=engaged)
        else:
            its = self.change(its, parking_brake=engaged)
        return {
            "mode": its.mode.value,
            "pedal_held": its.brake_held,
            "parking_brake": its.parking_brake,
        }

    @write(idempotent=True)
    def shift_gear(
        self, car: CarId, gear: Literal["park", "reverse", "neutral", "drive"]
    ) -> JsonObject:
        """Shift the gear of a car that is on and stands.

        Args:
            car: The car's id; find_car gives it.
            gear: Each shift needs the brake pedal held. Drive and reverse need all doors closed and
                all belts fastened; no gear but park while the charge cable is plugged in.
        """
        its, wanted = self.need_car(car), Gear(gear)
        if its.gear is wanted:
            self.refuse_already(f"The gear is {gear}")
        self.need_mode(its, Mode.ON, what="Shifting the gear")
        self._need_pedal(its, "Shifting the gear")
        if its.cable:
            raise ToolRefusal(
                "The charge cable is plugged in: unplug it before leaving park.",
                reason="cable_connected",
            )
        if wanted in (Gear.DRIVE, Gear.REVERSE):
            self._need_closed_doors(its)
            self._need_belts(its)
        self.change(its, gear=wanted)
        return {"gear": gear}

    @write
    def drive(
        self, car: CarId, distance_km: Annotated[float, Range(0.1, 1000)] | None = None
    ) -> JsonObject:
        """Drive along the route, to its end or for a distance; at the end the car stops by itself.

        Args:
            car: The car's id; find_car gives it.
            distance_km: How far to drive, in kilometres with at most one decimal; left out, to the
                destination. Needs a route (start_route), gear drive, both brakes released, closed
                doors, fastened belts and enough charge.
        """
        its = self.need_car(car)
        self._need_ready(its)
        left = self._left_of_route(its)
        metres = left if distance_km is None else _hundreds(distance_km)
        if metres > left:
            raise ToolRefusal(
                f"The destination is {kilometres(left)} km away: leave distance_km out to drive "
                "there.",
                reason="beyond_destination",
                left_km=kilometres(left),
            )
        used = metres // 100 * self.rate_of(its)
        if used > its.charge_wh:
            raise ToolRefusal(
                f"The charge lasts for {kilometres(self.range_of(its))} km of the "
                f"{kilometres(metres)} km asked for: charge the car, or choose a nearer place.",
                reason="not_enough_charge",
                range_km=kilometres(self.range_of(its)),
            )
        if its.mode is not Mode.DRIVING:
            its = self.enter(self._begin_trip(its), Mode.DRIVING)
        its = self._move(its, metres, used)
        trip = its.trip
        if not its.path:
            its = self.change(self._stop(its), brake_held=True)
        return {
            "trip": trip,
            "driven_km": kilometres(metres),
            "left_km": kilometres(left - metres),
            "arrived": not its.path,
            "mode": its.mode.value,
            "charge_percent": its.charge_wh * 100 // its.capacity_wh,
        }

    @write(idempotent=True)
    def set_cruise(self, car: CarId, speed_kmh: Annotated[int, Range(0, 200)]) -> JsonObject:
        """Set the cruise control of a driving car.

        Args:
            car: The car's id; find_car gives it.
            speed_kmh: From 30 up to the limit of the road, in km/h; 0 switches it off.
        """
        its = self.need_car(car)
        if its.mode is not Mode.DRIVING:
            raise ToolRefusal(
                "Cruise control works only while the car is driving; drive sets off.",
                reason="not_driving",
            )
        if its.cruise_kmh == speed_kmh:
            self.refuse_already(f"The cruise control is {speed_kmh or 'off'}")
        if 0 < speed_kmh < MIN_CRUISE_KMH:
            raise ToolRefusal(
                f"Cruise control starts at {MIN_CRUISE_KMH} km/h; 0 switches it off.",
                reason="too_slow",
            )
        limit = self.limit_of(its)
        if speed_kmh > limit:
            raise ToolRefusal(
                f"The limit on this road is {limit} km/h.", reason="above_limit", limit_kmh=limit
            )
        for tyre in (self.tyres[f"{car}:{name}"] for name in TYRES):
            if speed_kmh and tyre.recommended_decibar - tyre.decibar > MAX_TYRE_LOSS_DECIBAR:
                raise ToolRefusal(
                    f"The tyre {tyre.id.partition(':')[2]} has lost too much air for cruise "
                    "control: inflate it first.",
                    reason="tyre_low",
                )
        self.change(its, cruise_kmh=speed_kmh)
        return {"cruise_kmh": speed_kmh, "limit_kmh": limit}

    # -- interlocks --------------------------------------------------------------------------------

    def _need_pedal(self, car: Car, what: str) -> None:
        if not car.brake_held:
            raise ToolRefusal(
                f"{what} needs the brake pedal held; set_brake holds it.", reason="brake_not_held"
            )

    def _need_closed_doors(self, car: Car) -> None:
        for door in DOORS:
            if self.doors[f"{car.id}:{door}"].state is DoorState.OPEN:
                raise ToolRefusal(
                    f"Door {door} is open: close it first.", reason="door_open", door=door
                )

    def _need_belts(self, car: Car) -> None:
        for seat in SEATS:
            held = self.seats[f"{car.id}:{seat}"]
            if held.occupied and not held.belted:
                raise ToolRefusal(
                    f"The belt of seat {seat} is open: fasten it first.",
                    reason="belt_open",
                    seat=seat,
                )

    def _need_ready(self, car: Car) -> None:
        """Refuse unless the car drives or could set off."""
        self.need_mode(car, Mode.ON, Mode.DRIVING, what="Driving")
        if car.gear is not Gear.DRIVE:
            raise ToolRefusal(
                f"The car is in {car.gear}: shift to drive first.", reason="gear_not_drive"
            )
        self._need_belts(car)
        if car.brake_held or car.parking_brake:
            brake = "parking brake" if car.parking_brake else "brake pedal"
            raise ToolRefusal(f"The {brake} is held: release it first.", reason="brake_held")
        if not car.path:
            raise ToolRefusal("There is no route: start_route sets one.", reason="no_route")

    # -- on the road -------------------------------------------------------------------------------

    def _left_of_route(self, car: Car) -> int:
        nodes = (car.node, *car.path)
        legs = itertools.pairwise(nodes)
        return sum(self.network.leg(*leg)[0] for leg in legs) - car.past_m

    def _begin_trip(self, car: Car) -> Car:
        trip = self.new_id("TR-", car.id, str(car.odometer_m), taken=self.trips, digits=5)
        place = self.place_of(car)
        start = None if place is None else place.id
        self.trips[trip] = Trip(trip, car.id, self.today, start, None, car.odometer_m, 0, 0)
        return self.change(car, trip=trip)

    def _move(self, car: Car, metres: int, used_wh: int) -> Car:
        """Move a car along its route; a lower limit lowers cruise control, a town high beam."""
        trip = self.trips[car.trip or ""]
        self.trips[trip.id] = replace(
            trip, metres=trip.metres + metres, used_wh=trip.used_wh + used_wh
        )
        node, path, past = car.node, car.path, car.past_m + metres
        network = self.network
        while path and past >= (length := network.leg(node, path[0])[0]):
            node, path, past = path[0], path[1:], past - length
        changes: dict[str, Any] = {
            "node": node,
            "path": path,
            "past_m": past,
            "towards": path[0] if past else None,
            "charge_wh": car.charge_wh - used_wh,
            "odometer_m": car.odometer_m + metres,
        }
        if path:
            limit = network.leg(node, path[0])[1]
            changes["cruise_kmh"] = min(car.cruise_kmh, limit)
            if limit <= LANE_LIMIT_KMH and car.lights is Lights.HIGH:
                changes["lights"] = Lights.LOW
        return self.change(car, **changes)

    def _stop(self, car: Car) -> Car:
        """End the trip where the car is."""
        place = self.place_of(car)
        if place is not None:
            trip = self.trips[car.trip or ""]
            self.trips[trip.id] = replace(trip, end=place.id)
        return self.enter(self.change(car, trip=None), Mode.ON)


def _hundreds(distance_km: float) -> int:
    """Kilometres with one decimal as metres.

    Raises:
        InvalidArguments: it has more decimals.
    """
    tenths = round(distance_km * 10)
    if abs(tenths - distance_km * 10) > 1e-6:
        raise InvalidArguments(
            f"{distance_km} km has more than one decimal: round it to 0.1 km.", reason="too_precise"
        )
    return tenths * 100
