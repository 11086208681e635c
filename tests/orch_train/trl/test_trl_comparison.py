"""The comparison with TRL in small: both sides do the same work, and ours does not take longer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.adapters,
    pytest.mark.long,
    pytest.mark.skipif(
        not Path(".venv-adapters/bin/python").exists(),
        reason="TRL is not installed: run `make adapters`",
    ),
]


def test_both_sides_do_the_same_work_and_ours_does_not_take_longer(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    command = ["-m", "benchmarks.trl_comparison", "--rows", "tiny", "--runs", "1", "--steps", "6"]
    done = subprocess.run(
        [sys.executable, *command, "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    row = json.loads(out.read_text())["rows"]["tiny"]
    assert row["work"]["ours"] == row["work"]["trl"]
    # A quiet machine says 0.3; the slack is for a busy one.
    assert row["ratio"]["total"] < 1.2
    assert out.with_suffix(".png").stat().st_size > 1000
