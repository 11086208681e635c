"""What a person may type after a run: look at it, score its model, go on with it."""

from __future__ import annotations

from pathlib import Path

from orch_env.cli.output import next_command, option
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.config.groups import OUR_ENV, Settings
from orch_train.rollouts.environments import env_config
from orch_train.storage.runs import checkpoints, one_run


def say_what_is_next(folder: Path, *, interrupted: bool = False) -> None:
    """Print the commands, on stderr.

    Args:
        folder: a GRPO run, or a folder that holds one.
        interrupted: whether a signal ended it before its last step.

    Raises:
        OrchError: it holds no run.
    """
    run = one_run(folder)
    next_command("view", folder, why="curves and every trajectory")
    if interrupted or not checkpoints(run):
        return
    say_how_to_score(folder, run)
    out = _beside(folder)
    if not out.exists():
        next_command("export", folder, "--out", out, why="its model for other tools")
    more = f"training.iterations={2 * _settings(run).training.iterations}"
    next_command("train", "--resume", folder, more, why="train on")


def say_how_to_score(model: Path, run: Path) -> None:
    """Name the command that scores a model on the held-out tasks of its run, on stderr.

    Args:
        model: a model folder or a run.
        run: the run, or its checkpoint, that the model is of.
    """
    settings = _settings(run)
    data, limits = env_config(settings, held_out=True), settings.rollouts
    if settings.environment.env == OUR_ENV and isinstance(data.get("tasks"), str):
        next_command(
            "eval",
            *("--model", model, "--tasks", data["tasks"]),
            *option("--cache", data.get("cache")),
            *option("--split", data.get("split")),
            *option("--max-turns", data.get("max_turns")),
            *("--max-context", limits.max_context),
            *("--max-tokens-per-turn", limits.max_tokens_per_turn),
            why="score its model, greedily",
        )


def _settings(run: Path) -> Settings:
    return GRPOConfig().from_yaml(run / "config.yaml").settings


def _beside(folder: Path) -> Path:
    """A place for the model beside a run's folder, which may be given as ``.`` or ``..``."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.with_name(f"{named.name}-model")
