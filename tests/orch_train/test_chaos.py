"""The chaos run of `benchmarks.chaos`, a third as long: its exit status says whether it held."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
@pytest.mark.timeout(900)
def test_training_goes_on_while_runners_engines_and_nodes_are_killed() -> None:
    command = [sys.executable, "-m", "benchmarks.chaos", "--steps", "20", "--kills", "8"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=850
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "20 steps, 8 kills" in done.stdout
