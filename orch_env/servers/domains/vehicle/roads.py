"""Shortest ways over the region's roads; whole metres, whole milliseconds.

The network's nodes are towns and places. A place hangs on its town by a lane.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from orch_env.servers.domains.vehicle.records import Place, Road

LANE_LIMIT_KMH = 50


@dataclass(frozen=True, slots=True)
class Position:
    """``past_m`` metres behind ``node`` on the way to ``towards``, or at ``node``."""

    node: str
    towards: str | None = None
    past_m: int = 0


@dataclass(frozen=True, slots=True)
class Way:
    """A way from a position: its length, and the nodes that it passes, the last one included."""

    metres: int
    nodes: tuple[str, ...]


class Network:
    """The roads and lanes of a region."""

    def __init__(self, roads: Mapping[str, Road], places: Mapping[str, Place]) -> None:
        self._roads = roads
        self._places = places

    def leg(self, one: str, other: str) -> tuple[int, int]:
        """Metres and speed limit (km/h) between two neighbouring nodes."""
        for node in (one, other):
            if node in self._places:
                return self._places[node].lane_m, LANE_LIMIT_KMH
        road = self._roads[road_id(one, other)]
        return road.metres, road.limit_kmh

    def to_towns(self, start: Position) -> dict[str, Way]:
        """The shortest way to each town; of equal ones the first by its nodes."""
        neighbours: dict[str, list[tuple[str, int]]] = {}
        for road in self._roads.values():
            one, other = road.id.split(":")
            neighbours.setdefault(one, []).append((other, road.metres))
            neighbours.setdefault(other, []).append((one, road.metres))
        waiting = [
            (way.metres, way.nodes, way.nodes[-1] if way.nodes else start.node)
            for way in self._first_steps(start)
        ]
        heapq.heapify(waiting)
        found: dict[str, Way] = {}
        while waiting:
            metres, nodes, at = heapq.heappop(waiting)
            if at in found:
                continue
            found[at] = Way(metres, nodes)
            for other, length in neighbours[at]:
                if other not in found:
                    heapq.heappush(waiting, (metres + length, (*nodes, other), other))
        return found

    def to_place(self, start: Position, place: Place, towns: Mapping[str, Way]) -> Way:
        """The shortest way to a place, given :meth:`to_towns` of the same start."""
        if start.towards is None and start.node == place.id:
            return Way(0, ())
        if start.towards is not None and place.id in (start.node, start.towards):
            back = place.id == start.node
            return Way(start.past_m if back else place.lane_m - start.past_m, (place.id,))
        way = towns[place.town]
        return Way(way.metres + place.lane_m, (*way.nodes, place.id))

    def minutes(self, start: Position, way: Way) -> int:
        """How long a way takes at the limit of each road, rounded up to whole minutes."""
        if not way.nodes:
            return 0
        legs = [self.leg(*pair) for pair in zip(way.nodes, way.nodes[1:], strict=False)]
        first = way.metres - sum(metres for metres, _ in legs)
        _, limit = self.leg(start.node, start.towards or way.nodes[0])
        milliseconds = sum(metres * 3600 // limit for metres, limit in [(first, limit), *legs])
        return -(-milliseconds // 60_000)

    def _first_steps(self, start: Position) -> list[Way]:
        """The ways from a position to the towns next to it."""
        if start.towards is None:
            if start.node in self._places:
                place = self._places[start.node]
                return [Way(place.lane_m, (place.town,))]
            return [Way(0, ())]
        length, _ = self.leg(start.node, start.towards)
        ends = [(start.node, start.past_m), (start.towards, length - start.past_m)]
        return [Way(metres, (node,)) for node, metres in ends if node not in self._places]


def road_id(one: str, other: str) -> str:
    """The id of the road between two towns."""
    return ":".join(sorted((one, other)))
