"""What a job writes in the end: task files, the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orch_env.tasks.files import save_tasks, write_whole
from orch_env.types.json import JsonObject
from orch_env.types.text import readable_json

if TYPE_CHECKING:
    from orch_env.synthesis.pipeline.job import Job
    from orch_env.synthesis.pipeline.workshop import Workshop


def write_report(job: Job, workshop: Workshop) -> JsonObject:
    """Write the tasks and ``report.json``, which marks the job as finished."""
    everything = []
    counts = {}
    for split in job.config.splits:
        tasks = job.tasks(split)
        counts[split] = len(tasks)
        save_tasks(tasks, job.folder / f"tasks-{split}.jsonl")
        everything += tasks
    save_tasks(everything, job.folder / "tasks.jsonl")
    report: JsonObject = {
        "tasks": len(everything),
        "splits": counts,
        "stages": job.stages(),
        "path": str(job.folder / "tasks.jsonl"),
        "cache": {"name": job.config.source.cache, **workshop.corpus.cache.stats()},
    }
    write_whole((readable_json(report, indent=1) + "\n").encode(), job.folder / "report.json")
    return report
