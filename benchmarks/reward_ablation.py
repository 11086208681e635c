"""Which reward teaches most? The quick start's GRPO once per reward and seed, all else equal.

Per seed one warm start; from its model one GRPO run per reward, with the same tasks in the same
order, the same sampling seeds, and the same number of steps and episodes. What is compared is
measured without any of the rewards: held-out success, call and turn accuracy, and calls per task.

    python -m benchmarks.reward_ablation
    python -m benchmarks.reward_ablation --rewards graduated binary --seeds 0 --iterations 10

A run that is finished is not run again, so the benchmark can be interrupted, and several of it can
share the work: give each its own ``--seeds`` or ``--rewards``, then report on all of them with a
last call that finds nothing left to do.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ablation_figure import draw
from benchmarks.report import machine, write_report
from orch_env import load_tasks
from orch_env.types import OrchError
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.cli.quickstart import CONFIG
from orch_train.rollouts.environments import check_data

RESULTS = Path("benchmarks/results")
REWARDS: dict[str, Any] = {
    "graduated": "graduated",
    "atomic only": {"name": "graduated", "weights": {"atomic": 1.0, "orchestration": 0.0}},
    "orchestration only": {"name": "graduated", "weights": {"atomic": 0.0, "orchestration": 1.0}},
    "binary": "binary",
    "paper": "paper",
    "prove": "prove",
    "tier": "tier",
}
"""Name in the table -> the environment's ``reward``."""
MEASURES = (
    "success",
    "greedy_success",
    "call_accuracy",
    "turn_accuracy",
    "tool_calls",
    "early_success",
)
WARM_START = "warm start"
COMMIT = "commit.txt"
"""In a run's folder: the commit it was trained at."""
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
"""Two-sided 95% quantile of Student's t, by number of seeds."""


def main() -> int:
    """Run what is missing, then report on everything in the folder."""
    options = arguments(__doc__, CONFIG, "reward_ablation", list(REWARDS), 30).parse_args()
    return ablate(options, "reward_ablation", {})


def ablate(options: argparse.Namespace, benchmark: str, more: Mapping[str, Any]) -> int:
    """Run what is missing of one ablation, then report on everything in its folder.

    Args:
        options: as :func:`arguments` gives them.
        benchmark: its name in the report.
        more: further entries of the report.
    """
    for seed in options.seeds:
        model = _warm_start(seed, options)
        for name in [WARM_START, *options.rewards]:
            folder = options.runs / f"seed-{seed}" / name.replace(" ", "-")
            if not (folder / "summary.json").exists():
                print(f"seed {seed}: {name}", file=sys.stderr, flush=True)
                _train(name, seed, model, folder, options)
    rows = finished(options.runs, options.rewards)
    if not rows:
        raise OrchError(f"no seed in {options.runs} has a finished run of every reward")
    report = {
        "benchmark": benchmark,
        **more,
        "config": _config(options).to_dict(),
        "rewards": REWARDS,
        "not_run": sorted(set(REWARDS) - {row["reward"] for row in rows}),
        "iterations": options.iterations,
        "gold_calls_per_task": _gold_calls(_config(options)),
        "machine": machine(),
        "table": _table(rows),
        "against_graduated": _paired(rows),
        "runs": rows,
    }
    _print(report)
    write_report(options.out, report)
    draw(report, options.out.with_suffix(".png"))
    print(f"wrote {options.out} and {options.out.with_suffix('.png')}")
    return 0


def _warm_start(seed: int, options: argparse.Namespace) -> Path:
    from orch_train.sft.warm_start import run_warm_start

    folder = options.runs / f"seed-{seed}" / "sft"
    if not (folder / "summary.json").exists():
        built = _config(options).debugging(seed=seed)
        settings = built.validate()
        outcome = run_warm_start(built, settings, check_data(settings), folder)
        if outcome.interrupted:
            raise KeyboardInterrupt
    return Path(folder / "model")


def _train(name: str, seed: int, model: Path, folder: Path, options: argparse.Namespace) -> None:
    """One GRPO run; the warm start itself is a run without steps that is only measured."""
    from orch_train.run.display import make_display
    from orch_train.run.training_run import TrainingRun

    built = _config(options).model(str(model)).debugging(seed=seed)
    if name == WARM_START:
        # Measured before the first step; its one step is not looked at.
        built.training(iterations=1).evaluation(evaluation_at_start=True, evaluation_interval=0)
    else:
        steps = options.iterations
        built.training(iterations=steps)
        built.evaluation(evaluation_at_start=False, evaluation_interval=steps)
        built = built.with_overrides([f"environment.env_config.reward={json.dumps(REWARDS[name])}"])
    built.reporting(store_rollouts=False, tensorboard=False, checkpoint_interval=0)
    iterations = built.validate().training.iterations
    if (
        TrainingRun(built, folder, make_display(iterations), resume=folder.exists())
        .execute()
        .interrupted
    ):
        raise KeyboardInterrupt
    (folder / COMMIT).write_text(str(machine()["commit"]))


def _config(options: argparse.Namespace) -> GRPOConfig:
    return GRPOConfig().from_yaml(options.config).with_overrides(options.set)


