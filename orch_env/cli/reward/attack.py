"""``orch reward attack``: what rewards pay for degenerate policies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orch_env.cli.output import check_out, emit, json_option, next_command, say, table
from orch_env.cli.progress import progress_bar
from orch_env.types import OrchError

if TYPE_CHECKING:
    from orch_env.audit.attack import Progress
    from orch_env.audit.report import AttackReport, Cell
    from orch_env.audit.search import SearchReport
    from orch_env.backends.protocol import ToolBackend
    from orch_env.rewards.protocol import Reward
    from orch_env.types import Task

_EARLIER = '{"name": "graduated", "edition": 1}'
"""Attacked beside all presets."""
_WORST = 3
"""Exploits named in a reward's verdict."""

_EPILOG = """\b
Examples:
  orch reward attack --reward graduated --tasks harbour/heldout
  orch reward attack --reward all --tasks cfb.jsonl --cache booking.db --figure table.png
  orch reward attack --reward graduated --reward my_rewards:short --tasks harbour --limit 50
  orch reward attack --reward graduated --tasks harbour/heldout --limit 20 --search --out best.json

What is promised, in shares of what gold itself earns on a task: an exploit that knows nothing of
gold earns at most 0.35 and less than the first half of the gold calls (on tasks of at least 3 gold
calls); one that is built from gold earns less than gold, and at least 0.05 less if it makes more
extra calls than half the number of gold calls, or breaks the edges of one gold call in eight (and
of no fewer than one); one that guesses earns no more than the same episode without the guess; an
honest variation of gold earns at least 0.85, and more than the first half. Nothing is promised
about shallow policies. An exploit counts only on the tasks where its episode is worse than gold, an
honest variation only where it brings gold's own results.

--search tries what nobody thought of: on each task, and for each reward by itself, it plays
--search-episodes episodes, changes the best of them at random, and is told nothing but their
totals, as a model in training. One class of policies writes only what stands in the prompt and in
the tools' schemas; a second one also copies values out of results, which makes it a modest agent
and no exploit. Shown are the best-paid episodes that are worse than gold; --out keeps their calls.
One promise is checked: none of them earns as much as gold. The rest is measured. 20 tasks take
about half a minute for each reward."""


@click.command(epilog=_EPILOG)
@click.option(
    "--reward",
    "words",
    multiple=True,
    required=True,
    metavar="NAME",
    help="A preset, a JSON object {name, options}, module:function, or 'all' presets; repeatable.",
)
@click.option("--tasks", required=True, help="Task file, or the name of a bundled data set.")
@click.option("--cache", metavar="DB", help="Response cache; a bundled data set has its own.")
@click.option("--split", help="Only the tasks of this split.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N tasks.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the table as JSON here."
)
@click.option(
    "--figure", type=click.Path(dir_okay=False, path_type=Path), help="Draw the table as a PNG."
)
@click.option(
    "--search", is_flag=True, help="Also search for episodes that are overpaid; see below."
)
@click.option(
    "--search-episodes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Episodes per task, reward and class of the search (default 300).",
)
@click.option(
    "--search-seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Another seed finds other episodes (default 0).",
)
@json_option
def attack(
    words: tuple[str, ...],
    tasks: str,
    cache: str | None,
    split: str | None,
    limit: int | None,
    out: Path | None,
    figure: Path | None,
    search: bool,
    search_episodes: int | None,
    search_seed: int | None,
    as_json: bool,
) -> int:
    """Let degenerate policies play every task, and print what each reward pays for them.

    Each exploit plays each task once in the real environment, and all rewards score that same
    episode. In the table, *70% marks an exploit that earns at least as much as gold on 70% of the
    tasks where it is one.

    Exit code 1 if a reward breaks a promise (below) on any task: gold is then not the strict best,
    or too much is paid for knowing nothing.
    """
    from orch_env.audit import figures
    from orch_env.cli.reward.options import ALL, named_rewards
    from orch_env.rewards import PRESETS
    from orch_env.tasks.files import exists, write_lines

    for name, value in (("episodes", search_episodes), ("seed", search_seed)):
        if value is not None and not search:
            raise OrchError(f"--search-{name} says how to search: add --search")
    check_out(out, tasks, cache)
    check_out(figure, tasks, cache)
    if figure is not None:
        figures.require_matplotlib()
    rewards = named_rewards((*words, _EARLIER) if words == (ALL,) else words)
    report = run_attack(tasks, cache, rewards, split=split, limit=limit)
    result = report.to_dict()
    searched = None
    if search:
        given = {"episodes": search_episodes, "seed": search_seed}
        options = {name: value for name, value in given.items() if value is not None}
        searched = _run_search(tasks, cache, rewards, split=split, limit=limit, **options)
        result["search"] = searched.to_dict()
    if out is not None:
        write_lines([json.dumps(result, indent=1, allow_nan=False)], out)
    if figure is not None:
        figures.draw_attack(report, figure, Path(tasks).name if exists(tasks) else tasks)
    if as_json:
        emit(result, as_json=True)
    else:
        _show(report, tasks)
        if searched is not None:
            _show_search(searched)
    first = words[0] if words[0] in PRESETS else next(iter(PRESETS))
    next_command("reward", "show", first, why="what it is made of")
    return 0 if all(r.kept(label) for r in (report, searched) if r for label in rewards) else 1


