"""The environment's benchmark in its small form: what it reports, never how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.env_speed import HARBOUR, rows_of
from benchmarks.env_speed_episodes import gold_scripts, message_scripts, play
from benchmarks.env_speed_sections import compare_messages
from orch_env import ToolCall, ToolOrchestrationEnv, load_tasks, save_tasks
from orch_env.formats import get_format

ROOT = Path(__file__).parent.parent
FIGURES = {
    "harbour_x10": {"open_s", "first_pass_steps_per_s", "later_steps_per_s"},
    "cache_get": {"get_per_s", "bare_per_s", "get_over_bare", "call_key_us", "json_loads_us"},
    "harbour_live": {"reset_us", "step_us", "early_steps_us", "late_steps_us"},
    "harbour_replay": {
        "open_s",
        "first_pass_steps_per_s",
        "later_steps_per_s",
        "reset_us",
        "call_step_us",
        "last_step_us",
        "last_step_of_5_calls_us",
    },
    "calls_and_files": {
        "call_step_functions",
        "call_step_files",
        "last_step_functions",
        "last_step_files",
    },
}


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.env_speed", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    out = tmp_path_factory.mktemp("env_speed") / "small.json"
    done = _run("--small", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    report: Mapping[str, Any] = json.loads(out.read_text())
    return {**report, "printed": done.stdout}


def test_every_section_reports_its_figures_and_what_they_were_taken_on(
    small: Mapping[str, Any],
) -> None:
    sections = small["sections"]
    assert small["benchmark"] == "env_speed" and small["config"]["small"]
    assert {"cpu", "python", "commit", "uncommitted_changes"} <= small["machine"].keys()
    # step_message is there or left out with a reason, as the environment takes messages or not.
    assert {*sections, *small["left_out"]} == {*FIGURES, "step_message"}
    for name, figures in FIGURES.items():
        assert figures <= sections[name]["figures"].keys()
        assert name in small["printed"]
    for section in sections.values():
        for figure in section["figures"].values():
            if isinstance(figure, dict):
                assert figure["min"] <= figure["median"] <= figure["max"]


def test_the_counts_are_those_of_the_tasks_that_were_played(small: Mapping[str, Any]) -> None:
    counts = {name: section["counts"] for name, section in small["sections"].items()}
    assert counts["harbour_replay"]["tasks"] == 8
    assert counts["harbour_x10"] == {k: 10 * n for k, n in counts["harbour_replay"].items()}
    assert counts["harbour_live"] == {"episodes": 5, "turns": 200, "different_calls": 21}
    assert counts["cache_get"]["calls"] == counts["cache_get"]["json_texts"] > 7_000


def test_the_answers_step_runs_more_of_the_package_than_a_call(small: Mapping[str, Any]) -> None:
    section = small["sections"]["calls_and_files"]
    figures, ran = section["figures"], section["ran"]
    for step in ("call_step", "last_step"):
        assert len(ran[step]) == figures[f"{step}_functions"] > figures[f"{step}_files"] > 0
    assert figures["last_step_files"] > figures["call_step_files"]
    assert any("ToolOrchestrationEnv.step" in line for line in ran["call_step"])


def test_booking_sections_are_left_out_with_a_reason_where_their_data_is_missing(
    tmp_path: Path,
) -> None:
    rows, left_out = rows_of(None, HARBOUR, small=False)
    assert not {row.name for row in rows} & left_out.keys()
    assert {*(row.name for row in rows), *left_out} == {
        row.name for row in rows_of(HARBOUR, HARBOUR, small=False)[0]
    }
    done = _run("--data", str(tmp_path), "--only", "booking", "cache_get")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "booking is left out: ComplexFuncBench is not there" in done.stdout
    assert "cache_get is left out" in done.stdout


def test_a_section_that_does_not_exist_is_refused() -> None:
    done = _run("--only", "bookings")
    assert done.returncode == 2 and "no section bookings" in done.stderr


class TakesMessages(ToolOrchestrationEnv):
    """Takes messages by writing them as text."""

    def step_message(
        self, message: Mapping[str, Any]
    ) -> tuple[str, float, bool, bool, dict[str, Any]]:
        calls = [
            ToolCall(call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls", ())
        ]
        return self.step(get_format("hermes").render_calls(calls) if calls else message["content"])


def test_messages_and_texts_play_the_same_episodes(tmp_path: Path) -> None:
    tasks = load_tasks("harbour")[::400]
    save_tasks(tasks, tmp_path / "tasks.jsonl")
    env = TakesMessages(str(tmp_path / "tasks.jsonl"), "harbour")
    by_text, by_message = gold_scripts(tasks), message_scripts(tasks)
    assert [len(one.actions) for one in by_text] == [len(one.actions) for one in by_message]
    (text, message) = (by_text[-1:], by_message[-1:])
    play(env, text)
    digest = env.episode.digest
    play(env, message, env.step_message)
    assert env.episode.digest == digest
    found = compare_messages(env, passes=1)
    assert found["counts"]["tasks"] == 3
    assert found["figures"].keys() == {"text_step_us", "message_step_us"}


def test_an_episode_that_does_not_end_in_success_is_no_measurement() -> None:
    env = ToolOrchestrationEnv("harbour")
    first, second = gold_scripts(env.tasks[:2])
    with pytest.raises(SystemExit, match="ends as it should not"):
        play(env, [type(first)(first.task_id, second.actions, second.calling, 0)])
    env.close()
