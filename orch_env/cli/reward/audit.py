"""``orch reward audit``: what a reward's parts say about stored episodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orch_env.cli.output import emit, json_option, next_command, number, option, say, table
from orch_env.cli.reward.attack import run_attack
from orch_env.types import OrchError

if TYPE_CHECKING:
    from orch_env.audit.audit import AuditReport

_EPILOG = """\b
Examples:
  orch reward audit episodes.jsonl
  orch reward audit episodes.jsonl --reward prove --cache booking.db
  orch reward audit episodes.jsonl --reward paper --tasks harbour/heldout

A group is the episodes of one task with one seed, as GRPO compares them: give several per task.
'r' is the point-biserial correlation with success (binary reward 1), 'r within' the same inside
groups; '-' where it is not defined because something does not vary."""

_EXPLOITED_TASKS = 100
"""The exploit suite plays at most this many tasks, the first ones of --tasks."""


@click.command(epilog=_EPILOG)
@click.argument("file", metavar="EPISODES", type=click.Path(path_type=Path))
@click.option(
    "--reward",
    "word",
    default="graduated",
    show_default=True,
    metavar="NAME",
    help="A preset, a JSON object {name, options}, or module:function.",
)
@click.option(
    "--tasks",
    metavar="FILE",
    help="Take the tasks from here, not from the episodes' lines; the exploit suite plays them.",
)
@click.option(
    "--cache",
    metavar="DB",
    help="What answers the exploits' calls and has the tools' schemas; bundled data has its own.",
)
@json_option
def audit(file: Path, word: str, tasks: str | None, cache: str | None, as_json: bool) -> None:
    """Diagnose a reward on stored episodes, before training on it.

    Prints for the total and each component: mean, spread within groups, the share of groups that
    it cannot tell apart, and its correlation with success; with --tasks also how far the exploit
    suite moves it. Warnings name what could hurt training.
    """
    from orch_env.audit.audit import audit as run_audit
    from orch_env.cli.reward.options import ALL, TaskFinder, named_rewards, read_played

    if word == ALL:
        raise OrchError("orch reward audit looks at one reward; `compare` takes several")
    ((label, reward),) = named_rewards([word]).items()
    finder = TaskFinder(tasks, cache)
    played = read_played(file, finder)
    if finder.note is not None:
        say(finder.note, err=True)
    attacked = None
    if tasks is not None:
        attacked = run_attack(tasks, cache, {label: reward}, limit=_EXPLOITED_TASKS)
    report = run_audit(played, reward, label=label, attacked=attacked)
    if attacked is None:
        say(
            "the exploit suite is left out: give --tasks (and --cache, unless bundled) to see "
            "which component exploits move",
            err=True,
        )
    if as_json:
        emit(report.to_dict(), as_json=True)
    else:
        _show(report, str(file))
    other = "graduated" if word == "binary" else "binary"
    data = (*option("--tasks", tasks), *option("--cache", cache))
    two = ("--reward", word, "--reward", other)
    next_command("reward", "compare", file, *two, *data, why="where two rewards disagree")


def _show(report: AuditReport, source: str) -> None:
    say(
        f"{report.reward} on {source}: {report.episodes} episodes, {report.groups} groups, "
        f"success {report.success_rate:.1%}",
        bold=True,
    )
    rows = []
    for name, part in report.parts.items():
        moved = (report.movements or {}).get(name)
        words = "-" if moved is None else f"{moved.nothing:.2f} to {moved.mean:.2f} {moved.exploit}"
        flat = number(part.flat_groups, ".0%")
        shown = (part.mean, part.std, part.spread, part.correlation, part.correlation_within)
        mean, std, spread, r, r_within = (number(value, ".3f") for value in shown)
        rows.append((name, mean, std, spread, flat, r, r_within, words))
    heads = (">mean", ">std", ">spread", ">flat", ">r", ">r within")
    table(("", *heads, "exploits move it"), rows)
    for warning in report.warnings:
        say(f"  ! {warning}", fg="yellow")
