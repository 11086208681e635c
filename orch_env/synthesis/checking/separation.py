"""Whether splits are apart: by workflow, entity, recorded call and wording."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from orch_env.provenance.evidence import argument_leaves
from orch_env.provenance.information import folded, is_temporal
from orch_env.synthesis.checking.ngrams import ngrams_of
from orch_env.types import Provenance, Task
from orch_env.types.json import JsonObject
from orch_env.values import call_key

NGRAM = 13
"""Words in a run that two splits may not share."""


def entities_of(task: Task) -> frozenset[str]:
    """What a task is about: as its metadata says, else the names that its gold calls say."""
    stored = task.metadata.get("entities")
    if isinstance(stored, list):
        return frozenset(map(str, stored))
    return frozenset(
        folded(value)
        for call in task.gold_calls
        for pointer, value in argument_leaves(call.arguments)
        if isinstance(value, str)
        and any(c.isupper() for c in value)
        and not is_temporal(value)
        and not value.isupper()
        and (ref := call.provenance.get(pointer)) is not None
        and ref.kind in (Provenance.QUERY, Provenance.REASONED)
    )


def calls_of(tasks: Iterable[Task]) -> set[bytes]:
    """The calls of tasks' gold."""
    return {call_key(c.name, c.arguments, None) for t in tasks for c in t.gold_calls}


def separation(splits: Mapping[str, Sequence[Task]]) -> JsonObject:
    """What every two splits share.

    Returns:
        ``{"train / test": {templates, entities, calls, ngrams, texts}}``: numbers of shared ones.
    """
    templates = {name: {str(t.metadata.get("template")) for t in ts} for name, ts in splits.items()}
    entities = {name: {e for t in ts for e in entities_of(t)} for name, ts in splits.items()}
    calls = {name: calls_of(ts) for name, ts in splits.items()}
    texts = {name: {folded(t.query) for t in ts} for name, ts in splits.items()}
    runs = {name: ngrams_of(ts, NGRAM) for name, ts in splits.items()}
    known = {name: found - {"None"} for name, found in templates.items()}
    return {
        f"{one} / {other}": {
            "templates": len(known[one] & known[other]),
            "entities": len(entities[one] & entities[other]),
            "calls": len(calls[one] & calls[other]),
            "texts": len(texts[one] & texts[other]),
            "ngrams": len(runs[one] & runs[other]),
        }
        for one, other in combinations(splits, 2)
    }


def is_apart(report: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether no two splits share a workflow, an entity, a text or a run of words."""
    return all(
        pair[what] == 0
        for pair in report.values()
        for what in ("templates", "entities", "texts", "ngrams")
    )


def against_benchmark(tasks: Sequence[Task], benchmark: Sequence[Task]) -> JsonObject:
    """What tasks share with a named benchmark, counted.

    Returns:
        ``{tasks, calls, calls_shared, entities_shared, ngrams, texts}``: tasks of the benchmark,
        distinct calls of ours, and how many of ours the benchmark has.
    """
    ours, theirs = calls_of(tasks), calls_of(benchmark)
    own = {e for t in tasks for e in entities_of(t)}
    other = {e for t in benchmark for e in entities_of(t)}
    return {
        "tasks": len(benchmark),
        "calls": len(ours),
        "calls_shared": len(ours & theirs),
        "entities": len(own),
        "entities_shared": len(own & other),
        "ngrams": len(ngrams_of(tasks, NGRAM) & ngrams_of(benchmark, NGRAM)),
        "texts": len({folded(t.query) for t in tasks} & {folded(t.query) for t in benchmark}),
    }
