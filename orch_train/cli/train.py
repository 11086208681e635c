"""``orch train``: train a model by GRPO."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orch_env.cli.output import emit, json_option, mcp_option, next_command, option, table
from orch_train.cli.next_commands import say_what_is_next
from orch_train.cli.preflight import dry_run, model, run_folder
from orch_train.cli.run_arguments import config_name, quiet_libraries, read_config
from orch_train.storage.runs import one_run

if TYPE_CHECKING:
    from orch_train.run.training_run import RunOutcome

_EPILOG = """\b
Examples:
  orch train configs/quickstart.yaml
  orch train configs/quickstart.yaml training.lr=2e-6 training.iterations=50
  orch train configs/quickstart.yaml --dry-run          # check everything, train nothing
  orch train --resume runs/quickstart                   # go on where it stopped
  orch train --resume runs/quickstart training.iterations=200
  orch train configs/quickstart.yaml env_runners.num_env_runners=0   # one process, no Ray

A run lives in reporting.log_dir (runs/) under the configuration's name. Ctrl-C stops it cleanly
and saves a checkpoint. Paths in a configuration are relative to the current directory."""


@click.command(epilog=_EPILOG)
@click.argument("config", required=False, metavar="CONFIG")
@click.argument("overrides", nargs=-1, metavar="[GROUP.KEY=VALUE]...")
@click.option("--dry-run", "only_check", is_flag=True, help="Check and show everything, then stop.")
@click.option(
    "--resume",
    "run",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Go on with a run from its newest checkpoint; CONFIG may then be left out.",
)
@mcp_option
@json_option
def train(
    config: str | None,
    overrides: tuple[str, ...],
    only_check: bool,
    run: Path | None,
    mcp: str | None,
    as_json: bool,
) -> int:
    """Train a model by GRPO, as a YAML file and GROUP.KEY=VALUE overrides say."""
    from orch_train.algorithms.checkpoint import newest_checkpoint, read_metadata, settings_for
    from orch_train.algorithms.resume import resume_changes
    from orch_train.rollouts.environments import check_data

    if mcp is not None:
        overrides = (*overrides, f"environment.env_config.mcp={json.dumps(mcp)}")
    run = None if run is None else one_run(run)
    built = read_config(config, overrides, run)
    # Wrong texts and files are found here, before torch and Ray start.
    checkpoint = newest_checkpoint(run) if run is not None else None
    changes = None
    if checkpoint is not None:
        changes = resume_changes(built, checkpoint, read_metadata(checkpoint))
    settings = settings_for(built, checkpoint)
    folder = run_folder(settings, run)
    if only_check:
        dry_run(built, settings, folder, changes, as_json=as_json)
        words = (*option("--resume", run), *filter(None, [config]), *overrides)
        next_command("train", *words, why="start it")
        return 0
    check_data(settings)
    size = model(settings).check.detail
    quiet_libraries()
    from orch_train.chat.taught_format import choice_line
    from orch_train.run.display import make_display
    from orch_train.run.training_run import TrainingRun

    name = settings.reporting.run_name
    place = run or Path(settings.reporting.log_dir) / (name or config_name(config))
    display = make_display(settings.training.iterations)
    display.note(size)
    if (choice := choice_line(settings)) is not None:
        display.note(choice)
    training = TrainingRun(
        built, place, display, resume=run is not None, numbered=run is None and name is None
    )
    # Ray prints what its daemons say on stdout, which belongs to the result.
    with contextlib.redirect_stdout(sys.stderr):
        outcome = training.execute()
    _report(outcome, as_json=as_json)
    return 130 if outcome.interrupted else 0


def _report(outcome: RunOutcome, *, as_json: bool) -> None:
    from orch_train.run.metrics_file import plain

    if as_json:
        emit(plain(outcome.result), as_json=True)
    elif outcome.result:
        sampled, folder = outcome.result["env_runners"], outcome.folder
        shown = {
            "steps": outcome.result["training_iteration"],
            "reward": sampled["episode_return_mean"],
            "success": sampled["success"],
            "run": str(folder),
            "checkpoint": str(outcome.checkpoint or "-"),
        }
        if (board := folder / "tensorboard").is_dir():
            shown["tensorboard"] = shlex.join(["tensorboard", "--logdir", str(board)])
        emit(shown, as_json=False, title="trained")
        show_rates(outcome.result.get("evaluation", {}))
    if outcome.interrupted:
        step = outcome.result.get("training_iteration", 0)
        resume = shlex.join(["orch", "train", "--resume", str(outcome.folder)])
        click.echo(f"interrupted after step {step}; go on with: {resume}", err=True)
    say_what_is_next(outcome.folder, interrupted=outcome.interrupted)


def show_rates(evaluation: Mapping[str, Any]) -> None:
    """Print the held-out rates with their intervals: overall, by domain, by number of gold calls.

    Args:
        evaluation: ``evaluation/*`` of a result; nothing is printed if it has no rates.
    """
    names = [key for key in evaluation if key.startswith(("avg_at_", "pass_at_"))]
    # pass@1 is avg@n again.
    names = [name for name in names if name != "pass_at_1" or len(names) == 1]
    rows = [("all", evaluation)]
    for kind, suffix in (("by_domain", ""), ("by_gold_calls", " calls")):
        found = evaluation.get(kind, {})
        rows += [(f"{name}{suffix}", rates) for name, rates in found.items() if len(found) > 1]
    shown = [
        (name, *(_rate(rates[column]) for column in names), str(rates["n"]))
        for name, rates in rows
        if names and all(column in rates for column in names)
    ]
    if shown:
        table(("held out", *(f">{name.replace('_at_', '@')}" for name in names), ">tasks"), shown)


def _rate(rate: Mapping[str, float]) -> str:
    return f"{rate['mean']:.1%} [{rate['low']:.0%}, {rate['high']:.0%}]"
