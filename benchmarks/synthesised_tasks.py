"""Tasks for benchmarks of learning, made as ``orch synth run`` makes them; what they are like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from orch_env import load_tasks
from orch_env.cache import ResponseCache
from orch_env.types import GoldCall, Task
from orch_env.types.json import Json, parse_json

LONGEST, CANDIDATES = 900, 2
"""A result that the reader model can read: characters, and candidates in a list."""


def synthesised(
    job: Path, folder: Path, overrides: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """Make the tasks that a synthesis job describes, or read them.

    Returns:
        What there is of them, for the report; and the settings of training that name them.
    """
    from orch_env.synthesis.pipeline.config import load_config
    from orch_env.synthesis.pipeline.job import Job
    from orch_env.synthesis.pipeline.report import write_report
    from orch_env.synthesis.pipeline.source import open_source

    config = load_config(job, [*overrides, f"out={folder}", "processes=1"])
    made = Job(config).run(write_report)
    path, cache = folder / "tasks.jsonl", open_source(config.source.cache)
    tasks = load_tasks(path)
    splits: dict[str, Any] = {}
    for split in config.splits:
        mine = [t for t in tasks if t.metadata["split"] == split]
        splits[split] = {
            "tasks": len(mine),
            "templates": len(templates_of(mine)),
            "calls": dict(sorted(Counter(len(t.gold_calls) for t in mine).items())),
            "within_reach": within_reach(mine, cache),
        }
    trained, *held_out = [[t for t in tasks if t.metadata["split"] == s] for s in splits]
    shared = sum(len(templates_of(trained) & templates_of(other)) for other in held_out)
    new = set[tuple[str, str]]().union(*map(links_of, held_out)) - links_of(trained)
    data = {
        "job": config.identity(),
        "stages": made["stages"],
        "splits": splits,
        "shared_templates": shared,
        "new_links": sorted(map(list, new)),
    }
    named = [f"environment.env_config.tasks={path}", f"evaluation.tasks={path}"]
    return data, named


def templates_of(tasks: Iterable[Task]) -> set[str]:
    """The workflows of some tasks."""
    return {str(t.metadata["template"]) for t in tasks}


def links_of(tasks: Iterable[Task]) -> set[tuple[str, str]]:
    """(Producing tool, reading tool) of every dependency in some tasks' gold."""
    return {
        (task.gold_calls[producer].name, call.name)
        for task in tasks
        for call in task.gold_calls
        for producer in call.depends_on
    }


def within_reach(tasks: Sequence[Task], cache: ResponseCache) -> float:
    """Share of the tasks in which every result is short and has few candidates."""
    readable = [all(_is_readable(call, cache) for call in task.gold_calls) for task in tasks]
    return sum(readable) / len(readable)


def _is_readable(call: GoldCall, cache: ResponseCache) -> bool:
    digest = bytes.fromhex(call.response) if call.response else None
    found = cache.get_variant(cache.key(call.name, call.arguments), digest)
    return (
        found is not None
        and len(found.text) <= LONGEST
        and _longest_list(parse_json(found.text, None)) <= CANDIDATES
    )


def _longest_list(value: Json) -> int:
    if isinstance(value, dict):
        return max(map(_longest_list, value.values()), default=0)
    if isinstance(value, list):
        return max([len(value), *map(_longest_list, value)])
    return 0
