"""Make a task file from the natural chains of stateful servers.

    python -m tools.server_tasks.build --servers banking,vehicle --count 300 --out tasks.jsonl

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
TRIES = 40
"""Draws of a chain in its worlds before it is given up for a task."""
HELDOUT_WORLDS = 1_000_000
"""Seeds of worlds from here on are the held-out split's."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which tasks are made.

    Attributes:
        servers: their chains are used in turn.
        fewest: calls of a chain at least.
        most: calls of a chain at most.
        max_result: characters of every result at most, ``None`` for any; small models need it.
        distractors: further tools of the server that a task offers; ``None`` for all of them.
        seed: of the draws.
    """

    servers: Sequence[str] = FIVE
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
    left = dict(templates_of(server).chains)
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


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--servers", default=",".join(FIVE), show_default=True, help="Whose chains to use.")
@click.option("--count", default=300, show_default=True, help="Tasks of the training split.")
@click.option("--heldout", default=100, show_default=True, help="Tasks of the held-out split.")
@click.option("--calls", default="1:9", show_default=True, help="Calls of a chain, as LEAST:MOST.")
@click.option("--max-result", type=int, help="Leave out chains with a result of more characters.")
@click.option("--distractors", type=int, help="Other tools a task offers [default: all].")
@click.option("--seed", default=0, show_default=True, help="Seed of the draws.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Task file."
)
def main(
    servers: str,
    count: int,
    heldout: int,
    calls: str,
    max_result: int | None,
    distractors: int | None,
    seed: int,
    out: Path,
) -> None:
    """Make tasks from the natural chains of stateful servers."""
    fewest, _, most = calls.partition(":")
    choice = Choice(
        tuple(servers.split(",")), int(fewest), int(most), max_result, distractors, seed
    )
    tasks = [*make_tasks(choice, "train", count), *make_tasks(choice, "heldout", heldout)]
    save_tasks(tasks, out)
    click.echo(f"{out}: {count} train and {heldout} held-out tasks")


if __name__ == "__main__":
    main()
