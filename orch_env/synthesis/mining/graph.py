"""The dependency graph over tools: as data, as domains, and the layers that a picture needs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

from orch_env.synthesis.corpus import Corpus
from orch_env.synthesis.mining.mined import Link, Mined
from orch_env.types.json import JsonObject

if TYPE_CHECKING:
    import networkx


def dependency_graph(mined: Mined, corpus: Corpus) -> networkx.MultiDiGraph:
    """The graph over all tools with a recorded call: an edge a link, with the link's fields.

    A node's ``rows`` is the number of recorded calls of its tool.
    """
    import networkx

    graph = networkx.MultiDiGraph()
    for tool, rows in corpus.rows_of.items():
        graph.add_node(tool, rows=len(rows))
    for link in mined.links:
        if link.from_tool in graph and link.to_tool in graph:
            graph.add_edge(link.from_tool, link.to_tool, **_fields(link))
    return graph


def edges_json(mined: Mined) -> list[JsonObject]:
    """All links as JSON objects, in the order of :attr:`Mined.links`."""
    return [
        {"from_tool": link.from_tool, "to_tool": link.to_tool, **_fields(link)}
        for link in mined.links
    ]


def _fields(link: Link) -> JsonObject:
    return {
        "from_path": link.from_path,
        "to_path": link.to_path,
        "kind": link.kind.value,
        "support": link.support,
        "values": link.values,
        "rate": link.rate,
        "strong": link.strong,
        "evidence": list(link.evidence),
        "offset": link.offset,
    }


def domains(
    mined: Mined, tools: Iterable[str], given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The domain of each tool, sorted by tool.

    Where it is not given, tools that strong links join closely are one domain. It has the name
    that most of its tools were given, or that of the tool with the most links.

    Args:
        mined: the links.
        tools: the tools to name a domain for.
        given: tool -> domain, for all or some tools.
    """
    import networkx

    known = dict(given or {})
    names = sorted(set(tools))
    graph = networkx.Graph()
    graph.add_nodes_from(names)
    for (one, other), weight in sorted(_closeness(mined).items()):
        if one in graph and other in graph:
            graph.add_edge(one, other, weight=weight)
    found = dict(known)
    if graph.number_of_edges():
        groups = networkx.community.greedy_modularity_communities(graph, weight="weight")
    else:
        groups = [{name} for name in names]
    for group in groups:
        votes = Counter(known[tool] for tool in sorted(group) if tool in known)
        busiest = min(group, key=lambda tool: (-graph.degree(tool, "weight"), tool))
        name = min(votes, key=lambda name: (-votes[name], name)) if votes else busiest
        found.update((tool, name) for tool in group if tool not in known)
    return {tool: found[tool] for tool in names}


def _closeness(mined: Mined) -> dict[tuple[str, str], float]:
    """Pairs of tools -> how near they are: one reads the other's ids, or both give the same ids."""
    links = [
        link
        for link in mined.links
        if link.strong
        and link.from_tool != link.to_tool
        and (link.to_tool, link.to_path) in mined.opaque
    ]
    feeds: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for link in links:
        feeds[link.to_tool, link.to_path][link.from_tool] += max(link.values, 1)
    close: dict[tuple[str, str], float] = defaultdict(float)
    for (reader, _), producers in sorted(feeds.items()):
        total = producers.total()
        for tool, values in producers.items():
            close[min(reader, tool), max(reader, tool)] += values / total
        for one, other in combinations(sorted(producers), 2):
            close[one, other] += min(producers[one], producers[other]) / total
    return close


def layers(mined: Mined, tools: Iterable[str]) -> list[list[str]]:
    """The tools by depth: each stands after all tools that it reads ids and the like from.

    Where these links go in a circle, those with the least evidence are left out of account. Within
    a layer, tools stand near those that they are linked with.
    """
    import networkx

    names = sorted(set(tools))
    graph = networkx.DiGraph()
    graph.add_nodes_from(names)
    opaque = [link for link in mined.links if (link.to_tool, link.to_path) in mined.opaque]
    for one, other in sorted(pairs := _weights(opaque), key=lambda at: (-pairs[at], at)):
        inside = one in graph and other in graph and one != other
        if inside and not networkx.has_path(graph, other, one):
            graph.add_edge(one, other)
    depth: dict[str, int] = {}
    for tool in networkx.lexicographical_topological_sort(graph):
        depth[tool] = 1 + max((depth[parent] for parent in graph.predecessors(tool)), default=-1)
    rows: list[list[str]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for tool in names:
        # A tool that reads nothing stands right before the first one that reads from it.
        readers = [depth[child] for child in graph.successors(tool)]
        alone = not graph.in_degree(tool) and readers
        rows[min(readers) - 1 if alone else depth[tool]].append(tool)
    return _near_neighbours(rows, graph)


def _weights(links: Iterable[Link]) -> dict[tuple[str, str], float]:
    """(producer, consumer) -> weight of the evidence: traces first, then distinct values."""
    weights: dict[tuple[str, str], float] = defaultdict(float)
    for link in links:
        own = link.support + link.values / 1000 + link.strong
        at = link.from_tool, link.to_tool
        weights[at] = max(weights[at], own)
    return dict(weights)


_SWEEPS = 6


def _near_neighbours(rows: list[list[str]], graph: networkx.DiGraph) -> list[list[str]]:
    for sweep in range(_SWEEPS):
        places = {tool: i / max(len(row), 1) for row in rows for i, tool in enumerate(row)}
        ordered = rows if sweep % 2 else rows[::-1]
        for row in ordered:
            wanted = {}
            for tool in row:
                near = [*graph.predecessors(tool), *graph.successors(tool)]
                mean = sum(places[other] for other in near) / len(near) if near else places[tool]
                wanted[tool] = mean, tool
            row.sort(key=lambda tool: wanted[tool])
            places.update((tool, i / max(len(row), 1)) for i, tool in enumerate(row))
    return rows
