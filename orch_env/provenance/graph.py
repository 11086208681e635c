"""Gold calls made of traces and sources, and the size of a task's dependency graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from orch_env.provenance.trace import Trace
from orch_env.types import GoldCall, Provenance, ValueRef


def gold_steps(
    trace: Trace, sources: Sequence[Mapping[str, ValueRef]], responses: Sequence[str | None]
) -> tuple[tuple[GoldCall, ...], ...]:
    """Build a task's gold steps.

    Args:
        trace: the recorded calls.
        sources: for each call, argument pointer -> source.
        responses: for each call, the digest of its recorded variant, or ``None``.
    """
    number, steps = 0, []
    for step in trace.steps:
        calls = []
        for call in step:
            refs = sources[number]
            producers = frozenset[int]().union(*(r.producers() for r in refs.values()))
            calls.append(
                GoldCall(
                    call.name,
                    call.arguments,
                    depends_on=tuple(sorted(producers)),
                    provenance=refs,
                    response=responses[number],
                )
            )
            number += 1
        steps.append(tuple(calls))
    return tuple(steps)


def graph_size(gold: Sequence[Sequence[GoldCall]]) -> dict[str, int]:
    """Size of a dependency graph.

    Returns:
        ``calls``; ``depth``: calls on the longest chain of dependencies; ``width``: most calls at
        the same depth; ``edges``: values read from earlier outputs (each piece of a composite
        counts) plus dependencies that carry no value.
    """
    flat = [call for step in gold for call in step]
    levels: list[int] = []
    for call in flat:
        levels.append(1 + max((levels[i] for i in call.depends_on), default=0))
    edges = sum(
        sum(_outputs(ref) for ref in call.provenance.values()) + len(call.state_dependencies())
        for call in flat
    )
    return {
        "calls": len(flat),
        "depth": max(levels, default=0),
        "width": max(Counter(levels).values(), default=0),
        "edges": edges,
    }


def count_sources(calls: Iterable[GoldCall]) -> dict[str, int]:
    """Kind of source -> number of argument leaves; every kind is present."""
    counts = Counter(ref.kind for call in calls for ref in call.provenance.values())
    order = ("output", "query", "composite", "reasoned", "constant")
    return {kind: counts[Provenance(kind)] for kind in order}


def _outputs(ref: ValueRef) -> int:
    """Number of values read from outputs."""
    return (ref.call is not None) + sum(_outputs(part) for part in ref.parts)
