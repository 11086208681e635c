"""Other ways to come by a valid workflow, tried and computed: for `synthesis_sampling`.

A filling is *valid* if every call is a recorded one, every link and every equality of the template
holds, and interchangeable calls differ. Three ways to get one without counting:

* *independent values*: for each call, a set of arguments that its tool was seen with, and for each
  argument one of the values seen for it;
* *independent rows*: for each call, one of the recorded calls of its tool;
* *forward*: call by call, one of the recorded calls that fit all calls before it; where there is
  none, the whole chain starts again. This is the published way, with the links of the template in
  the place of equal values, and never a call that an argument of an earlier call rules out.

What trials are too few to see is computed: the probability of a valid filling is a sum over all
fillings of a product over calls, so it is what the sampler counts, with weights.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import product

from orch_env.provenance.information import Key
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.index import Index
from orch_env.synthesis.sampling.elimination import Elimination, Factor
from orch_env.synthesis.sampling.prepared import Prepared, domain_of, twins_of
from orch_env.synthesis.templates.template import Template

Partners = Mapping[int, frozenset[int]]
"""Row of an earlier call -> rows of a later one that fit it."""


class Values:
    """Arguments as they were seen, tool by tool; every different call counts once."""

    def __init__(self, index: Index) -> None:
        self._rows: dict[str, dict[frozenset[tuple[str, Key]], list[int]]] = {}
        self._sets: dict[str, list[frozenset[str]]] = {}
        self._seen: dict[str, dict[str, list[Key]]] = {}
        self.weights: dict[int, float] = {}
        self.hits: dict[str, float] = {}
        for tool, rows in index.corpus.rows_of.items():
            calls: dict[frozenset[tuple[str, Key]], list[int]] = defaultdict(list)
            for row in rows:
                calls[frozenset(index.sent[row].items())].append(row)
            seen: dict[str, list[Key]] = defaultdict(list)
            for call in calls:
                for pointer, key in call:
                    seen[pointer].append(key)
            sets = [frozenset(pointer for pointer, _ in call) for call in calls]
            often = {pointer: Counter(keys) for pointer, keys in seen.items()}
            shapes = Counter(sets)
            self.hits[tool] = 0.0
            for call, held in calls.items():
                chance = shapes[frozenset(pointer for pointer, _ in call)] / len(sets)
                for pointer, key in call:
                    chance *= often[pointer][key] / len(seen[pointer])
                self.hits[tool] += chance
                self.weights |= dict.fromkeys(held, chance / len(held))
            self._rows[tool], self._sets[tool], self._seen[tool] = dict(calls), sets, dict(seen)

    def draw(self, tool: str, chance: Chance) -> int | None:
        """A row with these values; ``None`` if no such call was recorded."""
        sent = chance.pick(self._sets[tool])
        drawn = frozenset((p, chance.pick(self._seen[tool][p])) for p in sorted(sent))
        rows = self._rows[tool].get(drawn)
        return chance.pick(rows) if rows else None


class Ways:
    """The ways of one template.

    Args:
        index: the rows.
        template: what to fill.
        values: the arguments of the same rows.
    """

    def __init__(self, index: Index, template: Template, values: Values) -> None:
        self._index, self._template, self._values = index, template, values
        nodes = range(len(template.tools))
        self._domains = [domain_of(index, template, node, None) for node in nodes]
        self._twins = twins_of(template)
        self._partners = [self._partners_of(node) for node in nodes]
        self._options: list[dict[tuple[int, ...], tuple[int, ...]]] = [{} for _ in nodes]
        self._orders = math.prod(math.factorial(len(group)) for group in self._twins)

    def _partners_of(self, node: int) -> dict[int, Partners]:
        """For each earlier call that this one depends on, which rows fit which."""
        index, template, domain = self._index, self._template, self._domains[node]
        found: dict[int, dict[int, frozenset[int]]] = {}

        def keep(earlier: int, fitting: Mapping[int, frozenset[int]]) -> None:
            before = found.get(earlier)
            found[earlier] = {
                row: rows & (domain if before is None else before.get(row, frozenset()))
                for row, rows in fitting.items()
            }

        for e in template.edges:
            if e.child == node:
                tools = template.tools[e.parent], template.tools[node]
                relation = index.relation(*tools, e.pairs, e.composite)
                keep(e.parent, {row: frozenset(rows) for row, rows in relation.children.items()})
        for q in template.equalities:
            if q.right[0] == node:
                holders: dict[Key | None, set[int]] = defaultdict(set)
                for row in domain:
                    holders[index.sent[row].get(q.right[1])].add(row)
                keys = {r: index.sent[r].get(q.left[1]) for r in self._domains[q.left[0]]}
                keep(q.left[0], {r: frozenset(holders.get(k, ())) for r, k in keys.items()})
        return dict(sorted(found.items()))

    def fitting(self, node: int, rows: Sequence[int]) -> tuple[int, ...]:
        """The rows that may stand for a call after these ones, ascending."""
        at = tuple([rows[earlier] for earlier in self._partners[node]])
        if at not in self._options[node]:
            partners = self._partners[node].values()
            fits = [p.get(r, frozenset()) for p, r in zip(partners, at, strict=True)]
            self._options[node][at] = tuple(sorted(self._domains[node].intersection(*fits)))
        return self._options[node][at]

    def is_valid(self, rows: Sequence[int]) -> bool:
        """Whether rows fill the template, interchangeable calls with different ones."""
        return all(
            row in self._domains[node]
            and all(row in p.get(rows[at], ()) for at, p in self._partners[node].items())
            for node, row in enumerate(rows)
        ) and self._twins_differ(rows)

    def _twins_differ(self, rows: Sequence[int]) -> bool:
        call_of = self._index.call_of
        return all(len({call_of[rows[n]] for n in g}) == len(g) for g in self._twins)

    def try_values(self, chance: Chance) -> bool:
        """One attempt with independent values, given up at a call that was never recorded."""
        rows = []
        for tool in self._template.tools:
            row = self._values.draw(tool, chance)
            if row is None:
                return False
            rows.append(row)
        return self.is_valid(rows)

    def try_rows(self, chance: Chance) -> bool:
        """One attempt with independent rows."""
        rows_of = self._index.corpus.rows_of
        return self.is_valid([chance.pick(rows_of[tool]) for tool in self._template.tools])

    def try_forward(self, chance: Chance) -> bool:
        """One chain, given up where nothing fits."""
        rows: list[int] = []
        for node in range(len(self._template.tools)):
            options = self.fitting(node, rows)
            if not options:
                return False
            rows.append(chance.pick(options))
        return self._twins_differ(rows)

    def exact_values(self) -> float:
        """Probability that an attempt with independent values is valid."""
        return self._weighted(self._values.weights)

    def exact_rows(self) -> float:
        """Probability that an attempt with independent rows is valid."""
        rows_of = self._index.corpus.rows_of
        return self._weighted({row: 1 / len(rows) for rows in rows_of.values() for row in rows})

    def _weighted(self, weights: Mapping[int, float]) -> float:
        return float(Prepared(self._index, self._template, weights=weights).count) * self._orders

    def exact_forward(self) -> float:
        """Probability that one chain is valid: each call is one of so many that fit."""
        factors = []
        for node, partners in enumerate(self._partners):
            holders: list[dict[int, list[int]]] = []
            for fits in partners.values():
                held: dict[int, list[int]] = defaultdict(list)
                for earlier, rows in fits.items():
                    for row in rows:
                        held[row].append(earlier)
                holders.append(held)
            table: dict[tuple[int, ...], float] = {}
            for row in sorted(self._domains[node]):
                for before in product(*(held.get(row, ()) for held in holders)):
                    table[(*before, row)] = 1.0
            often = Counter(entry[:-1] for entry in table)
            table = {entry: 1 / often[entry[:-1]] for entry in table}
            factors.append(Factor((*partners, node), table))
        sums = Elimination(len(self._partners), factors, self._twins, self._index.call_of)
        return float(sums.total) * self._orders

    def unevenness(self, fillings: Sequence[tuple[int, ...]]) -> tuple[float, float]:
        """How far forward is from uniform over these fillings, given that it gets one of them.

        Returns:
            The total variation distance, 0..1, and the most frequent filling's share of the mean.
        """
        shares = [
            math.prod(1 / len(self.fitting(node, rows)) for node in range(len(rows)))
            for rows in fillings
        ]
        total, mean = sum(shares), 1 / len(shares)
        return (
            sum(abs(share / total - mean) for share in shares) / 2,
            max(shares) / total / mean,
        )


def attempts(one: Callable[[Chance], bool], chance: Chance, count: int) -> int:
    """How many of so many attempts were valid."""
    return sum(one(chance) for _ in range(count))
