"""New workflows: a recorded call, and others put before and behind it as long as they fit.

Because calls are added with the very responses that feed them, every workflow that grows can be
executed. What grows is used for its shape; fillings are drawn from the template afterwards, because
growth alone favours what has many neighbours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from orch_env.provenance.names import with_wildcards
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.index import is_composite
from orch_env.synthesis.mining.mined import Attachment
from orch_env.synthesis.templates.joining import Joining, Nodes
from orch_env.synthesis.templates.template import Edge, Equality, Template

_STEPS = (1, 1, 1, 2, 2, 3, 99)
"""How much larger a workflow is than the one that it grows from; 99: it grows from nothing."""
_EXTENSIONS = 12
"""Calls that are tried as the next one before a try is given up."""
_BRANCHES = 0.5
"""How often a workflow goes on from a look-up's namesake instead of the look-up."""
_OF_EACH_SHAPE = 12
"""Workflows of one shape that others grow from."""
_MOST_PARENTS_DEEP = 6
"""Missing calls in a row that are put before one another."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What growth keeps to.

    Attributes:
        per_tool: calls of one tool at most.
        rows: recorded calls that may be used; ``None`` allows all.
        starts: groups of recorded calls to begin with, each group as often as any other (one for
            each place, say); none: every tool as often as any other.
        namesakes: look-up -> look-ups of the same name by other tools, from which a workflow may
            go on.
    """

    per_tool: int = 3
    rows: Collection[int] | None = None
    starts: Sequence[Sequence[int]] = ()
    namesakes: Mapping[int, Sequence[int]] = field(default_factory=dict)


@dataclass(slots=True)
class _Growing:
    rows: list[int] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    namesakes: list[Nodes] = field(default_factory=list)

    def copy(self) -> _Growing:
        return _Growing(list(self.rows), list(self.edges), list(self.namesakes))


class _Pool:
    """Workflows of one size, a few of each shape."""

    def __init__(self) -> None:
        self.states: dict[tuple[tuple[str, str, str], ...], list[_Growing]] = {}
        self.shapes: list[tuple[tuple[str, str, str], ...]] = []

    def add(self, state: _Growing, shape: tuple[tuple[str, str, str], ...]) -> None:
        """Keep a workflow, unless there are enough of its shape."""
        if shape not in self.states:
            self.states[shape] = []
            self.shapes.append(shape)
        if len(self.states[shape]) < _OF_EACH_SHAPE:
            self.states[shape].append(state)

    def pick(self, chance: Chance) -> _Growing:
        """Any shape, and any of its workflows."""
        return chance.pick(self.states[chance.pick(self.shapes)])


