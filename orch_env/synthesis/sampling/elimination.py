"""Exact weighted counting and sampling over rows, by sparse variable elimination.

A template's calls are variables, the recorded calls that may stand for each are their values, and
edges and equalities are tables of the values that go together. Variables are summed out one by one,
fewest neighbours first (Zhang and Poole, "A simple approach to Bayesian network computations",
1994); what each sum was made of is kept, so that a draw runs backwards through the sums without a
dead end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.sampling.subsets import Subsets
from orch_env.types import OrchError

Weight: TypeAlias = int | float
Values = tuple[int, ...]
MOST_ENTRIES = 4_000_000
"""Entries of one intermediate table; a template that needs more is refused."""


@dataclass(frozen=True, slots=True)
class Factor:
    """A sparse table over some variables; what it does not hold has weight 0.

    Attributes:
        scope: the variables, ascending.
        table: values of the scope -> weight, above 0.
    """

    scope: tuple[int, ...]
    table: Mapping[Values, Weight]


class _Sum:
    """One variable summed out: its values with their weights, for each value of its neighbours."""

    def __init__(
        self,
        variable: int,
        scope: tuple[int, ...],
        options: Mapping[Values, list[tuple[int, Weight]]],
    ) -> None:
        self.variables = (variable,)
        self.scope = scope
        self._options: dict[Values, tuple[tuple[int, ...], tuple[Weight, ...]]] = {}
        for at, found in options.items():
            values, weights = zip(*found, strict=True)
            self._options[at] = values, tuple(accumulate(weights))

    def message(self) -> dict[Values, Weight]:
        return {at: sums[-1] for at, (_, sums) in self._options.items()}

    def draw(self, at: Values, chance: Chance) -> Values:
        values, sums = self._options[at]
        return (values[min(bisect_right(sums, chance.random() * sums[-1]), len(values) - 1)],)

    def each(self, at: Values) -> Iterator[Values]:
        return ((value,) for value in self._options[at][0])


class _TwinSum:
    """Interchangeable calls summed out together: sets of ``k`` different calls."""

    def __init__(
        self,
        variables: tuple[int, ...],
        scope: tuple[int, ...],
        options: Mapping[Values, list[tuple[int, Weight]]],
        call_of: Sequence[int],
    ) -> None:
        self.variables = variables
        self.scope = scope
        found = {at: Subsets(rows, len(variables), call_of) for at, rows in options.items()}
        self._options = {at: subsets for at, subsets in found.items() if subsets.total}

    def message(self) -> dict[Values, Weight]:
        return {at: subsets.total for at, subsets in self._options.items()}

    def draw(self, at: Values, chance: Chance) -> Values:
        return self._options[at].draw(chance)

    def each(self, at: Values) -> Iterator[Values]:
        return self._options[at].each()


class Elimination:
    """All fillings of the variables, counted.

    Args:
        size: number of variables.
        factors: at least one over each variable.
        twins: groups of variables that are interchangeable and have no factor with one another;
            each group's fillings are sets of different calls.
        call_of: value -> number of its call; rows with the same arguments share it.

    Attributes:
        total: the sum of the weights of all fillings; their number where all weights are 1.

    Raises:
        OrchError: an intermediate table grows beyond :data:`MOST_ENTRIES`.
    """

    def __init__(
        self,
        size: int,
        factors: Sequence[Factor],
        twins: Sequence[tuple[int, ...]],
        call_of: Sequence[int],
    ) -> None:
        self._size = size
        self._sums: list[_Sum | _TwinSum] = []
        group_of = {v: group for group in twins for v in group}
        hidden = {v for group in twins for v in group[1:]}
        left = [f for f in factors if not hidden & set(f.scope)]
        pending = [v for v in range(size) if v not in hidden]
        self.total: Weight = 1
        while pending:
            variable = min(pending, key=lambda v: (v not in group_of, len(_around(left, v)), v))
            pending.remove(variable)
            inside = [f for f in left if variable in f.scope]
            left = [f for f in left if variable not in f.scope]
            joined = _join_all(inside)
            scope = tuple(v for v in joined.scope if v != variable)
            options = _by_others(joined, variable)
            one: _Sum | _TwinSum
            if variable in group_of:
                one = _TwinSum(group_of[variable], scope, options, call_of)
            else:
                one = _Sum(variable, scope, options)
            self._sums.append(one)
            message = one.message()
            if scope:
                left.append(Factor(scope, message))
            else:
                self.total *= message.get((), 0)
        self._backwards = [(one, one.scope, one.variables) for one in reversed(self._sums)]

    def draw(self, chance: Chance) -> list[int]:
        """One filling, drawn in proportion to its weight; ``total`` must be above 0."""
        values = [0] * self._size
        for one, scope, variables in self._backwards:
            found = one.draw(tuple([values[v] for v in scope]), chance)
            for variable, value in zip(variables, found, strict=True):
                values[variable] = value
        return values

    def each(self) -> Iterator[list[int]]:
        """Every filling once; of interchangeable calls one order."""
        if not self.total:
            return
        values = [0] * self._size
        yield from self._each(0, values)

    def _each(self, depth: int, values: list[int]) -> Iterator[list[int]]:
        if depth == len(self._backwards):
            yield list(values)
            return
        one, scope, variables = self._backwards[depth]
        for found in one.each(tuple(values[v] for v in scope)):
            for variable, value in zip(variables, found, strict=True):
                values[variable] = value
            yield from self._each(depth + 1, values)


def _around(factors: Sequence[Factor], variable: int) -> set[int]:
    return {v for f in factors if variable in f.scope for v in f.scope}


def _by_others(factor: Factor, variable: int) -> dict[Values, list[tuple[int, Weight]]]:
    place = factor.scope.index(variable)
    found: dict[Values, list[tuple[int, Weight]]] = defaultdict(list)
    for values, weight in factor.table.items():
        found[values[:place] + values[place + 1 :]].append((values[place], weight))
    return {at: sorted(rows) for at, rows in sorted(found.items())}


def _join_all(factors: Sequence[Factor]) -> Factor:
    ordered = sorted(factors, key=lambda f: (len(f.table), f.scope))
    joined = ordered[0]
    rest = ordered[1:]
    while rest:
        # the next one shares most variables, so that the join stays small
        following = max(rest, key=lambda f: (len(set(f.scope) & set(joined.scope)), -len(f.table)))
        rest.remove(following)
        joined = _join(joined, following)
    return joined


def _multiplied(whole: Factor, part: Factor) -> Factor:
    """The join with a factor over some of the same variables: no entry is added."""
    get = part.table.get
    places = [whole.scope.index(v) for v in part.scope]
    if len(places) == 1:
        (at,) = places
        found = [(v, w, get((v[at],))) for v, w in whole.table.items()]
    else:
        found = [(v, w, get(tuple([v[i] for i in places]))) for v, w in whole.table.items()]
    return Factor(whole.scope, {v: w * more for v, w, more in found if more is not None})


def _join(one: Factor, other: Factor) -> Factor:
    if set(one.scope) < set(other.scope):
        one, other = other, one
    if set(other.scope) <= set(one.scope):
        return _multiplied(one, other)
    shared = [v for v in one.scope if v in other.scope]
    scope = tuple(sorted({*one.scope, *other.scope}))
    at_other = [other.scope.index(v) for v in shared]
    extra = [v for v in other.scope if v not in shared]
    at_extra = [other.scope.index(v) for v in extra]
    index: dict[Values, list[tuple[Values, Weight]]] = defaultdict(list)
    for values, weight in other.table.items():
        key = tuple([values[i] for i in at_other])
        index[key].append((tuple([values[i] for i in at_extra]), weight))
    at_one = [one.scope.index(v) for v in shared]
    places = [(*one.scope, *extra).index(v) for v in scope]
    in_order = places == list(range(len(scope)))
    table: dict[Values, Weight] = {}
    for values, weight in one.table.items():
        for more, factor in index.get(tuple([values[i] for i in at_one]), ()):
            whole = values + more
            table[whole if in_order else tuple([whole[i] for i in places])] = weight * factor
        if len(table) > MOST_ENTRIES:
            raise OrchError(
                f"a template needs a table of more than {MOST_ENTRIES:,} entries to be counted: "
                "take fewer calls or more links between them"
            )
    return Factor(scope, table)
