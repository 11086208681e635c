"""Which independent arguments agree: the dates of a search and of its filter.

Traces decide: two arguments agree that they keep equal. Where they say too little, arguments of the
same name that hold dates, times or small whole numbers agree if one tool reads the other's output,
some value occurs at both, and no trace that has both speaks against it. Without any traces, reading
the output of the same tool is enough.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from orch_env.provenance.evidence import argument_leaves
from orch_env.provenance.information import SMALL_INTEGER, Key, is_temporal, is_void, key_of
from orch_env.provenance.names import key_parts, with_wildcards
from orch_env.synthesis.mining.followed import Followed
from orch_env.synthesis.mining.mined import Agreement, Link, Slot
from orch_env.synthesis.mining.observed import Observed
from orch_env.types.json import Json

_FEWEST_CHANCES, _FEWEST_VALUES, _LEAST_SHARE = 5, 3, 0.8

Pair = tuple[Slot, Slot]


@dataclass(slots=True)
class _Count:
    chances: int = 0
    equal: int = 0
    values: set[Key] = field(default_factory=set)

    @property
    def share(self) -> float:
        """Share of the chances in which they are equal; 1 where there is none."""
        return self.equal / self.chances if self.chances else 1.0


def agreements(
    observed: Observed, followed: Followed, links: Sequence[Link], opaque: Collection[Slot]
) -> tuple[Agreement, ...]:
    """The agreements of independent arguments, sorted."""
    counts = _of_traces(observed, followed, links, opaque)
    found = {
        pair
        for pair, count in counts.items()
        if count.chances >= _FEWEST_CHANCES and len(count.values) >= _FEWEST_VALUES
    }
    found |= set(_of_names(observed, links, opaque))
    return tuple(
        Agreement(left, right, count.chances, round(count.share, 4))
        for left, right in sorted(found)
        if (count := counts[left, right]).share >= _LEAST_SHARE
    )


def _of_traces(
    observed: Observed, followed: Followed, links: Sequence[Link], opaque: Collection[Slot]
) -> dict[Pair, _Count]:
    linked = {(link.to_tool, link.to_path, link.from_tool, link.from_path) for link in links}
    counts: dict[Pair, _Count] = defaultdict(_Count)
    for index, rows in enumerate(observed.corpus.trace_rows):
        tools = followed.tools[index]
        parents: list[set[int]] = [set() for _ in rows]
        dependent: list[set[str]] = [set() for _ in rows]
        for use in followed.uses[index]:
            for call, places in use.found.items():
                if any((*use.leaf.slot, tools[call], p.pattern) in linked for p in places):
                    parents[use.call].add(call)
                    dependent[use.call].add(use.leaf.pointer)
        free = [
            {p: key for p, key in _independent(observed, row, opaque) if p not in dependent[call]}
            for call, row in enumerate(rows)
        ]
        seen: dict[Pair, list[tuple[Key, Key]]] = defaultdict(list)
        for one, other in combinations(range(len(rows)), 2):
            if one in parents[other] or parents[one] & parents[other]:
                for left, key in free[one].items():
                    for right, key_there in free[other].items():
                        ends = ((tools[one], left), key), ((tools[other], right), key_there)
                        (a, key_a), (b, key_b) = sorted(ends, key=lambda end: end[0])
                        seen[a, b].append((key_a, key_b))
        for pair, values in seen.items():
            counts[pair].chances += 1
            if all(left == right for left, right in values):
                counts[pair].equal += 1
                counts[pair].values.update(left for left, _ in values)
    return counts


def _independent(
    observed: Observed, row: int, opaque: Collection[Slot]
) -> Iterator[tuple[str, Key]]:
    recorded = observed.corpus.rows[row]
    for pointer, value in argument_leaves(recorded.arguments):
        if not is_void(value) and (recorded.tool, with_wildcards(pointer)) not in opaque:
            yield pointer, key_of(value)


def _of_names(
    observed: Observed, links: Sequence[Link], opaque: Collection[Slot]
) -> Iterator[Pair]:
    """Pairs of the same name, of tools that belong together."""
    values: dict[Slot, dict[Key, Json]] = defaultdict(dict)
    for row in observed.corpus.rows:
        for pointer, value in argument_leaves(row.arguments):
            if not is_void(value) and (row.tool, with_wildcards(pointer)) not in opaque:
                values[row.tool, pointer].setdefault(key_of(value), value)
    plain = {slot for slot, seen in values.items() if all(map(_is_plain, seen.values()))}
    parents: dict[str, set[str]] = defaultdict(set)
    for link in links:
        parents[link.to_tool].add(link.from_tool)
    for left, right in combinations(sorted(plain), 2):
        one, other = left[0], right[0]
        joined = one in parents[other] or other in parents[one]
        if not observed.corpus.traces:
            joined = joined or bool(parents[one] & parents[other])
        if (
            one != other
            and joined
            and _name(left[1]) == _name(right[1])
            and values[left].keys() & values[right].keys()
        ):
            yield left, right


def _name(pointer: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The last key of a pointer as words, and its list indices."""
    return key_parts(pointer), tuple(token for token in pointer.split("/") if token.isdigit())


def _is_plain(value: Json) -> bool:
    """Whether a value is a date, a time or a small whole number."""
    return is_temporal(value) or (isinstance(value, int) and abs(value) <= SMALL_INTEGER)
