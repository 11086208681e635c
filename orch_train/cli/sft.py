"""``orch sft``: the supervised warm start on demonstrations."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from orch_env.cli.output import emit, json_option, next_command
from orch_train.cli.preflight import dry_run, sft_folder
from orch_train.cli.run_arguments import config_name, quiet_libraries, read_config

_EPILOG = """\b
Examples:
  orch sft configs/quickstart.yaml
  orch sft configs/quickstart.yaml sft.max_seconds=60 sft.corruption=0.6
  orch sft configs/booking_smollm2.yaml sft.max_steps=50 sft.lr=5e-5
  orch train configs/quickstart.yaml model.path=runs/quickstart-sft/model

Gold plans (or imperfect versions of them, sft.corruption) are rolled through the environment and
imitated. The model is written to OUT/model, beside metrics.jsonl and summary.json."""


@click.command(epilog=_EPILOG)
@click.argument("config", metavar="CONFIG")
@click.argument("overrides", nargs=-1, metavar="[GROUP.KEY=VALUE]...")
@click.option("--dry-run", "only_check", is_flag=True, help="Check and show everything, then stop.")
@json_option
def sft(config: str, overrides: tuple[str, ...], only_check: bool, as_json: bool) -> int:
    """Warm-start a model on demonstrations, as the group `sft` of a YAML file says."""
    from orch_train.rollouts.environments import EnvFactory, check_data, demonstrated_tasks

    built = read_config(config, overrides, None)
    chosen = built.settings
    if chosen.sft.model is not None:
        built.model(chosen.sft.model)
    settings = built.validate()
    name = f"{config_name(config)}-sft"
    place = sft_folder(settings, name)
    with contextlib.closing(EnvFactory(settings, tasks=settings.sft.tasks)()) as env:
        demonstrated_tasks(settings, env)
    if only_check:
        dry_run(built, settings, place, as_json=as_json)
        next_command("sft", config, *overrides, why="start it")
        return 0
    tasks = check_data(settings)
    out = settings.sft.out
    folder = Path(settings.reporting.log_dir) / name if out is None else Path(out)
    quiet_libraries()
    from orch_train.sft.warm_start import run_warm_start

    # Ray prints what its daemons say on stdout, which belongs to the result.
    with contextlib.redirect_stdout(sys.stderr):
        outcome = run_warm_start(built, settings, tasks, folder, numbered=out is None)
    if as_json:
        emit(outcome.summary, as_json=True)
    else:
        shown = ("stop", "steps", "seconds", "loss_first", "loss_last")
        report = {key: outcome.summary[key] for key in shown}
        last = outcome.summary["evaluations"][-1:] or [{}]
        report |= {key: value for key, value in last[0].items() if "success" in key}
        report["model"] = str(outcome.model)
        emit(report, as_json=False, title="warm-started")
    kept = [text for text in overrides if not text.startswith(("sft.", "model.path="))]
    model = f"model.path={outcome.model}"
    next_command("view", folder, why="its loss and what was measured")
    next_command("train", config, *kept, model, why="GRPO from this model")
    return 130 if outcome.interrupted else 0
