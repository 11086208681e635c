"""Pieces of a job in this machine's processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread

from orch_env.synthesis.pipeline.config import SynthesisConfig
from orch_env.synthesis.pipeline.job import Job, Piece
from orch_env.types import OrchError
from orch_env.types.json import JsonObject


def run_locally(job: Job, pieces: Sequence[Piece]) -> Iterator[None]:
    """Do pieces in worker processes, or in this one where one is enough.

    Raises:
        OrchError: a worker process was ended from outside.
    """
    workers = min(job.config.processes or os.cpu_count() or 1, len(pieces))
    if workers <= 1:
        for piece in pieces:
            job.do(piece)
            yield
        return
    with ProcessPoolExecutor(
        workers, get_context("spawn"), _start, (job.config.model_dump(mode="json"),)
    ) as pool:
        waiting = [pool.submit(_do_in_worker, piece) for piece in pieces]
        try:
            for future in as_completed(waiting):
                future.result()
                yield
        except BrokenProcessPool as problem:
            raise OrchError(
                "a worker process was ended from outside, for lack of memory perhaps; what was "
                "made is kept: run the command again, with fewer `processes`"
            ) from problem
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_WORKER: list[Job] = []


def _start(config: JsonObject) -> None:
    # A worker whose parent was killed would wait for work for ever.
    Thread(target=_end_with_parent, daemon=True).start()
    _WORKER[:] = [Job(SynthesisConfig.model_validate(config))]


def _do_in_worker(piece: Piece) -> None:
    [job] = _WORKER
    job.do(piece)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
