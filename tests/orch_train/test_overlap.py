"""Small forms of the benchmarks of sampling ahead and of recovery.

The ordinary tier claims that sampling ahead runs, what is reported, and what is counted. How fast
anything was depends on what else the machine does: the long tier judges that, by the benchmarks'
``--check`` and its slack. That the checks can fail is tested beside them.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.overlap import Row, within_slack

OVERLAP = ("benchmarks.overlap", "--repeats", "1")
RECOVERY = ("benchmarks.recovery", "--repeats", "1")


def _run(*arguments: str) -> str:
    """What a module prints that ends with 0."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return done.stdout


def _report(out: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """What a benchmark prints, and its report."""
    return _run(*arguments, "--out", str(out)), json.loads(out.read_text())


def test_the_overlap_benchmark_reports_every_figure_and_keeps_to_the_staleness(
    tmp_path: Path,
) -> None:
    short = (*OVERLAP, "--steps", "3", "--scale", "80")
    printed, report = _report(tmp_path / "overlap.json", *short)
    ids = ["C1", "C1", "C1", "C2", "C3", "C3", "C3", "C5", "C5"]
    assert [line.split()[0] for line in printed.splitlines()] == ids
    assert [row["id"] for row in report["results"]] == ids
    assert (report["config"]["steps"], report["config"]["repeats"]) == (3, 1)
    assert report["machine"]["cores"] >= 1
    for row in report["results"]:
        assert set(row) == {field.name for field in fields(Row)} | {"holds"}
        assert math.isfinite(row["median"]) and row["lowest"] <= row["median"] <= row["highest"]
    pairs = [row["values"] for row in report["results"] if "ahead" in row["values"]]
    assert [pair["in_step"]["max_staleness"] for pair in pairs] == [0] * 5
    # S = 1, 1, 1, 2, and 1 with stragglers that may come one step later.
    for pair, most in zip(pairs, (1, 1, 1, 2, 2), strict=True):
        assert pair["ahead"]["max_staleness"] <= most


@pytest.mark.long
def test_sampling_overlaps_with_learning_and_its_own_code_costs_little() -> None:
    """Claims speed: every figure is at least 0.7, or at most 2.5 times, what is asked for."""
    _run(*OVERLAP, "--steps", "8", "--check")


@pytest.mark.parametrize(
    ("what", "hold", "without_overlap"), [("C1, constant", 0.90, 1 / 1.8), ("C3, S = 1", 2.0, 1.0)]
)
def test_a_sampler_that_does_not_overlap_is_seen(
    what: str, hold: float, without_overlap: float
) -> None:
    row = Row("C", what, hold, hold, hold, hold=hold, at_least=True, values={})
    assert within_slack(row) and not within_slack(replace(row, median=without_overlap))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_sampling_goes_on_after_a_killed_runner_and_a_killed_node(tmp_path: Path) -> None:
    printed, report = _report(tmp_path / "recovery.json", *RECOVERY)
    assert "runner killed" in printed and "node killed" in printed
    assert report["config"] == {"repeats": 1, "model": "tiny"}
    assert set(report["results"]) == {"seconds", "over_start", "hold_s"}
    assert {kind: len(found) for kind, found in report["results"]["seconds"].items()} == {
        "start": 1,
        "runner": 1,
        "node": 1,
    }


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_killed_runner_and_a_killed_node_cost_a_start_and_little_more() -> None:
    """Claims speed: the first group after a kill comes at most 20 s later than after a start."""
    _run(*RECOVERY, "--check")
