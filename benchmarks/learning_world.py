"""The learning gate's world: five tools of a large harbour, and tasks over them, from a seed.

A task names a ship and asks for its cargo, its crane or its permit: two or three calls, of which
each but the first needs an id that only the one before it gives. Two decisions matter. No ship is
named by two tasks, in training or elsewhere: a model that is shown the same few hundred names
again and again remembers names instead of copying them, and fails on those it never saw. And no
step is right by habit: half of the tasks go on with the berth and half with the cargo. (Where one
way is right for two tasks of three, reinforcement makes it a habit before the request is read, and
then nothing samples the other way again.)
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import cast

from orch_env import Task, save_tasks
from orch_env.cache import ResponseCache, open_cache
from orch_env.provenance import graph_size
from orch_env.servers.domains.harbour import Harbour
from orch_env.servers.framework.session import ServerSession
from tools.harbour_world.workflow import Workflow, run_workflow
from tools.harbour_world.workflows import WORKFLOWS

KINDS = ("cargo", "crane", "permit", "crane")
"""In turn; the crane twice, as the only kind that asks for the berth."""


class LargeHarbour(Harbour):
    """Five look-ups, and enough ships for every task to name one of its own."""

    num_ships = 3000

    # A server offers the tools that stand in its own class.
    find_ship = Harbour.find_ship
    ship_berth = Harbour.ship_berth
    ship_cargo = Harbour.ship_cargo
    berth_crane = Harbour.berth_crane
    cargo_permit = Harbour.cargo_permit


def make_world(seed: int, folder: Path, sizes: dict[str, int]) -> dict[str, str]:
    """Write the recorded responses and the tasks of all splits.

    Args:
        seed: of the world (names, ids, who carries what) and of the sampling.
        folder: where to; made if it is missing, an earlier world in it is written over.
        sizes: tasks of each split; together at most as many as there are ships.

    Returns:
        ``tasks`` and ``cache`` for the environment; ``metadata.split`` names a task's split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tasks, responses = folder / "tasks.jsonl.gz", folder / "cache.db"
    responses.unlink(missing_ok=True)
    # No tool changes anything, so one session serves everything.
    session = ServerSession(LargeHarbour, seed)
    names = [ship.name for ship in cast(LargeHarbour, session.server).ships.values()]
    Random(f"learning world/{seed}").shuffle(names)
    unused = iter(names)
    with open_cache(responses, write=True) as cache:
        for tool in LargeHarbour.tools.values():
            cache.put_tool(tool.spec)
        made = [
            task
            for split, size in sizes.items()
            for task in _tasks(session, cache, list(itertools.islice(unused, size)), split)
        ]
    save_tasks(made, tasks)
    return {"tasks": str(tasks), "cache": str(responses)}


def _tasks(
    session: ServerSession, cache: ResponseCache, ships: list[str], split: str
) -> list[Task]:
    workflows = {workflow.name: workflow for workflow in WORKFLOWS}
    tasks: list[Task] = []
    for number, (ship, kind) in enumerate(zip(ships, itertools.cycle(KINDS), strict=False)):
        _record_look_ups(session, cache, ship)
        phrase = number // len(KINDS) % len(workflows[kind].phrases)
        task_id = f"{split}-{number:04d}"
        tasks.append(_task(session, cache, workflows[kind], ship, phrase, split, task_id))
    return tasks


def _record_look_ups(session: ServerSession, cache: ResponseCache, ship: str) -> None:
    """All that can be found out about a ship, whether its task asks for it or not."""

    def ask(tool: str, key: str, value: str) -> dict[str, str]:
        result = session.call(tool, {key: value})
        cache.put(tool, {key: value}, result.text, is_error=False)
        return cast(dict[str, str], json.loads(result.text))

    found = ask("find_ship", "name", ship)["ship"]
    ask("berth_crane", "berth", ask("ship_berth", "ship", found)["berth"])
    ask("cargo_permit", "cargo", ask("ship_cargo", "ship", found)["cargo"])


def _task(
    session: ServerSession,
    cache: ResponseCache,
    workflow: Workflow,
    ship: str,
    phrase: int,
    split: str,
    task_id: str,
) -> Task:
    trace = run_workflow(workflow, {"ship": ship}, session.call)
    results = iter(trace.results)
    gold = tuple(
        tuple(
            replace(
                call,
                response=cache.put(call.name, call.arguments, next(results).text, is_error=False),
            )
            for call in step
        )
        for step in trace.gold
    )
    return Task(
        id=task_id,
        messages=({"role": "user", "content": workflow.phrases[phrase].format(ship=ship)},),
        tools=tuple(LargeHarbour.tools),
        gold=gold,
        today=Harbour.epoch,
        metadata={
            "split": split,
            "domain": workflow.name,
            "template": f"{workflow.name}/{phrase}",
            **graph_size(gold),
        },
    )
