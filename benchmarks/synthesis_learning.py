"""Do synthesised tasks teach? Every seed, on workflows that training has not seen, with controls.

Tasks are synthesised from the bundled harbour cache. Held-out tasks have other workflows
(templates) and other ships and pilots than training tasks. For each seed: a warm start on imperfect
demonstrations, GRPO from it, and two controls from the same model: the run with a learning rate
that changes no weight, and the warm start continued for as many seconds of training as GRPO took.
In the end the three models are measured again, with several samples of each held-out task: those
rates are what counts. Prints a table, writes JSON, draws the curves.

    python -m benchmarks.synthesis_learning
    python -m benchmarks.synthesis_learning --seeds 0

Runs that are finished in ``RUNS/seed-N/{grpo,frozen,longer}`` are read and not run again, and so
are the ``measured-N.json`` beside the models and the tasks in ``RUNS/tasks``. Several processes can
share the work: give each its own ``--seeds``, then report on all of them with a last call that
finds nothing left to do.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.learning_runs import (
    Panel,
    draw_panels,
    evaluations,
    frozen_control,
    gain_of,
    longer_warm_start,
    measured_again,
)
from benchmarks.report import machine, write_report
from benchmarks.synthesised_tasks import synthesised
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.cli.quickstart import run_quickstart
from orch_train.storage.run_folder import set_aside
from orch_train.storage.runs import newest_model

RESULTS = Path("benchmarks/results")
CONFIG = Path("configs/synthesis_learning.yaml")
JOB = Path("examples/synthesis/harbour_learning.yaml")
GATE = 0.2
"""Wanted: the gain in sampled success over the warm start."""
CONTROL_EVALUATIONS = 3
SAMPLES = 4
"""Episodes of each held-out task in the end."""
QUICK_JOB = ("splits={train: 8, heldout: 4}", "sampling.growth_tries=60")
QUICK = (
    "sft.max_steps=2",
    "sft.eval_every=2",
    "sft.batch_size=2",
    "sft.target_success=null",
    "training.iterations=1",
    "training.groups_per_batch=2",
    "training.group_size=2",
    "evaluation.evaluation_interval=1",
    "evaluation.samples_per_task=1",
)
"""What ``--quick`` changes: a test of the script, not of learning."""


def main() -> int:
    """Make the tasks, run or read every seed, print, write, draw; exit code 1 if one misses."""
    options = _arguments()
    job = [*options.job_set, *(QUICK_JOB if options.quick else ())]
    overrides = [*options.set, *(QUICK if options.quick else ())]
    data, files = synthesised(options.job, options.runs / "tasks", job)
    overrides += files
    samples = 1 if options.quick else SAMPLES
    rows = [
        _seed(seed, options.runs / f"seed-{seed}", options.config, overrides, samples)
        for seed in options.seeds
    ]
    _print(data, rows)
    report = {
        "benchmark": "synthesis_learning",
        "quick": options.quick,
        "config": GRPOConfig().from_yaml(options.config).with_overrides(overrides).to_dict(),
        "data": data,
        "machine": machine(),
        "gate": GATE,
        "seeds": rows,
    }
    write_report(options.out, report)
    _draw(rows, options.out.with_suffix(".png"))
    print(f"wrote {options.out} and {options.out.with_suffix('.png')}")
    return 0 if options.quick or all(row["passes"] for row in rows) else 1


def _seed(
    seed: int, folder: Path, config: Path, overrides: Sequence[str], samples: int
) -> dict[str, Any]:
    if not (folder / "grpo" / "summary.json").is_file():
        run_quickstart(seed=seed, out=folder, config=config, overrides=tuple(overrides))
    if not (folder / "frozen" / "summary.json").is_file():
        frozen_control(folder / "grpo", folder / "frozen")
    curve, frozen = _curve(folder / "grpo"), _curve(folder / "frozen")
    seconds = curve[-1]["seconds"]
    built = GRPOConfig().from_yaml(config).with_overrides(overrides).debugging(seed=seed)
    if not (folder / "longer" / "summary.json").is_file():
        set_aside(folder / "longer")
        longer_warm_start(built, folder / "sft", folder / "longer", seconds, CONTROL_EVALUATIONS)
    longer = _longer(folder / "longer")
    warm = json.loads((folder / "sft" / "summary.json").read_text())
    models = {
        "warm_start": folder / "sft" / "model",
        "grpo": newest_model(folder / "grpo"),
        "longer": folder / "longer" / "model",
    }
    measured = {name: measured_again(built, model, samples) for name, model in models.items()}
    return {
        "seed": seed,
        "warm_start": {key: warm[key] for key in ("stop", "steps", "seconds", "demonstrations")},
        "grpo_training_seconds": seconds,
        "curve": curve,
        "frozen": frozen,
        "longer": longer,
        "measured": measured,
        **verdict({**measured, "frozen": frozen[-1]}),
    }


def verdict(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The gains at the end, with their intervals, and whether they are what was wanted."""
    before, after = measured["warm_start"]["success"], measured["grpo"]["success"]
    controls = {name: measured[name]["success"] for name in ("frozen", "longer")}
    gain = gain_of(before, after)
    return {
        "gain": gain,
        "over": {name: gain_of(found, after) for name, found in controls.items()},
        "passes": gain["mean"] >= GATE
        and all(after["mean"] > found["mean"] for found in controls.values()),
    }


