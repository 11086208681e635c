"""Tools that look up people, rooms and time zones."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from orch_env.servers.domains.calendar.records import Person
from orch_env.servers.domains.calendar.recurrence import Span
from orch_env.servers.domains.calendar.state import DateTime, Minutes, State, show
from orch_env.servers.domains.calendar.zones import ZoneName
from orch_env.servers.framework.arguments import Length, Range
from orch_env.servers.framework.errors import InvalidArguments, NotFound
from orch_env.servers.framework.server import read
from orch_env.types.json import JsonObject

Name = Annotated[str, Length(1, 80)]


class DirectoryTools(State):
    """Who works here, and where one can meet."""

    @read
    def find_person(self, name: Name) -> JsonObject:
        """Find a colleague, or yourself, by full name: office, time zone and working hours.

        Args:
            name: The person's full name, or "me" for yourself.
        """
        if name.lower() == "me":
            return _shown(self.me)
        for person in self.people.values():
            if person.name.lower() == name.lower():
                return _shown(person)
        raise NotFound(
            f"Nobody here is called {name}; give first name and surname, or use list_people.",
            reason="unknown_person",
        )

    @read
    def list_people(
        self,
        team: Name | None = None,
        city: Name | None = None,
        limit: Annotated[int, Range(1, 50)] = 20,
    ) -> JsonObject:
        """List the people of the company, yourself included, by name.

        Args:
            team: Only people of this team, such as "Finance".
            city: Only people of the office in this city.
            limit: How many at most.
        """
        known = {"team": {p.team for p in self.people.values()}, "city": self._cities()}
        for key, wanted in (("team", team), ("city", city)):
            if wanted is not None and wanted not in known[key]:
                names = ", ".join(sorted(known[key]))
                raise NotFound(f"No {key} {wanted}; there are: {names}.", reason=f"unknown_{key}")
        found = sorted(
            (p for p in self.people.values() if team in (None, p.team) and city in (None, p.city)),
            key=lambda p: p.name,
        )
        return {"count": len(found), "people": [_shown(p) for p in found[:limit]]}

    @read
    def list_rooms(
        self,
        city: Name,
        seats: Annotated[int, Range(1, 200)] = 1,
        start: DateTime | None = None,
        minutes: Minutes | None = None,
        zone: ZoneName | None = None,
    ) -> JsonObject:
        """List the meeting rooms of an office, the smallest first; on request only free ones.

        Args:
            city: The office's city; find_person gives the city of a person's office.
            seats: How many seats a room must have at least.
            start: Only rooms that are free from this local time on; needs minutes.
            minutes: For how long a room must be free.
            zone: The time zone of start; your own if left out.
        """
        if city not in self._cities():
            names = ", ".join(sorted(self._cities()))
            raise NotFound(f"No office in {city}; there are: {names}.", reason="unknown_city")
        if (start is None) != (minutes is None):
            raise InvalidArguments(
                "Give start and minutes together, or neither.", reason="incomplete_time"
            )
        rooms = [r for r in self.rooms.values() if r.city == city and r.seats >= seats]
        if start is not None and minutes is not None:
            begins = self.utc_of(start, zone or self.me.zone)
            ends = begins + timedelta(minutes=minutes)
            taken = self.rooms_taken([Span(begins, ends, start[:10])])
            rooms = [r for r in rooms if r.id not in taken]
        rooms.sort(key=lambda r: (r.seats, r.name))
        shown = [{"room": r.id, "name": r.name, "seats": r.seats} for r in rooms]
        return {"city": city, "count": len(shown), "rooms": shown}

    @read
    def convert_time(self, time: DateTime, from_zone: ZoneName, to_zone: ZoneName) -> JsonObject:
        """What clocks in one time zone show at a local time of another.

        Args:
            time: The local time in from_zone.
            from_zone: The time zone of time.
            to_zone: The time zone that you want.
        """
        utc = self.utc_of(time, from_zone)
        return {"time": show(utc, to_zone), "zone": to_zone, "utc": show(utc, "UTC")}

    def _cities(self) -> set[str]:
        return {room.city for room in self.rooms.values()}


def _shown(person: Person) -> JsonObject:
    return {
        "person": person.id,
        "name": person.name,
        "email": person.email,
        "team": person.team,
        "city": person.city,
        "zone": person.zone,
        "working_days": list(person.hours.days),
        "working_hours": f"{person.hours.start} to {person.hours.end}",
    }
