"""What benchmarks of learning share: controls beside a GRPO run, its held-out curve, a figure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.rollouts.environments import check_data
from orch_train.storage.run_folder import write_text

FROZEN = {"lr": 1e-12, "groups_per_batch": 1, "group_size": 2, "updates_per_batch": 1}
"""Training settings of the frozen control. Its batches are small: they change nothing, and only its
evaluations count."""
FROZEN_DICE = 1
"""``evaluation.seed`` of the frozen control: its figures move as far as chance alone moves them."""
FINAL_DICE = 2
"""``evaluation.seed`` of what is measured again when all is trained."""


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


@dataclass(frozen=True)
class Panel:
    """One seed's part of a figure.

    Attributes:
        title: above it.
        curves: (label, colour, points) of each curve; a point is (x, ``{mean, low, high}``).
        level: (label, rate) of a dotted line.
    """

    title: str
    curves: Sequence[tuple[str, str, Sequence[tuple[float, Mapping[str, float]]]]]
    level: tuple[str, float] | None = None


def draw_panels(panels: Sequence[Panel], x: str, y: str, path: Path) -> None:
    """Draw rates with their intervals, side by side on one scale from 0 to 1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    size = (4.2 * len(panels), 3.6)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        for label, colour, points in panel.curves:
            places = [place for place, _ in points]
            means = [rate["mean"] for _, rate in points]
            spread = [
                [rate["mean"] - rate["low"] for _, rate in points],
                [rate["high"] - rate["mean"] for _, rate in points],
            ]
            axis.errorbar(places, means, spread, fmt="o-", color=colour, label=label, capsize=3)
        if panel.level is not None:
            label, rate = panel.level
            axis.axhline(rate, color="#777777", ls=":", label=label)
        axis.set_title(panel.title)
        axis.set_xlabel(x)
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel(y)
    axes[0][0].legend(fontsize=8, loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


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


def measured_again(built: GRPOConfig, model: Path, samples: int) -> dict[str, Any]:
    """Held-out success of a trained model, sampled at temperature 1 with dice of its own.

    Args:
        built: the configuration of its run.
        model: its folder.
        samples: episodes of each held-out task. The result is kept beside the model, so that it
            goes where the model goes, and is read where it is there.

    Returns:
        ``{n, num_episodes, success: {mean, low, high}, by_gold_calls: {calls: mean}}``.
    """
    from orch_train.evaluation.policy import evaluate_policy
    from orch_train.learner.training_mode import snapshot
    from orch_train.models.load import load_model
    from orch_train.runners.make_runner_group import make_runner_group

    file = model.parent / f"measured-{samples}.json"
    if not file.is_file():
        again = GRPOConfig().from_dict(built.to_dict()).model(str(model))
        again.evaluation(samples_per_task=samples, temperatures=[1.0], seed=FINAL_DICE)
        settings = again.validate()
        tasks = check_data(settings)
        assert tasks.held_out is not None
        loaded = load_model(str(model), settings.model.dtype)
        runners = make_runner_group(settings, snapshot(loaded), 0)
        try:
            measured = evaluate_policy(
                settings, runners, tasks.held_out, benchmark=None, strata=tasks.strata
            )
        finally:
            runners.stop()
        kept = {
            "n": measured["n"],
            "num_episodes": measured["num_episodes"],
            "success": measured[f"avg_at_{samples}"],
            "by_gold_calls": {
                calls: found[f"avg_at_{samples}"]["mean"]
                for calls, found in measured["by_gold_calls"].items()
            },
        }
        write_text(file, json.dumps(kept, indent=2))
    found: dict[str, Any] = json.loads(file.read_text())
    return found


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