def _curve(folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "seconds": seconds,
            "n": measured["n"],
            "success": measured["avg_at_1"],
            "greedy": measured["greedy"]["success"],
            "reward_mean": measured["reward_mean"],
            "by_gold_calls": {
                calls: found["avg_at_1"]["mean"]
                for calls, found in measured["by_gold_calls"].items()
            },
        }
        for step, seconds, measured in evaluations(folder)
    ]


def _longer(folder: Path) -> list[dict[str, Any]]:
    summary = json.loads((folder / "summary.json").read_text())
    return [
        {
            "step": found["step"],
            "seconds": found["seconds"],
            "success": {key: found[f"avg_at_1/{key}"] for key in ("mean", "low", "high")},
            "greedy": found["greedy/success"],
            "reward_mean": found["reward_mean"],
        }
        for found in summary["evaluations"]
    ]


def _print(data: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    for name, split in data["splits"].items():
        print(
            f"{name}: {split['tasks']} tasks of {split['templates']} workflows, calls "
            f"{split['calls']}, {split['within_reach']:.0%} within reach"
        )
    for row in rows:
        found = {name: _rate(part["success"]) for name, part in row["measured"].items()}
        before = row["measured"]["warm_start"]
        print(
            f"seed {row['seed']}  {before['n']} held-out tasks, {before['num_episodes']} episodes  "
            f"before {found['warm_start']}  after {row['curve'][-1]['step']} steps "
            f"{found['grpo']}  gain {_rate(row['gain'])}  frozen "
            f"{_rate(row['frozen'][-1]['success'])}  longer warm start {found['longer']}  "
            f"{'ok' if row['passes'] else 'MISSES'}"
        )


def _rate(found: Mapping[str, float]) -> str:
    return f"{found['mean']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    panels = []
    for row in rows:
        start = {**row["curve"][0], "seconds": 0.0}
        curves = [
            (label, colour, [(p["seconds"], p["success"]) for p in points])
            for label, colour, points in (
                ("GRPO", "#3566a8", row["curve"]),
                ("longer warm start", "#b0602f", [start, *row["longer"]]),
            )
        ]
        level = ("frozen control", row["frozen"][-1]["success"]["mean"])
        panels.append(Panel(f"seed {row['seed']}", curves, level))
    measured = f"success on unseen workflows, sampled ({rows[0]['curve'][0]['n']})"
    draw_panels(panels, "seconds of training after the warm start", measured, path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--set", nargs="*", default=[], metavar="GROUP.KEY=VALUE")
    parser.add_argument("--job", type=Path, default=JOB, help="what tasks are made")
    parser.add_argument("--job-set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--quick", action="store_true", help="test the script in a minute")
    parser.add_argument("--runs", type=Path, default=Path("runs/synthesis_learning"))
    parser.add_argument("--out", type=Path, default=RESULTS / "synthesis_learning.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
