"""A template over one corpus, ready to be drawn: exact counts, uniform or weighted draws."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice

from orch_env.provenance.information import Key
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.index import Index
from orch_env.synthesis.sampling.elimination import Elimination, Factor, Weight
from orch_env.synthesis.templates.template import Equality, Template

Rows = tuple[int, ...]
Accept = Callable[[Rows], str | None]
"""Why a filling is not wanted, as a short word; ``None`` where it is."""

ENUMERATED = 20_000
"""Up to so many fillings are listed instead of drawing again."""
_TRIES = 200
"""Draws in a row that may be rejected before a template counts as exhausted."""


class Prepared:
    """All fillings of a template by recorded calls.

    A call's domain is the rows of its tool that send every argument that the template's edges feed,
    and whose other arguments a person could type. No draw is a dead end. What the factors do not
    hold (the same call at two places, and whatever ``accept`` refuses) is rejected and counted.
    Without weights, once more draws were rejected than there are fillings, all are listed and draws
    come from the list of the accepted ones.

    Args:
        index: the rows.
        template: what to fill.
        rows: allowed rows; ``None`` allows all.
        weights: row -> weight above 0, default 1; a filling weighs the product of its rows.
        accept: refuses fillings that are valid and not wanted; the same ones each time.

    Attributes:
        count: the sum of the weights of all fillings, interchangeable calls counted once; their
            exact number where there are no weights. Rejected ones are counted in.
        attempts: draws so far.
        accepted: those that were given out.
        rejected: reason -> draws that were not.

    Raises:
        OrchError: the template calls a tool without rows, or its tables grow too large.
    """

    def __init__(
        self,
        index: Index,
        template: Template,
        *,
        rows: Collection[int] | None = None,
        weights: Mapping[int, float] | None = None,
        accept: Accept | None = None,
    ) -> None:
        template.check(index.corpus)
        self.index = index
        self.template = template
        self._accept = accept
        self.attempts = 0
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self._call_of = index.call_of
        self._weights = weights or {}
        factors = _factors(index, template, rows, self._weights)
        self._sums = Elimination(len(template.tools), factors, twins_of(template), self._call_of)
        self.count: Weight = self._sums.total
        self._accepted_ones: list[Rows] | None = None

    def draw(self, chance: Chance) -> Rows | None:
        """One filling, in proportion to its weight among those that are accepted.

        Returns:
            ``None`` if there is none, or if none came in 200 draws.
        """
        if not self.count:
            return None
        if self._accepted_ones is None and not self._weights and self._are_few_left():
            self._accepted_ones = list(self.enumerate())
        if self._accepted_ones is not None:
            return self._from_list(self._accepted_ones, chance)
        for _ in range(_TRIES):
            rows = tuple(self._sums.draw(chance))
            self.attempts += 1
            reason = self._reason(rows)
            if reason is None:
                self.accepted += 1
                return rows
            self.rejected[reason] += 1
        return None

    def _are_few_left(self) -> bool:
        return self.count <= min(sum(self.rejected.values()), ENUMERATED)

    def _from_list(self, fillings: list[Rows], chance: Chance) -> Rows | None:
        if not fillings:
            return None
        self.attempts += 1
        self.accepted += 1
        return chance.pick(fillings)

    def draws(self, count: int, chance: Chance, *, replacement: bool = True) -> list[Rows]:
        """Up to ``count`` fillings; fewer where there are fewer, or where none comes any more.

        Without replacement the fillings are different as sets of calls: interchangeable calls in
        another order are the same one.
        """
        if not replacement and (fillings := self._all_if_few()) is not None:
            return self._listed(fillings, count, chance)
        found: list[Rows] = []
        seen: set[Rows] = set()
        repeats = 0
        while len(found) < count and repeats < _TRIES:
            rows = self.draw(chance)
            if rows is None:
                break
            if not replacement and rows in seen:
                self.accepted -= 1
                self.rejected["drawn_before"] += 1
                repeats += 1
                continue
            repeats = 0
            seen.add(rows)
            found.append(rows)
        return found

    def _listed(self, fillings: Sequence[Rows], count: int, chance: Chance) -> list[Rows]:
        """Draws from a list of all fillings, by weight.

        The largest ``u ** (1 / weight)`` come first, compared by their logarithms (Efraimidis and
        Spirakis, "Weighted random sampling with a reservoir", 2006).
        """
        keyed = [(math.log(1.0 - chance.random()) / self._weight(rows), rows) for rows in fillings]
        keyed.sort(reverse=True)
        chosen: list[Rows] = []
        for _, rows in keyed:
            if len(chosen) == count:
                break
            self.attempts += 1
            reason = self._reason(rows)
            if reason is None:
                chosen.append(rows)
            else:
                self.rejected[reason] += 1
        self.accepted += len(chosen)
        return chosen

    def _all_if_few(self) -> list[Rows] | None:
        """All fillings, ``None`` where there are more than :data:`ENUMERATED`."""
        heaviest = max(self._weights.values(), default=1.0)
        if self.count > ENUMERATED * max(1.0, heaviest) ** len(self.template.tools):
            return None
        found = [tuple(rows) for rows in islice(self._sums.each(), ENUMERATED + 1)]
        return found if len(found) <= ENUMERATED else None

    def _weight(self, rows: Rows) -> float:
        return math.prod(self._weights.get(row, 1.0) for row in rows)

    def enumerate(self) -> Iterator[Rows]:
        """Every accepted filling once; of interchangeable calls one order."""
        for values in self._sums.each():
            rows = tuple(values)
            if self._reason(rows) is None:
                yield rows

    def _reason(self, rows: Rows) -> str | None:
        calls = [self._call_of[row] for row in rows]
        if len(set(calls)) < len(calls):
            return "repeated_call"
        return self._accept(rows) if self._accept is not None else None


def domain_of(
    index: Index, template: Template, node: int, rows: Collection[int] | None
) -> frozenset[int]:
    """Rows that may stand for a call: see :class:`Prepared`."""
    fed = frozenset(pointer for e in template.edges if e.child == node for pointer, _ in e.pairs)
    found = index.sending(template.tools[node], fed)
    return found if rows is None else found.intersection(rows)


def twins_of(template: Template) -> list[tuple[int, ...]]:
    """Groups of calls of one tool that read the same and that nothing reads."""
    free = {node for q in template.equalities for node, _ in (q.left, q.right)}
    free |= {e.parent for e in template.edges}
    alike: dict[object, list[int]] = defaultdict(list)
    for node, tool in enumerate(template.tools):
        if node not in free:
            reads = tuple(
                sorted((e.parent, e.pairs, e.composite) for e in template.edges if e.child == node)
            )
            alike[tool, reads].append(node)
    return [tuple(nodes) for nodes in alike.values() if len(nodes) > 1]


def _factors(
    index: Index, template: Template, rows: Collection[int] | None, weights: Mapping[int, float]
) -> list[Factor]:
    nodes = range(len(template.tools))
    domains = [domain_of(index, template, node, rows) for node in nodes]
    pairs: dict[tuple[int, int], Sequence[tuple[int, int]]] = {}
    for e in template.edges:
        parent, child = template.tools[e.parent], template.tools[e.child]
        both = index.relation(parent, child, e.pairs, e.composite).both
        at = (e.parent, e.child)
        if at in pairs:
            before = frozenset(pairs[at])
            both = tuple(pair for pair in both if pair in before)
        pairs[at] = both
    _narrow(domains, pairs)
    for q in template.equalities:
        at = (q.left[0], q.right[0])
        if at in pairs:
            pairs[at] = _equal_among(index, q, pairs[at])
        else:
            pairs[at] = _equal(index, q, domains[at[0]], domains[at[1]])
    _narrow(domains, pairs)
    factors = [Factor(at, dict.fromkeys(both, 1)) for at, both in sorted(pairs.items())]
    counted = {node for at in pairs for node in at}
    return factors + [
        Factor((node,), {(row,): weights.get(row, 1) for row in sorted(domains[node])})
        for node in nodes
        if weights or node not in counted
    ]


def _narrow(
    domains: list[frozenset[int]], pairs: dict[tuple[int, int], Sequence[tuple[int, int]]]
) -> None:
    """Leave out rows and pairs without a partner, for as many rounds as there are calls."""
    for _ in domains:
        before = sum(map(len, domains))
        for at, both in pairs.items():
            left, right = domains[at[0]], domains[at[1]]
            kept = [pair for pair in both if pair[0] in left and pair[1] in right]
            pairs[at] = kept
            domains[at[0]] = frozenset([a for a, _ in kept])
            domains[at[1]] = frozenset([b for _, b in kept])
        if sum(map(len, domains)) == before:
            break


def _value(index: Index, row: int, pointer: str) -> Key | None:
    return index.sent[row].get(pointer)


def _equal_among(
    index: Index, q: Equality, pairs: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    return [(a, b) for a, b in pairs if _value(index, a, q.left[1]) == _value(index, b, q.right[1])]


def _equal(
    index: Index, q: Equality, left: Collection[int], right: Collection[int]
) -> list[tuple[int, int]]:
    """Pairs of rows with equal arguments; two rows that both leave theirs out agree, too."""
    holders: dict[Key | None, list[int]] = defaultdict(list)
    for row in sorted(right):
        holders[_value(index, row, q.right[1])].append(row)
    return [(a, b) for a in sorted(left) for b in holders.get(_value(index, a, q.left[1]), ())]
