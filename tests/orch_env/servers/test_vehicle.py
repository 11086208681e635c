"""The vehicle against its oracle: the machine as a table, roads and energy recomputed.

The table says what each event does in each mode; every other transition must be refused, with the
kind of refusal that it names. Nothing of the oracle comes from the server's code.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from fractions import Fraction
from math import ceil, inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from orch_env.servers import ServerSession, open_session
from orch_env.types import ErrorType
from tools.server_tasks.chains import templates_of

TYRES = ("front_left", "front_right", "rear_left", "rear_right")
PAGE = Path(__file__).parents[3] / "docs/servers/vehicle.md"

MODES = ("off", "accessory", "on", "driving", "charging")
MACHINE = {
    # event            off           accessory     on            driving       charging
    "power off": ("!already_set", "off", "off", "!vehicle_moving", "!charging"),
    "power accessory": ("accessory", "!already_set", "accessory", "!vehicle_moving", "!charging"),
    "power on": ("on", "on", "!already_set", "!vehicle_moving", "!charging"),
    "press pedal": ("off", "accessory", "on", "on", "charging"),
    "release pedal": ("off", "accessory", "on", "!already_set", "charging"),
    "engage parking": ("off", "accessory", "on", "!vehicle_moving", "charging"),
    "release parking": ("!wrong_mode", "!wrong_mode", "on", "!already_set", "!charging"),
    "shift park": ("!wrong_mode", "!wrong_mode", "on", "!vehicle_moving", "!charging"),
    "shift reverse": ("!wrong_mode", "!wrong_mode", "on", "!vehicle_moving", "!charging"),
    "shift neutral": ("!wrong_mode", "!wrong_mode", "on", "!vehicle_moving", "!charging"),
    "shift drive": ("!wrong_mode", "!wrong_mode", "on", "!already_set", "!charging"),
    "open door": ("off", "accessory", "on", "!vehicle_moving", "charging"),
    "close door": ("off", "accessory", "on", "!already_set", "charging"),
    "fasten belt": ("off", "accessory", "on", "!already_set", "charging"),
    "open belt": ("off", "accessory", "on", "!vehicle_moving", "charging"),
    "plug in": ("charging", "!wrong_mode", "!wrong_mode", "!vehicle_moving", "!already_set"),
    "unplug": ("off", "accessory", "on", "!already_set", "off"),
    "route": ("!wrong_mode", "accessory", "on", "driving", "charging"),
    "drive a bit": ("!wrong_mode", "!wrong_mode", "driving", "driving", "!charging"),
    "drive there": ("!wrong_mode", "!wrong_mode", "on", "on", "!charging"),
    "cruise": ("!not_driving", "!not_driving", "!not_driving", "driving", "!not_driving"),
}
"""What becomes of the mode, or ``!`` and the kind of refusal."""

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"power {p}": ("set_power", {"power": p}) for p in ("off", "accessory", "on")},
    "press pedal": ("set_brake", {"brake": "pedal", "engaged": True}),
    "release pedal": ("set_brake", {"brake": "pedal", "engaged": False}),
    "engage parking": ("set_brake", {"brake": "parking", "engaged": True}),
    "release parking": ("set_brake", {"brake": "parking", "engaged": False}),
    **{f"shift {g}": ("shift_gear", {"gear": g}) for g in ("park", "reverse", "neutral", "drive")},
    "open door": ("set_door", {"door": "rear_left", "state": "open"}),
    "close door": ("set_door", {"door": "rear_left", "state": "closed"}),
    "fasten belt": ("set_belt", {"seat": "driver", "fastened": True}),
    "open belt": ("set_belt", {"seat": "driver", "fastened": False}),
    "plug in": ("plug_in", {"limit_percent": 95}),
    "unplug": ("unplug", {}),
    "drive a bit": ("drive", {"distance_km": 0.1}),
    "drive there": ("drive", {}),
    "cruise": ("set_cruise", {"speed_kmh": 40}),
}


@dataclass(frozen=True)
class Model:
    """The oracle's car, at a charger, with the driver in it."""

    mode: str = "off"
    gear: str = "park"
    pedal: bool = False
    parking: bool = True
    cable: bool = False
    door_open: bool = False
    belt: bool = True
    route: bool = False
    where: str = "charger"
    cruise: bool = False

    def so_already(self, event: str) -> bool:
        """Whether the car is as the event would make it."""
        what, _, rest = event.partition(" ")
        return {
            "press pedal": self.pedal,
            "release pedal": not self.pedal,
            "engage parking": self.parking,
            "release parking": not self.parking,
            "open door": self.door_open,
            "close door": not self.door_open,
            "fasten belt": self.belt,
            "open belt": not self.belt,
            "plug in": self.cable,
            "unplug": not self.cable,
            "cruise": self.cruise,
        }.get(event, (what, rest) == ("shift", self.gear))

    def interlock(self, event: str) -> str | None:
        """The interlock that refuses an event which the table allows."""
        rules: dict[str, tuple[tuple[bool, str], ...]] = {
            "power on": ((self.pedal, "brake_not_held"),),
            "power off": ((self.gear == "park", "gear_not_park"),),
            "power accessory": ((self.gear == "park", "gear_not_park"),),
            "release pedal": ((self.gear != "neutral" or self.parking, "would_roll"),),
            "release parking": ((self.gear != "neutral" or self.pedal, "would_roll"),),
            "open door": ((self.gear == "park", "gear_not_park"),),
            "plug in": ((self.where == "charger", "no_charger"),),
            "route": ((not self.route, "already_set"), (self.where != "there", "already_there")),
        }
        if event.startswith("shift"):
            forward = event in ("shift drive", "shift reverse")
            found: tuple[tuple[bool, str], ...] = (
                (self.pedal, "brake_not_held"),
                (not self.cable, "cable_connected"),
                (not (forward and self.door_open), "door_open"),
                (not forward or self.belt, "belt_open"),
            )
        elif event.startswith("drive"):
            found = (
                (self.gear == "drive", "gear_not_drive"),
                (self.belt, "belt_open"),
                (not self.pedal and not self.parking, "brake_held"),
                (self.route, "no_route"),
            )
        else:
            found = rules.get(event, ())
        return next((reason for holds, reason in found if not holds), None)

    def after(self, event: str) -> Model | str:
        """The car after an event, or the kind of refusal."""
        becomes = MACHINE[event][MODES.index(self.mode)]
        if becomes == "!not_driving":
            return "not_driving"
        if self.so_already(event):
            return "already_set"
        reason = becomes[1:] if becomes.startswith("!") else self.interlock(event)
        if reason is not None:
            return reason
        what, _, rest = event.partition(" ")
        changes: dict[str, Any] = {
            "press pedal": {"pedal": True},
            "release pedal": {"pedal": False},
            "engage parking": {"parking": True},
            "release parking": {"parking": False},
            "open door": {"door_open": True},
            "close door": {"door_open": False},
            "fasten belt": {"belt": True},
            "open belt": {"belt": False},
            "plug in": {"cable": True},
            "unplug": {"cable": False},
            "route": {"route": True},
            "cruise": {"cruise": True},
            "drive a bit": {"where": "road"},
            "drive there": {"where": "there", "route": False, "pedal": True},
        }.get(event, {"gear": rest} if what == "shift" else {})
        if becomes != "driving":
            changes["cruise"] = False
        return replace(self, mode=becomes, **changes)


# -- sessions in a state of one's choice -----------------------------------------------------------


def answer(session: ServerSession, tool: str, **arguments: Any) -> Any:
    """The result of a call that succeeds."""
    result = session.call(tool, arguments)
    assert result.error is None, result.text
    return json.loads(result.text)


