"""The quick start: a tiny model learns the bundled world in minutes, and a table says how much.

    python -m orch_train.cli.quickstart --seed 0

Three phases, all of them ordinary library calls on one configuration file: a warm start on
demonstrations most of which contain a mistake, GRPO that sees rewards and no gold trajectory, and
the same held-out measurement before and after. `orch sft` and `orch train` on the same file do the
same.

    OUT/sft/  OUT/grpo/  OUT/summary.json
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orch_env.cli.main import exit_code
from orch_env.cli.output import say, table
from orch_train.cli.next_commands import say_what_is_next
from orch_train.storage.run_folder import own_new, set_aside, write_text

if TYPE_CHECKING:
    from orch_train.algorithms.grpo_config import GRPOConfig
    from orch_train.config import Settings
    from orch_train.rollouts.environments import TaskIds

CONFIG = Path("configs/quickstart.yaml")
MEASURES = ("reward_mean", "success", "call_accuracy", "turn_accuracy")


def run_quickstart(
    *, seed: int, out: Path, config: Path = CONFIG, overrides: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Warm-start, train, and measure before and after.

    Args:
        seed: of demonstrations, task order and sampling.
        out: folder of the run; one that is there already is set aside under a number.
        config: the configuration file; its groups ``sft`` and ``training`` are the two phases.
        overrides: ``group.key=value`` texts on top of it.

    Returns:
        What ``OUT/summary.json`` holds: ``{seed, seconds: {setup, sft, grpo}, before, after}``,
        where ``before`` and ``after`` have ``reward_mean``, ``success``, ``call_accuracy``,
        ``turn_accuracy`` and ``n`` at the training temperature, and the same under ``greedy``.
        The two accuracies compare recorded responses; tasks on live servers have none.

    Raises:
        OrchError: a file is missing or wrong, or another process runs in the folder.
        KeyboardInterrupt: a signal ended one of the phases; what it wrote stays.
    """
    started = time.perf_counter()
    from orch_train.algorithms.grpo_config import GRPOConfig
    from orch_train.cli.run_arguments import quiet_libraries
    from orch_train.rollouts.environments import check_data

    built = GRPOConfig().from_yaml(config).with_overrides([f"debugging.seed={seed}", *overrides])
    settings = built.validate()
    tasks = check_data(settings)
    quiet_libraries()
    if (aside := set_aside(out)) is not None:
        say(f"the earlier {out} is now {aside}", err=True)
    with own_new(out):
        return _both_phases(built, settings, tasks, out, started)


def _both_phases(
    built: GRPOConfig, settings: Settings, tasks: TaskIds, out: Path, started: float
) -> dict[str, Any]:
    from orch_train.run.display import make_display
    from orch_train.run.training_run import TrainingRun
    from orch_train.sft.warm_start import run_warm_start

    setup = time.perf_counter()
    say("1/2  warm start on imperfect demonstrations", err=True)
    warm = run_warm_start(built, settings, tasks, out / "sft")
    if warm.interrupted:
        raise KeyboardInterrupt
    warmed = time.perf_counter()
    say("2/2  GRPO: rewards only, no gold trajectory is shown", err=True)
    training = type(built)().from_dict(built.to_dict()).model(str(warm.model))
    display = make_display(settings.training.iterations)
    outcome = TrainingRun(training, out / "grpo", display).execute()
    if outcome.interrupted:
        raise KeyboardInterrupt
    trained = time.perf_counter()
    measured = json.loads((out / "grpo" / "summary.json").read_text())["evaluation"]
    summary = {
        "seed": settings.debugging.seed,
        "seconds": {
            "setup": setup - started,
            "sft": warmed - setup,
            "grpo": trained - warmed,
        },
        "before": _measures(measured["first"]),
        "after": _measures(measured["last"]),
    }
    write_text(out / "summary.json", json.dumps(summary, indent=2))
    return summary


def show_table(summary: Mapping[str, Any]) -> None:
    """Print the before/after table on stdout."""
    before, after = summary["before"], summary["after"]
    say(f"{before['n']} held-out tasks with unseen names, seed {summary['seed']}", bold=True)
    measured = [name for name in MEASURES if name in before]
    rows = [(name.replace("_", " "), before[name], after[name]) for name in measured]
    rows.append(("success, greedy", before["greedy"]["success"], after["greedy"]["success"]))
    table(
        ("", ">before GRPO", ">after GRPO", ">change"),
        [(name, f"{b:.3f}", f"{a:.3f}", f"{a - b:+.3f}") for name, b, a in rows],
    )
    seconds = summary["seconds"]
    spent = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    say(f"{spent}; {sum(seconds.values()):.0f} s in total")


def _measures(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    names = [name for name in (*MEASURES, "n") if name in evaluation]
    greedy = {name: evaluation["greedy"][name] for name in names}
    return {**{name: evaluation[name] for name in names}, "greedy": greedy}


@click.command()
@click.option("--seed", default=0, show_default=True, help="Seed of the whole run.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/quickstart"),
    show_default=True,
    help="Folder of the run; an earlier one is set aside under a number.",
)
@click.option(
    "--config", type=click.Path(path_type=Path), default=CONFIG, show_default=True, help="YAML."
)
@click.argument("overrides", nargs=-1, metavar="[GROUP.KEY=VALUE]...")
def main(seed: int, out: Path, config: Path, overrides: tuple[str, ...]) -> None:
    """Warm-start a tiny model, train it by GRPO, and print before and after."""
    summary = run_quickstart(seed=seed, out=out, config=config, overrides=overrides)
    show_table(summary)
    click.echo(f"everything is in {out}: metrics, rollouts, checkpoints, summary.json")
    say_what_is_next(out)


if __name__ == "__main__":
    sys.exit(exit_code(main, "quickstart"))
