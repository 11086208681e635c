"""Which arguments one element of a response feeds together.

Latitude and longitude come from the same place, a car's id and its search from the same search. The
groups are read off traces, and off the cache: for each recorded call the most of its arguments that
one element of some recorded response holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orch_env.provenance.names import with_wildcards
from orch_env.synthesis.mining.followed import Followed
from orch_env.synthesis.mining.mined import Attachment, LinkKind, Slot
from orch_env.synthesis.mining.observed import Observed, Place, Sent, Source

_MOST_PARENTS = 64
"""Recorded responses of one tool that are tried as the parent of one recorded call."""
_FEWEST = 2
"""Recorded calls or traces that must show a group."""

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Match:
    """One argument, and one place of a response that holds its value."""

    pointer: str
    pattern: str
    path: str
    strong: bool


def same_element(one: _Match, other: _Match) -> bool:
    """Whether two places lie in the same element of every list that their patterns share."""
    patterns = zip(one.pattern.split("/"), other.pattern.split("/"), strict=False)
    paths = zip(one.path.split("/"), other.path.split("/"), strict=False)
    for (left, right), (here, there) in zip(patterns, paths, strict=False):
        if left != right:
            return True
        if here != there:
            return False
    return True


class Attaching:
    """Finds groups by a set of links.

    Args:
        observed: the rows.
        links: (slot, source) -> whether the link is strong.
    """

    def __init__(self, observed: Observed, links: Mapping[tuple[Slot, Source], bool]) -> None:
        self._observed = observed
        self._links = links
        self._sources: dict[Slot, list[Source]] = defaultdict(list)
        for slot, source in links:
            self._sources[slot].append(source)

    def attachments(self, followed: Followed) -> tuple[Attachment, ...]:
        """All groups that at least two traces or recorded calls show, sorted."""
        in_traces = self._of_traces(followed)
        in_rows = self._of_rows()
        found: dict[tuple[str, str, Pairs, LinkKind], int] = {}
        for at, count in in_rows.items():
            if count >= _FEWEST:
                found[at] = in_traces[at]
        for at, count in in_traces.items():
            if count >= _FEWEST:
                found[at] = count
        return tuple(
            Attachment(
                from_tool,
                to_tool,
                pairs,
                support,
                any(self._strong(to_tool, pointer, from_tool, out) for pointer, out in pairs),
                kind,
            )
            for (from_tool, to_tool, pairs, kind), support in sorted(found.items())
        )

    def _strong(self, to_tool: str, pointer: str, from_tool: str, pattern: str) -> bool:
        return self._links[(to_tool, with_wildcards(pointer)), (from_tool, pattern)]

    def _of_traces(self, followed: Followed) -> Counter[tuple[str, str, Pairs, LinkKind]]:
        """Groups -> traces that show them."""
        counted: Counter[tuple[str, str, Pairs, LinkKind]] = Counter()
        for index, uses in enumerate(followed.uses):
            rows = self._observed.corpus.trace_rows[index]
            tools = [self._observed.corpus.rows[row].tool for row in rows]
            shown = set()
            by_call: dict[int, dict[int, list[_Match]]] = defaultdict(lambda: defaultdict(list))
            for use in uses:
                if use.said:
                    continue
                for parent, places in use.found.items():
                    by_call[use.call][parent] += self._matches(use.leaf, tools[parent], places)
                for source in self._joined(use.leaf, tools, use.parts):
                    alone: Pairs = ((use.leaf.pointer, source[1]),)
                    shown.add((source[0], tools[use.call], alone, LinkKind.COMPOSITE))
            for call, parents in by_call.items():
                for parent, group in _cover(parents):
                    pairs = tuple(sorted((m.pointer, m.pattern) for m in group))
                    shown.add((tools[parent], tools[call], pairs, LinkKind.VALUE))
            counted.update(shown)
        return counted

    def _of_rows(self) -> Counter[tuple[str, str, Pairs, LinkKind]]:
        """Groups -> recorded calls that show them."""
        counted: Counter[tuple[str, str, Pairs, LinkKind]] = Counter()
        for row in self._observed.corpus.rows:
            leaves = self._observed.sent[row.number]
            covered: set[str] = set()
            for tool, parents in sorted(self._parents(row.number).items()):
                for _, group in _cover(self._row_matches(leaves, tool, parents)):
                    if any(match.strong for match in group):
                        pairs = tuple(sorted((m.pointer, m.pattern) for m in group))
                        counted[tool, row.tool, pairs, LinkKind.VALUE] += 1
                        covered |= {match.pointer for match in group}
            for leaf in leaves:
                if leaf.pointer not in covered:
                    self._count_alone(row.tool, leaf, counted)
        return counted

    def _parents(self, number: int) -> dict[str, list[int]]:
        """Tool -> rows whose response holds a value of the row by a strong link."""
        found: dict[str, dict[int, None]] = defaultdict(dict)
        for leaf in self._observed.sent[number]:
            for source in self._sources.get(leaf.slot, ()):
                if self._links[leaf.slot, source]:
                    for row in self._observed.holders[source].get(leaf.key, ())[:_MOST_PARENTS]:
                        if row != number:
                            found[source[0]][row] = None
        return {tool: sorted(rows)[:_MOST_PARENTS] for tool, rows in found.items()}

    def _row_matches(
        self, leaves: Iterable[Sent], tool: str, parents: Iterable[int]
    ) -> dict[int, list[_Match]]:
        return {
            parent: [
                match
                for leaf in leaves
                for match in self._matches(
                    leaf, tool, self._observed.held[parent].get(leaf.key, ())
                )
            ]
            for parent in parents
        }

    def _count_alone(
        self, to_tool: str, leaf: Sent, counted: Counter[tuple[str, str, Pairs, LinkKind]]
    ) -> None:
        """Count weak links, and lists of values, of an argument that no group covers."""
        for source in self._sources.get(leaf.slot, ()):
            holders = self._observed.holders[source]
            pairs: Pairs = ((leaf.pointer, source[1]),)
            if leaf.key in holders and not self._links[leaf.slot, source]:
                counted[source[0], to_tool, pairs, LinkKind.VALUE] += 1
            elif len(leaf.pieces) > 1 and all(piece in holders for piece in leaf.pieces):
                rows = [set(holders[piece]) for piece in leaf.pieces]
                counted[source[0], to_tool, pairs, LinkKind.COMPOSITE] += bool(
                    set.intersection(*rows)
                )

    def _matches(self, leaf: Sent, tool: str, places: Iterable[Place]) -> list[_Match]:
        found = []
        for place in places:
            strong = self._links.get((leaf.slot, (tool, place.pattern)))
            if strong is not None:
                found.append(_Match(leaf.pointer, place.pattern, place.path, strong))
        return found

    def _joined(
        self,
        leaf: Sent,
        tools: list[str],
        parts: tuple[dict[int, tuple[Place, ...]], ...],
    ) -> set[Source]:
        """Linked sources of which one response holds every piece."""
        if len(parts) < 2:
            return set()
        held = [
            {(call, place.pattern) for call, places in part.items() for place in places}
            for part in parts
        ]
        return {
            (tools[call], pattern)
            for call, pattern in set.intersection(*held)
            if (leaf.slot, (tools[call], pattern)) in self._links
        }


def _cover(parents: Mapping[int, list[_Match]]) -> list[tuple[int, list[_Match]]]:
    """Groups that together hold all arguments that they can: the largest first."""
    left = {pointer.pointer for matches in parents.values() for pointer in matches}
    groups = []
    while left:
        best: tuple[tuple[int, int], int, list[_Match]] | None = None
        for parent in sorted(parents):
            group = _largest([match for match in parents[parent] if match.pointer in left])
            size = len(group), sum(match.strong for match in group)
            if best is None or size > best[0]:
                best = size, parent, group
        assert best is not None
        groups.append((best[1], best[2]))
        left -= {match.pointer for match in best[2]}
    return groups


def _largest(matches: list[_Match]) -> list[_Match]:
    """The most arguments that one element holds: at most one place for each."""
    best: list[_Match] = []
    for anchor in matches:
        group = {anchor.pointer: anchor}
        for match in matches:
            if match.pointer not in group and all(
                same_element(match, other) for other in group.values()
            ):
                group[match.pointer] = match
        if len(group) > len(best):
            best = list(group.values())
    return best
