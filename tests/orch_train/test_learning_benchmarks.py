"""The logic of the benchmarks of learning from synthesised tasks: verdicts, tables, their tasks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.learning_runs import evaluations, gain_of
from benchmarks.reward_ablation import REWARDS, WARM_START, finished
from benchmarks.reward_sparse import JOB as LONG_JOB
from benchmarks.reward_sparse import QUICK_JOB as QUICK_LONG_JOB
from benchmarks.synthesis_learning import verdict
from benchmarks.synthesised_tasks import links_of, synthesised, within_reach
from orch_env import load_tasks, open_cache
from orch_env.types import GoldCall, Task

ROOT = Path(__file__).resolve().parents[2]


def _rate(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": max(0.0, mean - 0.1), "high": min(1.0, mean + 0.1)}


def _measured(before: float, after: float, frozen: float, longer: float) -> dict[str, Any]:
    means = {"warm_start": before, "grpo": after, "frozen": frozen, "longer": longer}
    return {name: {"success": _rate(mean)} for name, mean in means.items()}


def test_a_seed_passes_with_the_gain_and_above_both_controls() -> None:
    found = verdict(_measured(0.25, 0.5, 0.25, 0.45))
    assert found["passes"]
    assert found["gain"]["mean"] == pytest.approx(0.25)
    assert found["over"]["longer"]["mean"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("after", "frozen", "longer"), [(0.44, 0.2, 0.3), (0.5, 0.2, 0.5), (0.5, 0.6, 0.3)]
)
def test_a_small_gain_or_one_control_as_good_is_a_miss(
    after: float, frozen: float, longer: float
) -> None:
    assert not verdict(_measured(0.25, after, frozen, longer))["passes"]


def test_a_gain_is_as_uncertain_as_both_rates() -> None:
    gain = gain_of(_rate(0.3), _rate(0.6))
    assert gain["low"] == pytest.approx(0.3 - 0.1 * 2**0.5)
    assert gain["high"] == pytest.approx(0.3 + 0.1 * 2**0.5)


def test_seconds_before_a_measurement_leave_the_measurements_out(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"training_iteration": 0, "evaluation": {"n": 1}},
        {"training_iteration": 1, "time_this_iter_s": 5.0, "timers": {}},
        {
            "training_iteration": 2,
            "time_this_iter_s": 9.0,
            "timers": {"evaluation": 3.0},
            "evaluation": {"n": 2},
        },
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert list(evaluations(tmp_path)) == [(0, 0.0, {"n": 1}), (2, 11.0, {"n": 2})]


def _run(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    measured = {
        "success": 0.5,
        "greedy": {"success": 0.5},
        "call_accuracy": 0.5,
        "turn_accuracy": 0.5,
        "tool_calls_mean": 3.0,
        "reward_mean": 0.5,
        "n": 4,
    }
    summary = {"seed": seed, "training_iteration": 1, "evaluation": {"last": measured}}
    (folder / "summary.json").write_text(json.dumps(summary))
    step = {"success": 0.5, "episode_return_mean": 0.5, "tool_calls_mean": 3.0}
    line = {"training_iteration": 1, "env_runners": step, "time_this_iter_s": 1.0}
    (folder / "metrics.jsonl").write_text(json.dumps(line))


def test_only_seeds_with_every_reward_that_was_asked_for_are_compared(tmp_path: Path) -> None:
    for name in (WARM_START, "graduated", "binary", "paper"):
        _run(tmp_path / "seed-0" / name.replace(" ", "-"), 0)
    _run(tmp_path / "seed-1" / "graduated", 1)
    rows = finished(tmp_path, ["graduated", "binary"])
    assert {(row["reward"], row["seed"]) for row in rows} == {
        (WARM_START, 0),
        ("graduated", 0),
        ("binary", 0),
        ("paper", 0),
    }
    assert finished(tmp_path, list(REWARDS)) == []


def test_long_tasks_are_of_the_wanted_length_and_their_splits_share_no_workflow(
    tmp_path: Path,
) -> None:
    data, settings = synthesised(ROOT / LONG_JOB, tmp_path / "tasks", QUICK_LONG_JOB)
    tasks = load_tasks(tmp_path / "tasks" / "tasks.jsonl")
    assert len(tasks) == 12 and {len(t.gold_calls) for t in tasks} == {5}
    homes = {(t.metadata["template"], t.metadata["split"]) for t in tasks}
    assert {split for _, split in homes} == {"train", "heldout"}
    assert len({template for template, _ in homes}) == len(homes)
    assert data["shared_templates"] == 0
    held_out = links_of(t for t in tasks if t.metadata["split"] == "heldout")
    trained = links_of(t for t in tasks if t.metadata["split"] == "train")
    assert {tuple(link) for link in data["new_links"]} == held_out - trained
    assert all(split["within_reach"] == 1.0 for split in data["splits"].values())
    assert [text.partition("=")[0] for text in settings] == [
        "environment.env_config.tasks",
        "evaluation.tasks",
    ]


def test_a_link_is_a_tool_that_reads_another_tools_result() -> None:
    task = load_tasks("harbour/heldout")[0]
    assert [call.name for call in task.gold_calls[:2]] == ["find_ship", "ship_cargo"]
    assert ("find_ship", "ship_cargo") in links_of([task])
    assert all(reader != "find_ship" for _, reader in links_of([task]))


@pytest.mark.parametrize(
    ("response", "reach"),
    [({"rows": [1, 2]}, 1.0), ({"rows": [1, 2, 3]}, 0.0), ({"text": "x" * 900}, 0.0)],
)
def test_a_result_with_many_candidates_or_much_text_is_out_of_reach(
    tmp_path: Path, response: dict[str, Any], reach: float
) -> None:
    cache = open_cache(tmp_path / "cache.db", write=True)
    cache.put("look", {"name": "a"}, json.dumps(response))
    cache.commit()
    call = GoldCall("look", {"name": "a"})
    task = Task(id="t", messages=({"role": "user", "content": "a"},), gold=((call,),))
    assert within_reach([task], cache) == reach


@pytest.mark.long
@pytest.mark.parametrize(
    ("module", "more"), [("synthesis_learning", []), ("reward_sparse", ["--seeds", "0"])]
)
def test_a_benchmark_runs_in_small_and_a_rerun_trains_nothing(
    module: str, more: list[str], tmp_path: Path
) -> None:
    seeds = ["--seeds", "0"]
    command = [sys.executable, "-m", f"benchmarks.{module}", "--quick", *seeds, *more]
    command += ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out.json")]
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr[-2000:]
        report = json.loads((tmp_path / "out.json").read_text())
        assert report["quick"] and report["data"]["shared_templates"] == 0
        assert (tmp_path / "out.png").stat().st_size > 1000
    assert "step 1/1" not in done.stderr
