"""What a set of tasks holds, in numbers: sizes, balance, and whether metadata tell the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orch_env.provenance import count_sources, graph_size
from orch_env.synthesis.checking.separation import entities_of
from orch_env.types import Task
from orch_env.types.json import JsonObject

_MEASURED = ("calls", "depth", "width", "edges")


def size_mismatches(tasks: Sequence[Task]) -> list[str]:
    """Ids of the tasks whose metadata differ from the size of their own gold."""
    return [
        task.id
        for task in tasks
        if any(task.metadata.get(k) != graph_size(task.gold)[k] for k in _MEASURED)
    ]


def counts_of(tasks: Sequence[Task]) -> JsonObject:
    """Counts of a set of tasks.

    Returns:
        ``{tasks, calls, depth, width, edges, domains, splits, templates, turns, tools,
        most_frequent_entities, largest_entity_share, repeated_calls, provenance}``; sizes are
        value -> number of tasks.
    """
    sizes = [graph_size(task.gold) for task in tasks]
    entities = Counter(e for task in tasks for e in entities_of(task))
    tools = Counter(c.name for task in tasks for c in task.gold_calls)
    repeated = sum(
        len({str((c.name, c.arguments)) for c in t.gold_calls}) < len(t.gold_calls) for t in tasks
    )
    common = entities.most_common(10)
    return {
        "tasks": len(tasks),
        **{
            name: {str(n): count for n, count in sorted(Counter(s[name] for s in sizes).items())}
            for name in _MEASURED
        },
        "domains": _counted(task.metadata.get("domains") for task in tasks),
        "splits": _counted(task.metadata.get("split") for task in tasks),
        "templates": len({task.metadata.get("template") for task in tasks} - {None}),
        "turns": _counted(1 + len(task.followups) for task in tasks),
        "tools": dict(sorted(tools.items())),
        "most_frequent_entities": dict(common),
        "largest_entity_share": round(common[0][1] / len(tasks), 4) if common else 0.0,
        "repeated_calls": repeated,
        "provenance": count_sources(c for task in tasks for c in task.gold_calls),
    }


def _counted(values: object) -> dict[str, int]:
    found = Counter(str(v) for v in values if v is not None)  # type: ignore[attr-defined]
    return dict(sorted(found.items()))
