"""What a job writes in the end: task files, the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orch_env.synthesis.checking.coverage import counts_of, size_mismatches
from orch_env.synthesis.checking.separation import against_benchmark, is_apart, separation
from orch_env.synthesis.pipeline.card import write_card
from orch_env.tasks.files import load_tasks, save_tasks, write_whole
from orch_env.types.json import JsonObject
from orch_env.types.text import readable_json

if TYPE_CHECKING:
    from orch_env.synthesis.pipeline.job import Job
    from orch_env.synthesis.pipeline.workshop import Workshop


def write_report(job: Job, workshop: Workshop) -> JsonObject:
    """Write the task files, the card and ``report.json``, which marks the job as finished."""
    splits = job.tasks()
    for split, tasks in splits.items():
        save_tasks(tasks, job.folder / f"tasks-{split}.jsonl")
    everything = [task for tasks in splits.values() for task in tasks]
    save_tasks(everything, job.folder / "tasks.jsonl")
    shared = separation(splits)
    counts = counts_of(everything)
    corpus, cached = workshop.corpus, workshop.corpus.cache.stats()
    benchmark = job.config.source.exclude_benchmark or job.config.source.traces
    report: JsonObject = {
        "tasks": len(everything),
        "splits": {name: len(tasks) for name, tasks in splits.items()},
        "wanted": dict(job.config.splits),
        "stages": job.stages(),
        "path": str(job.folder / "tasks.jsonl"),
        "counts": counts,
        "shared_by_splits": shared,
        "disjoint": is_apart(shared),
        "benchmark": against_benchmark(everything, load_tasks(benchmark)) if benchmark else None,
        "unused_tools": sorted(set(corpus.tools) - set(counts["tools"])),
        "size_mismatches": size_mismatches(everything),
        "cache": {"name": job.config.source.cache, **cached},
        "recorded_calls": len(corpus.rows),
        "recorded_errors": corpus.errors,
        "excluded_calls": cached["responses"] - corpus.errors - len(corpus.rows),
    }
    write_card(job, workshop, report)
    write_whole((readable_json(report, indent=1) + "\n").encode(), job.folder / "report.json")
    return report
