"""The servers' benchmark in its small form: what it reports, never how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.servers import CALLS, tasks_of
from orch_env.servers import server_type

ROOT = Path(__file__).parent.parent


def test_it_measures_every_tool_and_plays_episodes_that_succeed(tmp_path: Path) -> None:
    out = tmp_path / "servers.json"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.servers",
            "--small",
            "--servers=vehicle",
            f"--out={out}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    report = json.loads(out.read_text())
    found = report["sections"]["vehicle"]
    assert set(found["tools"]) == set(server_type("vehicle").tools)
    for figure in ("first_session_ms", "session_us", "call_us", "session_over_bare"):
        assert 0 < found[figure]["min"] <= found[figure]["median"] <= found[figure]["max"]
        assert figure in done.stdout
    assert report["episodes"]["tasks"] == len(list(tasks_of(["vehicle"], 3)))
    assert report["episodes"]["per_s"] > 0 and report["episodes"]["processes"] == 2


def test_its_tasks_have_three_calls_and_a_final_state_where_one_writes() -> None:
    tasks = list(tasks_of(["vehicle"], 2))
    assert len(tasks) > 10
    for task in tasks:
        assert sum(map(len, task.gold)) == CALLS
        writes = any(
            not server_type("vehicle").tools[call.name].spec.read_only
            for step in task.gold
            for call in step
        )
        assert bool(task.final_state) == writes
