"""Runs a whole job: the one call behind `orch synth run` and `orch synth sample`."""

from __future__ import annotations

from orch_env.synthesis.pipeline.config import SynthesisConfig
from orch_env.synthesis.pipeline.job import Job, Progress
from orch_env.synthesis.pipeline.report import write_report
from orch_env.types.json import JsonObject


def run_job(config: SynthesisConfig, progress: Progress | None = None) -> tuple[Job, JsonObject]:
    """Do what is missing of a job, and write its task files, its card and its report.

    Returns:
        The job, and its report as in ``report.json``.

    Raises:
        OrchError: a file is missing or damaged, nothing of the wanted shape can be made, or the
            folder holds another job.
    """
    job = Job(config)
    return job, job.run(write_report, progress)
