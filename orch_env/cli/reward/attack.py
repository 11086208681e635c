"""``orch reward attack``: what degenerate policies earn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orch_env.cli.output import emit, json_option, say

if TYPE_CHECKING:
    from orch_env.audit.report import AttackReport, Cell

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
of no fewer than one). An exploit counts only on the tasks where its episode is worse than gold."""


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
    from orch_env.audit import attack as run_attack
    from orch_env.audit import figures
    from orch_env.backends.open import make_backend
    from orch_env.cli.progress import progress_bar
    from orch_env.cli.reward.options import rewards_asked
    from orch_env.tasks.selection import load_split

    if figure is not None:
        figures.require_matplotlib()
    rewards = rewards_asked(words)
    loaded = load_split(tasks, split)
    backend = make_backend(tasks, cache, loaded)
    try:
        with progress_bar() as progress:
            report = run_attack(loaded[:limit], backend, rewards, progress=progress)
    finally:
        backend.close()
    if out is not None:
        _write(report, out)
    if figure is not None:
        figures.draw_attack(report, figure, Path(tasks).name if Path(tasks).exists() else tasks)
    if as_json:
        emit(report.to_dict(), as_json=True)
    else:
        _show(report, tasks)
    return 0 if all(report.kept(reward) for reward in report.rewards) else 1


def _write(report: AttackReport, path: Path) -> None:
    from orch_env.tasks.files import write_lines

    text = json.dumps(report.to_dict(), indent=1, ensure_ascii=True, allow_nan=False)
    write_lines([text], path)


def _show(report: AttackReport, tasks: str) -> None:
    say(f"exploits on {tasks}: mean reward over {report.tasks} tasks", bold=True)
    names = max(len(exploit.name) for exploit in report.exploits)
    widths = [max(len(reward), 12) for reward in report.rewards]
    heads = "  ".join(f"{r:>{w}}" for r, w in zip(report.rewards, widths, strict=True))
    say(f"  {'':<{names}}  {heads}")
    kind = report.exploits[0].kind
    for exploit in report.exploits:
        if exploit.kind is not kind:
            kind = exploit.kind
            say(f"  {kind.value.replace('_', ' ')}:")
        cells = [report.cells.get((reward, exploit.name)) for reward in report.rewards]
        line = "  ".join(
            f"{_cell(c, exploit.kind.value):>{w}}" for c, w in zip(cells, widths, strict=True)
        )
        say(f"  {exploit.name:<{names}}  {line}")
    say("  * share of the tasks where it earns as much as gold, or more")
    for reward in report.rewards:
        say(f"  {_verdict(report, reward)}")


def _cell(cell: Cell | None, kind: str) -> str:
    if cell is None:
        return "-"
    if kind == "reference" or not cell.not_below_gold:
        return f"{cell.mean:.3f}     "
    return f"{cell.mean:.3f} {'*' + format(cell.not_below_gold, '.0%'):<4}"


def _verdict(report: AttackReport, reward: str) -> str:
    broken = report.broken(reward)
    if not broken:
        return f"{reward}: every promise kept"
    tasks = len({breach.task_id for breach in broken})
    counts: dict[str, int] = {}
    for breach in broken:
        counts[breach.exploit] = counts.get(breach.exploit, 0) + 1
    worst = sorted(counts, key=lambda name: -counts[name])[:_WORST]
    named = ", ".join(f"{name} {counts[name]}" for name in worst)
    first = next(b for b in broken if b.exploit == worst[0])
    return (
        f"{reward}: promises broken on {tasks} of {report.tasks} tasks ({named}); for one, "
        f"{first.exploit} on {first.task_id} earns {first.earned:.3f} ({first.rule}: "
        f"{first.bound:.3f})"
    )