def finished(runs: Path, rewards: Sequence[str]) -> list[dict[str, Any]]:
    """The runs of every seed that has all of ``rewards``, so that they stand on the same seeds.

    Runs of other rewards are there too, each on the seeds that have it.
    """
    rows = []
    for seed_folder in sorted(runs.glob("seed-*"), key=lambda p: int(p.name.split("-")[1])):
        folders = {
            name: folder
            for name in (WARM_START, *REWARDS)
            if ((folder := seed_folder / name.replace(" ", "-")) / "summary.json").exists()
        }
        if missing := [name for name in (WARM_START, *rewards) if name not in folders]:
            print(f"{seed_folder.name} left out: no {', '.join(missing)}", file=sys.stderr)
            continue
        for name, folder in folders.items():
            summary = json.loads((folder / "summary.json").read_text())
            curve = _curve(folder)
            rows.append(
                {
                    "reward": name,
                    "seed": summary["seed"],
                    "commit": (folder / COMMIT).read_text() if (folder / COMMIT).exists() else None,
                    "iterations": 0 if name == WARM_START else summary["training_iteration"],
                    **_measures(summary["evaluation"]["last"]),
                    "early_success": _early(curve),
                    "curve": [] if name == WARM_START else curve,
                }
            )
    return rows


def _measures(evaluation: Mapping[str, Any]) -> dict[str, float]:
    return {
        "success": evaluation["success"],
        "greedy_success": evaluation["greedy"]["success"],
        "call_accuracy": evaluation["call_accuracy"],
        "turn_accuracy": evaluation["turn_accuracy"],
        "tool_calls": evaluation["tool_calls_mean"],
        "reward_mean": evaluation["reward_mean"],
        "n": evaluation["n"],
    }


def _curve(folder: Path) -> list[dict[str, float]]:
    """Per step: success, calls and reward of the training episodes, and seconds."""
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {
            "step": line["training_iteration"],
            "success": line["env_runners"]["success"],
            "reward": line["env_runners"]["episode_return_mean"],
            "tool_calls": line["env_runners"]["tool_calls_mean"],
            "seconds": line["time_this_iter_s"],
        }
        for line in lines
        if "env_runners" in line
    ]


def _early(curve: Sequence[Mapping[str, float]]) -> float:
    """Success of the training episodes over the first third of the steps: how fast it teaches."""
    return statistics.fmean(step["success"] for step in curve[: max(1, len(curve) // 3)])


def _table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean over seeds with a 95% t interval, one row per reward."""
    table = []
    for name in [WARM_START, *REWARDS]:
        found = [row for row in rows if row["reward"] == name]
        if found:
            table.append(
                {
                    "reward": name,
                    "seeds": [row["seed"] for row in found],
                    **{m: _interval([row[m] for row in found]) for m in MEASURES},
                }
            )
    return table


def _paired(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Difference to ``graduated`` on the same seed: warm start, tasks and sampling are shared."""
    by_key = {(row["reward"], row["seed"]): row for row in rows}
    table = []
    for name in REWARDS:
        seeds = [s for r, s in by_key if r == name and ("graduated", s) in by_key]
        if name != "graduated" and seeds:
            entry: dict[str, Any] = {"reward": name, "seeds": seeds}
            for measure in MEASURES:
                differences = [
                    by_key[name, s][measure] - by_key["graduated", s][measure] for s in seeds
                ]
                entry[measure] = _interval(differences)
            table.append(entry)
    return table


def _interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean, half width of its 95% t interval over seeds (null for one seed), and the values."""
    half = None
    if len(values) > 1:
        quantile = T_95.get(len(values), 1.96)
        half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": statistics.fmean(values), "half_width_95": half, "values": list(values)}


def _gold_calls(config: GRPOConfig) -> float:
    """Gold calls per held-out task, to hold calls per task against."""
    settings = config.validate()
    name = settings.evaluation.tasks or settings.environment.env_config["tasks"]
    tasks = [t for t in load_tasks(name) if t.metadata.get("split") == settings.evaluation.split]
    return statistics.fmean(len(t.gold_calls) for t in tasks)


def _print(report: Mapping[str, Any]) -> None:
    print(f"{'reward':<20}{'seeds':>6}" + "".join(f"{m:>18}" for m in MEASURES))
    for row in report["table"]:
        cells = "".join(f"{_shown(row[m]):>18}" for m in MEASURES)
        print(f"{row['reward']:<20}{len(row['seeds']):>6}{cells}")
    print("difference to graduated, same seed")
    for row in report["against_graduated"]:
        cells = "".join(f"{_shown(row[m], sign='+'):>18}" for m in MEASURES)
        print(f"{row['reward']:<20}{len(row['seeds']):>6}{cells}")
    print(f"gold calls per task: {report['gold_calls_per_task']:.2f}")


def _shown(cell: Mapping[str, Any], sign: str = "") -> str:
    half = cell["half_width_95"]
    return f"{cell['mean']:{sign}.3f}" + ("" if half is None else f" ± {half:.3f}")


def arguments(
    description: str | None, config: Path, name: str, rewards: list[str], iterations: int
) -> argparse.ArgumentParser:
    """The options of an ablation, with its defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rewards", nargs="+", default=rewards, choices=list(REWARDS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--iterations", type=int, default=iterations, help="GRPO steps of every run"
    )
    parser.add_argument("--config", type=Path, default=config)
    parser.add_argument("--set", nargs="*", default=[], metavar="GROUP.KEY=VALUE")
    parser.add_argument("--runs", type=Path, default=Path("runs") / name)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
