"""Where the cars and the places are: look-ups, ways, routes, saved places, the log of trips."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from orch_env.servers import Format, Length, NotFound, Range, ToolRefusal, read, write
from orch_env.servers.domains.vehicle.records import (
    DOORS,
    SEATS,
    WINDOWS,
    ZONES,
    Mode,
    Place,
    SavedPlace,
    Trip,
)
from orch_env.servers.domains.vehicle.state import (
    CarId,
    CarState,
    PlaceId,
    kilometres,
    position_of,
)
from orch_env.types.json import JsonObject

Limit = Annotated[int, Range(1, 50)]


class NavigationTools(CarState):
    """What a car knows of itself and of the way."""

    @read
    def find_car(self, name: str) -> JsonObject:
        """Find a car of the club by its name, with its mode.

        Args:
            name: The car's name, which is written on its door.
        """
        for car in self.cars.values():
            if car.name.casefold() == name.casefold():
                return {"car": car.id, "mode": car.mode.value}
        names = ", ".join(sorted(car.name for car in self.cars.values()))
        raise NotFound(f"No car is called {name[:60]!r}. Cars: {names}.", reason="unknown_car")

    @read
    def get_status(self, car: CarId) -> JsonObject:
        """Everything about a car: mode, gear, brakes, charge, range, place, route, cabin.

        Args:
            car: The car's id; find_car gives it.
        """
        its = self.need_car(car)
        seats = [(name, self.seats[f"{car}:{name}"]) for name in SEATS]
        zones = [(name, self.zones[f"{car}:{name}"]) for name in ZONES]
        charge = self.charge_of(its)
        return {
            "car": car,
            "name": its.name,
            "mode": its.mode.value,
            "gear": its.gear.value,
            "pedal_held": its.brake_held,
            "parking_brake": its.parking_brake,
            "cable": its.cable,
            "charge_percent": charge * 100 // its.capacity_wh,
            "charge_kwh": charge / 1000,
            "range_km": kilometres(self.range_of(its)),
            "odometer_km": kilometres(its.odometer_m),
            "at": self._name_and_id(self.place_of(its)),
            "destination": self._name_and_id(self.places[its.path[-1]] if its.path else None),
            "lights": its.lights.value,
            "cruise_kmh": its.cruise_kmh,
            "outside_celsius": its.outside_celsius,
            "doors": {name: self.doors[f"{car}:{name}"].state.value for name in DOORS},
            "belts": {
                name: "fastened" if seat.belted else "open" for name, seat in seats if seat.occupied
            },
            "windows": {name: self.windows[f"{car}:{name}"].open_percent for name in WINDOWS},
            "climate": {name: {"celsius": zone.celsius, "fan": zone.fan} for name, zone in zones},
        }

    @read
    def find_place(self, name: str) -> JsonObject:
        """Find one place by its name or by the label it was saved under.

        Args:
            name: The whole name or label.
        """
        wanted = name.casefold()
        for saved in self.saved_places.values():
            if saved.label.casefold() == wanted:
                return self._described(self.places[saved.place])
        for place in self.places.values():
            if place.name.casefold() == wanted:
                return self._described(place)
        raise NotFound(
            f"No place is called or saved as {name[:60]!r}; search_places lists places by kind.",
            reason="unknown_place",
        )

    @read
    def search_places(
        self,
        car: CarId,
        kind: Literal[
            "charger", "workshop", "cafe", "hotel", "museum", "park", "pool", "supermarket"
        ],
        town: str | None = None,
        within_km: Annotated[float, Range(0, 1000)] | None = None,
        limit: Limit = 5,
    ) -> JsonObject:
        """List places of a kind by the length of the way from a car, the nearest first.

        Args:
            car: The car's id; find_car gives it.
            kind: The kind of place.
            town: Only places in the town of this name.
            within_km: Only places at most this far away.
            limit: How many to list at most.
        """
        its, start = self.need_car(car), position_of(self.need_car(car))
        towns = {one.name.casefold(): one.id for one in self.towns.values()}
        if town is not None and town.casefold() not in towns:
            names = ", ".join(sorted(one.name for one in self.towns.values()))
            raise NotFound(f"There is no town {town[:60]!r}. Towns: {names}.", reason="no_town")
        network = self.network
        ways = network.to_towns(start)
        found = []
        for place in self.places.values():
            if place.kind == kind and (town is None or place.town == towns[town.casefold()]):
                metres = network.to_place(start, place, ways).metres
                if within_km is None or kilometres(metres) <= within_km:
                    found.append((metres, place.name, place))
        found.sort()
        return {
            "car": its.id,
            "places": [
                {**self._described(place), "distance_km": kilometres(metres)}
                for metres, _, place in found[:limit]
            ],
            "found": len(found),
        }

    @read
    def plan_route(self, car: CarId, place: PlaceId) -> JsonObject:
        """The shortest way from a car to a place, and what it needs, without setting a route.

        Args:
            car: The car's id; find_car gives it.
            place: The place's id; find_place and search_places give it.
        """
        its, target = self.need_car(car), self.need_place(place)
        start, network = position_of(its), self.network
        way = network.to_place(start, target, network.to_towns(start))
        used, charge = way.metres // 100 * self.rate_of(its), self.charge_of(its)
        return {
            "place": place,
            "distance_km": kilometres(way.metres),
            "minutes": network.minutes(start, way),
            "via": [self.towns[node].name for node in way.nodes if node in self.towns],
            "energy_kwh": used / 1000,
            "charge_suffices": used <= charge,
            "arrival_charge_percent": max(0, charge - used) * 100 // its.capacity_wh,
        }

    @write(destructive=True, idempotent=True)
    def start_route(self, car: CarId, place: PlaceId) -> JsonObject:
        """Set the route of a car to a place by the shortest way, in place of any other route.

        Args:
            car: The car's id; find_car gives it.
            place: The place's id; find_place and search_places give it.
        """
        its, target = self.need_car(car), self.need_place(place)
        if its.mode is Mode.OFF:
            modes = [mode for mode in Mode if mode is not Mode.OFF]
            self.need_mode(its, *modes, what="Navigation")
        if its.path and its.path[-1] == place:
            self.refuse_already(f"The route leads to {target.name}")
        start, network = position_of(its), self.network
        way = network.to_place(start, target, network.to_towns(start))
        if not way.metres:
            raise ToolRefusal(f"The car stands at {target.name}.", reason="already_there")
        if its.towards is not None and way.nodes[0] == its.node:
            length, _ = network.leg(its.node, its.towards)
            its = self.change(its, node=its.towards, towards=its.node, past_m=length - its.past_m)
        self.change(its, path=way.nodes)
        return {"destination": target.name, "distance_km": kilometres(way.metres)}

    @write(destructive=True, idempotent=True)
    def save_place(self, label: Annotated[str, Length(1, 40)], place: PlaceId) -> JsonObject:
        """Save a place under a label that find_place understands, in place of an older one.

        Args:
            label: The new label, such as "gym"; it must not be the name of a place.
            place: The place's id; find_place, search_places and get_status give it.
        """
        target = self.need_place(place)
        wanted = label.casefold()
        if any(one.name.casefold() == wanted for one in self.places.values()):
            raise ToolRefusal(
                f"{label!r} is the name of a place: choose another label.", reason="label_taken"
            )
        known = [one for one in self.saved_places.values() if one.label.casefold() == wanted]
        saved = replace(known[0], place=place) if known else SavedPlace(label, place)
        if known == [saved]:
            self.refuse_already(f"{target.name} is saved as {label!r}")
        self.saved_places[saved.label] = saved
        return {"label": saved.label, "name": target.name}

    @read
    def list_trips(
        self,
        car: CarId,
        destination: PlaceId | None = None,
        since: Annotated[str, Format("date")] | None = None,
        limit: Limit = 5,
    ) -> JsonObject:
        """List finished trips of a car, the latest first, and their total distance and energy.

        Args:
            car: The car's id; find_car gives it.
            destination: Only trips that ended at this place; find_place gives its id.
            since: Only trips on or after this date, such as 2025-03-03.
            limit: How many to list at most; the totals count all that were found.
        """
        its = self.need_car(car)
        found = [
            trip
            for trip in self.trips.values()
            if trip.car == car
            and trip.id != its.trip
            and destination in (None, trip.end)
            and (since is None or trip.date >= since)
        ]
        found.sort(key=lambda trip: -trip.start_odometer_m)
        return {
            "trips": [self._trip(trip) for trip in found[:limit]],
            "found": len(found),
            "total_km": kilometres(sum(trip.metres for trip in found)),
            "total_kwh": sum(trip.used_wh for trip in found) / 1000,
        }

    def _trip(self, trip: Trip) -> JsonObject:
        ends = {"from": trip.start, "to": trip.end}
        return {
            "trip": trip.id,
            "date": trip.date,
            **{end: self._name_and_id(self.places.get(at or "")) for end, at in ends.items()},
            "distance_km": kilometres(trip.metres),
            "energy_kwh": trip.used_wh / 1000,
        }

    def _described(self, place: Place) -> JsonObject:
        described: JsonObject = {
            "place": place.id,
            "name": place.name,
            "kind": place.kind,
            "town": self.towns[place.town].name,
        }
        if place.charger_wh:
            described["charger_kw"] = place.charger_wh * 60 / 1000
        if place.air_pump:
            described["air_pump"] = True
        return described

    def _name_and_id(self, place: Place | None) -> JsonObject | None:
        return None if place is None else {"place": place.id, "name": place.name}
