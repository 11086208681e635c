"""What worlds are drawn from: chance that is the same with every Python, and lists of words."""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import TypeVar

T = TypeVar("T")

LISTS = Path(__file__).parents[2] / "data" / "lists"


class Chance(Random):
    """A seeded source of draws for worlds and events.

    Python promises that ``random()`` keeps its sequence for a seed, and promises it of no other
    method; so the methods here use ``random()`` alone. Servers use these and not the inherited
    ones.
    """

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.random() * len(options))]

    def between(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both ends included."""
        return low + int(self.random() * (high - low + 1))

    def often(self, share: float) -> bool:
        """True in this share of the draws."""
        return self.random() < share

    def draw(self, options: Sequence[T], count: int) -> list[T]:
        """``count`` different ones of the options, in random order.

        Raises:
            ValueError: there are fewer.
        """
        left = list(options)
        if count > len(left):
            raise ValueError(f"cannot draw {count} of {len(left)}")
        for place in range(count):
            other = self.between(place, len(left) - 1)
            left[place], left[other] = left[other], left[place]
        return left[:count]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """All of the options in random order."""
        return self.draw(options, len(options))

    def id(self, prefix: str, digits: int, taken: Container[str]) -> str:
        """An id that is not taken: the prefix and this many digits."""
        while True:
            found = f"{prefix}{self.between(0, 10**digits - 1):0{digits}d}"
            if found not in taken:
                return found


@cache
def words(name: str) -> tuple[str, ...]:
    """The lines of ``orch_env/data/lists/NAME.txt``, without blank lines and ``#`` comments."""
    lines = (LISTS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
