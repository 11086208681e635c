"""Build the bundled data set ``harbour``: a cache of recorded responses, and tasks over it.

    python -m tools.harbour_world.build --seed 0 --out orch_env/data/harbour

Every response is recorded from a fresh session of the real server: gold's calls, every look-up of
every ship and pilot, every change that makes sense for one ship, and a booking for each ship and
pilot that a task names together. So a policy that explores seldom reads "not recorded". The two
splits share no ship and no pilot.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import cast

import click

from orch_env.cache import ResponseCache, open_cache
from orch_env.provenance import graph_size
from orch_env.servers.domains.harbour import Harbour
from orch_env.servers.framework.session import ServerSession
from orch_env.tasks.files import save_tasks
from orch_env.types import Task, ToolResult
from orch_env.types.json import JsonObject
from tools.harbour_world.workflow import Workflow, run_workflow
from tools.harbour_world.workflows import WORKFLOWS

HELDOUT_SHARE = 0.25
"""Share of the ships, and of the pilots, that only held-out tasks name."""
TRAIN_TASKS, HELDOUT_TASKS = 960, 240
"""Tasks of each split, the same number of every kind."""


@dataclass(frozen=True, slots=True)
class Entities:
    """The names of ships and pilots that the tasks of one split use; no other split uses them."""

    ships: tuple[str, ...]
    pilots: tuple[str, ...]

    def draws(self, workflow: Workflow, random: Random) -> Iterator[dict[str, str]]:
        """Slot values for a workflow, without end; a name repeats only after all were drawn."""
        pools = {"ship": self.ships, "pilot": self.pilots}
        queues: dict[str, list[str]] = {slot: [] for slot in workflow.slots}
        while True:
            for slot, queue in queues.items():
                if not queue:
                    queue.extend(random.sample(pools[slot], len(pools[slot])))
            yield {slot: queue.pop() for slot, queue in queues.items()}


class Recorder:
    """Records what the real server answers. Each recording starts from a fresh session.

    Args:
        cache: a cache that is open for writing.
        seed: the world's seed.
    """

    def __init__(self, cache: ResponseCache, seed: int) -> None:
        self._cache = cache
        self._seed = seed

    def session(self) -> ServerSession:
        """A fresh session of the world."""
        return ServerSession(Harbour, self._seed)

    def call(self, session: ServerSession, tool: str, arguments: JsonObject) -> ToolResult:
        """Call a tool and record its result, a refusal too."""
        result = session.call(tool, arguments)
        self.keep(tool, arguments, result)
        return result

    def keep(self, tool: str, arguments: JsonObject, result: ToolResult) -> str:
        """Record a result and return its digest."""
        return self._cache.put(tool, arguments, result.text, is_error=result.error is not None)

    def record_look_ups(self) -> None:
        """Record every look-up, every change of one ship, and look-ups of names of wrong kind."""
        world = cast(Harbour, self.session().server)
        reads = self.session()
        for name in [*(s.name for s in world.ships.values()), *_pilot_names(world)]:
            self.call(reads, "find_ship", {"name": name})
            self.call(reads, "find_pilot", {"name": name})
        for ship in world.ships.values():
            for tool in ("ship_berth", "ship_cargo", "ship_agent"):
                self.call(reads, tool, {"ship": ship.id})
            berth, cargo = world.berths[ship.berth], world.cargoes[ship.cargo]
            self.call(reads, "berth_crane", {"berth": berth.id})
            self.call(reads, "cargo_permit", {"cargo": cargo.id})
            self.call(self.session(), "renew_permit", {"permit": cargo.permit})
            self.call(self.session(), "unload_cargo", {"cargo": cargo.id, "crane": berth.crane})
            self.call(self.session(), "notify_agent", {"agent": ship.agent, "berth": berth.id})

    def record_pairing(self, ship: str, pilot: str) -> None:
        """Record the booking of this pilot for this ship, and its confirmation."""
        session = self.session()
        ids: JsonObject = {
            "ship": _id_in(session.call("find_ship", {"name": ship}), "ship"),
            "pilot": _id_in(session.call("find_pilot", {"name": pilot}), "pilot"),
        }
        booked = self.call(session, "book_pilot", ids)
        if booked.error is None:
            self.call(session, "confirm_booking", {"booking": _id_in(booked, "booking")})


def build(seed: int, out: Path) -> dict[str, int]:
    """Write ``cache.db``, ``tasks.jsonl.gz`` and one task file per split; always the same bytes.

    Args:
        seed: seed of the world and of the sampling.
        out: folder; it is made if it is missing.

    Returns:
        Counts: tasks of each split, responses, bytes on disk.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "cache.db"
    partial = out / f".cache.{os.getpid()}.partial.db"
    try:
        with open_cache(partial, write=True) as cache:
            recorder = Recorder(cache, seed)
            for tool in Harbour.tools.values():
                # No recorded call changes anything, and the file keeps its digest.
                cache.put_tool(replace(tool.spec, read_only=None))
            recorder.record_look_ups()
            tasks = list(_sample_tasks(recorder, seed))
            responses = int(cache.stats()["responses"])
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    files = {"tasks.jsonl.gz": tasks}
    for split in ("train", "heldout"):
        files[f"tasks-{split}.jsonl.gz"] = [t for t in tasks if t.metadata["split"] == split]
    for name, chosen in files.items():
        save_tasks(chosen, out / name)
    return {
        "train": len(files["tasks-train.jsonl.gz"]),
        "heldout": len(files["tasks-heldout.jsonl.gz"]),
        "responses": responses,
        "bytes": sum((out / name).stat().st_size for name in ("cache.db", *files)),
    }


