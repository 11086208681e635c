"""What benchmarks of learning share: controls beside a GRPO run, and its held-out curve."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.rollouts.environments import check_data

FROZEN = {"lr": 1e-12, "groups_per_batch": 1, "group_size": 2, "updates_per_batch": 1}
"""Training settings of the frozen control. Its batches are small: they change nothing, and only its
evaluations count."""
FROZEN_DICE = 1
"""``evaluation.seed`` of the frozen control: its figures move as far as chance alone moves them."""


def gain_of(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """The difference of two rates with its 95% interval, from theirs (Newcombe's method)."""
    gain = after["mean"] - before["mean"]
    down = math.hypot(after["mean"] - after["low"], before["high"] - before["mean"])
    up = math.hypot(after["high"] - after["mean"], before["mean"] - before["low"])
    return {"mean": gain, "low": gain - down, "high": gain + up}


def evaluations(folder: Path) -> Iterator[tuple[int, float, dict[str, Any]]]:
    """Each held-out measurement of a run: its step, seconds of training before it, the results."""
    seconds = 0.0
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        result = json.loads(line)
        if "time_this_iter_s" in result:
            seconds += result["time_this_iter_s"] - result["timers"].get("evaluation", 0.0)
        if measured := result.get("evaluation"):
            yield result["training_iteration"], seconds, measured


def frozen_control(trained: Path, folder: Path) -> None:
    """The run in ``trained`` again, with a learning rate that changes no weight."""
    from orch_train.run.display import make_display
    from orch_train.run.training_run import TrainingRun

    built = GRPOConfig().from_yaml(trained / "config.yaml")
    built.training(**FROZEN).evaluation(seed=FROZEN_DICE)
    display = make_display(built.settings.training.iterations)
    outcome = TrainingRun(built, folder, display, resume=folder.exists()).execute()
    if outcome.interrupted:
        raise KeyboardInterrupt


def longer_warm_start(
    built: GRPOConfig, warm: Path, folder: Path, seconds: float, measured: int
) -> dict[str, Any]:
    """Go on with a warm start from its model, on the same imperfect demonstrations.

    Args:
        built: the configuration of the warm start, its seed included.
        warm: the warm start's folder.
        folder: where the run goes.
        seconds: of training.
        measured: held-out measurements, about; the last one is at the end.

    Returns:
        What ``folder/summary.json`` holds.
    """
    from orch_train.sft.warm_start import run_warm_start

    summary = json.loads((warm / "summary.json").read_text())
    every = max(1, int(seconds * summary["steps"] / summary["seconds"] / measured))
    going_on = GRPOConfig().from_dict(built.to_dict()).model(str(warm / "model"))
    going_on.sft(
        max_seconds=seconds, max_epochs=None, max_steps=None, target_success=None, eval_every=every
    )
    settings = going_on.validate()
    outcome = run_warm_start(going_on, settings, check_data(settings), folder)
    if outcome.interrupted:
        raise KeyboardInterrupt
    return outcome.summary
