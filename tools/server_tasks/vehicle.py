"""Natural requests to the cars of a club, and requests that a car refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, TypeAlias

from orch_env.servers import Chance
from orch_env.servers.domains.vehicle import Vehicle
from orch_env.servers.domains.vehicle.records import (
    SEATS,
    TYRES,
    Car,
    DoorState,
    Gear,
    Mode,
    Place,
)
from orch_env.servers.domains.vehicle.state import position_of
from tools.server_tasks.chains import Chain, Maker, call, chain, out, refusal

STANDING_PARTS = {
    "rear_left": "rear left door",
    "rear_right": "rear right door",
    "boot": "boot",
}
SEAT_WORDS = {
    "driver": "driver's belt",
    "passenger": "passenger's belt",
    "rear_left": "belt on the rear left seat",
}


Fits: TypeAlias = Callable[[Vehicle, Car], bool]


def a_car(cars: Vehicle, chance: Chance, fits: Fits) -> Car | None:
    """One of the cars that fit."""
    found = [car for car in cars.cars.values() if fits(cars, car)]
    return chance.pick(found) if found else None


def in_mode(*modes: Mode) -> Fits:
    """Whether a car is in one of some modes."""
    return lambda cars, car: car.mode in modes


def on_the_open_road(cars: Vehicle, car: Car) -> bool:
    """Driving outside of towns."""
    return car.mode is Mode.DRIVING and cars.limit_of(car) > 50


def ready(cars: Vehicle, car: Car) -> bool:
    """On, in park, with the pedal free."""
    return car.mode is Mode.ON and car.gear is Gear.PARK and not car.brake_held


def waiting(cars: Vehicle, car: Car) -> bool:
    """On, in gear, with the pedal held and a route set."""
    return car.mode is Mode.ON and car.gear is Gear.DRIVE and car.brake_held


def open_at_the_back(cars: Vehicle, car: Car) -> bool:
    """On, in park, pedal held, with an open door and an open belt."""
    return car.mode is Mode.ON and car.gear is Gear.PARK and car.brake_held


def ways(cars: Vehicle, car: Car) -> list[tuple[int, Place]]:
    """Metres from a car to each place, the nearest first."""
    start = position_of(car)
    towns = cars.network.to_towns(start)
    found = [
        (cars.network.to_place(start, place, towns).metres, place) for place in cars.places.values()
    ]
    return sorted(found, key=lambda pair: pair[0])


def nearest(cars: Vehicle, car: Car, kind: str) -> Place | None:
    """The nearest place of a kind, if there is one that is nearer than all others."""
    found = [(metres, place) for metres, place in ways(cars, car) if place.kind == kind]
    return None if found[0][0] == found[1][0] else found[0][1]


def somewhere(cars: Vehicle, chance: Chance, car: Car) -> Place | None:
    """A place where a car is not and does not go, and that it can reach with half its charge."""
    reach = cars.range_of(car) // 2
    found = [
        place
        for metres, place in ways(cars, car)
        if 0 < metres <= reach and place.id not in car.path[-1:]
    ]
    return chance.pick(found) if found else None


def open_day(place: Place, today: str, chance: Chance) -> str:
    """A day within two weeks on which a workshop takes cars."""
    days = [date.fromisoformat(today) + timedelta(days=n) for n in range(1, 15)]
    return chance.pick(
        [
            day.isoformat()
            for day in days
            if day.weekday() < 5
            and day.weekday() != place.closed_on
            and day.isoformat() not in place.full_on
        ]
    )


# -- natural requests ------------------------------------------------------------------------------


@chain("route_to_nearest_charger")
def _route_to_nearest_charger(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, in_mode(Mode.ON, Mode.DRIVING))
    place = None if car is None else nearest(cars, car, "charger")
    if car is None or place is None or place.id in car.path[-1:]:
        return None
    query = chance.pick(
        (
            "Guide {} to the charger closest to it.",
            "{} needs power soon: set its route to the nearest charger.",
            "Please navigate {} to whichever charger is nearest.",
        )
    )
    return Chain(
        query.format(car.name),
        call("find_car", name=car.name),
        call("search_places", car=out(0, "/car"), kind="charger", limit=1),
        call("start_route", car=out(0, "/car"), place=out(1, "/places/0/place")),
    )


@chain("charge_on_arrival")
def _charge_on_arrival(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, lambda cars, car: True)
    place = None if car is None else somewhere(cars, chance, car)
    if car is None or place is None:
        return None
    query = chance.pick(
        (
            "How many per cent would {car} have left on arrival at {place}?",
            "If {car} went to {place} now, what charge would it arrive with, in per cent?",
        )
    )
    return Chain(
        query.format(car=car.name, place=place.name),
        (call("find_car", name=car.name), call("find_place", name=place.name)),
        call("plan_route", car=out(0, "/car"), place=out(1, "/place")),
        answer=out(2, "/arrival_charge_percent"),
    )


@chain("switch_on")
def _switch_on(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, in_mode(Mode.OFF))
    if car is None:
        return None
    query = chance.pick(
        (
            "I'm sitting in {}. Hold the brake pedal and switch the car on.",
            "Put the foot brake of {} on and turn its power on, please.",
        )
    )
    return Chain(
        query.format(car.name),
        call("find_car", name=car.name),
        call("set_brake", car=out(0, "/car"), brake="pedal", engaged=True),
        call("set_power", car=out(0, "/car"), power="on", after=(1,)),
    )


@chain("into_drive")
def _into_drive(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, ready)
    if car is None:
        return None
    query = chance.pick(
        (
            "Hold the brake pedal of {}, shift it to drive and release the parking brake.",
            "Make {} ready to pull away: pedal held, gear in drive, then the parking brake off.",
        )
    )
    return Chain(
        query.format(car.name),
        call("find_car", name=car.name),
        call("set_brake", car=out(0, "/car"), brake="pedal", engaged=True),
        call("shift_gear", car=out(0, "/car"), gear="drive", after=(1,)),
        call("set_brake", car=out(0, "/car"), brake="parking", engaged=False, after=(2,)),
    )


@chain("drive_to_the_destination")
def _drive_to_the_destination(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, waiting)
    if car is None:
        return None
    query = chance.pick(
        (
            "The light is green: let go of the brake pedal of {} and drive to its destination.",
            "Release the pedal in {} and drive the whole route.",
        )
    )
    return Chain(
        query.format(car.name),
        call("find_car", name=car.name),
        call("set_brake", car=out(0, "/car"), brake="pedal", engaged=False),
        call("drive", car=out(0, "/car"), after=(1,)),
    )


@chain("change_of_plan")
def _change_of_plan(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, in_mode(Mode.DRIVING))
    place = None if car is None else somewhere(cars, chance, car)
    if car is None or place is None:
        return None
    metres = next(metres for metres, one in ways(cars, car) if one == place)
    if metres < 1000:
        return None
    tenths = chance.between(1, metres // 100 - 1)
    query = chance.pick(
        (
            "Change of plan for {car}: set the route to {place} and drive the first {km} km of it.",
            "{car} should go to {place} instead. Set that and drive {km} km.",
        )
    )
    return Chain(
        query.format(car=car.name, place=place.name, km=tenths / 10),
        (call("find_car", name=car.name), call("find_place", name=place.name)),
        call("start_route", car=out(0, "/car"), place=out(1, "/place")),
        call("drive", car=out(0, "/car"), distance_km=tenths / 10, after=(2,)),
    )


@chain("back_to_where_it_came_from")
def _back_to_where_it_came_from(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, in_mode(Mode.ON))
    if car is None:
        return None
    last = max(
        (trip for trip in cars.trips.values() if trip.car == car.id),
        key=lambda trip: trip.start_odometer_m,
    )
    if last.start is None or last.start in car.path[-1:]:
        return None
    query = chance.pick(
        (
            "Send {} back to the place where its last trip began: set the route.",
            "Look up where the latest trip of {} started and set the route there.",
        )
    )
    return Chain(
        query.format(car.name),
        call("find_car", name=car.name),
        call("list_trips", car=out(0, "/car"), limit=1),
        call("start_route", car=out(0, "/car"), place=out(1, "/trips/0/from/place")),
    )


@chain("stop_and_park")
def _stop_and_park(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, in_mode(Mode.DRIVING))
    if car is None:
        return None
    query = chance.pick(
        (
            "Stop {} with the brake pedal, put it in park and switch it off.",
            "Brake {} to a stop, shift to park, then turn the power off.",
        )
    )
    return Chain(
        query.format(car.name),
        call("find_car", name=car.name),
        call("set_brake", car=out(0, "/car"), brake="pedal", engaged=True),
        call("shift_gear", car=out(0, "/car"), gear="park", after=(1,)),
        call("set_power", car=out(0, "/car"), power="off", after=(2,)),
    )


@chain("cruise_with_air")
def _cruise_with_air(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, on_the_open_road)
    if car is None:
        return None
    speed = chance.between(6, cars.limit_of(car) // 10) * 10
    percent = chance.pick((5, 10, 15, 20))
    query = chance.pick(
        (
            "Set the cruise control of {car} to {speed} km/h and open all windows by {percent}%.",
            "In {car}: cruise at {speed}, and every window open {percent} per cent.",
        )
    )
    return Chain(
        query.format(car=car.name, speed=speed, percent=percent),
        call("find_car", name=car.name),
        (
            call("set_cruise", car=out(0, "/car"), speed_kmh=speed),
            call("set_window", car=out(0, "/car"), window="all", open_percent=percent),
        ),
    )


@chain("high_beam")
def _high_beam(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, on_the_open_road)
    if car is None:
        return None
    query = chance.pick(("High beam on in {}, please.", "Turn the lights of {} to high beam."))
    return Chain(
        query.format(car.name),
        call("find_car", name=car.name),
        call("set_lights", car=out(0, "/car"), lights="high"),
    )


@chain("two_climates")
def _two_climates(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, in_mode(Mode.ON, Mode.CHARGING))
    if car is None:
        return None
    front, rear = chance.draw((17, 18, 19, 21, 22, 23, 24), 2)
    query = chance.pick(
        (
            "In {car}, {front} degrees for the driver and {rear} in the rear.",
            "Climate of {car}: set the driver's zone to {front} °C and the rear zone to {rear} °C.",
        )
    )
    return Chain(
        query.format(car=car.name, front=front, rear=rear),
        call("find_car", name=car.name),
        (
            call("set_climate", car=out(0, "/car"), zone="driver", celsius=front),
            call("set_climate", car=out(0, "/car"), zone="rear", celsius=rear),
        ),
    )


@chain("everybody_in")
def _everybody_in(cars: Vehicle, chance: Chance) -> Chain | None:
    """A car with one open door and one open belt."""
    car = a_car(cars, chance, open_at_the_back)
    if car is None:
        return None
    [door], [seat] = open_doors(cars, car), open_belts(cars, car)
    query = chance.pick(
        (
            "Close the {door} of {car} and fasten the {belt}.",
            "We are all in {car}: shut the {door} and fasten the {belt}.",
        )
    )
    words = query.format(car=car.name, door=STANDING_PARTS[door], belt=SEAT_WORDS[seat])
    return Chain(
        words,
        call("find_car", name=car.name),
        (
            call("set_door", car=out(0, "/car"), door=door, state="closed"),
            call("set_belt", car=out(0, "/car"), seat=seat, fastened=True),
        ),
    )


def open_doors(cars: Vehicle, car: Car) -> list[str]:
    """The doors of a car that are open."""
    return [d for d in STANDING_PARTS if cars.doors[f"{car.id}:{d}"].state is DoorState.OPEN]


def open_belts(cars: Vehicle, car: Car) -> list[str]:
    """The occupied seats of a car with an open belt."""
    seats = {seat: cars.seats[f"{car.id}:{seat}"] for seat in SEATS}
    return [name for name, seat in seats.items() if seat.occupied and not seat.belted]


@chain("charge_and_lock")
def _charge_and_lock(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, at_charger)
    if car is None:
        return None
    percent = chance.between(12, 20) * 5
    query = chance.pick(
        (
            "Plug {car} in, charge it to {percent} per cent and lock all its doors.",
            "{car} stands at the charger: charge to {percent}% and lock everything.",
        )
    )
    return Chain(
        query.format(car=car.name, percent=percent),
        call("find_car", name=car.name),
        (
            call("plug_in", car=out(0, "/car"), limit_percent=percent),
            call("set_door", car=out(0, "/car"), door="all", state="locked"),
        ),
    )


def at_charger(cars: Vehicle, car: Car) -> bool:
    """Whether a car is off at a charger, unplugged and with room in its battery."""
    place = cars.place_of(car)
    if place is None or not place.charger_wh or car.mode is not Mode.OFF or car.cable:
        return False
    return cars.charge_of(car) * 2 < car.capacity_wh


@chain("leave_the_charger")
def _leave_the_charger(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, in_mode(Mode.CHARGING))
    if car is None:
        return None
    query = chance.pick(
        (
            "Unplug {}, hold its brake pedal and switch it on.",
            "{} has charged enough. Take the cable out, press the pedal and turn it on.",
        )
    )
    return Chain(
        query.format(car.name),
        call("find_car", name=car.name),
        call("unplug", car=out(0, "/car")),
        call("set_brake", car=out(0, "/car"), brake="pedal", engaged=True),
        call("set_power", car=out(0, "/car"), power="on", after=(1, 2)),
    )


@chain("mend_the_low_tyre")
def _mend_the_low_tyre(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(
        cars, chance, lambda cars, car: len(low_tyres(cars, car)) == 1 and has_pump(cars, car)
    )
    if car is None:
        return None
    query = chance.pick(
        (
            "One tyre of {} is low. Find out which one and inflate it to the recommended pressure.",
            "Check the tyres of {} and bring the low one up to its recommended pressure.",
        )
    )
    return Chain(
        query.format(car.name),
        call("find_car", name=car.name),
        call("check_tyres", car=out(0, "/car")),
        call(
            "inflate_tyre",
            car=out(0, "/car"),
            tyre=out(1, "/low/0/tyre"),
            bar=out(1, "/low/0/recommended_bar"),
        ),
    )


def low_tyres(cars: Vehicle, car: Car) -> list[str]:
    """The tyres of a car below the recommended pressure."""
    tyres = {name: cars.tyres[f"{car.id}:{name}"] for name in TYRES}
    return [name for name, tyre in tyres.items() if tyre.decibar < tyre.recommended_decibar]


def has_pump(cars: Vehicle, car: Car) -> bool:
    """Whether a car stands where there is an air pump."""
    place = cars.place_of(car)
    return place is not None and place.air_pump


@chain("book_what_is_due")
def _book_what_is_due(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, lambda cars, car: len(due(cars, car)) == 1)
    workshop = None if car is None else nearest(cars, car, "workshop")
    if car is None or workshop is None:
        return None
    day = open_day(workshop, cars.today, chance)
    query = chance.pick(
        (
            "Book the maintenance that is due for {car} at the nearest workshop on {day}.",
            "Something is due on {car}. Get it done on {day} at the workshop closest to the car.",
        )
    )
    return Chain(
        query.format(car=car.name, day=day),
        call("find_car", name=car.name),
        (
            call("list_services", car=out(0, "/car"), only_due=True),
            call("search_places", car=out(0, "/car"), kind="workshop", limit=1),
        ),
        call(
            "book_service",
            service=out(1, "/services/0/service"),
            workshop=out(2, "/places/0/place"),
            day=day,
        ),
    )


def due(cars: Vehicle, car: Car) -> list[str]:
    """The maintenance of a car that is due and not booked."""
    return [
        service.id
        for service in cars.services.values()
        if service.car == car.id
        and service.booked_for is None
        and (service.due_date <= cars.today or service.due_odometer_m <= car.odometer_m)
    ]


@chain("save_the_destination")
def _save_the_destination(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, lambda cars, car: bool(car.path))
    if car is None:
        return None
    label = chance.pick(("meeting point", "lunch spot", "weekend trip", "Mum's birthday"))
    query = chance.pick(
        (
            'Save the place that {car} is going to as "{label}".',
            'Where is {car} heading? Save that place under the label "{label}".',
        )
    )
    return Chain(
        query.format(car=car.name, label=label),
        call("find_car", name=car.name),
        call("get_status", car=out(0, "/car")),
        call("save_place", label=label, place=out(1, "/destination/place")),
    )


# -- requests that are refused ---------------------------------------------------------------------


Step: TypeAlias = tuple[str, dict[str, Any]]


def of_car(query: str, fits: Fits, *steps: Step) -> Maker:
    """Calls on one car; ``{}`` in the query is its name."""

    def make(cars: Vehicle, chance: Chance) -> Chain | None:
        car = a_car(cars, chance, fits)
        if car is None:
            return None
        calls = [call(tool, car=out(0, "/car"), **arguments) for tool, arguments in steps]
        return Chain(query.format(car.name), call("find_car", name=car.name), *calls)

    return make


def off_and_flat(cars: Vehicle, car: Car) -> bool:
    """Off, with a battery below a tenth."""
    return car.mode is Mode.OFF and car.charge_wh * 10 < car.capacity_wh


def away_from_chargers(cars: Vehicle, car: Car) -> bool:
    """Off, where there is no charger."""
    place = cars.place_of(car)
    return car.mode is Mode.OFF and place is not None and not place.charger_wh


def away_from_pumps(cars: Vehicle, car: Car) -> bool:
    """Where there is no air pump."""
    return not has_pump(cars, car)


def in_town(cars: Vehicle, car: Car) -> bool:
    """Driving in a town."""
    return car.mode is Mode.DRIVING and cars.limit_of(car) <= 50


def on_a_fast_road(cars: Vehicle, car: Car) -> bool:
    """Driving where the limit is 100 km/h or more."""
    return car.mode is Mode.DRIVING and cars.limit_of(car) >= 100


def with_flat_tyre(cars: Vehicle, car: Car) -> bool:
    """Driving with a tyre that has lost half a bar or more."""
    tyres = [cars.tyres[f"{car.id}:{name}"] for name in TYRES]
    return car.mode is Mode.DRIVING and any(
        tyre.recommended_decibar - tyre.decibar >= 5 for tyre in tyres
    )


def short_of_charge(cars: Vehicle, car: Car) -> bool:
    """Driving, with a charge that does not last to the destination."""
    return in_town(cars, car) and with_flat_tyre(cars, car)


PEDAL: dict[str, Any] = {"brake": "pedal", "engaged": True}
FREE: dict[str, Any] = {"brake": "pedal", "engaged": False}
PARKING_OFF: dict[str, Any] = {"brake": "parking", "engaged": False}
DRIVE: Step = ("shift_gear", {"gear": "drive"})
ON: Step = ("set_power", {"power": "on"})
OFF: Step = ("set_power", {"power": "off"})
DRIVING, PARKED = in_mode(Mode.DRIVING), in_mode(Mode.OFF)

for reason, maker in {
    "vehicle_moving": of_car("Switch {} off.", DRIVING, OFF),
    "charging": of_car(
        "Hold the pedal in {} and switch it on.",
        in_mode(Mode.CHARGING),
        ("set_brake", PEDAL),
        ON,
    ),
    "wrong_mode": of_car(
        "21 degrees in all of {}, please.", PARKED, ("set_climate", {"zone": "all", "celsius": 21})
    ),
    "already_set": of_car("Hold the pedal in {}.", waiting, ("set_brake", PEDAL)),
    "brake_not_held": of_car("Switch {} on.", PARKED, ON),
    "gear_not_park": of_car("Switch {} off.", waiting, OFF),
    "gear_not_drive": of_car("Drive {} to its destination.", ready, ("drive", {})),
    "brake_held": of_car("Drive {} 2 km along its route.", waiting, ("drive", {"distance_km": 2})),
    "no_route": of_car(
        "Get {} into drive, release both brakes and drive.",
        ready,
        ("set_brake", PEDAL),
        DRIVE,
        ("set_brake", PARKING_OFF),
        ("set_brake", FREE),
        ("drive", {}),
    ),
    "beyond_destination": of_car(
        "Drive {} for 900 km.", on_a_fast_road, ("drive", {"distance_km": 900})
    ),
    "not_enough_charge": of_car("Drive {} to its destination.", short_of_charge, ("drive", {})),
    "too_precise": of_car("Drive {} 1.25 km.", DRIVING, ("drive", {"distance_km": 1.25})),
    "would_roll": of_car(
        "Put {} in neutral and let go of the pedal.",
        waiting,
        ("shift_gear", {"gear": "neutral"}),
        ("set_brake", FREE),
    ),
    "door_open": of_car("Shift {} to drive.", open_at_the_back, DRIVE),
    "door_locked": of_car(
        "Open the boot of {}.", off_and_flat, ("set_door", {"door": "boot", "state": "open"})
    ),
    "belt_open": of_car(
        "Close all doors of {} and shift to drive.",
        open_at_the_back,
        ("set_door", {"door": "all", "state": "closed"}),
        DRIVE,
    ),
    "seat_empty": of_car(
        "Fasten the rear right belt of {}.",
        DRIVING,
        ("set_belt", {"seat": "rear_right", "fastened": True}),
    ),
    "nothing_to_set": of_car(
        "Change the rear climate of {}.", ready, ("set_climate", {"zone": "rear"})
    ),
    "battery_low": of_car(
        "Switch {} on with the pedal held and heat all of it to 22.",
        off_and_flat,
        ("set_brake", PEDAL),
        ON,
        ("set_climate", {"zone": "all", "celsius": 22}),
    ),
    "too_fast": of_car(
        "Open all windows of {} halfway.",
        on_a_fast_road,
        ("set_window", {"window": "all", "open_percent": 50}),
    ),
    "in_town": of_car("High beam in {}.", in_town, ("set_lights", {"lights": "high"})),
    "not_driving": of_car("Cruise at 80 in {}.", ready, ("set_cruise", {"speed_kmh": 80})),
    "too_slow": of_car("Cruise at 20 in {}.", DRIVING, ("set_cruise", {"speed_kmh": 20})),
    "above_limit": of_car("Cruise at 180 in {}.", DRIVING, ("set_cruise", {"speed_kmh": 180})),
    "tyre_low": of_car("Cruise at 40 in {}.", with_flat_tyre, ("set_cruise", {"speed_kmh": 40})),
    "no_charger": of_car(
        "Charge {} to 90 per cent.", away_from_chargers, ("plug_in", {"limit_percent": 90})
    ),
    "charged_enough": of_car(
        "Charge {} to 5 per cent.", at_charger, ("plug_in", {"limit_percent": 5})
    ),
    "no_air_pump": of_car(
        "Front left tyre of {} to 2.5 bar.",
        away_from_pumps,
        ("inflate_tyre", {"tyre": "front_left", "bar": 2.5}),
    ),
    "over_pressure": of_car(
        "Front left tyre of {} to 4 bar.",
        has_pump,
        ("inflate_tyre", {"tyre": "front_left", "bar": 4}),
    ),
    "below_pressure": of_car(
        "Front left tyre of {} down to 1.2 bar.",
        has_pump,
        ("inflate_tyre", {"tyre": "front_left", "bar": 1.2}),
    ),
    "no_town": of_car(
        "Which cafés are there in Atlantis for {}?",
        PARKED,
        ("search_places", {"kind": "cafe", "town": "Atlantis"}),
    ),
}.items():
    refusal(reason)(maker)


@refusal("cable_connected")
def _cable_connected(cars: Vehicle, chance: Chance) -> Chain | None:
    """A charge of one more per cent ends after at most three minutes, and the cable stays."""
    car = a_car(cars, chance, at_charger)
    if car is None:
        return None
    percent = cars.charge_of(car) * 100 // car.capacity_wh + 1
    steps: tuple[Step, ...] = (
        ("plug_in", {"limit_percent": percent}),
        ("get_status", {}),
        ("set_brake", PEDAL),
        ON,
        DRIVE,
    )
    query = f"Charge {{}} to {percent}%, look how it is, hold the pedal, switch it on, into drive."
    return of_car(query, at_charger, *steps)(cars, chance)


@refusal("unknown_car")
def _unknown_car(cars: Vehicle, chance: Chance) -> Chain:
    return Chain("Where is Thunderbolt?", call("find_car", name="Thunderbolt"))


@refusal("unknown_place")
def _unknown_place(cars: Vehicle, chance: Chance) -> Chain:
    return Chain("Where is the moon base?", call("find_place", name="moon base"))


@refusal("already_there")
def _already_there(cars: Vehicle, chance: Chance) -> Chain | None:
    car = a_car(cars, chance, ready)
    if car is None:
        return None
    return Chain(
        f"Set the route of {car.name} to the place where it stands.",
        call("find_car", name=car.name),
        call("get_status", car=out(0, "/car")),
        call("start_route", car=out(0, "/car"), place=out(1, "/at/place")),
    )


@refusal("label_taken")
def _label_taken(cars: Vehicle, chance: Chance) -> Chain:
    place, other = chance.draw(list(cars.places.values()), 2)
    return Chain(
        f'Save {place.name} as "{other.name}".',
        call("find_place", name=place.name),
        call("save_place", label=other.name, place=out(0, "/place")),
    )


def booking(fits: Fits, kind: str, day: Callable[[Vehicle, Place], str | None]) -> Maker:
    """The first maintenance of a car booked at a place for a day."""

    def make(cars: Vehicle, chance: Chance) -> Chain | None:
        car = a_car(cars, chance, fits)
        place = chance.pick([place for place in cars.places.values() if place.kind == kind])
        on = day(cars, place)
        if car is None or on is None:
            return None
        return Chain(
            f"Book the first maintenance of {car.name} at {place.name} for {on}.",
            call("find_car", name=car.name),
            call("list_services", car=out(0, "/car")),
            call("find_place", name=place.name),
            call(
                "book_service",
                service=out(1, "/services/0/service"),
                workshop=out(2, "/place"),
                day=on,
            ),
        )

    return make


def free(cars: Vehicle, car: Car) -> bool:
    """A car none of whose maintenance is booked."""
    return all(s.booked_for is None for s in cars.services.values() if s.car == car.id)


def a_sunday(cars: Vehicle, place: Place) -> str:
    """The next Sunday."""
    today = date.fromisoformat(cars.today)
    return (today + timedelta(days=6 - today.weekday() or 7)).isoformat()


for reason, maker in {
    "not_a_workshop": booking(free, "hotel", a_sunday),
    "workshop_closed": booking(free, "workshop", a_sunday),
    "fully_booked": booking(free, "workshop", lambda cars, place: place.full_on[0]),
    "not_in_future": booking(free, "workshop", lambda cars, place: cars.today),
}.items():
    refusal(reason)(maker)


@refusal("already_booked")
def _already_booked(cars: Vehicle, chance: Chance) -> Chain | None:
    """Books a car's due maintenance, which is the first of its list, twice."""
    made = _book_what_is_due(cars, chance)
    if made is None:
        return None
    again = made.steps[-1][0]
    return Chain(f"{made.query} And once more, to be sure.", *made.steps, again)


@refusal("unknown_service")
def _unknown_service(cars: Vehicle, chance: Chance) -> Chain:
    place = chance.pick([place for place in cars.places.values() if place.kind == "workshop"])
    day = open_day(place, cars.today, chance)
    return Chain(
        f"Book service SV-00000 at {place.name} for {day}.",
        call("find_place", name=place.name),
        call("book_service", service="SV-00000", workshop=out(0, "/place"), day=day),
    )
