"""``orch reward audit``: what a reward's parts say about stored episodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orch_env.cli.output import emit, json_option, say
from orch_env.types import OrchError

if TYPE_CHECKING:
    from orch_env.audit.audit import AuditReport
    from orch_env.audit.report import AttackReport
    from orch_env.rewards.protocol import Reward

_EPILOG = """\b
Examples:
  orch reward audit episodes.jsonl
  orch reward audit episodes.jsonl --reward prove --cache booking.db
  orch reward audit episodes.jsonl --reward paper --tasks harbour/heldout

Groups are the episodes of one task with one seed, as GRPO compares them: give several per task.
'r' is the point-biserial correlation with success (binary reward 1), 'r within' the same inside
groups; '-' where it is not defined because something does not vary."""

_EXPLOITED_TASKS = 100
"""Tasks that the exploit suite plays at most; the first ones of --tasks."""


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
    suite moves it. Warnings say in words what could hurt training.
    """
    from orch_env.audit.audit import audit as run_audit
    from orch_env.cli.reward.options import ALL, TaskFinder, played_episodes, rewards_asked

    if word == ALL:
        raise OrchError("orch reward audit looks at one reward; `compare` takes several")
    ((label, reward),) = rewards_asked([word]).items()
    finder = TaskFinder(tasks, cache)
    played = played_episodes(file, finder)
    if finder.note is not None:
        say(finder.note, err=True)
    attacked = None if tasks is None else _attacked(tasks, cache, label, reward)
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


def _attacked(tasks: str, cache: str | None, label: str, reward: Reward) -> AttackReport:
    from orch_env.audit import attack
    from orch_env.backends.open import make_backend
    from orch_env.cli.progress import progress_bar
    from orch_env.tasks.selection import load_split

    loaded = load_split(tasks)
    backend = make_backend(tasks, cache, loaded)
    try:
        with progress_bar() as progress:
            return attack(loaded[:_EXPLOITED_TASKS], backend, {label: reward}, progress=progress)
    finally:
        backend.close()


def _show(report: AuditReport, source: str) -> None:
    say(
        f"{report.reward} on {source}: {report.episodes} episodes, {report.groups} groups, "
        f"success {report.success_rate:.1%}",
        bold=True,
    )
    width = max(map(len, report.parts))
    say(
        f"  {'':<{width}}  {'mean':>7}  {'std':>6}  {'spread':>6}  {'flat':>5}  {'r':>6}  "
        f"{'r within':>8}  exploits move it"
    )
    for name, part in report.parts.items():
        moved = (report.movements or {}).get(name)
        words = "-" if moved is None else f"{moved.nothing:.2f} to {moved.mean:.2f} {moved.exploit}"
        flat = "-" if part.flat_groups is None else f"{part.flat_groups:.0%}"
        say(
            f"  {name:<{width}}  {part.mean:>7.3f}  {part.std:>6.3f}  {_number(part.spread):>6}  "
            f"{flat:>5}  {_number(part.correlation):>6}  {_number(part.correlation_within):>8}  "
            f"{words}"
        )
    for warning in report.warnings:
        say(f"  ! {warning}", fg="yellow")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
