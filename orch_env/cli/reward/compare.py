"""``orch reward compare``: where rewards disagree about the same episodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orch_env.cli.output import (
    check_out,
    emit,
    json_option,
    next_command,
    number,
    option,
    say,
    table,
)

if TYPE_CHECKING:
    from orch_env.audit.compare import CompareReport, PairCounts

_EPILOG = """\b
Examples:
  orch reward compare episodes.jsonl --reward graduated --reward paper
  orch reward compare episodes.jsonl --reward all --cache booking.db --figure agreement.png

Kendall's tau-b: 1 means the same order, 0 no relation, -1 the opposite order; '-' where one of the
rewards ties every pair. A group is the episodes of one task with one seed: GRPO compares only
within groups, so 'within' is what matters for training."""

_DISPUTES = 6
"""Disputes printed over all pairs of rewards, at least one per pair; --json has more."""


@click.command(epilog=_EPILOG)
@click.argument("file", metavar="EPISODES", type=click.Path(path_type=Path))
@click.option(
    "--reward",
    "words",
    multiple=True,
    required=True,
    metavar="NAME",
    help="A preset, a JSON object {name, options}, module:function, or 'all'; at least two.",
)
@click.option("--tasks", metavar="FILE", help="Take the tasks from here, not from the lines.")
@click.option(
    "--cache", metavar="DB", help="Has the tools' schemas; a bundled data set has its own."
)
@click.option(
    "--figure", type=click.Path(dir_okay=False, path_type=Path), help="Draw the matrix as a PNG."
)
@json_option
def compare(
    file: Path,
    words: tuple[str, ...],
    tasks: str | None,
    cache: str | None,
    figure: Path | None,
    as_json: bool,
) -> None:
    """Score the same episodes with several rewards, and show how alike they rank them."""
    from orch_env.audit import figures
    from orch_env.audit.compare import compare as run_compare
    from orch_env.cli.reward.options import TaskFinder, named_rewards, read_played

    check_out(figure, str(file))
    if figure is not None:
        figures.require_matplotlib()
    rewards = named_rewards(words)
    finder = TaskFinder(tasks, cache)
    report = run_compare(read_played(file, finder), rewards)
    if finder.note is not None:
        say(finder.note, err=True)
    if figure is not None:
        figures.draw_comparison(report, figure, file.name)
    if as_json:
        emit(report.to_dict(), as_json=True)
    else:
        _show(report, str(file))
    data = (*option("--tasks", tasks), *option("--cache", cache))
    first = words[0] if words[0] != "all" else "graduated"
    next_command("reward", "audit", file, "--reward", first, *data, why="one of them in detail")


def _show(report: CompareReport, source: str) -> None:
    say(f"{source}: {report.episodes} episodes, {report.groups} groups of several", bold=True)
    means = "  ".join(f"{name} {mean:.3f}" for name, mean in report.means.items())
    say(f"  mean totals: {means}")
    pairs = [f"{one.first} / {one.second}" for one in report.agreements]
    rows = [
        (name, *_tau_and_share(one.overall), *_tau_and_share(one.within))
        for name, one in zip(pairs, report.agreements, strict=True)
    ]
    table(("", ">tau", ">opposite", ">tau within", ">opposite within"), rows)
    shown = max(1, _DISPUTES // len(pairs))
    for name, one in zip(pairs, report.agreements, strict=True):
        for dispute in one.disputes[:shown]:
            say(
                f"  {name}, task {dispute.task_id}, episodes {dispute.episodes[0]} and "
                f"{dispute.episodes[1]}: {one.first} {dispute.first[0]:.3f} > "
                f"{dispute.first[1]:.3f}, {one.second} {dispute.second[0]:.3f} < "
                f"{dispute.second[1]:.3f}; {dispute.reason}"
            )


def _tau_and_share(counts: PairCounts) -> tuple[str, str]:
    return number(counts.tau, ".2f"), number(counts.opposite_share, ".1%")
