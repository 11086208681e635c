"""A company's calendar: series with exceptions, time zones, invitations, rooms, free time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import combinations

from orch_env.servers.domains.calendar.agenda import AgendaTools
from orch_env.servers.domains.calendar.directory import DirectoryTools
from orch_env.servers.domains.calendar.planning import PlanningTools
from orch_env.servers.domains.calendar.recurrence import FARTHEST, first_overlap, rule_dates, spans
from orch_env.servers.domains.calendar.world import build
from orch_env.servers.framework.chance import Chance


class Calendar(DirectoryTools, AgendaTools, PlanningTools):
    """A company's calendar, seen by one of its people."""

    name = "calendar"
    category = "Productivity"
    epoch = "2025-03-17"

    def populate(self, chance: Chance) -> None:
        """People in five offices with rooms, series, single meetings, answers and clashes."""
        build(self, chance, self.epoch)

    def invariants(self) -> Iterator[str]:
        """Rooms hold one event at a time and enough people; events name what exists."""
        events = [e for e in self.events.values() if not e.cancelled]
        for event in self.events.values():
            people = event.people
            if len(set(people)) < len(people) or not all(p in self.people for p in people):
                yield f"{event.id} invites a person twice or one that does not exist"
            if event.room is not None and len(people) > self.rooms[event.room].seats:
                yield f"{event.id} has more people than its room has seats"
            first = date.fromisoformat(event.timing.start[:10])
            days = {d.isoformat() for d in rule_dates(event.timing.rule, first, first + FARTHEST)}
            deviations = [d.occurrence for d in event.timing.deviations]
            if deviations != sorted(set(deviations)) or not set(deviations) <= days:
                yield f"{event.id} deviates twice on a date, or on one that its rule does not have"
        for one, other in combinations(events, 2):
            same_room = one.room is not None and one.room == other.room
            if same_room and first_overlap(spans(one.timing), other.timing):
                yield f"room {one.room} is taken by {one.id} and {other.id} at one time"


__all__ = ["Calendar"]
