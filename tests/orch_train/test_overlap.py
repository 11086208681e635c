"""Small forms of the benchmarks of sampling ahead and of recovery, with slack for a busy machine.

Each judges itself by ``--check``; that the checks can fail is tested beside them.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.overlap import Row, within_slack


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_sampling_overlaps_with_learning_and_its_own_code_costs_little() -> None:
    done = _run("benchmarks.overlap", "--steps", "8", "--repeats", "1", "--check")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert [line.split()[0] for line in done.stdout.splitlines()].count("C3") == 3


@pytest.mark.parametrize(
    ("what", "hold", "without_overlap"), [("C1, constant", 0.90, 1 / 1.8), ("C3, S = 1", 2.0, 1.0)]
)
def test_a_sampler_that_does_not_overlap_is_seen(
    what: str, hold: float, without_overlap: float
) -> None:
    row = Row("C", what, hold, hold, hold, hold=hold, at_least=True, values={})
    assert within_slack(row) and not within_slack(replace(row, median=without_overlap))


@pytest.mark.timeout(300)
def test_a_killed_runner_and_a_killed_node_cost_a_start_and_little_more() -> None:
    done = _run("benchmarks.recovery", "--repeats", "1", "--check")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "runner killed" in done.stdout and "node killed" in done.stdout