def reason_of(session: ServerSession, tool: str, **arguments: Any) -> str:
    """The kind of refusal of a call, which changes nothing."""
    before = session.state_hash()
    result = session.call(tool, arguments)
    assert result.error is not None, result.text
    assert session.state_hash() == before
    return str(json.loads(result.text)["error"]["details"]["reason"])


def changed(session: ServerSession, table: str, key: str, **fields: Any) -> None:
    """Put a record of the session into another state."""
    state = session.snapshot()
    kept = state["changes"][table].get(key)
    if kept is None:
        other = session.fork()
        record = getattr(other.server, table)[key]
        kept = {name: getattr(record, name) for name in record.__dataclass_fields__}
    state["changes"][table][key] = json.loads(json.dumps({**kept, **fields}))
    session.restore(state)


def cars_of(session: ServerSession) -> list[Any]:
    return list(session.server.cars.values())  # type: ignore[attr-defined]


def table(session: ServerSession, name: str) -> dict[str, Any]:
    return dict(getattr(session.server, name))


def car_at_charger(session: ServerSession) -> Any:
    """A car that stands at a charger, unplugged, with its driver in it."""
    places = table(session, "places")
    car = next(
        car
        for car in cars_of(session)
        if car.mode == "off" and car.node in places and places[car.node].kind == "charger"
    )
    changed(session, "seats", f"{car.id}:driver", occupied=True, belted=True)
    return car


# -- the machine as a table ------------------------------------------------------------------------


def test_every_event_in_every_reachable_state_does_what_the_table_says() -> None:
    session = open_session("vehicle", 1)
    car = car_at_charger(session)
    # More than the 10 km that all bits together take, and no charger there.
    target = next(
        place.id
        for place in table(session, "places").values()
        if not place.charger_wh
        and answer(session, "plan_route", car=car.id, place=place.id)["distance_km"] > 10
    )
    calls = {**CALLS, "route": ("start_route", {"place": target})}
    assert set(calls) == set(MACHINE)
    states = {Model(): normal(session)}
    changed(session, "cars", car.id, cable=True)
    states[Model(cable=True)] = normal(session)  # as after a charge that has ended by itself
    waiting, seen = list(states), set()
    while waiting:
        model = waiting.pop()
        for event, (tool, arguments) in calls.items():
            session.restore(states[model])
            result = session.call(tool, {"car": car.id, **arguments})
            expected = model.after(event)
            if isinstance(expected, str):
                assert result.error is not None, (model, event)
                assert json.loads(result.text)["error"]["details"]["reason"] == expected
                continue
            assert result.error is None, (model, event, result.text)
            assert_shows(session, car.id, expected)
            seen.add((model.mode, event))
            if expected not in states:
                states[expected] = normal(session)
                waiting.append(expected)
    allowed = {
        (mode, event)
        for event, row in MACHINE.items()
        for mode, becomes in zip(MODES, row, strict=True)
        if not becomes.startswith("!")
    }
    # A driving car has a route, so there this event needs another target: see OnTheRoad.
    assert seen == allowed - {("driving", "route")}
    assert len(states) > 400


def normal(session: ServerSession) -> Any:
    """A snapshot in which no time has passed, so that nothing ends by itself."""
    state = session.snapshot()
    state["calls"] = 0
    for record in state["changes"]["cars"].values():
        record["mode_since"] = state["start"]
    return json.loads(json.dumps(state))


def assert_shows(session: ServerSession, car: str, model: Model) -> None:
    assert list(session.server.invariants()) == []
    its = table(session, "cars")[car]
    place = table(session, "places").get(its.node) if its.towards is None else None
    shown = Model(
        its.mode,
        its.gear,
        its.brake_held,
        its.parking_brake,
        its.cable,
        table(session, "doors")[f"{car}:rear_left"].state == "open",
        table(session, "seats")[f"{car}:driver"].belted,
        bool(its.path),
        "road" if place is None else "charger" if place.charger_wh else "there",
        bool(its.cruise_kmh),
    )
    assert shown == model


# -- roads -----------------------------------------------------------------------------------------


def distances(session: ServerSession, car: Any) -> dict[str, float]:
    """Metres from a car to each town and place: lengths are relaxed until none gets shorter."""
    edges: dict[tuple[str, str], float] = {}
    for road in table(session, "roads").values():
        one, other = road.id.split(":")
        edges[one, other] = road.metres
    for place in table(session, "places").values():
        edges[place.town, place.id] = place.lane_m
    edges |= {(other, one): length for (one, other), length in edges.items()}
    found: dict[str, float] = dict.fromkeys({one for one, _ in edges}, inf)
    found[car.node] = car.past_m
    if car.towards is not None:
        found[car.towards] = edges[car.node, car.towards] - car.past_m
    shorter = True
    while shorter:
        shorter = False
        for (one, other), length in edges.items():
            if found[one] + length < found[other]:
                found[other] = found[one] + length
                shorter = True
    return found


