"""A file of docs/tutorials/write_a_server.md."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated

from orch_env.servers import (
    NotFound,
    Pattern,
    Range,
    Server,
    Table,
    ToolRefusal,
    read,
    words,
    write,
)

ParcelId = Annotated[str, Pattern("PC-[0-9]{6}")]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A parcel in a locker, or on its way back."""

    id: str
    to: str
    locker: int
    code: str
    until: str
    status: str = "waiting"
    kept_longer: bool = False


class Lockers(Server):
    """A parcel locker: parcels that wait, with a code each, until a day."""

    name = "lockers"
    category = "Commerce"
    epoch = "2025-03-03"

    parcels: Table[Parcel]

    def populate(self, chance):
        """Twenty parcels for different people."""
        for locker, name in enumerate(chance.draw(words("first_names"), 20), start=1):
            parcel = chance.id("PC-", 6, self.parcels)
            day = self.now + timedelta(days=chance.between(0, 6))
            code = f"{chance.between(0, 9999):04d}"
            self.parcels[parcel] = Parcel(parcel, name, locker, code, day.date().isoformat())

    def settle(self):
        """What was not collected by its day goes back to the sender."""
        for parcel in self.parcels.values():
            late = self.now > datetime.fromisoformat(parcel.until) + timedelta(days=1)
            if parcel.status == "waiting" and late:
                self.parcels[parcel.id] = replace(parcel, status="returned")

    def invariants(self):
        """No locker holds two parcels."""
        held = [p.locker for p in self.parcels.values() if p.status == "waiting"]
        if len(held) != len(set(held)):
            yield "a locker holds two parcels"

    @read
    def find_parcel(self, to: str):
        """Find the parcel of a person.

        Args:
            to: The person's first name.
        """
        for parcel in self.parcels.values():
            if parcel.to == to:
                return {"parcel": parcel.id, "status": parcel.status, "until": parcel.until}
        raise NotFound(f"There is no parcel for {to}; check the name.", reason="no_parcel")

    @write(idempotent=True)
    def extend(self, parcel: ParcelId, days: Annotated[int, Range(1, 3)]):
        """Keep a parcel longer, once.

        Args:
            parcel: The parcel's id; find_parcel gives it.
            days: How many days longer.
        """
        held = self.waiting(parcel)
        if held.kept_longer:
            raise ToolRefusal(
                f"Parcel {parcel} was kept longer once; collect it by {held.until}.",
                reason="kept_longer_before",
            )
        day = datetime.fromisoformat(held.until) + timedelta(days=days)
        until = day.date().isoformat()
        self.parcels[parcel] = replace(held, until=until, kept_longer=True)
        return {"parcel": parcel, "until": until}

    @write(destructive=True, idempotent=True)
    def open_locker(self, parcel: ParcelId, code: Annotated[str, Pattern("[0-9]{4}")]):
        """Open the locker of a parcel and hand the parcel out.

        Args:
            parcel: The parcel's id; find_parcel gives it.
            code: The four digits of the code that the person got.
        """
        held = self.waiting(parcel)
        if held.code != code:
            raise ToolRefusal(
                f"{code} is not the code of parcel {parcel}; ask the person for it.",
                reason="wrong_code",
            )
        self.parcels[parcel] = replace(held, status="collected")
        return {"locker": held.locker}

    def waiting(self, parcel):
        """The parcel, if it is still in its locker."""
        held = self.parcels.need(parcel, "find_parcel gives it.")
        if held.status != "waiting":
            raise ToolRefusal(
                f"Parcel {parcel} was {held.status}; its locker is empty.", reason=held.status
            )
        return held