def split_entities(seed: int) -> dict[str, Entities]:
    """Divide the world's ships and pilots between the splits."""
    world = cast(Harbour, ServerSession(Harbour, seed).server)
    random = Random(f"harbour/splits/{seed}")
    divided = []
    for names in ([s.name for s in world.ships.values()], _pilot_names(world)):
        random.shuffle(names)
        cut = round(len(names) * HELDOUT_SHARE)
        divided.append((tuple(names[cut:]), tuple(names[:cut])))
    (train_ships, heldout_ships), (train_pilots, heldout_pilots) = divided
    return {
        "train": Entities(train_ships, train_pilots),
        "heldout": Entities(heldout_ships, heldout_pilots),
    }


def _sample_tasks(recorder: Recorder, seed: int) -> Iterator[Task]:
    entities = split_entities(seed)
    for split, wanted in (("train", TRAIN_TASKS), ("heldout", HELDOUT_TASKS)):
        for workflow in WORKFLOWS:
            random = Random(f"harbour/{split}/{workflow.name}/{seed}")
            draws = entities[split].draws(workflow, random)
            made = 0
            while made < wanted // len(WORKFLOWS):
                phrase = made % len(workflow.phrases)
                task_id = f"{workflow.name}-{split}-{made:03d}"
                task = _make_task(recorder, workflow, next(draws), phrase, task_id)
                if task is not None:
                    yield task.with_metadata(split=split)
                    made += 1


def _make_task(
    recorder: Recorder, workflow: Workflow, slots: Mapping[str, str], phrase: int, task_id: str
) -> Task | None:
    """A task with executed gold; ``None`` if the server refuses a call (a crane out of order)."""
    if "pilot" in slots:
        recorder.record_pairing(slots["ship"], slots["pilot"])
    trace = run_workflow(workflow, slots, recorder.session().call)
    if not trace.succeeded:
        return None
    results = iter(trace.results)
    gold = tuple(
        tuple(
            replace(call, response=recorder.keep(call.name, call.arguments, next(results)))
            for call in step
        )
        for step in trace.gold
    )
    text = workflow.phrases[phrase].format(**slots)
    return Task(
        id=task_id,
        messages=({"role": "user", "content": text},),
        tools=tuple(Harbour.tools),
        gold=gold,
        today=Harbour.epoch,
        metadata={
            "domain": workflow.name,
            "template": f"{workflow.name}/{phrase}",
            **graph_size(gold),
        },
    )


def _pilot_names(world: Harbour) -> list[str]:
    return [pilot.name for pilot in world.pilots.values()]


def _id_in(result: ToolResult, key: str) -> str:
    return str(json.loads(result.text)[key])


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", default=0, show_default=True, help="Seed of the world and the sampling.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder to write, such as orch_env/data/harbour.",
)
def main(seed: int, out: Path) -> None:
    """Record the harbour server into a cache and sample the tasks of the bundled data set."""
    counts = build(seed, out)
    click.echo(
        f"{out}: {counts['train']} train and {counts['heldout']} held-out tasks, "
        f"{counts['responses']} responses, {counts['bytes'] / 1e6:.2f} MB"
    )


if __name__ == "__main__":
    main()
