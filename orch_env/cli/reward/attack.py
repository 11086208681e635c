"""``orch reward attack``: what rewards pay for degenerate policies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orch_env.cli.output import check_out, emit, json_option, next_command, say, table
from orch_env.cli.progress import progress_bar

if TYPE_CHECKING:
    from orch_env.audit.report import AttackReport, Cell
    from orch_env.rewards.protocol import Reward

_EARLIER = '{"name": "graduated", "edition": 1}'
"""Attacked beside all presets."""
_WORST = 3
"""Exploits named in a reward's verdict."""

_EPILOG = """\b
Examples:
  orch reward attack --reward graduated --tasks harbour/heldout
  orch reward attack --reward all --tasks cfb.jsonl --cache booking.db --figure table.png
  orch reward attack --reward graduated --reward my_rewards:short --tasks harbour --limit 50

What is promised, in shares of what gold itself earns on a task: an exploit that knows nothing of
gold earns at most 0.35 and less than the first half of the gold calls (on tasks of at least 3 gold
calls); one that is built from gold earns less than gold, and at least 0.05 less if it makes more
extra calls than half the number of gold calls, or breaks the edges of one gold call in eight (and
of no fewer than one); one that guesses earns no more than the same episode without the guess; an
honest variation of gold earns at least 0.85, and more than the first half. Nothing is promised
about shallow policies. An exploit counts only on the tasks where its episode is worse than gold, an
honest variation only where it brings gold's own results."""


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
@json_option
def attack(
    words: tuple[str, ...],
    tasks: str,
    cache: str | None,
    split: str | None,
    limit: int | None,
    out: Path | None,
    figure: Path | None,
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

    check_out(out, tasks, cache)
    check_out(figure, tasks, cache)
    if figure is not None:
        figures.require_matplotlib()
    rewards = named_rewards((*words, _EARLIER) if words == (ALL,) else words)
    report = run_attack(tasks, cache, rewards, split=split, limit=limit)
    if out is not None:
        write_lines([json.dumps(report.to_dict(), indent=1, allow_nan=False)], out)
    if figure is not None:
        figures.draw_attack(report, figure, Path(tasks).name if exists(tasks) else tasks)
    if as_json:
        emit(report.to_dict(), as_json=True)
    else:
        _show(report, tasks)
    first = words[0] if words[0] in PRESETS else next(iter(PRESETS))
    next_command("reward", "show", first, why="what it is made of")
    return 0 if all(report.kept(reward) for reward in report.rewards) else 1


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
    from orch_env.backends.open import make_backend
    from orch_env.tasks.selection import load_split

    loaded = load_split(tasks, split)
    backend = make_backend(tasks, cache, loaded)
    try:
        with progress_bar() as progress:
            return play_exploits(loaded[:limit], backend, rewards, progress=progress)
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
