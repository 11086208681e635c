"""Charging, tyres and maintenance."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Annotated, Literal

from orch_env.servers import (
    Format,
    InvalidArguments,
    NotFound,
    Pattern,
    Range,
    ToolRefusal,
    read,
    write,
)
from orch_env.servers.domains.vehicle.records import TYRES, Mode, Service, Tyre
from orch_env.servers.domains.vehicle.state import CarId, CarState, PlaceId, kilometres
from orch_env.types.json import JsonObject

MAX_OVER_DECIBAR = 4
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SATURDAY = WEEKDAYS.index("Saturday")


class CareTools(CarState):
    """What keeps a car running."""

    @write(idempotent=True)
    def plug_in(self, car: CarId, limit_percent: Annotated[int, Range(1, 100)] = 80) -> JsonObject:
        """Plug a car in at the charger where it stands and charge it; it stops at the limit.

        Args:
            car: The car's id; find_car gives it. It must be off.
            limit_percent: The charge at which charging ends, in per cent.
        """
        its = self.need_car(car)
        if its.cable:
            self.refuse_already("The charge cable is plugged in")
        self.need_mode(its, Mode.OFF, what="Plugging in")
        place = self.place_of(its)
        if place is None or not place.charger_wh:
            raise ToolRefusal(
                "There is no charger here; search_places finds the nearest one.",
                reason="no_charger",
            )
        if its.charge_wh >= its.capacity_wh * limit_percent // 100:
            percent = its.charge_wh * 100 // its.capacity_wh
            raise ToolRefusal(
                f"The battery is at {percent} per cent: choose a limit above that.",
                reason="charged_enough",
                charge_percent=percent,
            )
        its = self.change(its, cable=True, charge_limit=limit_percent)
        self.enter(its, Mode.CHARGING)
        missing = its.capacity_wh * limit_percent // 100 - its.charge_wh
        return {
            "mode": Mode.CHARGING.value,
            "limit_percent": limit_percent,
            "minutes_left": -(-missing // place.charger_wh),
        }

    @write(idempotent=True)
    def unplug(self, car: CarId) -> JsonObject:
        """Unplug a car from its charger; a charge that is running ends with what it has reached.

        Args:
            car: The car's id; find_car gives it.
        """
        its = self.need_car(car)
        if not its.cable:
            self.refuse_already("The charge cable is unplugged")
        its = self.change(its, cable=False, charge_wh=self.charge_of(its))
        if its.mode is Mode.CHARGING:
            its = self.enter(its, Mode.OFF)
        return {
            "mode": its.mode.value,
            "charge_percent": its.charge_wh * 100 // its.capacity_wh,
        }

    @read
    def check_tyres(self, car: CarId) -> JsonObject:
        """The pressure of each tyre, and those below the recommended one, the lowest first.

        Args:
            car: The car's id; find_car gives it.
        """
        self.need_car(car)
        tyres = [(name, self.tyres[f"{car}:{name}"]) for name in TYRES]
        low = [(name, one) for name, one in tyres if one.decibar < one.recommended_decibar]
        low.sort(key=lambda pair: pair[1].decibar - pair[1].recommended_decibar)
        return {
            "bar": {name: one.decibar / 10 for name, one in tyres},
            "low": [_tyre(*pair) for pair in low],
        }

    @write(idempotent=True)
    def inflate_tyre(
        self,
        car: CarId,
        tyre: Literal["front_left", "front_right", "rear_left", "rear_right"],
        bar: Annotated[float, Range(1, 5)],
    ) -> JsonObject:
        """Inflate a tyre at a place with an air pump.

        Args:
            car: The car's id; find_car gives it.
            tyre: Which tyre; check_tyres says which ones are low.
            bar: The pressure wanted, with at most one decimal, up to 0.4 bar above the recommended
                one.
        """
        its, held = self.need_car(car), self.tyres[f"{car}:{tyre}"]
        decibar = round(bar * 10)
        if abs(decibar - bar * 10) > 1e-6:
            raise InvalidArguments(f"{bar} bar has more than one decimal.", reason="too_precise")
        place = self.place_of(its)
        if place is None or not place.air_pump:
            raise ToolRefusal(
                "There is no air pump here; workshops and chargers have them, see air_pump in "
                "search_places.",
                reason="no_air_pump",
            )
        most = held.recommended_decibar + MAX_OVER_DECIBAR
        if decibar > most:
            raise ToolRefusal(
                f"At most {most / 10} bar are safe for this tyre.",
                reason="over_pressure",
                most_bar=most / 10,
            )
        if decibar == held.decibar:
            self.refuse_already(f"The tyre has {bar} bar")
        if decibar < held.decibar:
            raise ToolRefusal(
                f"The tyre has {held.decibar / 10} bar, and a pump only adds air.",
                reason="below_pressure",
            )
        self.tyres[held.id] = replace(held, decibar=decibar)
        return {"tyre": tyre, "bar": decibar / 10}

    @read
    def list_services(self, car: CarId, only_due: bool = False) -> JsonObject:
        """The maintenance of a car, the earliest date first, with what is due and what is booked.

        Args:
            car: The car's id; find_car gives it.
            only_due: true for maintenance alone that is due now, by date or by odometer, and not
                booked.
        """
        its = self.need_car(car)
        found = []
        for service in self.services.values():
            if service.car == car:
                due = service.due_date <= self.today or service.due_odometer_m <= its.odometer_m
                if not only_due or (due and service.booked_for is None):
                    found.append((service.due_date, service.item, _service(service, due)))
        found.sort(key=lambda entry: entry[:2])
        return {"services": [entry for _, _, entry in found]}

    @write(idempotent=True)
    def book_service(
        self,
        service: Annotated[str, Pattern("SV-[0-9]{5}")],
        workshop: PlaceId,
        day: Annotated[str, Format("date")],
    ) -> JsonObject:
        """Book a car's maintenance at a workshop for a day.

        Args:
            service: The id of the maintenance; list_services gives it.
            workshop: The place id of a workshop; find_place and search_places give it.
            day: A working day after today, such as 2025-03-03; each workshop is closed on one
                weekday too.
        """
        held = self.services.get(service)
        if held is None:
            raise NotFound(
                f"There is no service {service}; list_services gives ids.", reason="unknown_service"
            )
        place = self.need_place(workshop)
        if place.closed_on is None:
            raise ToolRefusal(
                f"{place.name} is no workshop; search_places finds workshops.",
                reason="not_a_workshop",
            )
        if held.booked_for is not None:
            raise ToolRefusal(
                f"The {held.item} is booked for {held.booked_for} already.",
                reason="already_booked",
                day=held.booked_for,
            )
        if day <= self.today:
            raise InvalidArguments(
                f"{day} is not after today, {self.today}.", reason="not_in_future"
            )
        weekday = date.fromisoformat(day).weekday()
        if weekday >= SATURDAY or weekday == place.closed_on:
            raise ToolRefusal(
                f"{place.name} is closed on {WEEKDAYS[weekday]}s: choose another day.",
                reason="workshop_closed",
            )
        if day in place.full_on:
            raise ToolRefusal(
                f"{place.name} is fully booked on {day}: choose another day or workshop.",
                reason="fully_booked",
            )
        self.services[service] = replace(held, workshop=workshop, booked_for=day)
        return {"service": service, "item": held.item, "workshop": place.name, "day": day}


def _tyre(name: str, tyre: Tyre) -> JsonObject:
    return {
        "tyre": name,
        "bar": tyre.decibar / 10,
        "recommended_bar": tyre.recommended_decibar / 10,
    }


def _service(service: Service, due: bool) -> JsonObject:
    return {
        "service": service.id,
        "item": service.item,
        "due": due,
        "due_date": service.due_date,
        "due_km": kilometres(service.due_odometer_m),
        "booked_for": service.booked_for,
    }
