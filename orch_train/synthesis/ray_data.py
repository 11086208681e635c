"""Large synthesis jobs on a Ray cluster: the pieces of a job as a Ray Data pipeline.

Every node reads the cache and the job's folder by the same paths, so both belong on shared storage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import ray
import ray.data

from orch_env.synthesis.pipeline.config import SynthesisConfig
from orch_env.synthesis.pipeline.job import Job, Piece


class _Worker:
    """Reads the corpus once, then does pieces; one in each actor of the pipeline."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._job = Job(SynthesisConfig.model_validate(config))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        piece = Piece(str(row["kind"]), str(row["split"]), int(row["number"]), int(row["count"]))
        self._job.do(piece)
        return {"piece": piece.name}


def run_on_ray(job: Job, pieces: Sequence[Piece]) -> Iterator[None]:
    """Do pieces of a job with Ray Data.

    It joins the cluster that ``RAY_ADDRESS`` names, or starts one on this machine.

    Args:
        job: the job; its folder and its cache are read from every node.
        pieces: what is missing.
    """
    if not pieces:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    cores = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
    workers = max(1, min(job.config.processes or cores, cores, len(pieces)))
    rows = ray.data.from_items([asdict(piece) for piece in pieces], override_num_blocks=len(pieces))
    worker: Any = _Worker  # the stubs of `map` know functions only
    done = rows.map(
        worker, fn_constructor_args=(job.config.model_dump(mode="json"),), concurrency=workers
    )
    for _ in done.iter_rows():
        yield
