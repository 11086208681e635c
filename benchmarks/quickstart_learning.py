"""Does the quick start learn? Every seed in full, with more of the warm start beside it.

For each seed: the quick start (warm start, GRPO), and a control that goes on with the warm start
from the same model, on the same imperfect demonstrations, for as many seconds of training as GRPO
took (evaluations apart on both sides). Prints a table, writes JSON, and draws the held-out curves.

    python -m benchmarks.quickstart_learning
    python -m benchmarks.quickstart_learning --seeds 0 --out /tmp/report.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.learning_runs import evaluations, longer_warm_start
from benchmarks.report import machine, write_report
from orch_env.types import OrchError
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.cli.quickstart import CONFIG, MEASURES, run_quickstart

RESULTS = Path("benchmarks/results")
CONTROL_EVALUATIONS = 3
"""Held-out measurements of the control, about; the last one counts."""


def main() -> int:
    """Run every seed, print, write, draw."""
    options = _arguments()
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        folder = options.runs / f"seed-{seed}"
        summary = run_quickstart(seed=seed, out=folder, config=options.config)
        row = {**summary, "grpo_curve": _grpo_curve(folder / "grpo")}
        row["grpo_training_seconds"] = row["grpo_curve"][-1]["seconds"]
        row["warm_start"] = _warm_start(folder / "sft")
        row["control"] = _control(seed, folder, options.config, row["grpo_training_seconds"])
        rows.append(row)
        _print(row)
    report = {
        "benchmark": "quickstart_learning",
        "config": GRPOConfig().from_yaml(options.config).to_dict(),
        "machine": machine(),
        "median": _medians(rows),
        "seeds": rows,
    }
    write_report(options.out, report)
    _draw(rows, options.out.with_suffix(".png"))
    print(f"wrote {options.out} and {options.out.with_suffix('.png')}")
    return 0


def _control(seed: int, folder: Path, config: Path, seconds: float) -> dict[str, Any]:
    """Go on with the warm start for ``seconds`` of training."""
    built = GRPOConfig().from_yaml(config).debugging(seed=seed)
    summary = longer_warm_start(
        built, folder / "sft", folder / "control", seconds, CONTROL_EVALUATIONS
    )
    curve = [
        {"seconds": e["seconds"], "success": e["success"], "greedy": e["greedy/success"]}
        for e in summary["evaluations"]
    ]
    if not curve:
        raise OrchError("the control was never measured: raise training.iterations")
    last = summary["evaluations"][-1]
    return {"curve": curve, "last": {k: v for k, v in last.items() if "errors" not in k}}


def _warm_start(folder: Path) -> dict[str, Any]:
    summary = json.loads((folder / "summary.json").read_text())
    return {key: summary[key] for key in ("stop", "steps", "seconds", "epochs", "demonstrations")}


def _grpo_curve(folder: Path) -> list[dict[str, float]]:
    """Held-out success against seconds of training, evaluations apart."""
    return [
        {
            "step": step,
            "seconds": seconds,
            "success": measured["success"],
            "greedy": measured["greedy"]["success"],
            "reward_mean": measured["reward_mean"],
        }
        for step, seconds, measured in evaluations(folder)
    ]


def _print(row: dict[str, Any]) -> None:
    before, after, control = row["before"], row["after"], row["control"]["last"]
    print(f"seed {row['seed']}  ({before['n']} held-out tasks)", flush=True)
    print(f"  {'':<16}{'before':>8}{'GRPO':>8}{'more SFT':>10}")
    for name in MEASURES:
        print(f"  {name:<16}{before[name]:8.3f}{after[name]:8.3f}{control[name]:10.3f}")
    greedy = (before["greedy"]["success"], after["greedy"]["success"], control["greedy/success"])
    print(f"  {'greedy success':<16}{greedy[0]:8.3f}{greedy[1]:8.3f}{greedy[2]:10.3f}")
    seconds = {k: round(v) for k, v in row["seconds"].items()}
    print(
        f"  seconds {seconds}, of GRPO {row['grpo_training_seconds']:.0f} in training", flush=True
    )


def _medians(rows: list[dict[str, Any]]) -> dict[str, float]:
    values = {
        "success_before": [r["before"]["success"] for r in rows],
        "success_after": [r["after"]["success"] for r in rows],
        "success_gain": [r["after"]["success"] - r["before"]["success"] for r in rows],
        "greedy_before": [r["before"]["greedy"]["success"] for r in rows],
        "greedy_after": [r["after"]["greedy"]["success"] for r in rows],
        "control_success": [r["control"]["last"]["success"] for r in rows],
        "seconds": [sum(r["seconds"].values()) for r in rows],
    }
    return {name: statistics.median(found) for name, found in values.items()}


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(rows), figsize=(4.2 * len(rows), 3.6), sharey=True)
    for axis, row in zip(axes if len(rows) > 1 else [axes], rows, strict=True):
        start = {"seconds": 0.0, **{k: row["before"][k] for k in ("success",)}}
        start["greedy"] = row["before"]["greedy"]["success"]
        for label, curve, colour in (
            ("GRPO", row["grpo_curve"], "#3566a8"),
            ("more SFT", [start, *row["control"]["curve"]], "#b0602f"),
        ):
            x = [point["seconds"] for point in curve]
            axis.plot(x, [p["success"] for p in curve], "o-", color=colour, label=label)
            axis.plot(
                x, [p["greedy"] for p in curve], "--", color=colour, label=f"{label}, greedy", lw=1
            )
        axis.set_title(f"seed {row['seed']}")
        axis.set_xlabel("seconds of training after the warm start")
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
    first = axes[0] if len(rows) > 1 else axes
    first.set_ylabel(f"held-out success ({rows[0]['before']['n']} tasks)")
    first.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--runs", type=Path, default=Path("runs/quickstart_learning"))
    parser.add_argument("--out", type=Path, default=RESULTS / "quickstart_learning.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
