"""The real Booking tasks as worlds: each gold call answers what was recorded for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orch_env import Task, open_cache
from orch_env.backends.replay import ReplayBackend
from tests.orch_env.reward_world import World


def booking_worlds(tasks: Sequence[Task], db: Path) -> list[World]:
    """Tasks with whole tool specs, as the environment gives them to rewards.

    Args:
        tasks: imported tasks.
        db: the cache that they were imported with.
    """
    backend = ReplayBackend(open_cache(db))
    worlds = []
    for task in tasks:
        texts = []
        for call in task.gold_calls:
            key = backend.cache.key(call.name, call.arguments)
            found = backend.response(key, bytes.fromhex(call.response or ""))
            assert found is not None
            texts.append(found.text)
        worlds.append(World(backend.resolve(task), tuple(texts)))
    return worlds
