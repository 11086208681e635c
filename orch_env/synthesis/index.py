"""Which recorded calls can follow which: the inverted index over values of a corpus."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from orch_env.provenance.evidence import argument_leaves, pieces_of
from orch_env.provenance.information import Key, folded, is_temporal, is_void, key_of
from orch_env.provenance.names import with_wildcards
from orch_env.synthesis.corpus import Corpus
from orch_env.synthesis.mining import Mined
from orch_env.synthesis.mining.mined import Attachment, LinkKind
from orch_env.types import Provenance, ValueRef
from orch_env.types.json import Json, escape, find, leaves

Pairs = tuple[tuple[str, str], ...]
"""``(argument pointer, output pattern)``, sorted, as in :class:`Attachment`."""

_MOST_COMBINATIONS = 256
"""Combinations of values that one element of a response may offer to one attachment."""
_BEST_FIRST = 0.9
"""Share of a look-up's lists with something of the name sent whose first element has that name."""


@dataclass(frozen=True, slots=True)
class Relation:
    """Which rows of one tool feed which rows of another by one attachment.

    Attributes:
        parents: child row -> parent rows, ascending; rows without a partner are absent.
        children: parent row -> child rows, ascending.
        both: all (parent row, child row), ascending.
    """

    parents: Mapping[int, tuple[int, ...]]
    children: Mapping[int, tuple[int, ...]]
    both: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """One value of a response: its pointer, and the tokens that its pattern has as ``*``."""

    path: str
    indices: tuple[str, ...]
    key: Key