class Growth:
    """Grows workflows over one index.

    Args:
        joining: which calls belong together.
        limits: what to keep to.
    """

    def __init__(self, joining: Joining, limits: Limits | None = None) -> None:
        self._joining = joining
        self._index = joining.index
        self._limits = limits or Limits()
        allowed = self._limits.rows
        self._rows_of = {
            tool: kept
            for tool, rows in self._index.corpus.rows_of.items()
            if (kept := [row for row in rows if allowed is None or row in allowed])
        }
        self._tools = sorted(self._rows_of)
        self._starts = self._limits.starts or [self._rows_of[tool] for tool in self._tools]
        self._known: dict[int, list[tuple[Attachment, list[int]]]] = {}
        self._readers = {
            tool: [a for a in self._index.attachments_from(tool) if self._feeds_opaque(a)]
            for tool in self._tools
        }

    def each(
        self, calls: int, chance: Chance, tries: int
    ) -> Iterator[tuple[Template, tuple[int, ...]]]:
        """Workflows of exactly ``calls`` calls; see :meth:`sizes`."""
        return self.sizes((calls, calls), chance, tries)

    def sizes(
        self, calls: tuple[int, int], chance: Chance, tries: int
    ) -> Iterator[tuple[Template, tuple[int, ...]]]:
        """Workflows of so many calls (least, most), each with a filling.

        Those of one size grow from those of the sizes below it, each shape as often as any other.

        Args:
            calls: least and most.
            chance: what is drawn from.
            tries: tries for each size.
        """
        sizes: list[_Pool] = [_Pool()]
        for size in range(1, calls[1] + 1):
            sizes.append(self._pool(sizes, size, chance, tries))
            if size < calls[0]:
                continue
            for states in sizes[size].states.values():
                for state in states:
                    found = self._finished(state)
                    if found is not None:
                        yield found

    def _pool(self, sizes: list[_Pool], size: int, chance: Chance, tries: int) -> _Pool:
        """Workflows of one size: from sizes below it, or from nothing."""
        pool = _Pool()
        for _ in range(tries):
            below = size - chance.pick(_STEPS)
            if below > 0 and sizes[below].shapes:
                state: _Growing | None = sizes[below].pick(chance)
            else:
                start = chance.pick(chance.pick(self._starts))
                state = self._with(_Growing(), start, chance, size, 0)
            for _ in range(_EXTENSIONS):
                if state is None or len(state.rows) == size:
                    break
                state = self._extended(state, chance, size) or state
            if state is not None and len(state.rows) == size:
                pool.add(state, self._shape(state))
        return pool

    def _shape(self, state: _Growing) -> tuple[tuple[str, str, str], ...]:
        """A cheap stand-in for a template's id."""
        tools = [self._index.corpus.rows[row].tool for row in state.rows]
        return tuple(
            sorted((tools[e.parent], tools[e.child], str(e.pairs)) for e in state.edges)
        ) or ((tools[0], "", ""),)

    def _finished(self, state: _Growing) -> tuple[Template, tuple[int, ...]] | None:
        order = _topological(len(state.rows), state.edges)
        place = {node: at for at, node in enumerate(order)}
        tools = tuple(self._index.corpus.rows[state.rows[node]].tool for node in order)
        rows = tuple(state.rows[node] for node in order)
        edges = sorted(
            (Edge(place[e.parent], place[e.child], e.pairs, e.composite) for e in state.edges),
            key=lambda e: (e.parent, e.child, e.pairs),
        )
        namesakes = [(place[one], place[other]) for one, other in state.namesakes]
        template = complete(self._joining, tools, tuple(edges), rows, namesakes)
        return None if self._joining.incoherences(template, rows) else (template, rows)

    def _extended(self, state: _Growing, chance: Chance, calls: int) -> _Growing | None:
        """The workflow with one call more behind one of its calls, and what that call needs."""
        parent = chance.between(0, len(state.rows) - 1)
        namesakes = self._limits.namesakes.get(state.rows[parent], ())
        if namesakes and chance.often(_BRANCHES):
            branched = self._with(state.copy(), chance.pick(namesakes), chance, calls, 0)
            if branched is None:
                return None
            branched.namesakes.append((parent, len(branched.rows) - 1))
            state, parent = branched, len(branched.rows) - 1
        row = state.rows[parent]
        tool = self._index.corpus.rows[row].tool
        for attachment in chance.shuffled(self._readers.get(tool, ())):
            relation = self._index.relation(
                tool, attachment.to_tool, attachment.pairs, is_composite(attachment)
            )
            children = relation.children.get(row, ())
            for child in chance.draw(children, min(2, len(children))):
                allowed = self._limits.rows
                if allowed is not None and child not in allowed:
                    continue
                if not attachment.strong and not self._joining.shared_strong(row, child):
                    continue
                grown = self._with(state.copy(), child, chance, calls, 0, (parent, attachment))
                if grown is not None:
                    return grown
        return None

    def _feeds_opaque(self, attachment: Attachment) -> bool:
        opaque = self._index.mined.opaque
        tool = attachment.to_tool
        return any((tool, with_wildcards(pointer)) in opaque for pointer, _ in attachment.pairs)

    def _with(
        self,
        state: _Growing,
        row: int,
        chance: Chance,
        calls: int,
        deep: int,
        given: tuple[int, Attachment] | None = None,
    ) -> _Growing | None:
        """The workflow with a row, and with calls for everything that it has to read."""
        index = self._index
        used = Counter(index.corpus.rows[r].tool for r in state.rows)
        if used[index.corpus.rows[row].tool] >= self._limits.per_tool or deep > _MOST_PARENTS_DEEP:
            return None
        if any(
            index.call_of[row] == index.call_of[r] or self._joining.same_thing(row, r)
            for r in state.rows
        ):
            return None
        needed = set(index.opaque(row))
        taken: set[str] = set()
        edges: list[tuple[int, Attachment]] = []
        if given is not None:
            edges.append(given)
            taken |= {pointer for pointer, _ in given[1].pairs}
            needed -= taken
        options = self._feeding(row) if needed else []
        while needed:
            fitting = [
                (attachment, parents)
                for attachment, parents in options
                if not taken & {p for p, _ in attachment.pairs}
                and needed & {p for p, _ in attachment.pairs}
            ]
            if not fitting:
                return None
            attachment, parents = self._best(fitting, state, needed, chance)
            there = [n for n, r in enumerate(state.rows) if r in parents]
            if there:
                parent = there[0]
            else:
                grown = self._with(state, chance.pick(parents), chance, calls, deep + 1)
                if grown is None or len(grown.rows) >= calls:
                    return None
                state, parent = grown, len(grown.rows) - 1
            edges.append((parent, attachment))
            taken |= {p for p, _ in attachment.pairs}
            needed -= taken
        if len(state.rows) >= calls:
            return None
        state.rows.append(row)
        child = len(state.rows) - 1
        state.edges += [Edge(p, child, a.pairs, is_composite(a)) for p, a in edges]
        if not self._joining.runs_forward(state.edges, state.rows):
            return None
        if state.namesakes and not self._joining.is_one_occasion(state.rows):
            return None
        tools = [index.corpus.rows[r].tool for r in state.rows]
        held = self._joining.equalities(tools, state.edges, state.namesakes)
        return state if all(self._joining.holds(q, state.rows) for q in held) else None

    def _feeding(self, row: int) -> list[tuple[Attachment, list[int]]]:
        if row not in self._known:
            self._known[row] = self._joining.feeding(row, self._limits.rows)
        return self._known[row]

    def _best(
        self,
        options: list[tuple[Attachment, list[int]]],
        state: _Growing,
        needed: set[str],
        chance: Chance,
    ) -> tuple[Attachment, list[int]]:
        """The attachment that feeds most; among equals one whose parent is there, else any."""

        def worth(option: tuple[Attachment, list[int]]) -> tuple[int, bool]:
            attachment, parents = option
            fed = len(needed & {p for p, _ in attachment.pairs})
            return fed, any(row in parents for row in state.rows)

        most = max(map(worth, options))
        return chance.pick([option for option in options if worth(option) == most])


def complete(
    joining: Joining,
    tools: tuple[str, ...],
    edges: tuple[Edge, ...],
    rows: tuple[int, ...],
    namesakes: Sequence[Nodes] = (),
) -> Template:
    """The template of a filling: with its agreements, and with what ties its weak links."""
    equalities = set(joining.equalities(tools, edges, namesakes))
    for e in edges:
        if not joining.is_strong(tools, e):
            for mine, theirs in joining.shared_strong(rows[e.parent], rows[e.child]):
                equalities.add(Equality((e.parent, mine), (e.child, theirs)))
    for pair in namesakes:
        left, right = ((node, min(joining.index.sent[rows[node]])) for node in sorted(pair))
        equalities.add(Equality(left, right))  # a look-up sends its name alone
    return Template(tools, edges, tuple(sorted(equalities, key=lambda q: (q.left, q.right))))


def _topological(size: int, edges: list[Edge]) -> list[int]:
    """Nodes by depth, then by number."""
    depth = [0] * size
    for _ in range(size):
        for e in edges:
            depth[e.child] = max(depth[e.child], depth[e.parent] + 1)
    return sorted(range(size), key=lambda node: (depth[node], node))
