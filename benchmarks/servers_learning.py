"""Does the reader model learn tasks over the servers? Every seed, beside a frozen control.

For each seed: a warm start on imperfect demonstrations, GRPO from it, and the same run with a
learning rate that changes no weight. The control samples the held-out tasks with other dice, so its
figures move as far as chance alone moves them. Prints a table, writes JSON, draws the curves.

    python -m benchmarks.servers_learning
    python -m benchmarks.servers_learning --seeds 0 --runs runs/servers_learning --out /tmp/s.json

A seed's runs that are finished in ``RUNS/seed-N/{grpo,frozen}`` are read and not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.learning_runs import Panel, draw_panels, evaluations, frozen_control, gain_of
from benchmarks.report import machine, write_report
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.cli.quickstart import run_quickstart

RESULTS = Path("benchmarks/results")
CONFIG = Path("configs/servers.yaml")
GATE = 0.15


def main() -> int:
    """Run or read every seed, print, write, draw; exit code 1 if one of them misses the gate."""
    options = _arguments()
    rows = [_seed(seed, options.runs / f"seed-{seed}", options.config) for seed in options.seeds]
    _print(rows)
    report = {
        "benchmark": "servers_learning",
        "config": GRPOConfig().from_yaml(options.config).to_dict(),
        "machine": machine(),
        "gate": GATE,
        "seeds": rows,
    }
    write_report(options.out, report)
    _draw(rows, options.out.with_suffix(".png"))
    print(f"wrote {options.out} and {options.out.with_suffix('.png')}")
    return 0 if all(row["passes"] for row in rows) else 1


def _seed(seed: int, folder: Path, config: Path) -> dict[str, Any]:
    if not (folder / "grpo" / "summary.json").is_file():
        run_quickstart(seed=seed, out=folder, config=config)
    if not (folder / "frozen" / "summary.json").is_file():
        frozen_control(folder / "grpo", folder / "frozen")
    curve, frozen = _curve(folder / "grpo"), _curve(folder / "frozen")
    gain = gain_of(curve[0]["success"], curve[-1]["success"])
    warm = json.loads((folder / "sft" / "summary.json").read_text())
    return {
        "seed": seed,
        "warm_start": {key: warm[key] for key in ("stop", "steps", "epochs", "demonstrations")},
        "curve": curve,
        "frozen": frozen,
        "gain": gain,
        "passes": gain["mean"] >= GATE and gain["low"] > 0,
    }


def _curve(folder: Path) -> list[dict[str, Any]]:
    """Sampled held-out success at each evaluation, with its interval, by domain as well."""
    return [
        {
            "step": step,
            "n": measured["n"],
            "success": measured["avg_at_1"],
            "reward_mean": measured["reward_mean"],
            "by_domain": {
                name: found["avg_at_1"]["mean"] for name, found in measured["by_domain"].items()
            },
        }
        for step, _, measured in evaluations(folder)
    ]


def _print(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        first, last, frozen = row["curve"][0], row["curve"][-1], row["frozen"][-1]
        print(
            f"seed {row['seed']}  {first['n']} held-out tasks  before {_rate(first['success'])}  "
            f"after {last['step']} steps {_rate(last['success'])}  gain {_rate(row['gain'])}  "
            f"frozen {_rate(frozen['success'])}  {'ok' if row['passes'] else 'MISSES'}"
        )
        for name, before in first["by_domain"].items():
            print(f"  {name:<12}{before:6.2f}{last['by_domain'][name]:6.2f}")


def _rate(found: dict[str, float]) -> str:
    return f"{found['mean']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    panels = [
        Panel(
            f"seed {row['seed']}",
            [
                (label, colour, [(p["step"], p["success"]) for p in row[key]])
                for key, label, colour in (
                    ("curve", "GRPO", "#3566a8"),
                    ("frozen", "frozen", "#b0602f"),
                )
            ],
        )
        for row in rows
    ]
    measured = f"held-out success, sampled ({rows[0]['curve'][0]['n']} tasks)"
    draw_panels(panels, "GRPO steps after the warm start", measured, path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--runs", type=Path, default=Path("runs/servers_learning"))
    parser.add_argument("--out", type=Path, default=RESULTS / "servers_learning.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
