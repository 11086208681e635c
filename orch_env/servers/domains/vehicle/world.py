"""The region of a seed, and nine cars, each found in the middle of something else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, TypeAlias

from orch_env.servers import Chance
from orch_env.servers.domains.vehicle.records import (
    DOORS,
    SEATS,
    TYRES,
    WINDOWS,
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
from orch_env.servers.domains.vehicle.roads import Network, Position, Way, road_id
from orch_env.servers.framework.chance import words

TODAY = date(2025, 5, 12)
NUM_TOWNS = 12
NUM_SHORTCUTS = 6
PLACE_NAMES = {
    "charger": "{} Charging Park",
    "workshop": "{} Motors",
    "cafe": "{} Café",
    "hotel": "{} Hotel",
    "museum": "{} Museum",
    "park": "{} Park",
    "pool": "{} Baths",
    "supermarket": "{} Market",
}
SHARES = {"cafe": 0.7, "hotel": 0.5, "museum": 0.4, "park": 0.6, "pool": 0.3, "supermarket": 0.7}
"""In how many towns there is such a place. All have a charger, every second one a workshop."""
CHARGERS_WH = (360, 800, 2000, 2500)
"""Watt-hours a minute of public chargers: 21.6, 48, 120 and 150 kW."""
WALLBOX_WH = 180
CAR_NAMES = (
    "Bandit", "Biscuit", "Comet", "Dotty", "Hopper", "Juno", "Mango", "Marvin",
    "Maverick", "Nimbus", "Pebble", "Pixie", "Rocket", "Scout", "Turbo", "Ziggy",
)  # fmt: skip
CAPACITIES_WH = (52_000, 58_000, 64_000, 77_000)
MAINTENANCE = (
    "brake fluid", "brake pads", "cabin filter", "coolant", "safety inspection", "tyre rotation",
    "windscreen seal", "wiper blades",
)  # fmt: skip

Records: TypeAlias = list[Any]


def make_world(chance: Chance) -> Records:
    """All records of a new world."""
    region = _Region(chance)
    records = [*region.towns.values(), *region.roads.values(), *region.places.values()]
    records += region.saved_places(chance)
    names = chance.draw(CAR_NAMES, len(SCENES))
    for scene, name in zip(chance.shuffled(SCENES), names, strict=True):
        records += _Draft(region, chance, name).records(scene)
    return records


class _Region:
    """Towns, roads and places."""

    def __init__(self, chance: Chance) -> None:
        self.ids: dict[str, None] = {}
        self.towns: dict[str, Town] = {}
        for name in chance.draw(words("vehicle_towns"), NUM_TOWNS):
            town = self.new_id(chance, "TN-", 3)
            self.towns[town] = Town(town, name)
        self.roads = {road.id: road for road in self._roads(chance)}
        self.places = {place.id: place for place in self._places(chance)}
        self.network = Network(self.roads, self.places)
        self.outside_celsius = chance.between(2, 27)

    def new_id(self, chance: Chance, prefix: str, digits: int) -> str:
        """An id that no record has."""
        found = chance.id(prefix, digits, self.ids)
        self.ids[found] = None
        return found

    def of_kind(self, *kinds: str) -> list[Place]:
        """The places of some kinds."""
        return [place for place in self.places.values() if place.kind in kinds]

    def saved_places(self, chance: Chance) -> list[SavedPlace]:
        """Labels that the members of the club gave."""
        homes = chance.draw(self.of_kind("address"), 4)
        people = chance.draw(words("first_names"), len(homes))
        saved = [SavedPlace(f"{p}'s house", h.id) for p, h in zip(people, homes, strict=True)]
        depot = chance.pick(self.of_kind("office"))
        return [*saved, SavedPlace("depot", depot.id)]

    def way(self, start: Position, target: Place) -> Way:
        """The shortest way."""
        return self.network.to_place(start, target, self.network.to_towns(start))

    def _roads(self, chance: Chance) -> Iterator[Road]:
        """A ring through all towns with shortcuts; the shortest road of all is a fast one."""
        ring = chance.shuffled(list(self.towns))
        ends = {road_id(one, ring[at - 1]): None for at, one in enumerate(ring)}
        while len(ends) < NUM_TOWNS + NUM_SHORTCUTS:
            ends[road_id(*chance.draw(ring, 2))] = None
        lengths = chance.draw(range(41, 240), len(ends))
        numbers = chance.draw(range(100, 999), len(ends))
        for road, length, number in zip(ends, lengths, numbers, strict=True):
            limit = 100 if length == min(lengths) else chance.pick((80, 100, 120))
            yield Road(road, f"B {number}", length * 100, limit)

    def _places(self, chance: Chance) -> Iterator[Place]:
        names = iter(chance.shuffled(words("vehicle_place_words")))
        streets = iter(chance.shuffled(words("streets")))
        companies = iter(chance.shuffled(words("companies")))
        for at, town in enumerate(self.towns.values()):
            kinds = ["charger", *(["workshop"] if at % 2 else [])]
            # The first town has everything, so that each world has each kind of place.
            kinds += [kind for kind, share in SHARES.items() if at == 0 or chance.often(share)]
            for kind in kinds:
                yield self._place(chance, PLACE_NAMES[kind].format(next(names)), kind, town)
            address = f"{chance.between(1, 90)} {next(streets)}, {town.name}"
            wallbox = WALLBOX_WH if at == 0 or chance.often(0.5) else 0
            yield replace(self._place(chance, address, "address", town), charger_wh=wallbox)
            if at % 3 == 0:
                yield self._place(chance, next(companies), "office", town)

    def _place(self, chance: Chance, name: str, kind: str, town: Town) -> Place:
        place = Place(
            self.new_id(chance, "PL-", 4), name, kind, town.id, chance.between(2, 30) * 100
        )
        if kind == "charger":
            charger = chance.pick(CHARGERS_WH)
            return replace(place, charger_wh=charger, air_pump=chance.often(0.5))
        if kind == "workshop":
            closed = chance.between(0, 4)
            days = [TODAY + timedelta(days=n) for n in range(1, 15)]
            days = [day for day in days if day.weekday() < 5 and day.weekday() != closed]
            full = sorted(day.isoformat() for day in chance.draw(days, 2))
            return replace(place, air_pump=True, closed_on=closed, full_on=tuple(full))
        return place


@dataclass(frozen=True, slots=True)
class _Seating:
    """How many people sit in the car, and how many of them have fastened their belts."""

    people: int
    belted: int


class _Draft:
    """A car on its way into the world; scenes change what it is doing."""

    def __init__(self, region: _Region, chance: Chance, name: str) -> None:
        self.region = region
        self.chance = chance
        capacity = chance.pick(CAPACITIES_WH)
        place = chance.pick(region.of_kind("cafe", "hotel", "park", "supermarket"))
        self.car = Car(
            id=region.new_id(chance, "CAR-", 4),
            name=name,
            capacity_wh=capacity,
            charge_wh=capacity // 100 * chance.between(45, 90) + chance.between(1, 40) * 10,
            rate_wh=chance.between(14, 19),
            odometer_m=chance.between(90_000, 700_000) * 100,
            outside_celsius=region.outside_celsius,
            node=place.id,
            mode_since=f"{TODAY.isoformat()}T08:50:00",
        )
        self.seats = _Seating(0, 0)
        self.doors = dict.fromkeys(DOORS, DoorState.CLOSED)
        self.recommended = dict(
            zip(TYRES, (chance.pick((24, 25)),) * 2 + (chance.pick((26, 27)),) * 2, strict=True)
        )
        self.lost = {tyre: chance.pick((0, 0, 1)) for tyre in TYRES}
        self.due = chance.between(0, 2)
        self.booked = False
        self.under_way: Trip | None = None

    def change(self, **changes: Any) -> None:
        """Replace fields of the car."""
        self.car = replace(self.car, **changes)

    def records(self, scene: Callable[[_Draft], None]) -> Records:
        """The car with its parts, its trips and its maintenance."""
        scene(self)
        car, chance = self.car, self.chance
        climate = car.mode in (Mode.ON, Mode.DRIVING) and chance.often(0.5)
        records: Records = [
            *(Door(f"{car.id}:{door}", state) for door, state in self.doors.items()),
            *(
                Seat(f"{car.id}:{seat}", at < self.seats.people, at < self.seats.belted)
                for at, seat in enumerate(SEATS)
            ),
            *(Window(f"{car.id}:{window}", 0) for window in WINDOWS),
            *(
                Zone(f"{car.id}:{zone}", 20, 2 if climate and zone == "driver" else 0)
                for zone in ZONES
            ),
            *(
                Tyre(f"{car.id}:{tyre}", recommended - self.lost[tyre], recommended)
                for tyre, recommended in self.recommended.items()
            ),
            *self._maintenance(),
        ]
        return [*self._history(), self.car, *records]

    def stand_at(self, *places: Place) -> Place:
        """Put the car at one of some places."""
        place = self.chance.pick(places)
        self.change(node=place.id)
        return place

    def take_road(self, min_limit: int) -> None:
        """Put the car in motion, on a road with at least this limit; for 50, on the first lane."""
        region, chance = self.region, self.chance
        while True:
            start, target = chance.draw(list(region.places.values()), 2)
            nodes = (start.id, *region.way(Position(start.id), target).nodes)
            legs = [region.network.leg(*leg) for leg in itertools.pairwise(nodes)]
            found = [at for at, (_, limit) in enumerate(legs) if limit >= min_limit]
            if found and len(nodes) >= 4:
                break
        at = found[0]
        past = chance.between(1, legs[at][0] // 100 - 1) * 100
        driven = sum(metres for metres, _ in legs[:at]) + past
        trip = Trip(
            region.new_id(chance, "TR-", 5),
            self.car.id,
            TODAY.isoformat(),
            start.id,
            None,
            self.car.odometer_m,
            driven,
            driven // 100 * self.car.rate_wh,
        )
        self.change(
            mode=Mode.DRIVING, gear=Gear.DRIVE, parking_brake=False, trip=trip.id,
            node=nodes[at], towards=nodes[at + 1], past_m=past, path=nodes[at + 1 :],
            odometer_m=trip.start_odometer_m + driven, lights=Lights.LOW,
        )  # fmt: skip
        self.under_way = trip

    def left_m(self) -> int:
        """Metres that the car's route still has."""
        car = self.car
        nodes = (car.node, *car.path)
        legs = itertools.pairwise(nodes)
        return sum(self.region.network.leg(*leg)[0] for leg in legs) - car.past_m

    def _history(self) -> Iterator[Trip]:
        """Trips of the last three weeks, backwards from where the car is."""
        region, chance = self.region, self.chance
        end, odometer = self.car.node, self.car.odometer_m
        if self.under_way is not None:
            yield self.under_way
            end, odometer = self.under_way.start or "", self.under_way.start_odometer_m
        for days in sorted(chance.draw(range(1, 22), 6)):
            start = chance.pick([p for p in region.places.values() if p.id != end])
            metres = region.way(Position(start.id), region.places[end]).metres
            odometer -= metres
            used = metres // 100 * (self.car.rate_wh + chance.between(0, 3))
            day = (TODAY - timedelta(days=days)).isoformat()
            trip = region.new_id(chance, "TR-", 5)
            yield Trip(trip, self.car.id, day, start.id, end, odometer, metres, used)
            end = start.id

    def _maintenance(self) -> Iterator[Service]:
        """Four items, the first ``due`` of them due."""
        chance, odometer = self.chance, self.car.odometer_m
        for at, item in enumerate(chance.draw(MAINTENANCE, 4)):
            days, metres = chance.between(5, 200), chance.between(500, 15_000) * 1000
            if at < self.due and chance.often(0.5):
                days = -chance.between(1, 20)
            elif at < self.due:
                metres = -chance.between(1, 900) * 1000
            service = Service(
                self.region.new_id(chance, "SV-", 5),
                self.car.id,
                item,
                (TODAY + timedelta(days=days)).isoformat(),
                odometer + metres,
            )
            if self.booked and at == 3:
                workshop = chance.pick(self.region.of_kind("workshop"))
                free = (TODAY + timedelta(days=n) for n in range(1, 15))
                day = next(
                    day.isoformat()
                    for day in free
                    if day.weekday() < 5
                    and day.weekday() != workshop.closed_on
                    and day.isoformat() not in workshop.full_on
                )
                service = replace(service, workshop=workshop.id, booked_for=day)
            yield service


