"""The runs in a folder, and how a model came from its warm start through GRPO."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orch_env.types import OrchError
from orch_train.storage.runs import RunKind, one_run, runs_in
from orch_train.viewer.run_data import STEP, RunData

_POINTS = 60
_REWARD = "env_runners/episode_return_mean"
_HELD_OUT = {
    "n": "evaluation/n",
    "success": "evaluation/success",
    "greedy": "evaluation/greedy/success",
}


class RunList:
    """The runs below a folder, looked up again at every question: new ones may start.

    Args:
        folder: it holds runs and is none itself.

    Raises:
        OrchError: there is no run in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[Path, RunData] = {}
        self._lock = threading.Lock()
        if not runs_in(folder):
            one_run(folder)  # says what is wrong

    def runs(self) -> dict[str, RunData]:
        """Name below the folder -> run, the newest first."""
        with self._lock:
            found = runs_in(self.folder)
            self._known = {path: self._known.get(path) or RunData(path) for path in found}
            named = {path.relative_to(self.folder).as_posix(): r for path, r in self._known.items()}
        return dict(sorted(named.items(), key=lambda item: item[1].seconds_since_result))

    def chosen(self, names: Sequence[str]) -> list[RunData]:
        """The runs of these names.

        Raises:
            OrchError: one of them is not there.
        """
        runs = self.runs()
        missing = [name for name in names if name not in runs]
        if missing:
            raise OrchError(f"there is no run {missing[0]!r} in {self.folder}")
        return [runs[name] for name in names]

    def overview(self) -> dict[str, Any]:
        """The folder's name and one entry a run: what a table of them shows."""
        runs = self.runs()
        names = {run.folder.resolve(): name for name, run in runs.items()}
        return {
            "name": self.folder.resolve().name,
            "path": str(self.folder),
            "runs": [_entry(name, run, names) for name, run in runs.items()],
        }


def _entry(name: str, run: RunData, names: Mapping[Path, str]) -> dict[str, Any]:
    shown = run.overview()
    rows, curve = run.metrics.rows, "loss" if run.kind is RunKind.WARM_START else _REWARD
    values = [row[curve] for row in rows if curve in row]
    every = max(1, -(-len(values) // _POINTS))
    warm = run.warm_start
    return {
        "name": name,
        "kind": run.kind,
        "status": run.status,
        "step": shown["step"],
        "iterations": shown["iterations"],
        "seconds_since_result": shown["seconds_since_result"],
        "last": {
            key: next((row[metric] for row in reversed(rows) if metric in row), None)
            for key, metric in {
                "loss": "loss",
                "reward": _REWARD,
                "success": "env_runners/success",
                "held_out": "evaluation/success",
            }.items()
        },
        "curve": values[::every],
        "warm_start": None if warm is None else names.get(warm.folder.resolve()),
    }


def history(run: RunData) -> dict[str, Any]:
    """A run from the beginning of its warm start, on one time line.

    Returns:
        ``{warm_start, grpo}``, the first ``None`` if the run has none that is at hand. Each has
        ``name``, ``seconds`` (of training, since the warm start began), its curve (``loss`` or
        ``reward``) and ``held_out``: ``{seconds, n, success, low, high, greedy}`` of each
        measurement.
    """
    warm, before = run.warm_start, 0.0
    first = None
    if warm is not None:
        warm.metrics.look()
        rows = [*warm.metrics.rows, *warm.measured_last()]
        before = max((row.get("time_total_s") or 0.0 for row in rows), default=0.0)
        first = {"name": warm.name, **_curve(rows, "loss", 0.0)}
    run.metrics.look()
    return {
        "warm_start": first,
        "grpo": {"name": run.name, **_curve(run.metrics.rows, _REWARD, before)},
    }


def _curve(rows: list[dict[str, float]], metric: str, start: float) -> dict[str, Any]:
    drawn = [row for row in rows if metric in row and "time_total_s" in row]
    return {
        "seconds": [start + row["time_total_s"] for row in drawn],
        "values": [row[metric] for row in drawn],
        "held_out": [
            {
                "seconds": start + row.get("time_total_s", 0.0),
                "step": row[STEP],
                **{name: row.get(key) for name, key in _HELD_OUT.items()},
                **_interval(row),
            }
            for row in rows
            if "evaluation/success" in row
        ],
    }


def _interval(row: Mapping[str, float]) -> dict[str, float | None]:
    """The 95% interval of held-out success: that of avg@n, which is the same share."""
    ends: dict[str, float | None] = {"low": None, "high": None}
    for name, value in row.items():
        parts = name.split("/")
        if len(parts) == 3 and parts[1].startswith("avg_at_") and parts[2] in ends:
            ends[parts[2]] = value
    return ends
