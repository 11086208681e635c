"""Make a task file from the natural chains of stateful servers.

    python -m tools.server_tasks.build --servers banking,vehicle --count 300 --out tasks.jsonl
    python -m tools.server_tasks.build --bundled orch_env/data/servers

Every task is a chain that was run on the live server: its gold, dependencies and final state are
what happened. Tasks of the two splits are drawn from different worlds, so that no entity of one is
in the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from orch_env.backends.local import LocalSession
from orch_env.provenance.graph import graph_size
from orch_env.servers import Chance, Clock, ServerSession, server_type
from orch_env.tasks.files import save_tasks
from orch_env.types import OrchError, Task
from tools.server_tasks.chains import Chain, Maker, run_chain, templates_of

FIVE = ("banking", "calendar", "filesystem", "shopping", "vehicle")
BUNDLED = (
    "banking/confirm_by_letter",
    "banking/freeze_account",
    "banking/new_payee",
    "calendar/answer_by_day",
    "calendar/answer_invitation",
    "filesystem/amount_of_an_invoice",
    "filesystem/link_to_the_price_list",
    "filesystem/remove_the_empty_folder",
    "filesystem/sums_of_a_file_behind_a_link",
    "shopping/add_goods",
    "shopping/forget_a_wish",
    "shopping/stop_an_order",
    "vehicle/everybody_in",
    "vehicle/high_beam",
    "vehicle/switch_on",
    "vehicle/two_climates",
)
"""Chains of the bundled data set: two or three calls with short results, for a small model."""
BUNDLED_TASKS = {"train": 300, "heldout": 100}
TRIES = 40
"""Draws of a chain in its worlds before it is given up for a task."""
HELDOUT_WORLDS = 1_000_000
"""Seeds of worlds from here on are the held-out split's."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which tasks are made.

    Attributes:
        servers: their chains are used in turn.
        chains: only these, as ``server/chain``; ``None`` for all.
        fewest: calls of a chain at least.
        most: calls of a chain at most.
        max_result: characters of every result at most, ``None`` for any; small models need it.
        distractors: further tools of the server that a task offers; ``None`` for all of them.
        seed: of the draws.
    """

    servers: Sequence[str] = FIVE
    chains: Sequence[str] | None = None
    fewest: int = 1
    most: int = 9
    max_result: int | None = None
    distractors: int | None = None
    seed: int = 0


def make_tasks(choice: Choice, split: str, count: int) -> list[Task]:
    """Tasks of one split, spread evenly over the servers and their chains.

    Raises:
        OrchError: no chain fits the choice.
    """
    queues = [_chains_in_turn(name, choice, split) for name in choice.servers]
    tasks: list[Task] = []
    while len(tasks) < count:
        for queue in queues:
            if len(tasks) < count:
                tasks.append(next(queue))
    return tasks


def _chains_in_turn(server: str, choice: Choice, split: str) -> Iterator[Task]:
    """Tasks of one server without end, from each fitting chain in turn."""
    left = {
        name: maker
        for name, maker in templates_of(server).chains.items()
        if choice.chains is None or f"{server}/{name}" in choice.chains
    }
    number = 0
    while left:
        for name, maker in list(left.items()):
            task = _make(server, name, maker, choice, split, number)
            if task is None:
                del left[name]
            else:
                yield task
        number += 1
    raise OrchError(f"no chain of {server!r} fits these sizes")


def task_of(server: str, maker: Maker, choice: Choice, task_id: str, world: int) -> Task:
    """The task of one chain in one world; the chain is drawn until it fits.

    Args:
        server: a known server's name.
        maker: makes the chain.
        choice: how many other tools the task offers, and the seed of the draws.
        task_id: the task's id.
        world: the world's seed.

    Raises:
        OrchError: no draw fits.
    """
    kind = server_type(server)
    for attempt in range(TRIES):
        session = ServerSession(kind, world, clock=Clock(kind.epoch))
        chance = Chance(json.dumps([choice.seed, task_id, world, attempt]))
        made = maker(session.server, chance)
        task = None if made is None else _task_of(made, session, chance, choice, task_id)
        if task is not None:
            return task
    raise OrchError(f"no draw of {task_id!r} fits world {world} of {server!r}")


def _make(
    server: str, name: str, maker: Maker, choice: Choice, split: str, number: int
) -> Task | None:
    kind = server_type(server)
    for attempt in range(TRIES):
        chance = Chance(json.dumps([choice.seed, server, name, split, number, attempt]))
        world = chance.between(0, HELDOUT_WORLDS // 100)
        world += HELDOUT_WORLDS if split == "heldout" else 0
        session = ServerSession(kind, world, clock=Clock(kind.epoch))
        made = maker(session.server, chance)
        if made is None or not choice.fewest <= len(made.calls) <= choice.most:
            continue
        task = _task_of(made, session, chance, choice, f"{server}/{name}")
        if task is not None:
            metadata = task.metadata | {"split": split}
            return _named(task, f"{server}-{name}-{split}-{number:03d}", metadata)
    return None


def _named(task: Task, task_id: str, metadata: dict[str, object]) -> Task:
    return Task.from_dict({**task.to_dict(), "id": task_id, "metadata": metadata})


def _task_of(
    made: Chain, session: ServerSession, chance: Chance, choice: Choice, template: str
) -> Task | None:
    """The task of a chain in its world; ``None`` where a call fails or a result is too long."""
    trace = run_chain(made, session)
    if not trace.succeeded:
        return None
    if choice.max_result is not None and any(
        len(result.text) > choice.max_result for result in trace.results
    ):
        return None
    server = session.server
    used = tuple(dict.fromkeys(call.tool for call in made.calls))
    others = [tool for tool in server.tools if tool not in used]
    if choice.distractors is not None:
        others = chance.draw(others, min(choice.distractors, len(others)))
    tools = [tool for tool in server.tools if tool in {*used, *others}]
    played = LocalSession({server.name: session}, {})
    return Task(
        id=template,
        messages=({"role": "user", "content": made.query},),
        tools=tuple(chance.shuffled(tools)),
        gold=trace.gold,
        today=server.epoch,
        servers=(server.name,),
        seed=server.seed,
        final_state=played.final_state(),
        metadata={
            "domain": server.name,
            "template": template,
            "created": list(played.created()),
            **graph_size(trace.gold),
        },
    )


def build_bundled(out: Path) -> None:
    """Write the bundled data set: all tasks, and a file for each split; always the same bytes."""
    choice = Choice(chains=BUNDLED, distractors=2)
    splits = {name: make_tasks(choice, name, count) for name, count in BUNDLED_TASKS.items()}
    out.mkdir(parents=True, exist_ok=True)
    save_tasks([task for tasks in splits.values() for task in tasks], out / "tasks.jsonl.gz")
    for name, tasks in splits.items():
        save_tasks(tasks, out / f"tasks-{name}.jsonl.gz")


def _known_chains(names: Sequence[str]) -> Sequence[str]:
    """The names as they are, each of a chain that exists."""
    known = [f"{server}/{chain}" for server in FIVE for chain in templates_of(server).chains]
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(
            f"--chains: no chain {unknown[0]!r}; chains are SERVER/CHAIN, as {known[0]!r}"
        )
    return names


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--servers", default=",".join(FIVE), show_default=True, help="Whose chains to use.")
@click.option("--chains", help="Only these, as SERVER/CHAIN,...  [default: all]")
@click.option("--count", default=300, show_default=True, help="Tasks of the training split.")
@click.option("--heldout", default=100, show_default=True, help="Tasks of the held-out split.")
@click.option("--calls", default="1:9", show_default=True, help="Calls of a chain, as LEAST:MOST.")
@click.option("--max-result", type=int, help="Leave out chains with a result of more characters.")
@click.option("--distractors", type=int, help="Other tools a task offers [default: all].")
@click.option("--seed", default=0, show_default=True, help="Seed of the draws.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Task file.")
@click.option(
    "--bundled",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the bundled data set into this folder instead.",
)
def main(
    servers: str,
    chains: str | None,
    count: int,
    heldout: int,
    calls: str,
    max_result: int | None,
    distractors: int | None,
    seed: int,
    out: Path | None,
    bundled: Path | None,
) -> None:
    """Make tasks from the natural chains of stateful servers."""
    if bundled is not None:
        build_bundled(bundled)
        return
    if out is None:
        raise click.UsageError("give --out FILE, or --bundled FOLDER")
    fewest, _, most = calls.partition(":")
    chosen = _known_chains(chains.split(",")) if chains else None
    wanted = {name.partition("/")[0] for name in chosen or ()}
    names = [name for name in servers.split(",") if chosen is None or name in wanted]
    choice = Choice(names, chosen, int(fewest), int(most), max_result, distractors, seed)
    tasks = [*make_tasks(choice, "train", count), *make_tasks(choice, "heldout", heldout)]
    save_tasks(tasks, out)
    click.echo(f"{out}: {count} train and {heldout} held-out tasks")


if __name__ == "__main__":
    main()
