"""Which arguments one element of a response feeds together.

Latitude and longitude come from the same place, a car's id and its search from the same search. The
groups are read off traces, and off the cache: for each recorded call the most of its arguments that
one element of some recorded response holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from orch_env.provenance.names import with_wildcards
from orch_env.synthesis.mining.followed import Followed
from orch_env.synthesis.mining.mined import Attachment, LinkKind, Slot
from orch_env.synthesis.mining.observed import Observed, Place, Sent, Source

_MOST_PARENTS = 64
"""Recorded responses of one tool that are tried as the parent of one recorded call."""
_FEWEST = 2
"""Recorded calls or traces that must show a group."""

Pairs = tuple[tuple[str, str], ...]


class _Group(NamedTuple):
    """An attachment, before its evidence is counted."""

    from_tool: str
    to_tool: str
    pairs: Pairs
    kind: LinkKind = LinkKind.VALUE


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
        """All groups that two traces or recorded calls show, or that a call cannot do without."""
        in_traces = self._of_traces(followed)
        groups_of = [list(self._of_row(row.number)) for row in self._observed.corpus.rows]
        in_rows = Counter(group for groups in groups_of for group in set(groups))
        kept = {group for group, count in in_traces.items() if count >= _FEWEST}
        kept |= {group for group, count in in_rows.items() if count >= _FEWEST}
        for groups in groups_of:
            covered = {p for group in groups if group in kept for p, _ in group.pairs}
            kept |= {g for g in groups if any(pointer not in covered for pointer, _ in g.pairs)}
        strong = {group for group in kept if self._is_strong(group)}
        joined = {(g.from_tool, g.to_tool, pointer) for g in strong for pointer, _ in g.pairs}
        kept = {
            group
            for group in kept
            if group in strong
            or not all((group.from_tool, group.to_tool, p) in joined for p, _ in group.pairs)
        }
        return tuple(
            Attachment(g.from_tool, g.to_tool, g.pairs, in_traces[g], g in strong, g.kind)
            for g in sorted(kept)
        )

    def _is_strong(self, group: _Group) -> bool:
        return any(
            self._links[(group.to_tool, with_wildcards(pointer)), (group.from_tool, pattern)]
            for pointer, pattern in group.pairs
        )

    def _of_traces(self, followed: Followed) -> Counter[_Group]:
        """Groups -> traces that show them."""
        counted: Counter[_Group] = Counter()
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
                    alone = ((use.leaf.pointer, source[1]),)
                    shown.add(_Group(source[0], tools[use.call], alone, LinkKind.COMPOSITE))
            for call, parents in by_call.items():
                for parent, group in _cover(parents):
                    shown.add(_Group(tools[parent], tools[call], _pairs(group)))
            counted.update(shown)
        return counted

    def _of_row(self, number: int) -> Iterator[_Group]:
        """Groups that a recorded call shows: for each tool, what its responses hold best."""
        row = self._observed.corpus.rows[number]
        leaves = self._observed.sent[number]
        covered: set[str] = set()
        for tool, parents in sorted(self._parents(number).items()):
            for _, group in _cover(self._row_matches(leaves, tool, parents)):
                if any(match.strong for match in group):
                    yield _Group(tool, row.tool, _pairs(group))
                    covered |= {match.pointer for match in group}
        for leaf in leaves:
            if leaf.pointer not in covered:
                yield from self._alone(row.tool, leaf)

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

    def _alone(self, to_tool: str, leaf: Sent) -> Iterator[_Group]:
        """Weak links, and lists of values, of an argument that no strong group covers."""
        for source in self._sources.get(leaf.slot, ()):
            holders = self._observed.holders[source]
            pairs = ((leaf.pointer, source[1]),)
            if leaf.key in holders and not self._links[leaf.slot, source]:
                yield _Group(source[0], to_tool, pairs)
            elif len(leaf.pieces) > 1 and all(piece in holders for piece in leaf.pieces):
                rows = [set(holders[piece]) for piece in leaf.pieces]
                if set.intersection(*rows):
                    yield _Group(source[0], to_tool, pairs, LinkKind.COMPOSITE)

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


def _pairs(group: Iterable[_Match]) -> Pairs:
    return tuple(sorted((match.pointer, match.pattern) for match in group))
