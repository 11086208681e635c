"""The workflows that recorded traces have."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from orch_env.synthesis.index import is_composite
from orch_env.synthesis.templates.growth import complete
from orch_env.synthesis.templates.joining import Joining
from orch_env.synthesis.templates.template import Edge, Template


@dataclass(frozen=True, slots=True)
class MinedTemplate:
    """A workflow with the traces that have it.

    Attributes:
        template: the workflow.
        traces: numbers of the traces.
    """

    template: Template
    traces: tuple[int, ...]


def templates_of(joining: Joining, why: Counter[str] | None = None) -> list[MinedTemplate]:
    """The workflows of all traces, isomorphic ones merged, the commonest first.

    Args:
        joining: the rules, over the corpus of the traces.
        why: counts why traces could not be read: ``literal_id`` (an argument that no person would
            type comes from no output), ``one_call``.
    """
    reasons: Counter[str] = Counter() if why is None else why
    traces: dict[str, list[int]] = defaultdict(list)
    templates: dict[str, Template] = {}
    for number, rows in enumerate(joining.index.corpus.trace_rows):
        template = template_of(joining, rows)
        if template is None:
            reasons["literal_id"] += 1
        elif len(template.tools) < 2:
            reasons["one_call"] += 1
        else:
            templates.setdefault(template.id, template)
            traces[template.id].append(number)
    ordered = sorted(traces, key=lambda t: (-len(traces[t]), t))
    return [MinedTemplate(templates[t], tuple(traces[t])) for t in ordered]


def template_of(joining: Joining, rows: tuple[int, ...]) -> Template | None:
    """The workflow of a trace; ``None`` if an untypable argument comes from no output."""
    index = joining.index
    edges: list[Edge] = []
    for child, row in enumerate(rows):
        needed = set(index.opaque(row))
        taken: set[str] = set()
        options = joining.feeding(row, frozenset(rows[:child]))
        while needed:
            fitting = [
                (len(needed & fed), attachment.support, -place, attachment, parents)
                for place, (attachment, parents) in enumerate(options)
                if not taken & (fed := {p for p, _ in attachment.pairs}) and needed & fed
            ]
            if not fitting:
                return None
            *_, attachment, parents = max(fitting, key=lambda option: option[:3])
            parent = next(n for n in range(child) if rows[n] in parents)
            edges.append(Edge(parent, child, attachment.pairs, is_composite(attachment)))
            taken |= {p for p, _ in attachment.pairs}
            needed -= taken
    tools = tuple(index.corpus.rows[row].tool for row in rows)
    edges.sort(key=lambda e: (e.parent, e.child, e.pairs))
    return complete(joining, tools, tuple(edges), rows)
