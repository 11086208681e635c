"""The harbour: ships, berths, cranes, cargo, permits, pilots and agents; the quick start's world.

Each look-up returns one id. An id cannot be guessed, and only one tool returns it, so a model has
to learn nothing but the dependencies between calls. Five tools change the state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Annotated, ClassVar

from orch_env.servers.framework.arguments import Pattern
from orch_env.servers.framework.errors import NotFound, ToolRefusal
from orch_env.servers.framework.server import Server, read, write
from orch_env.servers.framework.table import Table
from orch_env.types.json import JsonObject

NUM_SHIPS = 640
NUM_PILOTS = 240

ShipId = Annotated[str, Pattern("S-[0-9]{4}")]
BerthId = Annotated[str, Pattern("B-[0-9]{4}")]
CraneId = Annotated[str, Pattern("R-[0-9]{4}")]
CargoId = Annotated[str, Pattern("C-[0-9]{4}")]
PermitId = Annotated[str, Pattern("L-[0-9]{4}")]
PilotId = Annotated[str, Pattern("P-[0-9]{4}")]
AgentId = Annotated[str, Pattern("A-[0-9]{4}")]
BookingId = Annotated[str, Pattern("K-[0-9]{4}")]


@dataclass(frozen=True, slots=True)
class Ship:
    """A ship in port: where it lies, what it carries, who acts for its owner."""

    id: str
    name: str
    berth: str
    cargo: str
    agent: str


@dataclass(frozen=True, slots=True)
class Berth:
    """A berth and the crane that stands at it."""

    id: str
    crane: str


@dataclass(frozen=True, slots=True)
class Crane:
    """A crane; it unloads only if it works."""

    id: str
    berth: str
    works: bool


@dataclass(frozen=True, slots=True)
class Cargo:
    """What a ship brought, with its import permit."""

    id: str
    berth: str
    permit: str
    unloaded: bool = False


@dataclass(frozen=True, slots=True)
class Permit:
    """An import permit and the last year in which it is valid."""

    id: str
    until: int


@dataclass(frozen=True, slots=True)
class Pilot:
    """A harbour pilot."""

    id: str
    name: str
    on_duty: bool


@dataclass(frozen=True, slots=True)
class Agent:
    """A ship's agent on shore."""

    id: str


