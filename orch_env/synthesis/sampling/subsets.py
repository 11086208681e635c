"""Sets of different calls among interchangeable ones, counted and drawn by their weights."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate, combinations, product

from orch_env.servers.framework.chance import Chance


class Subsets:
    """All sets of ``size`` rows with different calls; a set weighs the product of its rows.

    The sum over all sets is an elementary symmetric polynomial of the calls' weights.

    Args:
        rows: (row, weight) pairs.
        size: rows in a set.
        call_of: row -> number of its call.

    Attributes:
        total: the sum of the weights of all sets.
    """

    def __init__(
        self, rows: Sequence[tuple[int, int | float]], size: int, call_of: Sequence[int]
    ) -> None:
        calls: dict[int, list[tuple[int, int | float]]] = defaultdict(list)
        for row, weight in rows:
            calls[call_of[row]].append((row, weight))
        self._calls = [calls[call] for call in sorted(calls)]
        self._size = size
        weights = [sum(weight for _, weight in found) for found in self._calls]
        # sums[n][k]: the sum over sets of k of the first n calls
        first: list[int | float] = [1, *[0] * size]
        sums = [first]
        for weight in weights:
            last = sums[-1]
            sums.append([1] + [last[k] + weight * last[k - 1] for k in range(1, size + 1)])
        self._weights, self._sums = weights, sums
        self.total = sums[-1][size]

    def draw(self, chance: Chance) -> tuple[int, ...]:
        """One set in proportion to its weight, ascending."""
        chosen: list[int] = []
        wanted = self._size
        for n in range(len(self._calls), 0, -1):
            if not wanted:
                break
            taken = self._weights[n - 1] * self._sums[n - 1][wanted - 1]
            if n == wanted or chance.random() * self._sums[n][wanted] < taken:
                chosen.append(_pick(self._calls[n - 1], chance))
                wanted -= 1
        return tuple(sorted(chosen))

    def each(self) -> Iterator[tuple[int, ...]]:
        """Every set once."""
        for calls in combinations(self._calls, self._size):
            for rows in product(*calls):
                yield tuple(sorted(row for row, _ in rows))


def _pick(rows: Sequence[tuple[int, int | float]], chance: Chance) -> int:
    if len(rows) == 1:
        return rows[0][0]
    sums = list(accumulate(weight for _, weight in rows))
    return rows[min(bisect_right(sums, chance.random() * sums[-1]), len(rows) - 1)][0]
