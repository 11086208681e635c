"""Servers with one fault each; `check_server` must find it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from orch_env.servers import Chance, Pattern, Server, Table, ToolRefusal, read, write


@dataclass(frozen=True, slots=True)
class Jar:
    """A jar with some sweets."""

    id: str
    sweets: int


class Sound(Server):
    """A shelf of jars, without a fault."""

    name = "sound"
    category = "Tests"
    jars: Table[Jar]

    def populate(self, chance: Chance) -> None:
        """Fill the shelf."""
        for _ in range(5):
            jar = chance.id("J-", 4, self.jars)
            self.jars[jar] = Jar(jar, chance.between(1, 9))

    @read
    def count(self, jar: Annotated[str, Pattern("J-[0-9]{4}")]) -> dict[str, Any]:
        """Count the sweets in a jar.

        Args:
            jar: The jar's id; it stands on the jar.
        """
        return {"sweets": self.jars.need(jar).sweets}

    @write
    def take(self, jar: Annotated[str, Pattern("J-[0-9]{4}")]) -> dict[str, Any]:
        """Take a sweet out of a jar.

        Args:
            jar: The jar's id; it stands on the jar.
        """
        found = self.jars.need(jar)
        if not found.sweets:
            raise ToolRefusal("The jar is empty; take from another one.", reason="empty")
        self.jars[jar] = replace(found, sweets=found.sweets - 1)
        return {"left": found.sweets - 1}

    def invariants(self) -> Iterator[str]:
        """No jar owes sweets."""
        yield from (f"jar {jar.id} owes sweets" for jar in self.jars.values() if jar.sweets < 0)


class Undescribed(Sound):
    category = ""

    @read
    def Look(self) -> dict[str, Any]:
        """Look at the shelf"""
        return {}


class Random(Sound):
    """Its world is another one each time."""

    def populate(self, chance: Chance) -> None:
        """Fill the shelf by the machine's chance."""
        self.jars["J-0001"] = Jar("J-0001", random.randrange(10**9))


class Unordered(Sound):
    """Its world depends on the order of a set."""

    def populate(self, chance: Chance) -> None:
        """Fill the shelf in a set's order."""
        for place, name in enumerate({"red", "green", "blue", "black", "white"}):
            jar = f"J-{place:04d}"
            self.jars[jar] = Jar(jar, len(name) + place)


class Lawless(Sound):
    """Its world breaks its own law."""

    def populate(self, chance: Chance) -> None:
        """Fill the shelf with a debt."""
        self.jars["J-0001"] = Jar("J-0001", -1)


class Greedy(Sound):
    """One of its tools breaks its law."""

    @write
    def take(self, jar: Annotated[str, Pattern("J-[0-9]{4}")]) -> dict[str, Any]:
        """Take ten sweets out of a jar.

        Args:
            jar: The jar's id; it stands on the jar.
        """
        found = self.jars.need(jar)
        self.jars[jar] = replace(found, sweets=found.sweets - 10)
        return {}


class Insistent(Sound):
    """One of its tools is declared idempotent and is not."""

    @write(idempotent=True)
    def add(self, jar: Annotated[str, Pattern("J-[0-9]{4}")]) -> dict[str, Any]:
        """Add a sweet to a jar.

        Args:
            jar: The jar's id; it stands on the jar.
        """
        found = self.jars.need(jar)
        self.jars[jar] = replace(found, sweets=found.sweets + 1)
        return {}


class Buggy(Sound):
    """One of its tools divides by what may be zero."""

    @read
    def share(self, people: int) -> dict[str, Any]:
        """Share the sweets.

        Args:
            people: How many people there are.
        """
        return {"each": sum(jar.sweets for jar in self.jars.values()) // people}


class Sly(Sound):
    """One of its READ tools writes."""

    @read
    def peek(self) -> dict[str, Any]:
        """Look at the shelf."""
        del self.jars[next(iter(self.jars))]
        return {}


class Gossip(Sound):
    """Its sessions see each other."""

    calls: ClassVar[list[int]] = []

    @read
    def peek(self) -> dict[str, Any]:
        """Look at the shelf."""
        self.calls.append(1)
        return {"looked": len(self.calls)}