class Index:
    """The values that attachments can carry, by row.

    Where a tool finds things by their name, what a response lists under another name than the one
    that was sent carries nothing: no one looks up one place to read another.

    Args:
        corpus: the recorded calls.
        mined: which attachments there are.

    Attributes:
        corpus: the same.
        mined: the same.
        sent: for each row, argument pointer -> key of its value; void values are left out.
        call_of: for each row, the number of its call; variants of one call share it.
    """

    def __init__(self, corpus: Corpus, mined: Mined) -> None:
        self.corpus = corpus
        self.mined = mined
        self.sent: tuple[Mapping[str, Key], ...] = tuple(
            {p: key_of(v) for p, v in argument_leaves(row.arguments) if not is_void(v)}
            for row in corpus.rows
        )
        first: dict[bytes, int] = {}
        self.call_of = tuple(first.setdefault(row.key, row.number) for row in corpus.rows)
        self._into: dict[str, list[Attachment]] = defaultdict(list)
        self._from: dict[str, list[Attachment]] = defaultdict(list)
        wanted: dict[str, set[str]] = defaultdict(set)
        for attachment in mined.attachments:
            self._into[attachment.to_tool].append(attachment)
            self._from[attachment.from_tool].append(attachment)
            wanted[attachment.from_tool].update(pattern for _, pattern in attachment.pairs)
        self._opaque: dict[int, frozenset[str]] = {}
        self._places: dict[tuple[str, str], dict[int, list[_Place]]] = {}
        for tool, patterns in sorted(wanted.items()):
            self._read(tool, patterns)
        self._about: dict[int, tuple[Key, ...]] = {}
        self._sending: dict[tuple[str, frozenset[str]], frozenset[int]] = {}
        self._relations: dict[tuple[str, str, Pairs, bool], Relation] = {}

    def _read(self, tool: str, patterns: set[str]) -> None:
        found: dict[str, dict[int, list[_Place]]] = {p: defaultdict(list) for p in patterns}
        tree = _tree_of(patterns)
        places = {
            row: list(_places(self.corpus.response(row), tree, "", "", ()))
            for row in self.corpus.rows_of.get(tool, ())
        }
        others = self._of_another_name(places)
        for row, inside in places.items():
            for pattern, place in inside:
                if (row, _element(pattern, place.path)) not in others:
                    found[pattern][row].append(place)
        for pattern, by_row in found.items():
            self._places[tool, pattern] = dict(by_row)

    def _of_another_name(
        self, places: Mapping[int, Sequence[tuple[str, _Place]]]
    ) -> set[tuple[int, str]]:
        """(Row, element) of what a tool that looks up by name lists under another name.

        A list is a look-up's where its first element has the one text that was sent, in nearly
        every response in which any of its elements has it.
        """
        lists, first = Counter[str](), Counter[str]()
        others: dict[str, set[tuple[int, str]]] = defaultdict(set)
        for row, inside in places.items():
            name = self.name_sent(row)
            if name is None:
                continue
            response = self.corpus.response(row)
            elements: dict[str, dict[str, bool]] = defaultdict(dict)
            for pattern, place in inside:
                at, where = _element(pattern, place.path), pattern.partition("/*")[0]
                if at and at not in elements[where]:
                    values = (str(value) for _, value in leaves(find(response, at)))
                    elements[where][at] = any(name in folded(value) for value in values)
            for where, named in elements.items():
                if any(named.values()):
                    lists[where] += 1
                    first[where] += next(iter(named.values()))
                    others[where] |= {(row, at) for at, bears in named.items() if not bears}
        looked_up = [where for where in lists if first[where] >= _BEST_FIRST * lists[where]]
        return set[tuple[int, str]]().union(*(others[where] for where in looked_up))

    def name_sent(self, row: int) -> str | None:
        """The text that a row sends and nothing else, folded; ``None`` if no one would type it."""
        if len(self.sent[row]) != 1 or self.opaque(row):
            return None
        ((_, value),) = self.sent[row].values()
        return folded(value) if isinstance(value, str) and not is_temporal(value) else None

    def attachments_into(self, tool: str) -> Sequence[Attachment]:
        """Attachments that feed a tool, sorted."""
        return self._into.get(tool, ())

    def attachments_from(self, tool: str) -> Sequence[Attachment]:
        """Attachments that read a tool's output, sorted."""
        return self._from.get(tool, ())

    def opaque(self, row: int) -> frozenset[str]:
        """Pointers of the arguments of a row that no person would type."""
        if row not in self._opaque:
            tool = self.corpus.rows[row].tool
            self._opaque[row] = frozenset(
                p for p in self.sent[row] if (tool, with_wildcards(p)) in self.mined.opaque
            )
        return self._opaque[row]

    def sending(self, tool: str, fed: frozenset[str]) -> frozenset[int]:
        """Rows of a tool that send all of these arguments, and no other that no one would type."""
        if (tool, fed) not in self._sending:
            self._sending[tool, fed] = frozenset(
                row
                for row in self.corpus.rows_of.get(tool, ())
                if fed <= self.sent[row].keys() and self.opaque(row) <= fed
            )
        return self._sending[tool, fed]

    def about(self, row: int) -> tuple[Key, ...]:
        """What a row is about: the set of its untypable values, sorted; empty where it has none."""
        if row not in self._about:
            keys = {self.sent[row][pointer] for pointer in self.opaque(row)}
            self._about[row] = tuple(sorted(keys, key=str))
        return self._about[row]

    def relation(
        self, parent_tool: str, child_tool: str, pairs: Pairs, composite: bool = False
    ) -> Relation:
        """Which rows of ``parent_tool`` feed which rows of ``child_tool`` by these pairs.

        All values of one parent lie in the same element of every list that their patterns share;
        with ``composite``, each piece of the one argument stands somewhere in the parent.
        """
        at = (parent_tool, child_tool, pairs, composite)
        if at not in self._relations:
            join = self._composite if composite else self._joined
            self._relations[at] = _relation(join(parent_tool, child_tool, pairs))
        return self._relations[at]

    def _joined(self, parent_tool: str, child_tool: str, pairs: Pairs) -> dict[int, list[int]]:
        holders: dict[tuple[Key, ...], list[int]] = defaultdict(list)
        for row in self.corpus.rows_of.get(parent_tool, ()):
            for keys in {tuple(p.key for p in e) for e in self._elements(parent_tool, row, pairs)}:
                holders[keys].append(row)
        parents: dict[int, list[int]] = {}
        for row in self.corpus.rows_of.get(child_tool, ()):
            sent = self.sent[row]
            if all(pointer in sent for pointer, _ in pairs):
                rows = holders.get(tuple(sent[pointer] for pointer, _ in pairs))
                if rows:
                    parents[row] = sorted(rows)
        return parents

    def _composite(self, parent_tool: str, child_tool: str, pairs: Pairs) -> dict[int, list[int]]:
        ((pointer, pattern),) = pairs
        holders: dict[Key, set[int]] = defaultdict(set)
        for row, places in self._places.get((parent_tool, pattern), {}).items():
            for place in places:
                holders[place.key].add(row)
        parents: dict[int, list[int]] = {}
        for row in self.corpus.rows_of.get(child_tool, ()):
            pieces = self._pieces(row, pointer)
            if pieces:
                rows = set.intersection(*(holders.get(key_of(p), set()) for p in pieces))
                if rows:
                    parents[row] = sorted(rows)
        return parents

    def _pieces(self, row: int, pointer: str) -> list[str]:
        for at, value in argument_leaves(self.corpus.rows[row].arguments):
            if at == pointer:
                return pieces_of(value)
        return []

    def _elements(self, tool: str, row: int, pairs: Pairs) -> Iterator[tuple[_Place, ...]]:
        """One place per pair, all in the same element, in the order of the response."""
        lists = [self._places.get((tool, p), {}).get(row, []) for _, p in pairs]
        if not all(lists):
            return
        shared = [_shared_stars(pairs[0][1], pattern) for _, pattern in pairs]
        depth = min(shared)
        grouped: list[dict[tuple[str, ...], list[_Place]]] = []
        for places in lists:
            by_element: dict[tuple[str, ...], list[_Place]] = defaultdict(list)
            for place in places:
                by_element[place.indices[:depth]].append(place)
            grouped.append(by_element)
        for element in grouped[0]:
            options = [by_element.get(element, []) for by_element in grouped]
            for number, chosen in enumerate(product(*options)):
                if number >= _MOST_COMBINATIONS:
                    break
                if _same_elements(chosen, pairs):
                    yield chosen

    def elements(self, parent_row: int, child_row: int, pairs: Pairs) -> list[dict[str, str]]:
        """Where a parent row holds the values of a child row: argument pointer -> pointer.

        One entry per element of the response that holds them all, in the response's order.
        """
        tool, sent = self.corpus.rows[parent_row].tool, self.sent[child_row]
        wanted = [sent.get(pointer) for pointer, _ in pairs]
        return [
            {pointer: place.path for (pointer, _), place in zip(pairs, chosen, strict=True)}
            for chosen in self._elements(tool, parent_row, pairs)
            if [place.key for place in chosen] == wanted
        ]

    def sources(
        self, parent: int, parent_row: int, child_row: int, pairs: Pairs, composite: bool = False
    ) -> dict[str, ValueRef]:
        """The source of each argument that an edge feeds: of the first fitting element.

        Args:
            parent: number of the producing call, for :attr:`ValueRef.call`.
            parent_row: its row.
            child_row: row of the call that it feeds.
            pairs: as in :meth:`relation`.
            composite: as in :meth:`relation`.

        Raises:
            KeyError: the parent row does not hold the values.
        """
        if not composite:
            for paths in self.elements(parent_row, child_row, pairs):
                return {
                    pointer: ValueRef(Provenance.OUTPUT, parent, path)
                    for pointer, path in paths.items()
                }
            raise KeyError((parent_row, child_row, pairs))
        ((pointer, pattern),) = pairs
        tool = self.corpus.rows[parent_row].tool
        first: dict[Key, str] = {}
        for place in self._places[tool, pattern].get(parent_row, []):
            first.setdefault(place.key, place.path)
        parts = tuple(
            ValueRef(Provenance.OUTPUT, parent, first[key_of(piece)])
            for piece in self._pieces(child_row, pointer)
        )
        return {pointer: ValueRef(Provenance.COMPOSITE, parts=parts)}


