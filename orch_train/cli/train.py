"""``orch train``: train a model by GRPO."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orch_env.cli.output import emit, json_option
from orch_train.cli.run_arguments import config_name, quiet_libraries, read_config

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
@json_option
def train(
    config: str | None,
    overrides: tuple[str, ...],
    only_check: bool,
    run: Path | None,
    as_json: bool,
) -> int:
    """Train a model by GRPO, as a YAML file and GROUP.KEY=VALUE overrides say."""
    from orch_train.algorithms.checkpoint import checkpoints, settings_for
    from orch_train.rollouts.environments import check_data

    built = read_config(config, overrides, run)
    # Whatever can be wrong with text and files is found here, before torch and Ray start.
    found = checkpoints(run) if run is not None else []
    settings = settings_for(built, found[-1][1] if found else None)
    tasks = check_data(settings)
    if only_check:
        from orch_train.cli.dry_run import dry_run

        dry_run(built, settings, tasks, as_json=as_json)
        return 0

    quiet_libraries()
    from orch_train.run.display import make_display
    from orch_train.run.training_run import TrainingRun, new_run_folder

    folder = run if run is not None else new_run_folder(settings.reporting, config_name(config))
    display = make_display(settings.training.iterations)
    display.note(f"{folder}: memory {_memory(settings)}")
    # Ray prints what its daemons say on stdout, which belongs to the result.
    with contextlib.redirect_stdout(sys.stderr):
        outcome = TrainingRun(built, folder, display, resume=run is not None).execute()
    _report(outcome, as_json=as_json)
    return 130 if outcome.interrupted else 0


def _memory(settings: Any) -> str:
    from orch_train.models.files import resolve_model
    from orch_train.models.memory import estimate_memory

    folder = resolve_model(settings.model.path)
    return estimate_memory(settings, folder).describe() if Path(folder).is_dir() else "unknown"


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
            "view": f"orch view {folder}",
            "tensorboard": f"tensorboard --logdir {folder / 'tensorboard'}",
        }
        emit(shown, as_json=False, title="trained")
        from orch_train.cli.evaluation_table import evaluation_table

        for line in evaluation_table(outcome.result.get("evaluation", {})):
            click.echo(f"  {line}")
    if outcome.interrupted:
        step = outcome.result.get("training_iteration", 0)
        click.echo(
            f"interrupted after step {step}; go on with: orch train --resume {outcome.folder}",
            file=sys.stderr,
        )