def run_attack(
    tasks: str,
    cache: str | None,
    rewards: Mapping[str, Reward],
    *,
    split: str | None = None,
    limit: int | None = None,
) -> AttackReport:
    """Let the exploit suite play the tasks of a file or a bundled data set.

    Args:
        tasks: task file, or the name of a bundled data set.
        cache: response cache; ``None`` for the bundled one.
        rewards: label -> reward.
        split: play only the tasks of this split.
        limit: play only the first tasks, as many as this.
    """
    from orch_env.audit import attack as play_exploits

    with _opened(tasks, cache, split, limit) as (chosen, backend, progress):
        return play_exploits(chosen, backend, rewards, progress=progress)


def _run_search(
    tasks: str,
    cache: str | None,
    rewards: Mapping[str, Reward],
    *,
    split: str | None,
    limit: int | None,
    **options: int,
) -> SearchReport:
    """Search on the same tasks; the options are those of `orch_env.audit.search.search`."""
    from orch_env.audit.search import search

    with _opened(tasks, cache, split, limit) as (chosen, backend, progress):
        return search(chosen, backend, rewards, progress=progress, **options)


@contextmanager
def _opened(
    tasks: str, cache: str | None, split: str | None, limit: int | None
) -> Iterator[tuple[Sequence[Task], ToolBackend, Progress]]:
    """The tasks, what answers their calls, and a progress bar."""
    from orch_env.backends.open import make_backend
    from orch_env.tasks.selection import load_split

    loaded = load_split(tasks, split)
    backend = make_backend(tasks, cache, loaded)
    try:
        with progress_bar() as progress:
            yield loaded[:limit], backend, progress
    finally:
        backend.close()


def _show(report: AttackReport, tasks: str) -> None:
    say(f"exploits on {tasks}: mean reward over {report.tasks} tasks", bold=True)
    rows = []
    kind = report.exploits[0].kind
    for exploit in report.exploits:
        if exploit.kind is not kind:
            kind = exploit.kind
            rows.append([f"{kind.value.replace('_', ' ')}:", *[""] * len(report.rewards)])
        cells = [report.cells.get((reward, exploit.name)) for reward in report.rewards]
        rows.append([exploit.name, *(_cell(cell, starred=kind.is_exploit) for cell in cells)])
    table(("", *(f">{reward}" for reward in report.rewards)), rows)
    say("  * share of the tasks where it earns as much as gold, or more")
    for reward in report.rewards:
        say(f"  {_verdict(report, reward)}")


def _cell(cell: Cell | None, *, starred: bool) -> str:
    if cell is None:
        return "-"
    star = f"*{cell.not_below_gold:.0%} " if starred and cell.not_below_gold else ""
    return f"{star}{cell.mean:.3f}"


def _verdict(report: AttackReport, reward: str) -> str:
    broken = report.broken(reward)
    if not broken:
        return f"{reward}: every promise kept"
    tasks = len({breach.task_id for breach in broken})
    worst = Counter(breach.exploit for breach in broken).most_common(_WORST)
    named = ", ".join(f"{name} {count}" for name, count in worst)
    first = next(b for b in broken if b.exploit == worst[0][0])
    return (
        f"{reward}: promises broken on {tasks} of {report.tasks} tasks ({named}); for one, "
        f"{first.exploit} on {first.task_id} earns {first.earned:.3f} ({first.rule}: "
        f"{first.bound:.3f})"
    )


def _show_search(report: SearchReport) -> None:
    from orch_env.audit.search import Reader

    say(
        f"search, {report.episodes} episodes per task (seed {report.seed}): the best-paid episodes "
        "that are worse than gold",
        bold=True,
    )
    rows = []
    for reader in Reader:
        rows.append([f"{reader.value.replace('_', ' ')}:", *[""] * 6])
        for reward in report.rewards:
            cell = report.cell(reward, reader)
            if cell is None:
                rows.append([reward, *["-"] * 6])
                continue
            shares = (cell.above_bound, cell.above_half, cell.not_below_gold, cell.solved)
            numbers = (f"{cell.mean:.3f}", f"{cell.highest:.3f}")
            rows.append([reward, *numbers, *(f"{share:.0%}" for share in shares)])
    table(("", ">mean", ">highest", ">above 0.35", ">above half", ">as gold", ">solved"), rows)
    say("  shares of the tasks; solved: an episode as good as gold was found too")
    for reward in report.rewards:
        say(f"  {_search_verdict(report, reward)}")


def _search_verdict(report: SearchReport, reward: str) -> str:
    from orch_env.audit.search import Reader

    broken, guesses = report.broken(reward), report.best(reward, Reader.PROMPT)
    words = "nothing worse than gold was found that earns as much"
    if broken:
        first, tasks = broken[0], len({breach.task_id for breach in broken})
        words = (
            f"worse than gold and paid as much on {tasks} of {report.tasks} tasks; for one, "
            f"{first.earned:.3f} on {first.task_id} (gold {first.bound:.3f})"
        )
    if guesses:
        most = max(guesses, key=lambda found: found.total)
        words += f"; the best guess, {most.total:.3f} on {most.task_id}: {most.outline()}"
    return f"{reward}: {words}"
