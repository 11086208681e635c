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
        # sums[k][n]: the sum over sets of k of the first n calls
        sums: list[list[int | float]] = [[1] * (len(weights) + 1)]
        for _ in range(size):
            fewer = sums[-1]
            sums.append([0, *accumulate(w * s for w, s in zip(weights, fewer, strict=False))])
        self._sums = sums
        self.total = sums[size][-1]

    def draw(self, chance: Chance) -> tuple[int, ...]:
        """One set in proportion to its weight, ascending."""
        chosen: list[int] = []
        last = len(self._calls)
        for wanted in range(self._size, 0, -1):
            # the sets of the first n calls grow with n: the last call of the set comes first
            sums = self._sums[wanted]
            last = min(bisect_right(sums, chance.random() * sums[last]), last) - 1
            chosen.append(_pick(self._calls[last], chance))
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