@pytest.mark.parametrize("seed", [0, 5])
def test_routes_are_shortest_ways_and_searches_are_sorted_by_them(seed: int) -> None:
    session = open_session("vehicle", seed)
    places = table(session, "places")
    for car in cars_of(session):
        if car.mode not in ("driving", "on"):
            continue
        away = distances(session, car)
        for place in places:
            plan = answer(session, "plan_route", car=car.id, place=place)
            assert plan["distance_km"] == away[place] / 1000
        for kind in ("charger", "cafe"):
            of_kind = sorted((away[p.id], p.name, p.id) for p in places.values() if p.kind == kind)
            found = answer(session, "search_places", car=car.id, kind=kind, limit=50)
            assert [p["place"] for p in found["places"]] == [p for _, _, p in of_kind]
            near = of_kind[len(of_kind) // 2][0]
            found = answer(
                session, "search_places", car=car.id, kind=kind, within_km=near / 1000, limit=1
            )
            assert found["places"][0]["place"] == of_kind[0][2]
            assert found["found"] == sum(metres <= near for metres, _, _ in of_kind)


@pytest.mark.parametrize("seed", range(4))
def test_a_route_passes_the_nodes_that_make_up_its_length(seed: int) -> None:
    session = open_session("vehicle", seed)
    roads, places = table(session, "roads"), table(session, "places")

    def leg(one: str, other: str) -> tuple[int, int]:
        for node in (one, other):
            if node in places:
                return places[node].lane_m, 50
        road = roads[":".join(sorted((one, other)))]
        return road.metres, road.limit_kmh

    for car, place in itertools.product(cars_of(session), list(places)[::7]):
        if car.mode == "off" or place in (car.node, *car.path[-1:]):
            continue
        trial = session.fork()
        plan = answer(trial, "plan_route", car=car.id, place=place)
        answer(trial, "start_route", car=car.id, place=place)
        its = table(trial, "cars")[car.id]
        assert {its.node, its.towards} >= ({car.node, car.towards} - {None})
        legs = [leg(*pair) for pair in itertools.pairwise((its.node, *its.path))]
        metres = [length for length, _ in legs]
        metres[0] -= its.past_m
        assert sum(metres) / 1000 == plan["distance_km"]
        hours = sum(
            (Fraction(m, 1000 * limit) for m, (_, limit) in zip(metres, legs, strict=True)),
            Fraction(0),
        )
        assert plan["minutes"] == ceil(hours * 60)
        assert plan["via"] == [
            table(session, "towns")[node].name for node in its.path if node.startswith("TN-")
        ]
        assert its.path[-1] == place


# -- energy, distance and time ---------------------------------------------------------------------


@dataclass
class Ledger:
    """What a car must hold, kept beside the server by adding up."""

    charge: int
    odometer: int
    rate: int
    trips: list[tuple[int, int]] = field(default_factory=list)


class OnTheRoad(RuleBasedStateMachine):
    """One car is used at random, and the oracle's model and ledger go along."""

    @initialize(seed=st.integers(0, 30))
    def begin(self, seed: int) -> None:
        self.session = open_session("vehicle", seed)
        self.car = car_at_charger(self.session).id
        its = self.its()
        self.model = Model()
        self.ledger = Ledger(its.charge_wh, its.odometer_m, its.rate_wh)
        self.capacity, self.outside = its.capacity_wh, its.outside_celsius
        self.zones = dict.fromkeys(("driver", "passenger", "rear"), (20, 0))
        self.since = 0
        self.charger = table(self.session, "places")[its.node].charger_wh
        self.left = 0

    def its(self) -> Any:
        return table(self.session, "cars")[self.car]

    def rate(self) -> int:
        """Watt-hours for 100 m: each zone adds one, or two for a difference of eight degrees."""
        zones = [celsius for celsius, fan in self.zones.values() if fan]
        return self.ledger.rate + sum(1 + (abs(c - self.outside) >= 8) for c in zones)

    def charge(self) -> int:
        if self.model.mode != "charging":
            return self.ledger.charge
        minutes = self.session.clock.calls - self.since
        return min(self.ledger.charge + minutes * self.charger, self.capacity * 95 // 100)

    def time_passes(self) -> None:
        """What has ended by itself before the next call."""
        minutes = self.session.clock.calls - self.since
        if self.model.mode == "accessory" and minutes >= 10:
            self.model = replace(self.model, mode="off")
        elif self.model.mode == "charging" and self.charge() == self.capacity * 95 // 100:
            self.ledger.charge = self.charge()
            self.model = replace(self.model, mode="off")
            self.climate_off()

    def climate_off(self) -> None:
        self.zones = {zone: (celsius, 0) for zone, (celsius, _) in self.zones.items()}

    def call(self, tool: str, expected: Model | str, **arguments: Any) -> Any:
        """Call, compare with what is expected, and take it over."""
        at = self.session.clock.calls
        result = self.session.call(tool, arguments)
        if isinstance(expected, str):
            assert result.error is not None, result.text
            assert json.loads(result.text)["error"]["details"]["reason"] == expected
            return None
        assert result.error is None, (result.text, self.model)
        if expected.mode != self.model.mode:
            self.since = at
            if expected.mode in ("off", "accessory"):
                self.climate_off()
        self.model = expected
        return json.loads(result.text)

    @rule(event=st.sampled_from([e for e in MACHINE if not e.startswith(("drive", "route"))]))
    def event(self, event: str) -> None:
        self.time_passes()
        charge = self.charge()
        expected = self.model.after(event)
        if event == "cruise" and isinstance(expected, Model):
            tyres = [table(self.session, "tyres")[f"{self.car}:{t}"] for t in TYRES]
            if any(tyre.recommended_decibar - tyre.decibar > 4 for tyre in tyres):
                expected = "tyre_low"
        if event == "plug in" and isinstance(expected, Model):
            if self.place().charger_wh:
                self.charger = self.place().charger_wh
            if charge >= self.capacity * 95 // 100:
                expected = "charged_enough"
        tool, arguments = CALLS[event]
        done = self.call(tool, expected, car=self.car, **arguments)
        if done is not None and event == "unplug":
            self.ledger.charge = charge

    def place(self) -> Any:
        return table(self.session, "places").get(self.its().node)

    def events(self, *events: str) -> None:
        """Those of some events that are not so already."""
        for event in events:
            if not self.model.so_already(event) and event != f"power {self.model.mode}":
                self.event(event)

    @rule(number=st.integers(0, 10_000), share=st.integers(1, 12), whole=st.booleans())
    def go_somewhere(self, number: int, share: int, whole: bool) -> None:
        """What a driver does; at random it would happen seldom."""
        if self.model.mode == "driving":
            self.event("press pedal")
        self.events("unplug", "press pedal", "power on", "close door", "fasten belt")
        self.events("shift drive", "release parking", "release pedal")
        self.route(number)
        self.drive(share, whole)

    @rule()
    def park_and_charge(self) -> None:
        self.events("press pedal", "shift park", "power off", "plug in")

    @rule(number=st.integers(0, 10_000))
    def route(self, number: int) -> None:
        self.time_passes()
        places = table(self.session, "places")
        target = sorted(places)[number % len(places)]
        its = self.its()
        away = round(distances(self.session, its)[target])
        if its.path[-1:] == (target,) and self.model.mode != "off":
            expected: Model | str = "already_set"
        elif away == 0 and self.model.mode != "off":
            expected = "already_there"
        else:
            expected = replace(self.model, route=False, where="road").after("route")
            if isinstance(expected, Model):
                expected = replace(expected, where=self.model.where)
        if self.call("start_route", expected, car=self.car, place=target) is not None:
            self.left, self.target = away, target

    @rule(share=st.integers(1, 12), whole=st.booleans())
    def drive(self, share: int, whole: bool) -> None:
        self.time_passes()
        metres = self.left if whole else max(100, self.left * share // 1000 * 100)
        arrives = self.model.route and metres == self.left
        expected = self.model.after("drive there" if arrives else "drive a bit")
        used = metres // 100 * self.rate()
        if isinstance(expected, Model):
            if metres > self.left:
                expected = "beyond_destination"
            elif used > self.ledger.charge:
                expected = "not_enough_charge"
        if isinstance(expected, Model) and arrives:
            at_charger = bool(table(self.session, "places")[self.target].charger_wh)
            expected = replace(expected, where="charger" if at_charger else "there")
        asked = {} if whole else {"distance_km": metres / 1000}
        done = self.call("drive", expected, car=self.car, **asked)
        if done is not None:
            self.ledger.charge -= used
            self.ledger.odometer += metres
            self.left -= metres
            assert done["left_km"] == self.left / 1000
            self.model = replace(self.model, cruise=bool(self.its().cruise_kmh))

    @rule(
        zone=st.sampled_from(["driver", "passenger", "rear"]),
        celsius=st.integers(16, 28),
        fan=st.integers(0, 5),
    )
    def climate(self, zone: str, celsius: int, fan: int) -> None:
        self.time_passes()
        low = self.model.mode != "charging" and self.charge() * 100 // self.capacity < 10
        expected: Model | str = self.model
        if self.model.mode in ("off", "accessory"):
            expected = "wrong_mode"
        elif low and fan:
            expected = "battery_low"
        elif self.zones[zone] == (celsius, fan):
            expected = "already_set"
        arguments = {"zone": zone, "celsius": celsius, "fan": fan}
        if self.call("set_climate", expected, car=self.car, **arguments) is not None:
            self.zones[zone] = (celsius, fan)

    @rule(minutes=st.integers(1, 15))
    def wait(self, minutes: int) -> None:
        for _ in range(minutes):
            self.session.call("find_car", {"name": "nobody"})

    @invariant()
    def agrees_with_the_oracle(self) -> None:
        if not hasattr(self, "model"):
            return
        assert list(self.session.server.invariants()) == []
        before = self.session.state_hash()
        self.time_passes()
        shown = answer(self.session, "get_status", car=self.car)
        assert self.session.state_hash() == before
        # The call has moved the clock by a minute since.
        self.session.clock.set(self.session.clock.calls - 1)
        assert shown["mode"] == self.model.mode
        assert shown["gear"] == self.model.gear
        assert shown["charge_kwh"] == self.charge() / 1000
        assert shown["range_km"] == self.charge() // self.rate() / 10
        assert shown["odometer_km"] == self.ledger.odometer / 1000
        assert (shown["destination"] is not None) == self.model.route
        zones = {zone: {"celsius": c, "fan": f} for zone, (c, f) in self.zones.items()}
        assert shown["climate"] == zones


def test_a_car_used_at_random_agrees_with_the_oracle() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        OnTheRoad, settings=settings(max_examples=40, stateful_step_count=25)
    )


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_car_used_at_random_for_long_agrees_with_the_oracle() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        OnTheRoad, settings=settings(max_examples=1000, stateful_step_count=60)
    )


# -- the rules as claims ---------------------------------------------------------------------------


def car_where(session: ServerSession, fits: Callable[[Any], bool]) -> str:
    """The id of the first car that fits."""
    return next(str(car.id) for car in cars_of(session) if fits(car))


def limit_under(session: ServerSession, car: Any) -> int:
    """The speed limit on the road under a driving car."""
    if car.node.startswith("PL-") or car.towards.startswith("PL-"):
        return 50
    road = table(session, "roads")[":".join(sorted((car.node, car.towards)))]
    return int(road.limit_kmh)


def on_a_fast_road(session: ServerSession) -> str:
    return car_where(
        session, lambda car: car.mode == "driving" and limit_under(session, car) >= 100
    )


def in_town(session: ServerSession) -> str:
    return car_where(session, lambda car: car.mode == "driving" and limit_under(session, car) == 50)


def ready(session: ServerSession) -> str:
    return car_where(
        session, lambda car: car.mode == "on" and car.gear == "park" and not car.brake_held
    )


def test_a_charge_grows_by_the_minute_and_ends_at_its_limit() -> None:
    session = open_session("vehicle", 2)
    car = car_at_charger(session)
    power = table(session, "places")[car.node].charger_wh
    done = answer(session, "plug_in", car=car.id, limit_percent=90)
    missing = car.capacity_wh * 90 // 100 - car.charge_wh
    assert done["minutes_left"] == ceil(missing / power)
    for minute in range(1, done["minutes_left"] + 3):
        status = answer(session, "get_status", car=car.id)
        assert status["charge_kwh"] * 1000 == pytest.approx(
            min(car.charge_wh + minute * power, car.capacity_wh * 90 // 100)
        )
        assert (status["mode"] == "off") == (minute >= done["minutes_left"])
    assert status["cable"] and status["charge_percent"] == 90
    assert reason_of(session, "plug_in", car=car.id, limit_percent=100) == "already_set"
    assert answer(session, "unplug", car=car.id) == {"mode": "off", "charge_percent": 90}
    assert reason_of(session, "plug_in", car=car.id, limit_percent=90) == "charged_enough"
    assert answer(session, "plug_in", car=car.id, limit_percent=91)["mode"] == "charging"


def test_unplugging_keeps_what_was_charged() -> None:
    session = open_session("vehicle", 2)
    car = car_at_charger(session)
    answer(session, "plug_in", car=car.id, limit_percent=100)
    for _ in range(3):
        session.call("find_car", {"name": car.name})
    answer(session, "unplug", car=car.id)
    gained = 4 * table(session, "places")[car.node].charger_wh
    assert table(session, "cars")[car.id].charge_wh == car.charge_wh + gained


def test_a_session_that_starts_before_the_world_charges_nothing_backwards() -> None:
    session = open_session("vehicle", 0, "2020-01-01")
    car = next(car for car in cars_of(session) if car.mode == "charging")
    assert answer(session, "get_status", car=car.id)["charge_kwh"] == car.charge_wh / 1000


def test_accessory_power_ends_after_ten_minutes_and_takes_the_lights_along() -> None:
    session = open_session("vehicle", 0)
    car = car_where(session, lambda car: car.mode == "off")
    answer(session, "set_power", car=car, power="accessory")
    answer(session, "set_lights", car=car, lights="low")
    for _ in range(8):
        assert answer(session, "get_status", car=car)["mode"] == "accessory"
    status = answer(session, "get_status", car=car)
    assert (status["mode"], status["lights"]) == ("off", "off")
    assert reason_of(session, "set_window", car=car, window="all", open_percent=5) == "wrong_mode"


def test_parking_lights_stay_on_without_power_and_beams_do_not() -> None:
    session = open_session("vehicle", 0)
    car = ready(session)
    answer(session, "set_lights", car=car, lights="parking")
    answer(session, "set_power", car=car, power="off")
    assert answer(session, "get_status", car=car)["lights"] == "parking"
    for beam in ("low", "high"):
        assert reason_of(session, "set_lights", car=car, lights=beam) == "wrong_mode"
    answer(session, "set_lights", car=car, lights="off")
    assert reason_of(session, "set_lights", car=car, lights="off") == "already_set"


def test_switching_off_ends_the_climate_control_and_charging_may_have_it() -> None:
    session = open_session("vehicle", 0)
    car = ready(session)
    answer(session, "set_climate", car=car, zone="all", celsius=23, fan=3)
    answer(session, "set_power", car=car, power="accessory")
    climate = answer(session, "get_status", car=car)["climate"]
    assert set(map(tuple, map(dict.values, climate.values()))) == {(23, 0)}
    assert reason_of(session, "set_climate", car=car, zone="rear", fan=1) == "wrong_mode"
    charging = car_where(session, lambda car: car.mode == "charging")
    zones = answer(session, "set_climate", car=charging, zone="rear", celsius=25)["zones"]
    assert zones == {"rear": {"celsius": 25, "fan": 2}}
    zones = answer(session, "set_climate", car=charging, zone="rear", fan=5)["zones"]
    assert zones == {"rear": {"celsius": 25, "fan": 5}}
    assert reason_of(session, "set_climate", car=charging, zone="rear") == "nothing_to_set"
    assert reason_of(session, "set_climate", car=charging, zone="rear", fan=5) == "already_set"


@pytest.mark.parametrize(("percent", "allowed"), [(9, False), (10, True)])
def test_climate_control_needs_a_tenth_of_the_charge(percent: int, allowed: bool) -> None:
    session = open_session("vehicle", 0)
    car = ready(session)
    its = table(session, "cars")[car]
    changed(session, "cars", car, charge_wh=its.capacity_wh * percent // 100)
    changed(session, "zones", f"{car}:rear", fan=0, celsius=20)
    if allowed:
        answer(session, "set_climate", car=car, zone="rear", celsius=25)
    else:
        arguments = {"car": car, "zone": "rear", "celsius": 25}
        assert reason_of(session, "set_climate", **arguments) == "battery_low"
        changed(session, "zones", f"{car}:rear", fan=3)
        answer(session, "set_climate", car=car, zone="rear", fan=0)


def test_windows_open_little_on_fast_roads() -> None:
    session = open_session("vehicle", 0)
    fast, slow = on_a_fast_road(session), in_town(session)
    arguments = {"window": "rear_left", "open_percent": 21}
    assert reason_of(session, "set_window", car=fast, **arguments) == "too_fast"
    answer(session, "set_window", car=slow, **arguments)
    done = answer(session, "set_window", car=fast, window="rear_left", open_percent=20)
    assert done == {"windows": {"rear_left": 20}}
    assert answer(session, "set_window", car=fast, window="all", open_percent=20)[
        "windows"
    ] == dict.fromkeys(TYRES, 20)
    assert reason_of(session, "set_window", car=fast, window="all", open_percent=20) == (
        "already_set"
    )


def test_high_beam_is_for_the_open_road_and_ends_in_town() -> None:
    session = open_session("vehicle", 0)
    assert reason_of(session, "set_lights", car=in_town(session), lights="high") == "in_town"
    car = on_a_fast_road(session)
    changed(session, "cars", car, charge_wh=50_000)
    answer(session, "set_lights", car=car, lights="high")
    left = 0.1 + answer(session, "drive", car=car, distance_km=0.1)["left_km"]
    its = table(session, "cars")[car]
    lane = table(session, "places")[its.path[-1]].lane_m / 1000
    # A hundred metres before the last town, whose lane begins there.
    to_town = round(left - 0.1 - lane, 1)
    assert answer(session, "drive", car=car, distance_km=round(to_town - 0.1, 1))
    lights = answer(session, "get_status", car=car)["lights"]
    its = table(session, "cars")[car]
    if limit_under(session, its) > 50:
        assert lights == "high"
    answer(session, "drive", car=car, distance_km=0.1)
    assert answer(session, "get_status", car=car)["lights"] == "low"


def test_cruise_control_keeps_to_each_road_and_ends_with_the_drive() -> None:
    session = open_session("vehicle", 0)
    car = on_a_fast_road(session)
    changed(session, "cars", car, charge_wh=50_000)
    limit = limit_under(session, table(session, "cars")[car])
    assert reason_of(session, "set_cruise", car=car, speed_kmh=29) == "too_slow"
    assert reason_of(session, "set_cruise", car=car, speed_kmh=limit + 1) == "above_limit"
    assert reason_of(session, "set_cruise", car=car, speed_kmh=0) == "already_set"
    assert answer(session, "set_cruise", car=car, speed_kmh=30)["limit_kmh"] == limit
    answer(session, "set_cruise", car=car, speed_kmh=limit)
    its = table(session, "cars")[car]
    lane = table(session, "places")[its.path[-1]].lane_m / 1000
    left = answer(session, "drive", car=car, distance_km=0.1)["left_km"]
    answer(session, "drive", car=car, distance_km=round(left - lane, 1))
    assert answer(session, "get_status", car=car)["cruise_kmh"] == 50
    assert reason_of(session, "set_cruise", car=car, speed_kmh=51) == "above_limit"
    answer(session, "set_brake", car=car, brake="pedal", engaged=True)
    assert answer(session, "get_status", car=car)["cruise_kmh"] == 0
    assert reason_of(session, "set_cruise", car=car, speed_kmh=40) == "not_driving"


def test_at_a_town_the_road_ahead_sets_the_limit() -> None:
    session = open_session("vehicle", 0)
    car = in_town(session)
    its = table(session, "cars")[car]
    assert len(its.path) >= 3 and its.node.startswith("PL-")
    for tyre in TYRES:
        changed(session, "tyres", f"{car}:{tyre}", decibar=30)
    lane = table(session, "places")[its.node].lane_m
    answer(session, "drive", car=car, distance_km=(lane - its.past_m) / 1000)
    its = table(session, "cars")[car]
    assert (its.towards, its.past_m) == (None, 0)
    ahead = table(session, "roads")[":".join(sorted((its.node, its.path[0])))].limit_kmh
    assert ahead > 50
    assert answer(session, "set_cruise", car=car, speed_kmh=ahead)["limit_kmh"] == ahead


@pytest.mark.parametrize(("lost", "allowed"), [(4, True), (5, False)])
def test_cruise_control_wants_air_in_the_tyres(lost: int, allowed: bool) -> None:
    session = open_session("vehicle", 0)
    car = on_a_fast_road(session)
    key = f"{car}:rear_right"
    changed(session, "tyres", key, decibar=table(session, "tyres")[key].recommended_decibar - lost)
    if allowed:
        answer(session, "set_cruise", car=car, speed_kmh=60)
    else:
        assert reason_of(session, "set_cruise", car=car, speed_kmh=60) == "tyre_low"


def test_locked_doors_are_closed_first_and_all_move_together() -> None:
    session = open_session("vehicle", 0)
    car = ready(session)
    done = answer(session, "set_door", car=car, door="all", state="locked")
    assert set(done["doors"].values()) == {"locked"} and len(done["doors"]) == 5
    assert reason_of(session, "set_door", car=car, door="boot", state="open") == "door_locked"
    assert reason_of(session, "set_door", car=car, door="all", state="open") == "door_locked"
    answer(session, "set_door", car=car, door="boot", state="closed")
    answer(session, "set_door", car=car, door="boot", state="open")
    assert reason_of(session, "set_door", car=car, door="boot", state="locked") == "door_open"
    done = answer(session, "set_door", car=car, door="all", state="closed")
    assert set(done["doors"].values()) == {"closed"}


def test_a_driving_car_may_lock_and_close_but_not_open() -> None:
    session = open_session("vehicle", 0)
    car = on_a_fast_road(session)
    answer(session, "set_door", car=car, door="all", state="locked")
    answer(session, "set_door", car=car, door="boot", state="closed")
    assert reason_of(session, "set_door", car=car, door="boot", state="open") == "vehicle_moving"


def test_every_occupied_seat_needs_its_belt() -> None:
    session = open_session("vehicle", 0)
    car = ready(session)
    answer(session, "set_brake", car=car, brake="pedal", engaged=True)
    seats = table(session, "seats")
    occupied = [s.id.partition(":")[2] for s in seats.values() if s.id[:8] == car and s.occupied]
    assert len(occupied) == 3
    for seat in occupied:
        answer(session, "set_belt", car=car, seat=seat, fastened=False)
        for gear in ("drive", "reverse"):
            assert reason_of(session, "shift_gear", car=car, gear=gear) == "belt_open"
        answer(session, "set_belt", car=car, seat=seat, fastened=True)
    assert answer(session, "get_status", car=car)["belts"] == dict.fromkeys(occupied, "fastened")
    assert reason_of(session, "set_belt", car=car, seat="rear_right", fastened=True) == "seat_empty"
    answer(session, "shift_gear", car=car, gear="reverse")


def test_a_pump_adds_air_up_to_a_safe_pressure_and_only_where_there_is_one() -> None:
    session = open_session("vehicle", 0)
    places = table(session, "places")
    workshops = {place.id for place in places.values() if place.kind == "workshop"}
    car = car_where(session, lambda car: car.node in workshops and car.mode == "off")
    bar = answer(session, "check_tyres", car=car)
    [low] = bar["low"]
    assert low["bar"] == bar["bar"][low["tyre"]] < low["recommended_bar"]
    tyre, best = low["tyre"], low["recommended_bar"]
    too_much = {"tyre": tyre, "bar": round(best + 0.5, 1)}
    assert reason_of(session, "inflate_tyre", car=car, **too_much) == "over_pressure"
    less = {"tyre": tyre, "bar": round(low["bar"] - 0.1, 1)}
    assert reason_of(session, "inflate_tyre", car=car, **less) == "below_pressure"
    same = {"tyre": tyre, "bar": low["bar"]}
    assert reason_of(session, "inflate_tyre", car=car, **same) == "already_set"
    fine = {"tyre": tyre, "bar": 2.55}
    assert reason_of(session, "inflate_tyre", car=car, **fine) == "too_precise"
    most = round(best + 0.4, 1)
    assert answer(session, "inflate_tyre", car=car, tyre=tyre, bar=best) == {
        "tyre": tyre,
        "bar": best,
    }
    assert answer(session, "check_tyres", car=car)["low"] == []
    answer(session, "inflate_tyre", car=car, tyre=tyre, bar=most)
    for other in cars_of(session):
        at = places.get(other.node) if other.towards is None else None
        if at is None or not at.air_pump:
            arguments = {"car": other.id, "tyre": "front_left", "bar": 2.9}
            assert reason_of(session, "inflate_tyre", **arguments) == "no_air_pump"


def test_low_tyres_come_lowest_first() -> None:
    session = open_session("vehicle", 0)
    car = ready(session)
    for tyre, lost in zip(TYRES, (1, 3, 0, 2), strict=True):
        held = table(session, "tyres")[f"{car}:{tyre}"]
        changed(session, "tyres", held.id, decibar=held.recommended_decibar - lost)
    low = answer(session, "check_tyres", car=car)["low"]
    assert [one["tyre"] for one in low] == ["front_right", "rear_right", "front_left"]


@pytest.mark.parametrize("seed", range(3))
def test_maintenance_is_due_by_date_or_by_odometer(seed: int) -> None:
    session = open_session("vehicle", seed)
    today = "2025-05-12"
    counts = []
    for car in cars_of(session):
        of_car = [s for s in table(session, "services").values() if s.car == car.id]
        of_car.sort(key=lambda s: (s.due_date, s.item))
        due = [s.due_date <= today or s.due_odometer_m <= car.odometer_m for s in of_car]
        listed = answer(session, "list_services", car=car.id)["services"]
        assert listed == [
            {
                "service": s.id,
                "item": s.item,
                "due": is_due,
                "due_date": s.due_date,
                "due_km": s.due_odometer_m / 1000,
                "booked_for": s.booked_for,
            }
            for s, is_due in zip(of_car, due, strict=True)
        ]
        only = answer(session, "list_services", car=car.id, only_due=True)["services"]
        assert [s["service"] for s in only] == [
            s.id for s, is_due in zip(of_car, due, strict=True) if is_due and not s.booked_for
        ]
        counts.append(len(only))
    assert 1 in counts and 0 in counts


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_what_is_due_today_is_due(shift: int) -> None:
    session = open_session("vehicle", 0)
    service = next(iter(table(session, "services").values()))
    odometer = table(session, "cars")[service.car].odometer_m
    day = (date(2025, 5, 12) + timedelta(days=shift)).isoformat()
    far = {"due_odometer_m": odometer + 100, "booked_for": None}
    changed(session, "services", service.id, due_date=day, **far)
    ids = due_ids(session, service.car)
    assert (service.id in ids) == (shift <= 0)
    near = {"due_odometer_m": odometer + shift * 100, "booked_for": None}
    changed(session, "services", service.id, due_date="2026-01-01", **near)
    assert (service.id in due_ids(session, service.car)) == (shift <= 0)


def due_ids(session: ServerSession, car: str) -> list[str]:
    services = answer(session, "list_services", car=car, only_due=True)["services"]
    return [service["service"] for service in services]


def test_a_workshop_takes_cars_on_its_open_days_once_a_service() -> None:
    session = open_session("vehicle", 0)
    workshop = next(p for p in table(session, "places").values() if p.kind == "workshop")
    services = [s for s in table(session, "services").values() if s.booked_for is None]
    today = date(2025, 5, 12)
    for days in range(-2, 16):
        day = today + timedelta(days=days)
        arguments = {
            "service": services[days % len(services)].id,
            "workshop": workshop.id,
            "day": day.isoformat(),
        }
        if days <= 0:
            assert reason_of(session, "book_service", **arguments) == "not_in_future"
        elif day.weekday() >= 5 or day.weekday() == workshop.closed_on:
            assert reason_of(session, "book_service", **arguments) == "workshop_closed"
        elif day.isoformat() in workshop.full_on:
            assert reason_of(session, "book_service", **arguments) == "fully_booked"
        else:
            done = answer(session, "book_service", **arguments)
            item = table(session, "services")[arguments["service"]].item
            assert done == {**arguments, "item": item, "workshop": workshop.name}
            assert reason_of(session, "book_service", **arguments) == "already_booked"
            kept = table(session, "services")[arguments["service"]]
            assert (kept.workshop, kept.booked_for) == (workshop.id, day.isoformat())


@pytest.mark.parametrize("seed", range(3))
def test_the_log_lists_finished_trips_and_sums_all_that_fit(seed: int) -> None:
    session = open_session("vehicle", seed)
    for car in cars_of(session):
        trips = [t for t in table(session, "trips").values() if t.car == car.id]
        trips = sorted(trips, key=lambda t: t.start_odometer_m, reverse=True)
        finished = [t for t in trips if t.end is not None]
        assert len(finished) == 6
        log = answer(session, "list_trips", car=car.id)
        assert log["found"] == 6
        places = table(session, "places")
        assert log["trips"] == [
            {
                "trip": t.id,
                "date": t.date,
                "from": {"place": t.start, "name": places[t.start].name},
                "to": {"place": t.end, "name": places[t.end].name},
                "distance_km": t.metres / 1000,
                "energy_kwh": t.used_wh / 1000,
            }
            for t in finished[:5]
        ]
        assert log["total_km"] == sum(t.metres for t in finished) / 1000
        assert log["total_kwh"] == sum(t.used_wh for t in finished) / 1000
        since = finished[2].date
        log = answer(session, "list_trips", car=car.id, since=since, limit=50)
        assert [t["trip"] for t in log["trips"]] == [t.id for t in finished if t.date >= since]
        end = finished[3].end
        log = answer(session, "list_trips", car=car.id, destination=end, limit=1)
        assert log["found"] == sum(t.end == end for t in finished)
        assert log["trips"][0]["to"]["place"] == end


def test_a_drive_is_one_trip_from_start_to_stop() -> None:
    session = open_session("vehicle", 0)
    car = car_where(session, lambda car: car.mode == "on" and car.gear == "drive")
    its = table(session, "cars")[car]
    changed(session, "cars", car, charge_wh=50_000)
    answer(session, "set_brake", car=car, brake="pedal", engaged=False)
    first = answer(session, "drive", car=car, distance_km=0.3)
    assert answer(session, "list_trips", car=car)["found"] == 6  # not yet finished
    assert first["mode"] == "driving" and not first["arrived"]
    second = answer(session, "drive", car=car)
    assert second["trip"] == first["trip"] and second["arrived"] and second["mode"] == "on"
    assert second["left_km"] == 0
    log = answer(session, "list_trips", car=car)
    assert log["found"] == 7
    last = log["trips"][0]
    assert (last["trip"], last["date"]) == (first["trip"], "2025-05-12")
    assert (last["from"]["place"], last["to"]["place"]) == (its.node, its.path[-1])
    assert last["distance_km"] == round(0.3 + second["driven_km"], 1)
    status = answer(session, "get_status", car=car)
    assert second["charge_percent"] == status["charge_percent"]
    assert status["pedal_held"] and status["destination"] is None
    assert status["at"]["place"] == its.path[-1]


def test_a_stop_on_the_road_ends_the_trip_nowhere() -> None:
    session = open_session("vehicle", 0)
    car = on_a_fast_road(session)
    answer(session, "set_brake", car=car, brake="pedal", engaged=True)
    assert answer(session, "list_trips", car=car)["trips"][0]["to"] is None
    status = answer(session, "get_status", car=car)
    assert status["at"] is None and status["destination"] is not None


def test_the_charge_bounds_a_drive_to_the_hundred_metres() -> None:
    session = open_session("vehicle", 0)
    car = on_a_fast_road(session)
    rate = round(answer(session, "plan_route", car=car, place=a_place(session))["energy_kwh"] * 1e5)
    way = answer(session, "plan_route", car=car, place=a_place(session))["distance_km"] * 1000
    changed(session, "cars", car, charge_wh=round(rate / way) * 7 + 3)
    assert answer(session, "get_status", car=car)["range_km"] == 0.7
    assert reason_of(session, "drive", car=car, distance_km=0.8) == "not_enough_charge"
    answer(session, "drive", car=car, distance_km=0.7)
    assert table(session, "cars")[car].charge_wh == 3


def a_place(session: ServerSession) -> str:
    return next(iter(table(session, "places")))


def test_a_plan_says_whether_the_charge_suffices() -> None:
    session = open_session("vehicle", 0)
    car = on_a_fast_road(session)
    plan = answer(session, "plan_route", car=car, place=a_place(session))
    need, capacity = round(plan["energy_kwh"] * 1000), table(session, "cars")[car].capacity_wh
    changed(session, "cars", car, charge_wh=need)
    plan = answer(session, "plan_route", car=car, place=a_place(session))
    assert (plan["charge_suffices"], plan["arrival_charge_percent"]) == (True, 0)
    changed(session, "cars", car, charge_wh=need - 1)
    plan = answer(session, "plan_route", car=car, place=a_place(session))
    assert (plan["charge_suffices"], plan["arrival_charge_percent"]) == (False, 0)
    changed(session, "cars", car, charge_wh=need + capacity // 2)
    plan = answer(session, "plan_route", car=car, place=a_place(session))
    assert (plan["charge_suffices"], plan["arrival_charge_percent"]) == (True, 50)


@pytest.mark.parametrize("distance", [0.15, 1.25, 3.14159])
def test_distances_have_one_decimal(distance: float) -> None:
    session = open_session("vehicle", 0)
    car = on_a_fast_road(session)
    assert reason_of(session, "drive", car=car, distance_km=distance) == "too_precise"


def test_a_route_to_what_lies_behind_turns_the_car_round() -> None:
    session = open_session("vehicle", 0)
    car = in_town(session)
    its = table(session, "cars")[car]
    assert its.node.startswith("PL-")  # it has just left there
    done = answer(session, "start_route", car=car, place=its.node)
    assert done["distance_km"] == its.past_m / 1000
    assert answer(session, "drive", car=car)["arrived"]
    assert answer(session, "get_status", car=car)["at"]["place"] == its.node
    assert reason_of(session, "start_route", car=car, place=its.node) == "already_there"


def test_places_are_found_by_name_or_label_in_any_case() -> None:
    session = open_session("vehicle", 0)
    places = table(session, "places")
    assert len({p.name.casefold() for p in places.values()}) == len(places)
    for place in places.values():
        assert answer(session, "find_place", name=place.name.upper())["place"] == place.id
    for saved in table(session, "saved_places").values():
        assert answer(session, "find_place", name=saved.label)["place"] == saved.place
    one, other = list(places)[:2]
    saved = answer(session, "save_place", label="Gym", place=one)
    assert saved == {"label": "Gym", "name": places[one].name}
    assert reason_of(session, "save_place", label="gym", place=one) == "already_set"
    assert answer(session, "save_place", label="GYM", place=other)["label"] == "Gym"
    assert answer(session, "find_place", name="gym")["place"] == other
    taken = places[one].name.lower()
    assert reason_of(session, "save_place", label=taken, place=other) == "label_taken"


def test_a_search_can_be_bound_to_a_town() -> None:
    session = open_session("vehicle", 0)
    car = ready(session)
    for town in table(session, "towns").values():
        found = answer(session, "search_places", car=car, kind="charger", town=town.name.lower())
        [place] = found["places"]
        assert place["town"] == town.name and place["charger_kw"] in (21.6, 48, 120, 150)
    result = session.call("search_places", {"car": car, "kind": "cafe", "town": "Nowhere"})
    assert result.error is ErrorType.NOT_FOUND


@pytest.mark.parametrize("seed", range(10))
def test_a_world_has_cars_in_every_mode_with_trips_that_hang_together(seed: int) -> None:
    session = open_session("vehicle", seed)
    cars = cars_of(session)
    assert sorted(car.mode for car in cars) == sorted(
        ["driving"] * 2 + ["on"] * 3 + ["off"] * 3 + ["charging"]
    )
    assert len({car.name for car in cars}) == 9
    for car in cars:
        trips = [t for t in table(session, "trips").values() if t.car == car.id]
        trips.sort(key=lambda t: t.start_odometer_m)
        for one, other in itertools.pairwise(trips):
            assert one.end == other.start and one.date <= other.date
        if trips[-1].end is not None:
            assert trips[-1].end == car.node


def charging(session: ServerSession) -> str:
    return car_where(session, lambda car: car.mode == "charging")


def parked(session: ServerSession) -> str:
    return car_where(session, lambda car: car.mode == "off")


BROKEN: list[tuple[Callable[[ServerSession], str], dict[str, Any], str]] = [
    (parked, {"gear": "drive"}, "it is off in drive"),
    (parked, {"mode": "accessory", "gear": "reverse"}, "it is accessory in reverse"),
    (charging, {"gear": "reverse"}, "it is charging in reverse"),
    (charging, {"mode": "on", "gear": "drive"}, "it is on in drive, with cable: True"),
    (parked, {"lights": "low"}, "headlights"),
    (parked, {"lights": "high"}, "headlights"),
    (charging, {"cable": False}, "without a cable"),
    (ready, {"gear": "neutral", "parking_brake": False}, "roll away"),
    (parked, {"charge_wh": -1}, "it holds -1 Wh"),
    (parked, {"charge_wh": 77_001}, "it holds 77001 Wh"),
    (ready, {"cruise_kmh": 30}, "it stands"),
    (ready, {"trip": "TR-00000"}, "it stands"),
    (on_a_fast_road, {"gear": "neutral"}, "against a brake"),
    (on_a_fast_road, {"brake_held": True}, "against a brake"),
    (on_a_fast_road, {"parking_brake": True}, "against a brake"),
    (on_a_fast_road, {"path": []}, "without a route"),
    (on_a_fast_road, {"trip": None}, "without a route"),
    (on_a_fast_road, {"trip": "TR-00000"}, "without a route"),
    (on_a_fast_road, {"cruise_kmh": 121}, "above the limit"),
    (in_town, {"cruise_kmh": 51}, "above the limit"),
    (on_a_fast_road, {"past_m": 0}, "neither at a node"),
    (on_a_fast_road, {"towards": None}, "neither at a node"),
    (in_town, {"past_m": 9000}, "beyond the end"),
    (ready, {"cable": True}, "away from a charger"),
    (in_town, {"cable": True}, "away from a charger"),
    (parked, {"odometer_m": 100}, "add up to its odometer"),
]


@pytest.mark.parametrize(("of", "fields", "law"), BROKEN)
def test_a_broken_law_is_named(
    of: Callable[[ServerSession], str], fields: dict[str, Any], law: str
) -> None:
    session = open_session("vehicle", 0)
    car = of(session)
    changed(session, "cars", car, **fields)
    name = table(session, "cars")[car].name
    assert any(x.startswith(name) and law in x for x in session.server.invariants())


@pytest.mark.parametrize(
    ("parts", "part", "fields", "law"),
    [
        ("doors", "rear_right", {"state": "open"}, "open door"),
        ("doors", "boot", {"state": "open"}, "open door"),
        ("seats", "driver", {"belted": False}, "open belt"),
        ("seats", "rear_right", {"occupied": True}, "open belt"),
    ],
)
def test_a_broken_law_of_a_driving_car_is_named(
    parts: str, part: str, fields: dict[str, Any], law: str
) -> None:
    session = open_session("vehicle", 0)
    changed(session, parts, f"{on_a_fast_road(session)}:{part}", **fields)
    [broken] = session.server.invariants()
    assert law in broken
    changed(session, parts, f"{parked(session)}:{part}", **fields)
    assert len(list(session.server.invariants())) == 1  # a parked car may


@pytest.mark.parametrize("mode", ["off", "accessory"])
def test_climate_control_without_power_is_a_broken_law(mode: str) -> None:
    session = open_session("vehicle", 0)
    car = parked(session)
    changed(session, "cars", car, mode=mode)
    assert list(session.server.invariants()) == []
    changed(session, "zones", f"{car}:rear", fan=1)
    [broken] = session.server.invariants()
    assert broken.endswith(f"climate control runs in mode {mode}")


def test_what_may_be_is_no_broken_law() -> None:
    session = open_session("vehicle", 0)
    changed(session, "cars", ready(session), gear="neutral")  # the parking brake holds
    at_charger = car_at_charger(session)
    changed(session, "cars", at_charger.id, cable=True, charge_wh=0, lights="parking")
    full = table(session, "cars")[parked(session)].capacity_wh
    changed(session, "cars", parked(session), charge_wh=full)
    limit = limit_under(session, table(session, "cars")[on_a_fast_road(session)])
    changed(session, "cars", on_a_fast_road(session), cruise_kmh=limit)
    changed(session, "cars", in_town(session), past_m=100, cruise_kmh=50)
    broken = list(session.server.invariants())
    # Moving a car by hand breaks the sum of its trips and nothing else.
    assert all("trips do not add up" in x for x in broken), broken


@pytest.mark.parametrize("seed", range(3))
def test_the_status_shows_each_part_of_the_car(seed: int) -> None:
    session = open_session("vehicle", seed)
    places = table(session, "places")
    parts = {name: table(session, name) for name in ("doors", "seats", "windows", "zones")}
    for car in cars_of(session):
        changed(session, "windows", f"{car.id}:rear_left", open_percent=15)
        parts["windows"] = table(session, "windows")
        shown = answer(session, "get_status", car=car.id)
        own = {
            name: {r.id.partition(":")[2]: r for r in held.values() if r.id.startswith(car.id)}
            for name, held in parts.items()
        }
        place = places.get(car.node) if car.towards is None else None
        goal = places[car.path[-1]] if car.path else None
        assert shown == {
            "car": car.id,
            "name": car.name,
            "mode": car.mode,
            "gear": car.gear,
            "pedal_held": car.brake_held,
            "parking_brake": car.parking_brake,
            "cable": car.cable,
            "charge_percent": shown["charge_percent"],
            "charge_kwh": shown["charge_kwh"],
            "range_km": shown["range_km"],
            "odometer_km": car.odometer_m / 1000,
            "at": place and {"place": place.id, "name": place.name},
            "destination": goal and {"place": goal.id, "name": goal.name},
            "lights": car.lights,
            "cruise_kmh": car.cruise_kmh,
            "outside_celsius": car.outside_celsius,
            "doors": {name: door.state for name, door in own["doors"].items()},
            "belts": {
                name: "fastened" if seat.belted else "open"
                for name, seat in own["seats"].items()
                if seat.occupied
            },
            "windows": {name: window.open_percent for name, window in own["windows"].items()},
            "climate": {n: {"celsius": z.celsius, "fan": z.fan} for n, z in own["zones"].items()},
        }
        assert shown["charge_percent"] == round(shown["charge_kwh"] * 1000) * 100 // car.capacity_wh
        assert answer(session, "find_car", name=car.name.upper()) == {
            "car": car.id,
            "mode": car.mode,
        }


def test_a_place_is_shown_with_what_it_offers() -> None:
    session = open_session("vehicle", 0)
    towns = table(session, "towns")
    kinds = set()
    for place in table(session, "places").values():
        offers: dict[str, Any] = {}
        if place.charger_wh:
            offers["charger_kw"] = place.charger_wh * 0.06
        if place.air_pump:
            offers["air_pump"] = True
        kinds.add((place.kind, *offers))
        assert answer(session, "find_place", name=place.name) == pytest.approx(
            {
                "place": place.id,
                "name": place.name,
                "kind": place.kind,
                "town": towns[place.town].name,
                **offers,
            }
        )
    assert {("charger", "charger_kw"), ("workshop", "air_pump"), ("cafe",)} <= kinds


def details_of(session: ServerSession, tool: str, **arguments: Any) -> dict[str, Any]:
    """What a refusal tells besides its message."""
    error = json.loads(session.call(tool, arguments).text)["error"]
    return dict(error["details"])


def test_refusals_tell_the_numbers_that_repair_the_call() -> None:
    session = open_session("vehicle", 0)
    fast, town = on_a_fast_road(session), in_town(session)
    its = table(session, "cars")[fast]
    goal = its.path[-1]
    changed(session, "cars", fast, charge_wh=50_000)
    left = details_of(session, "drive", car=fast, distance_km=999)
    away = distances(session, table(session, "cars")[fast])[goal]
    assert left == {"reason": "beyond_destination", "left_km": away / 1000}
    status = answer(session, "get_status", car=town)
    short = details_of(session, "drive", car=town)
    assert short == {"reason": "not_enough_charge", "range_km": status["range_km"]}
    window = details_of(session, "set_window", car=fast, window="all", open_percent=100)
    assert window == {"reason": "too_fast", "most": 20}
    limit = details_of(session, "set_cruise", car=town, speed_kmh=99)
    assert limit == {"reason": "above_limit", "limit_kmh": 50}
    flat = car_where(
        session, lambda car: car.charge_wh * 10 < car.capacity_wh and car.mode == "off"
    )
    percent = answer(session, "get_status", car=flat)["charge_percent"]
    wrong = details_of(session, "set_climate", car=flat, zone="all", celsius=20)
    assert wrong == {"reason": "wrong_mode", "mode": "off"}
    answer(session, "set_brake", car=flat, brake="pedal", engaged=True)
    answer(session, "set_power", car=flat, power="on")
    low = details_of(session, "set_climate", car=flat, zone="all", celsius=20)
    assert low == {"reason": "battery_low", "charge_percent": percent}
    locked = details_of(session, "set_door", car=flat, door="boot", state="open")
    assert locked == {"reason": "door_locked", "door": "boot"}
    charger = car_at_charger(session)
    percent = answer(session, "get_status", car=charger.id)["charge_percent"]
    enough = details_of(session, "plug_in", car=charger.id, limit_percent=2)
    assert enough == {"reason": "charged_enough", "charge_percent": percent}
    workshops = {p.id for p in table(session, "places").values() if p.air_pump}
    pumped = car_where(session, lambda car: car.node in workshops and car.mode == "off")
    best = table(session, "tyres")[f"{pumped}:rear_left"].recommended_decibar
    over = details_of(session, "inflate_tyre", car=pumped, tyre="rear_left", bar=5)
    assert over == {"reason": "over_pressure", "most_bar": (best + 4) / 10}
    booked = next(s for s in table(session, "services").values() if s.booked_for)
    workshop = {"workshop": booked.workshop, "day": "2025-06-02"}
    twice = details_of(session, "book_service", service=booked.id, **workshop)
    assert twice == {"reason": "already_booked", "day": booked.booked_for}


def test_schemas_and_marks_are_those_that_tasks_were_made_for() -> None:
    """Whoever changes a bound or a mark does so knowingly."""

    def without_text(schema: Any) -> Any:
        if not isinstance(schema, dict):
            return schema
        return {
            name: without_text(value)
            for name, value in schema.items()
            if not (name == "description" and isinstance(value, str))
        }

    session = open_session("vehicle", 0)
    tools = {
        name: [without_text(t.spec.parameters), t.access, t.destructive, t.idempotent]
        for name, t in session.tools.items()
    }
    schemas = hashlib.sha256(json.dumps(tools, sort_keys=True).encode()).hexdigest()[:16]
    assert schemas == "010a73f7e4a108e3"


def test_the_page_lists_every_tool_and_every_refusal() -> None:
    session = open_session("vehicle")
    rows = re.findall(r"^\| `(\w+)` \|(?: (READ|WRITE))?", PAGE.read_text(encoding="utf-8"), re.M)
    assert {name: access for name, access in rows if access} == {
        name: tool.access.value for name, tool in session.tools.items()
    }
    assert {name for name, access in rows if not access} == set(templates_of("vehicle").refusals)