def _on_a_fast_road(draft: _Draft) -> None:
    draft.take_road(100)
    draft.seats = _Seating(2, 2)


def _in_town_with_a_flat_tyre(draft: _Draft) -> None:
    """Its charge lasts for half of the way."""
    draft.take_road(50)
    draft.seats = _Seating(1, 1)
    draft.lost = dict.fromkeys(TYRES, 0) | {draft.chance.pick(TYRES): 6}
    draft.change(charge_wh=draft.left_m() // 200 * draft.car.rate_wh)


def _ready_to_drive(draft: _Draft) -> None:
    draft.change(mode=Mode.ON)
    draft.seats = _Seating(3, 3)
    draft.booked = True


def _people_getting_in(draft: _Draft) -> None:
    draft.change(mode=Mode.ON, brake_held=True)
    draft.seats = _Seating(2, 1)
    draft.doors[draft.chance.pick(DOORS[2:])] = DoorState.OPEN


def _waiting_with_a_route(draft: _Draft) -> None:
    """In gear, with the pedal held."""
    start = draft.region.places[draft.car.node]
    target = draft.chance.pick([p for p in draft.region.of_kind("hotel", "museum") if p != start])
    way = draft.region.way(Position(start.id), target)
    draft.change(
        mode=Mode.ON, gear=Gear.DRIVE, brake_held=True, parking_brake=False, path=way.nodes
    )
    draft.seats = _Seating(2, 2)


def _empty_at_a_charger(draft: _Draft) -> None:
    draft.stand_at(*draft.region.of_kind("charger"))
    draft.change(charge_wh=draft.car.capacity_wh // 100 * draft.chance.between(15, 40))
    draft.due = 1


def _charging_at_a_house(draft: _Draft) -> None:
    draft.stand_at(*(p for p in draft.region.of_kind("address") if p.charger_wh))
    charge = draft.car.capacity_wh // 100 * draft.chance.between(30, 50)
    draft.change(mode=Mode.CHARGING, cable=True, charge_limit=90, charge_wh=charge)


def _low_tyre_at_a_workshop(draft: _Draft) -> None:
    draft.stand_at(*draft.region.of_kind("workshop"))
    low = {draft.chance.pick(TYRES): draft.chance.between(2, 6)}
    draft.lost = dict.fromkeys(TYRES, 0) | low
    draft.due = 1


def _locked_and_flat(draft: _Draft) -> None:
    draft.stand_at(*(p for p in draft.region.places.values() if not p.charger_wh))
    draft.doors = dict.fromkeys(DOORS, DoorState.LOCKED)
    draft.change(charge_wh=draft.car.capacity_wh // 100 * draft.chance.between(4, 8))


SCENES: tuple[Callable[[_Draft], None], ...] = (
    _on_a_fast_road,
    _in_town_with_a_flat_tyre,
    _ready_to_drive,
    _people_getting_in,
    _waiting_with_a_route,
    _empty_at_a_charger,
    _charging_at_a_house,
    _low_tyre_at_a_workshop,
    _locked_and_flat,
)
