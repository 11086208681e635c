"""The picture of the reward ablation: what each reward taught, and the way there."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PANELS = (
    ("success", "held-out success, T = 1"),
    ("call_accuracy", "call accuracy"),
    ("turn_accuracy", "turn accuracy"),
    ("tool_calls", "calls per task"),
)
_COLOURS = ("#3566a8", "#6c9bd2", "#9cc3e6", "#555555", "#b0602f", "#3d8b5f", "#8a5aa8")
_SMOOTH = 5
_SPARSE = 0.5
"""A measure whose values are all below has a scale of its own instead of 0 to 1."""


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw one panel per measure (dots: seeds; bars: mean and 95% interval) and the curves."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(_PANELS) + 1, figsize=(17, 4.2), width_ratios=[1] * len(_PANELS) + [1.7]
    )
    table = report["table"]
    names = [row["reward"] for row in table]
    colours = dict(zip([n for n in names if n != "warm start"], _COLOURS, strict=False))
    for axis, (measure, title) in zip(axes, _PANELS, strict=False):
        for place, row in enumerate(table):
            cell, colour = row[measure], colours.get(row["reward"], "#999999")
            axis.errorbar(
                cell["mean"],
                place,
                xerr=cell["half_width_95"] or 0,
                fmt="s",
                color=colour,
                capsize=3,
            )
            axis.plot(cell["values"], [place + 0.22] * len(cell["values"]), ".", color=colour)
        axis.set_yticks(range(len(names)), names if axis is axes[0] else [""] * len(names))
        axis.invert_yaxis()
        most = max(value for row in table for value in row[measure]["values"])
        axis.set_xlim(0, _end(most))
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3, axis="x")
    axes[3].axvline(report["gold_calls_per_task"], color="#999999", ls=":", label="gold")
    axes[3].legend(fontsize=8)
    _curves(axes[-1], report, colours)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def _curves(axis: Any, report: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    most = 0.0
    for name, colour in colours.items():
        runs = [r["curve"] for r in report["runs"] if r["reward"] == name]
        steps = min(len(curve) for curve in runs)
        means = [statistics.fmean(curve[i]["success"] for curve in runs) for i in range(steps)]
        smooth = [statistics.fmean(means[max(0, i - _SMOOTH + 1) : i + 1]) for i in range(steps)]
        axis.plot(range(1, steps + 1), smooth, color=colour, label=name)
        most = max([most, *smooth])
    axis.set_title(f"success of training episodes, mean of the last {_SMOOTH} steps", fontsize=10)
    axis.set_xlabel("GRPO step")
    axis.set_ylim(0, _end(most))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="lower right")


def _end(most: float) -> float | None:
    """Where the axis of a measure ends: rates at 1, unless all are small; else by themselves."""
    return 1 if _SPARSE < most <= 1 else None
