"""Doors, belts, windows, climate control and lights."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from orch_env.servers import InvalidArguments, Range, ToolRefusal, write
from orch_env.servers.domains.vehicle.records import (
    DOORS,
    WINDOWS,
    ZONES,
    Car,
    DoorState,
    Gear,
    Lights,
    Mode,
)
from orch_env.servers.domains.vehicle.roads import LANE_LIMIT_KMH
from orch_env.servers.domains.vehicle.state import CarId, CarState
from orch_env.types.json import JsonObject

FAST_ROAD_KMH = 100
MAX_OPEN_ON_FAST_ROAD = 20
MIN_CHARGE_FOR_CLIMATE = 10
DEFAULT_FAN = 2


class CabinTools(CarState):
    """What the people in a car move."""

    @write(idempotent=True)
    def set_door(
        self,
        car: CarId,
        door: Literal["front_left", "front_right", "rear_left", "rear_right", "boot", "all"],
        state: Literal["open", "closed", "locked"],
    ) -> JsonObject:
        """Open, close, lock or unlock a door or the boot; a locked door becomes closed to unlock.

        Args:
            car: The car's id; find_car gives it.
            door: Which door, or all of them.
            state: The new state; doors open only in gear park, and only from closed.
        """
        its, wanted = self.need_car(car), DoorState(state)
        names = DOORS if door == "all" else (door,)
        moved = [d for d in (self.doors[f"{car}:{n}"] for n in names) if d.state is not wanted]
        if not moved:
            self.refuse_already(f"The doors asked for are {state}")
        if wanted is DoorState.OPEN:
            self._need_doors_free(its)
        for held in moved:
            name = held.id.partition(":")[2]
            if {held.state, wanted} == {DoorState.OPEN, DoorState.LOCKED}:
                first = "close" if held.state is DoorState.OPEN else "unlock"
                raise ToolRefusal(
                    f"Door {name} is {held.state}: {first} it first, with state 'closed'.",
                    reason=f"door_{held.state}",
                    door=name,
                )
            self.doors[held.id] = replace(held, state=wanted)
        return {"doors": {name: self.doors[f"{car}:{name}"].state.value for name in names}}

    def _need_doors_free(self, car: Car) -> None:
        if car.mode is Mode.DRIVING:
            self.need_mode(car, what="Opening a door")
        if car.gear is not Gear.PARK:
            raise ToolRefusal(
                f"Doors open only in gear park, and the car is in {car.gear}.",
                reason="gear_not_park",
            )

    @write(idempotent=True)
    def set_belt(
        self,
        car: CarId,
        seat: Literal["driver", "passenger", "rear_left", "rear_middle", "rear_right"],
        fastened: bool,
    ) -> JsonObject:
        """Fasten or open the belt of an occupied seat.

        Args:
            car: The car's id; find_car gives it.
            seat: Which seat.
            fastened: true to fasten the belt, false to open it.
        """
        its, held = self.need_car(car), self.seats[f"{car}:{seat}"]
        if not held.occupied:
            raise ToolRefusal(
                f"Nobody sits on seat {seat}; get_status lists the occupied seats.",
                reason="seat_empty",
            )
        if held.belted == fastened:
            self.refuse_already(f"The belt of seat {seat} is {'fastened' if fastened else 'open'}")
        if its.mode is Mode.DRIVING:
            self.need_mode(its, what="Opening a belt")
        self.seats[held.id] = replace(held, belted=fastened)
        return {"seat": seat, "fastened": fastened}

    @write(idempotent=True)
    def set_window(
        self,
        car: CarId,
        window: Literal["front_left", "front_right", "rear_left", "rear_right", "all"],
        open_percent: Annotated[int, Range(0, 100)],
    ) -> JsonObject:
        """Move a window or all of them; needs power.

        Args:
            car: The car's id; find_car gives it.
            window: Which window, or all of them.
            open_percent: How far it is open: 0 is closed, 100 fully open; at most 20 while driving
                on a road with a limit of 100 km/h or more.
        """
        its = self.need_car(car)
        if its.mode is Mode.OFF:
            others = [mode for mode in Mode if mode is not Mode.OFF]
            self.need_mode(its, *others, what="Moving a window")
        fast = its.mode is Mode.DRIVING and self.limit_of(its) >= FAST_ROAD_KMH
        if fast and open_percent > MAX_OPEN_ON_FAST_ROAD:
            raise ToolRefusal(
                f"On a road with a limit of {FAST_ROAD_KMH} km/h or more a window opens by at most "
                f"{MAX_OPEN_ON_FAST_ROAD} per cent.",
                reason="too_fast",
                most=MAX_OPEN_ON_FAST_ROAD,
            )
        names = WINDOWS if window == "all" else (window,)
        held = [self.windows[f"{car}:{name}"] for name in names]
        if all(one.open_percent == open_percent for one in held):
            self.refuse_already(f"The windows asked for are open by {open_percent} per cent")
        for one in held:
            self.windows[one.id] = replace(one, open_percent=open_percent)
        return {"windows": dict.fromkeys(names, open_percent)}

    @write(idempotent=True)
    def set_climate(
        self,
        car: CarId,
        zone: Literal["driver", "passenger", "rear", "all"],
        celsius: Annotated[int, Range(16, 28)] | None = None,
        fan: Annotated[int, Range(0, 5)] | None = None,
    ) -> JsonObject:
        """Set temperature and fan of a climate zone; works when the car is on, driving or charging.

        Args:
            car: The car's id; find_car gives it.
            zone: Which zone, or all of them.
            celsius: The temperature in degrees Celsius; left out, it stays.
            fan: The fan's speed, 0 switches the zone off; left out, it stays, and a zone that was
                off starts with 2.
        """
        its = self.need_car(car)
        if celsius is None and fan is None:
            raise InvalidArguments("Give celsius, fan or both.", reason="nothing_to_set")
        modes = (Mode.ON, Mode.DRIVING, Mode.CHARGING)
        self.need_mode(its, *modes, what="Climate control")
        percent = self.charge_of(its) * 100 // its.capacity_wh
        low = its.mode is not Mode.CHARGING and percent < MIN_CHARGE_FOR_CLIMATE
        if low and fan != 0:
            raise ToolRefusal(
                f"The battery is at {percent} per cent; climate control needs "
                f"{MIN_CHARGE_FOR_CLIMATE}, or a charger.",
                reason="battery_low",
                charge_percent=percent,
            )
        names = ZONES if zone == "all" else (zone,)
        held = [self.zones[f"{car}:{name}"] for name in names]
        wanted = [
            replace(
                one,
                celsius=one.celsius if celsius is None else celsius,
                fan=(one.fan or DEFAULT_FAN) if fan is None else fan,
            )
            for one in held
        ]
        if wanted == held:
            self.refuse_already("The climate control is set so")
        for one in wanted:
            self.zones[one.id] = one
        return {
            "zones": {
                name: {"celsius": one.celsius, "fan": one.fan}
                for name, one in zip(names, wanted, strict=True)
            }
        }

    @write(idempotent=True)
    def set_lights(
        self, car: CarId, lights: Literal["off", "parking", "low", "high"]
    ) -> JsonObject:
        """Turn the light switch.

        Args:
            car: The car's id; find_car gives it.
            lights: Low and high beam need power; high beam is refused while driving on a road
                with a limit of 50 km/h.
        """
        its, wanted = self.need_car(car), Lights(lights)
        if its.lights is wanted:
            self.refuse_already(f"The lights are {lights}")
        if its.mode is Mode.OFF and wanted in (Lights.LOW, Lights.HIGH):
            others = [mode for mode in Mode if mode is not Mode.OFF]
            self.need_mode(its, *others, what=f"The {lights} beam")
        in_town = its.mode is Mode.DRIVING and self.limit_of(its) <= LANE_LIMIT_KMH
        if in_town and wanted is Lights.HIGH:
            raise ToolRefusal(
                "High beam dazzles in town: use low beam where the limit is 50 km/h.",
                reason="in_town",
            )
        self.change(its, lights=wanted)
        return {"lights": lights}
