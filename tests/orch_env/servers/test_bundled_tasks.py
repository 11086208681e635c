"""The bundled data set over the servers: what it holds still happens on the servers as they are."""

from __future__ import annotations

from collections import Counter

import pytest

from orch_env.backends.local import LocalBackend
from orch_env.importers.validation import validate_tasks
from orch_env.tasks.files import load_tasks
from orch_env.types import Task
from tools.server_tasks.build import BUNDLED, BUNDLED_TASKS, FIVE


@pytest.mark.parametrize("split", BUNDLED_TASKS)
def test_every_split_is_spread_evenly_over_the_servers(split: str) -> None:
    tasks = load_tasks(f"servers/{split}")
    share = BUNDLED_TASKS[split] // len(FIVE)
    assert Counter(task.servers for task in tasks) == {(name,): share for name in FIVE}


def test_no_world_of_a_held_out_task_was_trained_on() -> None:
    worlds = [{(t.servers, t.seed) for t in load_tasks(f"servers/{s}")} for s in BUNDLED_TASKS]
    assert not worlds[0] & worlds[1]


def test_gold_of_every_template_still_replays() -> None:
    """A change to a world makes the data set stale: `make bundled` builds it again."""
    first: dict[str, Task] = {}
    for task in load_tasks("servers"):
        first.setdefault(task.id.rsplit("-", 2)[0], task)
    assert {name.replace("-", "/", 1) for name in first} == set(BUNDLED)
    assert validate_tasks(list(first.values()), LocalBackend())["failures"] == []
