"""A workflow: which tools are called, and which output feeds which argument."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from orch_env.synthesis.corpus import Corpus
from orch_env.types import OrchError
from orch_env.types.fields import list_of, value_of
from orch_env.types.json import JsonObject


@dataclass(frozen=True, slots=True)
class Edge:
    """One call reads one element of another call's response.

    Attributes:
        parent: node whose response is read; smaller than ``child``.
        child: node that is called with it.
        pairs: as in :class:`~orch_env.synthesis.mining.mined.Attachment`.
        composite: whether the one argument joins values of several elements by commas.
    """

    parent: int
    child: int
    pairs: tuple[tuple[str, str], ...]
    composite: bool = False


@dataclass(frozen=True, slots=True)
class Equality:
    """Two independent arguments must be equal.

    Attributes:
        left, right: ``(node, argument pointer)``; ``left < right``.
    """

    left: tuple[int, str]
    right: tuple[int, str]


@dataclass(frozen=True, slots=True)
class Template:
    """Calls in a topological order, with the flows of data between them.

    Two templates are the same workflow iff their :attr:`id` is equal: the id is that of tools and
    edges up to isomorphism.

    Attributes:
        tools: for each node, the tool that it calls.
        edges: sorted.
        equalities: sorted; co-reference constraints of the fillings, no edges of the graph.
    """

    tools: tuple[str, ...]
    edges: tuple[Edge, ...] = ()
    equalities: tuple[Equality, ...] = ()

    @property
    def id(self) -> str:
        """16 hex digits, equal for isomorphic templates only."""
        text = json.dumps(canonical_form(self), ensure_ascii=False, separators=(",", ":"))
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @property
    def kinds(self) -> frozenset[tuple[str, str, tuple[tuple[str, str], ...]]]:
        """The kinds of edges: (parent's tool, child's tool, pairs), without repetition."""
        return frozenset((self.tools[e.parent], self.tools[e.child], e.pairs) for e in self.edges)

    def size(self, domains: Mapping[str, str]) -> Size:
        """How complex it is.

        Args:
            domains: tool -> domain; tools that are not in it are of one domain more.
        """
        levels: list[int] = []
        for node in range(len(self.tools)):
            parents = [levels[e.parent] for e in self.edges if e.child == node]
            levels.append(1 + max(parents, default=0))
        return Size(
            calls=len(self.tools),
            depth=max(levels, default=0),
            width=max(Counter(levels).values(), default=0),
            edges=sum(len(e.pairs) for e in self.edges),
            domains=len({domains.get(tool, "") for tool in self.tools}),
        )

    def check(self, corpus: Corpus) -> None:
        """Refuse a template that cannot be filled from a corpus.

        Raises:
            OrchError: a tool has no recorded call.
        """
        for tool in self.tools:
            if tool not in corpus.rows_of:
                raise OrchError(
                    f"template {self.id} calls {tool!r}, which has no recorded call in "
                    f"{str(corpus.cache.path)!r}"
                )

    def to_dict(self) -> JsonObject:
        """The JSON form: ``{id, tools, edges, equalities}``."""
        return {
            "id": self.id,
            "tools": list(self.tools),
            "edges": [
                {
                    "parent": e.parent,
                    "child": e.child,
                    "pairs": [list(pair) for pair in e.pairs],
                    **({"composite": True} if e.composite else {}),
                }
                for e in self.edges
            ],
            "equalities": [[list(q.left), list(q.right)] for q in self.equalities],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Template:
        """Read :meth:`to_dict`; ``id`` is not read.

        Raises:
            OrchError: it is malformed.
        """
        try:
            tools = tuple(list_of(data, "tools", str))
            edges = tuple(sorted(map(_edge, list_of(data, "edges", dict)), key=_edge_order))
            pairs = value_of(data, "equalities", list, [])
            equalities = tuple(sorted(map(_equality, pairs), key=lambda q: (q.left, q.right)))
        except (OrchError, TypeError, ValueError) as problem:
            raise OrchError(f"a template is malformed: {problem}") from problem
        if not tools:
            raise OrchError("a template is malformed: it calls no tool")
        for edge in edges:
            if not 0 <= edge.parent < edge.child < len(tools):
                raise OrchError(
                    f"a template is malformed: an edge from call {edge.parent} to call "
                    f"{edge.child} of {len(tools)}; calls read earlier calls only"
                )
        for equality in equalities:
            if not all(0 <= node < len(tools) for node, _ in (equality.left, equality.right)):
                raise OrchError("a template is malformed: an equality names a missing call")
        return cls(tools, edges, equalities)


def _edge(data: Mapping[str, Any]) -> Edge:
    pairs = tuple(sorted((str(a), str(b)) for a, b in list_of(data, "pairs", list)))
    if not pairs:
        raise OrchError("an edge carries no value")
    return Edge(
        value_of(data, "parent", int, -1),
        value_of(data, "child", int, -1),
        pairs,
        value_of(data, "composite", bool, False),
    )


def _edge_order(edge: Edge) -> tuple[int, int, tuple[tuple[str, str], ...]]:
    return edge.parent, edge.child, edge.pairs


def _equality(data: Any) -> Equality:
    (node, path), (other, beside) = data
    left, right = sorted([(int(node), str(path)), (int(other), str(beside))])
    return Equality(left, right)


_MOST_ORDERS = 2_000
"""Orders of calls that are compared for the canonical form; 11 calls leave at most 120 open."""

_Around = Sequence[tuple[Sequence[Any], Sequence[Any]]]
"""For each call its edges from parents and to children: (other call, pairs, composite), sorted."""


def canonical_form(template: Template) -> list[Any]:
    """The same nested list for isomorphic graphs of tools and edges, and for no others.

    Calls are coloured by tool and then by their neighbours until nothing changes. Where calls stay
    alike, each of them in turn gets a colour of its own, and the least form counts (McKay,
    "Practical graph isomorphism", 1981). Twins (calls with the same neighbours) are
    interchangeable, so one of them is enough.
    """
    around: _Around = [
        (
            sorted((e.parent, e.pairs, e.composite) for e in template.edges if e.child == node),
            sorted((e.child, e.pairs, e.composite) for e in template.edges if e.parent == node),
        )
        for node in range(len(template.tools))
    ]
    orders = islice(_orders(around, template.tools), _MOST_ORDERS)
    return min(_form(template, order) for order in orders)


def _orders(around: _Around, colours: Sequence[Any]) -> Iterator[list[int]]:
    """The orders of calls that the colours and what refines them leave open."""
    refined = _refined(around, colours)
    classes: dict[int, list[int]] = defaultdict(list)
    for node, colour in enumerate(refined):
        classes[colour].append(node)
    for _, alike in sorted(classes.items()):
        unlike = [n for n in alike if all(around[n] != around[m] for m in alike if m < n)]
        if len(unlike) > 1:
            for node in unlike:
                yield from _orders(around, [2 * c - (n == node) for n, c in enumerate(refined)])
            return
    yield sorted(range(len(refined)), key=lambda node: (refined[node], node))


def _refined(around: _Around, colours: Sequence[Any]) -> list[int]:
    """The coarsest colouring finer than this one in which a colour tells its neighbours'."""
    while True:
        seen = [
            (
                colours[node],
                tuple(sorted((colours[n], *edge) for n, *edge in parents)),
                tuple(sorted((colours[n], *edge) for n, *edge in children)),
            )
            for node, (parents, children) in enumerate(around)
        ]
        rank = {key: number for number, key in enumerate(sorted(set(seen)))}
        before, colours = len(set(colours)), [rank[key] for key in seen]
        if len(rank) == before:
            return colours


def _form(template: Template, order: list[int]) -> list[Any]:
    place = {node: at for at, node in enumerate(order)}
    edges = sorted(
        [place[e.parent], place[e.child], [list(p) for p in e.pairs], e.composite]
        for e in template.edges
    )
    return [[template.tools[node] for node in order], edges]


@dataclass(frozen=True, slots=True)
class Size:
    """How complex a template is; the words mean the same in a task's metadata.

    Attributes:
        calls: number of calls.
        depth: calls on the longest path of dependencies.
        width: most calls at the same depth.
        edges: values read from earlier outputs.
        domains: domains of its tools; 1 where no domains are known.
    """

    calls: int
    depth: int
    width: int
    edges: int
    domains: int
