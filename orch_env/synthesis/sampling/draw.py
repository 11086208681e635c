"""A draw: recorded calls that fill a template, and gold calls made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orch_env.synthesis.corpus import Corpus
from orch_env.synthesis.index import Index
from orch_env.synthesis.templates.template import Template
from orch_env.types import GoldCall, ValueRef


@dataclass(frozen=True, slots=True)
class Draw:
    """One executable trace.

    Attributes:
        template: what it fills.
        rows: for each node, the number of a recorded call.
        sources: for each node, argument pointer -> where its value is read (``output`` or
            ``composite``, with concrete pointers); independent arguments are not in it.
    """

    template: Template
    rows: tuple[int, ...]
    sources: tuple[Mapping[str, ValueRef], ...]


def draw_of(index: Index, template: Template, rows: tuple[int, ...]) -> Draw:
    """The draw of a filling: for each edge the first element of the response that fits.

    Raises:
        KeyError: the rows do not fill the template.
    """
    sources: list[dict[str, ValueRef]] = [{} for _ in rows]
    for e in template.edges:
        sources[e.child].update(
            index.sources(e.parent, rows[e.parent], rows[e.child], e.pairs, e.composite)
        )
    return Draw(template, rows, tuple(sources))


def gold_of(
    draw: Draw,
    corpus: Corpus,
    independent: Mapping[tuple[int, str], ValueRef],
    turn_of: Sequence[int] = (),
) -> tuple[tuple[tuple[GoldCall, ...], ...], tuple[int, ...]]:
    """The gold steps of a draw: one step per depth of the graph, calls in node order inside it.

    Args:
        draw: the trace.
        corpus: what it was drawn from.
        independent: ``(node, argument pointer)`` -> source of each argument that no output feeds.
        turn_of: for each node, how many follow-ups the user has said before the call may be made;
            no smaller than that of any call that it reads. Empty: none for every call.

    Returns:
        The steps; and for each step the number of follow-ups, as in
        :attr:`~orch_env.types.Task.after_followup`, empty where there are none.
    """
    nodes = range(len(draw.rows))
    turns = list(turn_of) or [0] * len(draw.rows)
    depth: list[int] = []
    for node in nodes:
        read = [p for ref in draw.sources[node].values() for p in ref.producers()]
        depth.append(1 + max((depth[p] for p in read), default=0))
    order = sorted(nodes, key=lambda node: (turns[node], depth[node], node))
    number = {node: at for at, node in enumerate(order)}
    steps: dict[tuple[int, int], list[GoldCall]] = {}
    for node in order:
        row = corpus.rows[draw.rows[node]]
        refs = {p: ref for (at, p), ref in sorted(independent.items()) if at == node}
        refs |= {p: _numbered(ref, number) for p, ref in draw.sources[node].items()}
        producers = frozenset[int]().union(*(ref.producers() for ref in refs.values()))
        steps.setdefault((turns[node], depth[node]), []).append(
            GoldCall(
                row.tool,
                row.arguments,
                depends_on=tuple(sorted(producers)),
                provenance=dict(sorted(refs.items())),
                response=row.digest,
            )
        )
    after = tuple(turn for turn, _ in steps) if any(turns) else ()
    return tuple(map(tuple, steps.values())), after


def _numbered(ref: ValueRef, number: Mapping[int, int]) -> ValueRef:
    """A source whose calls are numbered as gold is."""
    call = None if ref.call is None else number[ref.call]
    parts = tuple(_numbered(part, number) for part in ref.parts)
    return replace(ref, call=call, parts=parts)