def is_composite(attachment: Attachment) -> bool:
    """Whether an attachment joins values of several elements by commas."""
    return attachment.kind is LinkKind.COMPOSITE


def _relation(parents: Mapping[int, list[int]]) -> Relation:
    children: dict[int, list[int]] = defaultdict(list)
    for child, rows in parents.items():
        for parent in rows:
            children[parent].append(child)
    return Relation(
        {child: tuple(rows) for child, rows in parents.items()},
        {parent: tuple(sorted(rows)) for parent, rows in sorted(children.items())},
        tuple(sorted((parent, child) for child, rows in parents.items() for parent in rows)),
    )


def _element(pattern: str, path: str) -> str:
    """The element of the outermost list that a place lies in; empty where it lies in none."""
    before, star, _ = pattern.partition("/*")
    return "/".join(path.split("/")[: before.count("/") + 2]) if star else ""


def _shared_stars(left: str, right: str) -> int:
    """How many ``*`` stand in the common beginning of two patterns."""
    count = 0
    for one, other in zip(left.split("/"), right.split("/"), strict=False):
        if one != other:
            break
        count += one == "*"
    return count


def _same_elements(chosen: Sequence[_Place], pairs: Pairs) -> bool:
    """Whether every two places lie in the same element of each list that their patterns share."""
    for number, (_, left) in enumerate(pairs):
        for other in range(number + 1, len(pairs)):
            depth = _shared_stars(left, pairs[other][1])
            if chosen[number].indices[:depth] != chosen[other].indices[:depth]:
                return False
    return True


_Tree = dict[str, "_Tree"]


def _tree_of(patterns: set[str]) -> _Tree:
    tree: _Tree = {}
    for pattern in sorted(patterns):
        node = tree
        for token in pattern.split("/")[1:]:
            node = node.setdefault(token, {})
    return tree


def _places(
    node: Json, tree: _Tree, path: str, pattern: str, indices: tuple[str, ...]
) -> Iterator[tuple[str, _Place]]:
    """The values of a response at the patterns of a tree, in the order of the response."""
    if not tree:
        if not isinstance(node, dict | list) and not is_void(node):
            yield pattern, _Place(path, indices, key_of(node))
        return
    if isinstance(node, list):
        below = tree.get("*")
        if below is not None:
            for number, item in enumerate(node):
                token = str(number)
                yield from _places(
                    item, below, f"{path}/{token}", f"{pattern}/*", (*indices, token)
                )
    elif isinstance(node, dict):
        for name, item in node.items():
            token = escape(str(name))
            shown = "*" if token.isdigit() else token
            below = tree.get(shown)
            if below is not None:
                inside = (*indices, token) if shown == "*" else indices
                yield from _places(item, below, f"{path}/{token}", f"{pattern}/{shown}", inside)