@dataclass(frozen=True, slots=True)
class Booking:
    """A pilot booked for a ship's departure."""

    id: str
    ship: str
    pilot: str
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """An order to a crane to unload a cargo."""

    id: str
    cargo: str
    crane: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A message to an agent about a berth."""

    id: str
    agent: str
    berth: str


class Harbour(Server):
    """A harbour master's office."""

    name = "harbour"
    category = "Examples"
    epoch = "2025-03-03"
    num_ships: ClassVar[int] = NUM_SHIPS
    """A subclass may set another number, up to 10,000, which is the number of ids."""

    ships: Table[Ship]
    berths: Table[Berth]
    cranes: Table[Crane]
    cargoes: Table[Cargo]
    permits: Table[Permit]
    pilots: Table[Pilot]
    agents: Table[Agent]
    bookings: Table[Booking]
    jobs: Table[Job]
    notices: Table[Notice]

    def populate(self, random: Random) -> None:
        """Add ships, each with its own berth, crane, cargo, permit and agent, and pilots.

        One crane in ten is out of order, and one pilot in ten is off duty. No two names are equal.
        """
        names = _names(random)
        ids = {prefix: _ids(random, prefix) for prefix in "SBRCLAP"}
        for _ in range(self.num_ships):
            ship, berth, crane, cargo, permit, agent = (next(ids[p]) for p in "SBRCLA")
            self.ships[ship] = Ship(ship, next(names), berth, cargo, agent)
            self.berths[berth] = Berth(berth, crane)
            self.cranes[crane] = Crane(crane, berth, works=random.random() >= 0.1)
            self.cargoes[cargo] = Cargo(cargo, berth, permit)
            self.permits[permit] = Permit(permit, until=2025)
            self.agents[agent] = Agent(agent)
        for _ in range(NUM_PILOTS):
            pilot = next(ids["P"])
            self.pilots[pilot] = Pilot(pilot, next(names), on_duty=random.random() >= 0.1)

    @read
    def find_ship(self, name: str) -> JsonObject:
        """Find a ship in port by its name.

        Args:
            name: The ship's name.
        """
        for ship in self.ships.values():
            if ship.name == name:
                return {"ship": ship.id}
        raise NotFound(f"No ship is called {name}.")

    @read
    def find_pilot(self, name: str) -> JsonObject:
        """Find a harbour pilot by name.

        Args:
            name: The pilot's name.
        """
        for pilot in self.pilots.values():
            if pilot.name == name:
                return {"pilot": pilot.id}
        raise NotFound(f"No pilot is called {name}.")

    @read
    def ship_berth(self, ship: ShipId) -> JsonObject:
        """The berth where a ship lies.

        Args:
            ship: The ship's id; find_ship gives it.
        """
        return {"berth": self.ships.need(ship, "find_ship gives it.").berth}

    @read
    def ship_cargo(self, ship: ShipId) -> JsonObject:
        """The cargo that a ship carries.

        Args:
            ship: The ship's id; find_ship gives it.
        """
        return {"cargo": self.ships.need(ship, "find_ship gives it.").cargo}

    @read
    def ship_agent(self, ship: ShipId) -> JsonObject:
        """The agent who acts for a ship.

        Args:
            ship: The ship's id; find_ship gives it.
        """
        return {"agent": self.ships.need(ship, "find_ship gives it.").agent}

    @read
    def berth_crane(self, berth: BerthId) -> JsonObject:
        """The crane that stands at a berth.

        Args:
            berth: The berth's id; ship_berth gives it.
        """
        return {"crane": self.berths.need(berth, "ship_berth gives it.").crane}

    @read
    def cargo_permit(self, cargo: CargoId) -> JsonObject:
        """The import permit of a cargo.

        Args:
            cargo: The cargo's id; ship_cargo gives it.
        """
        return {"permit": self.cargoes.need(cargo, "ship_cargo gives it.").permit}

    @write
    def renew_permit(self, permit: PermitId) -> JsonObject:
        """Renew an import permit for a year; once a year.

        Args:
            permit: The permit's id; cargo_permit gives it.
        """
        held = self.permits.need(permit, "cargo_permit gives it.")
        year = int(self.today[:4])
        if held.until > year:
            raise ToolRefusal(f"Permit {permit} was renewed already.", until=held.until)
        self.permits[permit] = replace(held, until=year + 1)
        return {"permit": permit, "until": year + 1}

    @write
    def book_pilot(self, ship: ShipId, pilot: PilotId) -> JsonObject:
        """Book a pilot for a ship's departure; one pilot a ship.

        Args:
            ship: The ship's id; find_ship gives it.
            pilot: The pilot's id; find_pilot gives it.
        """
        self.ships.need(ship, "find_ship gives it.")
        if not self.pilots.need(pilot, "find_pilot gives it.").on_duty:
            raise ToolRefusal(f"Pilot {pilot} is off duty; book another one.")
        for other in self.bookings.values():
            if other.ship == ship:
                raise ToolRefusal(f"Ship {ship} has a pilot already.", booking=other.id)
        booking = self.new_id("K-", ship, pilot, taken=self.bookings)
        self.bookings[booking] = Booking(booking, ship, pilot)
        return {"booking": booking}

    @write
    def confirm_booking(self, booking: BookingId) -> JsonObject:
        """Confirm a pilot's booking, which makes it binding.

        Args:
            booking: The booking's id; book_pilot gives it.
        """
        made = self.bookings.need(booking, "book_pilot gives it.")
        if made.confirmed:
            raise ToolRefusal(f"Booking {booking} was confirmed already.")
        self.bookings[booking] = replace(made, confirmed=True)
        return {"booking": booking, "confirmed": True}

    @write
    def unload_cargo(self, cargo: CargoId, crane: CraneId) -> JsonObject:
        """Order a crane to unload a cargo; it must stand at the berth where the cargo lies.

        Args:
            cargo: The cargo's id; ship_cargo gives it.
            crane: The crane's id; berth_crane gives it.
        """
        load = self.cargoes.need(cargo, "ship_cargo gives it.")
        machine = self.cranes.need(crane, "berth_crane gives it.")
        if machine.berth != load.berth:
            raise ToolRefusal(f"Crane {crane} stands at another berth.", berth=load.berth)
        if not machine.works:
            raise ToolRefusal(f"Crane {crane} is out of order.")
        if load.unloaded:
            raise ToolRefusal(f"Cargo {cargo} was unloaded already.")
        job = self.new_id("J-", cargo, crane, taken=self.jobs)
        self.cargoes[cargo] = replace(load, unloaded=True)
        self.jobs[job] = Job(job, cargo, crane)
        return {"job": job}

    @write
    def notify_agent(self, agent: AgentId, berth: BerthId) -> JsonObject:
        """Tell an agent at which berth the ship lies; once a berth.

        Args:
            agent: The agent's id; ship_agent gives it.
            berth: The berth's id; ship_berth gives it.
        """
        self.agents.need(agent, "ship_agent gives it.")
        self.berths.need(berth, "ship_berth gives it.")
        for other in self.notices.values():
            if (other.agent, other.berth) == (agent, berth):
                raise ToolRefusal(f"Agent {agent} was told already.", notice=other.id)
        notice = self.new_id("N-", agent, berth, taken=self.notices)
        self.notices[notice] = Notice(notice, agent, berth)
        return {"notice": notice}


CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"


def _names(random: Random) -> Iterator[str]:
    """Different names of three syllables, such as Kelora."""
    syllables = [c + v for c in CONSONANTS for v in VOWELS]
    seen: set[str] = set()
    while True:
        name = "".join(random.choice(syllables) for _ in range(3)).capitalize()
        if name not in seen:
            seen.add(name)
            yield name


def _ids(random: Random, prefix: str) -> Iterator[str]:
    """Different ids of one prefix, in random order."""
    for number in random.sample(range(10_000), 10_000):
        yield f"{prefix}-{number:04d}"
