"""The real Booking tasks as worlds: each gold call answers what was recorded for it."""

from __future__ import annotations

from pathlib import Path

from orch_env import open_cache
from orch_env.backends.replay import ReplayBackend
from orch_env.importers import import_tasks, read_source
from tests.orch_env.reward_world import World

SOURCE = Path("complexfuncbench") / "ComplexFuncBench.public.jsonl.gz"


def booking_worlds(shared_data: Path, folder: Path) -> list[World]:
    """All tasks of the public benchmark, with whole tool specs as the environment gives them.

    Args:
        shared_data: where the third-party data lies.
        folder: an empty folder for the cache that the import makes.
    """
    worlds = []
    with open_cache(folder / "booking.db", write=True) as cache:
        backend = ReplayBackend(cache)
        for task in import_tasks(read_source(shared_data / SOURCE), cache).tasks:
            texts = []
            for call in task.gold_calls:
                found = cache.get_variant(
                    cache.key(call.name, call.arguments), bytes.fromhex(call.response or "")
                )
                assert found is not None
                texts.append(found.text)
            worlds.append(World(backend.resolve(task), tuple(texts)))
    return worlds
