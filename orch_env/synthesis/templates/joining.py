"""What belongs together in a workflow: which rows may feed a call, and which arguments agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import cached_property
from itertools import combinations

from orch_env.provenance.information import Key, is_distinctive, is_temporal
from orch_env.synthesis.index import Index, is_composite
from orch_env.synthesis.mining.mined import Attachment
from orch_env.synthesis.templates.template import Edge, Equality, Template
from orch_env.types.json import Json, leaves

Nodes = tuple[int, int]
_OCCASION = timedelta(days=14)


class Joining:
    """The rules by which calls are put together, over one index.

    Args:
        index: the rows.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        agreeing: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        for a in index.mined.agreements:
            (left, left_path), (right, right_path) = a.left, a.right
            agreeing[left, right].append((left_path, right_path))
            if left != right:
                agreeing[right, left].append((right_path, left_path))
        self._agreeing: Mapping[tuple[str, str], list[tuple[str, str]]] = agreeing
        self._dates: dict[int, date | None] = {}

    @cached_property
    def read(self) -> frozenset[str]:
        """Tools whose output some attachment reads."""
        return frozenset(a.from_tool for a in self.index.mined.attachments)

    def feeding(self, row: int, rows: Collection[int] | None) -> list[tuple[Attachment, list[int]]]:
        """Attachments that can feed the untypable arguments of a row, each with parent rows.

        A weak attachment never connects by itself: its parents must have been called with a strong
        value that the row is called with too.
        """
        index = self.index
        tool = index.corpus.rows[row].tool
        opaque = index.opaque(row)
        found = []
        for attachment in index.attachments_into(tool):
            fed = {pointer for pointer, _ in attachment.pairs}
            if not fed & opaque:
                continue
            relation = index.relation(
                attachment.from_tool, tool, attachment.pairs, is_composite(attachment)
            )
            parents = [
                parent
                for parent in relation.parents.get(row, ())
                if (rows is None or parent in rows)
                and index.call_of[parent] != index.call_of[row]
                and (attachment.strong or self.shared_strong(parent, row))
            ]
            if parents:
                found.append((attachment, parents))
        return found

    def shared_strong(self, one: int, other: int) -> list[tuple[str, str]]:
        """Arguments that identify the same thing in two rows: (pointer of one, of the other)."""
        theirs: dict[Key, str] = {}
        for pointer in sorted(self.index.opaque(other)):
            theirs.setdefault(self.index.sent[other][pointer], pointer)
        return [
            (pointer, theirs[key])
            for pointer in sorted(self.index.opaque(one))
            if (key := self.index.sent[one][pointer]) in theirs and is_distinctive(key[1])
        ]

    def same_thing(self, one: int, other: int) -> bool:
        """Whether two rows are calls of one tool about the same thing: no one asks for both."""
        index = self.index
        if index.corpus.rows[one].tool != index.corpus.rows[other].tool:
            return False
        return index.about(one) == index.about(other) != ()

    def equalities(
        self, tools: Sequence[str], edges: Sequence[Edge], namesakes: Iterable[Nodes] = ()
    ) -> Iterator[Equality]:
        """The agreements that hold between calls that belong together: by an edge or a parent.

        Args:
            tools: of the calls.
            edges: what they read.
            namesakes: calls that look up the same name, which are one parent.
        """
        root = _merged(len(tools), namesakes)
        parents: dict[int, set[int]] = defaultdict(set)
        for e in edges:
            parents[e.child].add(root[e.parent])
        fed = {(e.child, pointer) for e in edges for pointer, _ in e.pairs}
        for right in range(len(tools)):
            for left in range(right):
                if root[left] in parents[right] or parents[left] & parents[right]:
                    for mine, other in self._agreeing.get((tools[left], tools[right]), ()):
                        if (left, mine) not in fed and (right, other) not in fed:
                            yield Equality((left, mine), (right, other))

    def holds(self, q: Equality, rows: Sequence[int]) -> bool:
        """Whether two rows agree; an argument that one of them leaves out agrees with none."""
        sent = self.index.sent
        return sent[rows[q.left[0]]].get(q.left[1]) == sent[rows[q.right[0]]].get(q.right[1])

    def first_date(self, row: int) -> date | None:
        """The earliest date among a row's arguments; ``None`` where there is none."""
        if row not in self._dates:
            found = [_date_of(value) for _, value in leaves(self.index.corpus.rows[row].arguments)]
            self._dates[row] = min((day for day in found if day is not None), default=None)
        return self._dates[row]

    def incoherences(self, template: Template, rows: Sequence[int]) -> list[str]:
        """What makes a filling senseless, as short words; empty where it is coherent.

        ``disagreement``: arguments that must agree do not; ``weak_link``: two parts hang together
        by a weak value only; ``time``: a call is dated before one whose output it reads;
        ``repeated_call``; ``same_thing``: two calls of one tool about the same thing;
        ``unused_lookup``: nothing reads a call that is there to be read; ``far_apart``: see
        :meth:`is_one_occasion`.
        """
        found = []
        index = self.index
        if len({index.call_of[row] for row in rows}) < len(rows):
            found.append("repeated_call")
        elif any(self.same_thing(a, b) for a, b in combinations(rows, 2)):
            found.append("same_thing")
        namesakes = self.namesakes(template)
        held = self.equalities(template.tools, template.edges, namesakes)
        if not all(self.holds(q, rows) for q in held):
            found.append("disagreement")
        if not self._is_joined(template, rows, namesakes):
            found.append("weak_link")
        if not self.runs_forward(template.edges, rows):
            found.append("time")
        if self.unused(template):
            found.append("unused_lookup")
        if namesakes and not self.is_one_occasion(rows):
            found.append("far_apart")
        return found

    def runs_forward(self, edges: Sequence[Edge], rows: Sequence[int]) -> bool:
        """Whether no call is dated before one whose output it reads."""
        for e in edges:
            earlier, later = self.first_date(rows[e.parent]), self.first_date(rows[e.child])
            if earlier is not None and later is not None and later < earlier:
                return False
        return True

    def is_one_occasion(self, rows: Sequence[int]) -> bool:
        """Whether no two calls are dated more than two weeks apart, as calls of one trip are.

        It is asked of calls that hang together by a name alone.
        """
        dates = [day for row in rows if (day := self.first_date(row)) is not None]
        return not dates or max(dates) - min(dates) <= _OCCASION

    def unused(self, template: Template) -> list[int]:
        """Calls that read nothing and are read by nothing, of tools that others read."""
        touched = {n for e in template.edges for n in (e.parent, e.child)}
        return [
            node
            for node, tool in enumerate(template.tools)
            if node not in touched and (tool in self.read or len(template.tools) > 1)
        ]

    def namesakes(self, template: Template) -> list[Nodes]:
        """The calls that read nothing and must look up the same name, in pairs."""
        if not template.equalities:
            return []
        reading = {e.child for e in template.edges}
        pairs = [(q.left[0], q.right[0]) for q in template.equalities]
        return [pair for pair in pairs if not reading & {*pair}]

    def _is_joined(
        self, template: Template, rows: Sequence[int], namesakes: Sequence[Nodes]
    ) -> bool:
        """Whether strong edges and names connect all, and weak ones join what is one thing."""
        for e in template.edges:
            one, other = rows[e.parent], rows[e.child]
            if not (self.is_strong(template.tools, e) or self.shared_strong(one, other)):
                return False
        pairs = [(e.parent, e.child) for e in template.edges]
        for left, right in namesakes:
            name = self.index.name_sent(rows[left])
            if name is not None and name == self.index.name_sent(rows[right]):
                pairs.append((left, right))
        return len(set(_merged(len(rows), pairs))) == 1

    def is_strong(self, tools: Sequence[str], edge: Edge) -> bool:
        """Whether an edge carries a value that identifies what it names."""
        return self._strength.get(
            (tools[edge.parent], tools[edge.child], edge.pairs, edge.composite), False
        )

    @cached_property
    def _strength(self) -> Mapping[tuple[str, str, tuple[tuple[str, str], ...], bool], bool]:
        return {
            (a.from_tool, a.to_tool, a.pairs, is_composite(a)): a.strong
            for a in self.index.mined.attachments
        }


def _merged(size: int, pairs: Iterable[Nodes]) -> list[int]:
    """For each node, a node that stands for all that pairs connect it with."""
    root = list(range(size))
    for one, other in pairs:
        old, new = root[other], root[one]
        if old == new:
            continue
        root = [new if node == old else node for node in root]
    return root


def _date_of(value: Json) -> date | None:
    """The day of an ISO 8601 date or time; ``None`` for all else."""
    if not isinstance(value, str) or not is_temporal(value):
        return None
    try:
        return date.fromisoformat(value.strip()[:10])
    except ValueError:  # a time of day, or no day of any month
        return None
