"""What the viewer says of a run: filters against a plain count, half-written and damaged files."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from orch_env.types import OrchError
from orch_train.trajectory.store import RolloutStore
from orch_train.viewer.api import NotFound, ViewerApi
from orch_train.viewer.rollout_queries import RolloutReader
from orch_train.viewer.run_data import RunData
from orch_train.viewer.run_list import RunList
from tests.orch_train.viewer_runs import (
    HOSTILE_TASK,
    make_quickstart,
    make_run,
    make_warm_start,
    step_replies,
    write_steps,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "three")


@pytest.fixture(scope="module")
def api(run: Path) -> ViewerApi:
    return ViewerApi([RunData(run)])


def _rows(steps: int = 3) -> list[dict[str, Any]]:
    """The list as plain Python makes it."""
    return [
        {"step": s, "task": g.task_id, "group": g.id, "member": t.member, "reward": t.reward}
        for s in range(1, steps + 1)
        for g in (reply.group for reply in step_replies(s))
        for t in g.samples
    ]


@pytest.mark.parametrize(
    ("query", "keep"),
    [
        ({}, lambda r: True),
        ({"step_from": "2", "step_to": "2"}, lambda r: r["step"] == 2),
        ({"task": "<B ON"}, lambda r: r["task"] == HOSTILE_TASK),
        ({"task": '"a"'}, lambda r: r["task"] == "a"),
        ({"task": "%"}, lambda r: "%" in r["task"]),
        ({"success": "no"}, lambda r: r["reward"] < 1),
        ({"stop": "answered"}, lambda r: r["reward"] > 0.5),
        ({"reward_from": "0.5", "reward_to": "0.5"}, lambda r: r["reward"] == 0.5),
        ({"turns_from": "2"}, lambda r: r["reward"] > 0.5),
        ({"text": "Done by 2"}, lambda r: r["member"] == 2),
        ({"text": "onerror=\"alert('xss')"}, lambda r: True),
        ({"group": "3:a", "success": "yes"}, lambda r: r["group"] == "3:a" and r["member"] == 2),
        ({"task": "' OR 1=1 --"}, lambda r: False),
    ],
)
def test_filters_keep_what_a_plain_loop_keeps(api: ViewerApi, query: Any, keep: Any) -> None:
    found = api.answer("rollouts", {**query, "order": "asc"})
    expected = [r for r in _rows() if keep(r)]
    keys = ("step", "group", "member")
    assert [tuple(r[k] for k in keys) for r in found["rows"]] == [
        tuple(r[k] for k in keys) for r in sorted(expected, key=lambda r: (r["step"], r["group"]))
    ]
    assert found["total"] == len(expected)


def test_pages_cover_a_sorted_list_without_gap_or_overlap(api: ViewerApi) -> None:
    query = {"sort": "reward", "order": "desc", "limit": "4"}
    rows: list[Any] = []
    while page := api.answer("rollouts", {**query, "offset": str(len(rows))})["rows"]:
        rows += page
    assert [r["reward"] for r in rows] == sorted((r["reward"] for r in _rows()), reverse=True)
    assert len({(r["step"], r["group"], r["member"]) for r in rows}) == len(_rows())


@pytest.mark.parametrize(
    ("name", "query", "error"),
    [
        ("rollouts", {"sort": "episode; DROP TABLE rollouts"}, OrchError),
        ("rollouts", {"step_from": "x"}, OrchError),
        ("rollouts", {"reward_from": "nan"}, OrchError),
        ("rollouts", {"limit": "1e300"}, OrchError),
        ("rollouts", {"run": "7"}, NotFound),
        ("episode", {"step": "1", "group": "1:a"}, OrchError),
        ("episode", {"step": "1", "group": "none", "member": "0"}, NotFound),
        ("tokens", {"step": "1", "group": "1:a", "member": "99"}, NotFound),
        ("group", {"step": "9", "group": "1:a"}, NotFound),
        ("task", {"task": "none"}, NotFound),
        ("nothing", {}, NotFound),
    ],
)
def test_a_wrong_question_is_told(api: ViewerApi, name: str, query: Any, error: Any) -> None:
    with pytest.raises(error):
        api.answer(name, query)


def test_an_episode_comes_with_its_group_and_its_neighbours(api: ViewerApi) -> None:
    found = api.answer("episode", {"step": "2", "group": "2:a", "member": "2"})
    assert [m["advantage"] for m in found["members"]] == [-0.5, 0.0, 0.5]
    assert found["previous"] == {"step": 2, "group": "2:a", "member": 1}
    assert found["next"] == {"step": 2, "group": f"2:{HOSTILE_TASK}", "member": 0}
    assert found["episode"]["reward"]["calls"][0]["why"] == "Matches gold call 0."
    assert found["prompt"] is None and found["task_record"] is None  # neither is at hand


def test_tokens_are_those_of_the_store(api: ViewerApi) -> None:
    found = api.answer("tokens", {"step": "2", "group": "2:a", "member": "0"})
    assert found["ids"] == [72, 105, 65, 66, 67, 10, 68]
    assert found["logprobs"] == [None, None, -0.0078125, -0.75, -3.5, None, -0.25]
    assert found["versions"] == [-1, -1, 2, 2, 3, -1, 3]
    assert found["turns"] == [[2, 5], [6, 7]] and found["text"] is None


def test_tokens_are_read_by_the_runs_own_tokenizer(
    run: Path, tmp_path: Path, toy_model: Path
) -> None:
    own = tmp_path / "run"
    shutil.copytree(run, own)
    shutil.copytree(toy_model, own / "checkpoints" / "step_3" / "learner" / "model")
    (own / "checkpoints" / "step_3" / "metadata.json").write_text("{}")
    (own / "checkpoints" / "step_20.partial").mkdir()
    asked = {"step": "2", "group": "2:a", "member": "0"}
    read = ViewerApi([RunData(own)])
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(toy_model)
    tokens = read.answer("tokens", asked)
    assert tokens["text"][2:5] == [tokenizer.decode([i]) for i in (65, 66, 67)]
    assert read.answer("episode", asked)["prompt"] == tokenizer.decode([72, 105])


def test_a_run_is_read_while_it_is_written(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "live", 1)
    api = ViewerApi([RunData(folder)])
    assert api.answer("runs", {})["runs"][0]["step"] == 1
    store = RolloutStore(folder / "rollouts.db")  # a writer that stays open
    store.add(2, step_replies(2))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"training_iteration": 2, "x": 1')
        file.flush()
        assert api.answer("runs", {})["runs"][0]["results"] == 1  # half a line is no result
        assert api.answer("rollouts", {})["total"] == 12  # what was committed is seen
        file.write("}\n")
    seen = api.answer("runs", {})["runs"][0]
    assert (seen["results"], seen["problems"]) == (2, [])
    assert api.answer("metrics", {"names": "x"})["columns"] == {"x": [None, 1]}
    assert api.answer("metrics", {"names": "x", "after": "1"})["columns"] == {"x": [1]}
    store.close()


@pytest.mark.parametrize("live", [False, True])
def test_a_run_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live: bool) -> None:
    folder = make_run(tmp_path / "run", 1)
    store = RolloutStore(folder / "rollouts.db") if live else None
    if store is not None:
        store.add(2, step_replies(2))
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir() if p.suffix != ".db-shm"}
    original, opened = sqlite3.connect, []

    def trying(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        database = original(*args, **kwargs)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            database.execute("DELETE FROM rollouts")
        opened.append({p.name for p in folder.iterdir()})
        return database

    monkeypatch.setattr(sqlite3, "connect", trying)
    api = ViewerApi([RunData(folder)])
    for name in ("runs", "rollouts", "tasks"):
        api.answer(name, {})
    after = {p: p.stat().st_mtime_ns for p in folder.iterdir() if p.suffix != ".db-shm"}
    assert after == before and opened
    if store is None:  # not even the log's index is made beside a finished database
        assert set().union(*opened) == {"config.yaml", "metrics.jsonl", "rollouts.db"}
    else:
        store.close()


def test_results_that_a_resumed_run_cut_back_are_gone(tmp_path: Path) -> None:
    from orch_train.run.metrics_file import truncate_metrics

    folder = make_run(tmp_path / "cut", 3)
    api = ViewerApi([RunData(folder)])
    assert api.answer("runs", {})["runs"][0]["step"] == 3
    truncate_metrics(folder, 1)
    assert api.answer("runs", {})["runs"][0]["step"] == 1
    write_steps(folder, 4, 4)
    assert api.answer("metrics", {"names": "training_iteration"})["columns"] == {
        "training_iteration": [1, 4]
    }


def test_an_empty_run_is_shown_as_empty(tmp_path: Path) -> None:
    api = ViewerApi([RunData(make_run(tmp_path / "empty", 0))])
    overview = api.answer("runs", {})["runs"][0]
    assert overview["step"] == 0 and overview["episodes"] is None and overview["problems"] == []
    assert api.answer("tasks", {}) == {"tasks": []}
    with pytest.raises(OrchError, match=r"no rollouts\.db"):
        api.answer("rollouts", {})


@pytest.mark.parametrize(
    "damage", ["no database", "another table", "cut", "bad episode", "bad tokens"]
)
def test_a_damaged_store_is_told_and_the_curves_stay(tmp_path: Path, damage: str) -> None:
    folder = make_run(tmp_path / "bad", 2)
    path = folder / "rollouts.db"
    if damage == "no database":
        path.write_bytes(b"something else altogether" * 99)
    elif damage == "another table":
        path.unlink()
        sqlite3.connect(path).execute("CREATE TABLE x (y)").connection.close()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:9000])
    else:
        column = "episode" if damage == "bad episode" else "tokens"
        with sqlite3.connect(path) as database:
            database.execute(f"UPDATE rollouts SET {column} = 'xx'")
    api = ViewerApi([RunData(folder)])
    overview = api.answer("runs", {})["runs"][0]
    assert overview["step"] == 2
    assert bool(overview["problems"]) == (damage not in ("bad episode", "bad tokens"))
    with pytest.raises(OrchError):
        api.answer(
            "tokens" if damage == "bad tokens" else "episode",
            {"step": "1", "group": "1:a", "member": "0"},
        )


def test_lines_that_are_no_results_are_told_with_their_number(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "lines", 1)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("[1]\n" + "[" * 100_000 + "\n" + json.dumps({"training_iteration": 2}) + "\n")
        file.write(json.dumps({"training_iteration": True}) + "\n")
    overview = RunData(folder).overview()
    assert overview["step"] == 2
    assert [p.split(":")[1] for p in overview["problems"]] == [" line 2", " line 3", " line 5"]


def test_a_configuration_that_is_no_yaml_is_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "yaml", 1)
    (folder / "config.yaml").write_text("a: [1\n  b: !!python/object:os.system {}")
    overview = RunData(folder).overview()
    assert overview["step"] == 1 and "config.yaml cannot be read" in overview["problems"][0]


def test_a_list_never_reads_a_transcript(run: Path) -> None:
    """Every list query is answered by the narrow index alone, so 100,000 episodes stay quick."""
    seen: list[str] = []
    original = sqlite3.connect

    def spying(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        database = original(*args, **kwargs)
        database.set_trace_callback(seen.append)
        return database

    reader = RolloutReader(run / "rollouts.db")
    api = ViewerApi([RunData(run)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", spying)
        reader.facets()
        api.answer("rollouts", {"sort": "reward", "stop": "answered", "offset": "3"})
        api.answer("rollouts", {"task": "a", "reward_from": "0.1"})
        api.answer("tasks", {})
    assert len(seen) >= 7
    with original(run / "rollouts.db") as database:
        for query in seen:
            plan = " ".join(r[3] for r in database.execute(f"EXPLAIN QUERY PLAN {query}"))
            assert "COVERING INDEX" in plan, (query, plan)


def test_tasks_of_two_runs_stand_side_by_side(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", 1)
    api = ViewerApi([RunData(run), RunData(other)])
    tasks = {row["task"]: row["runs"] for row in api.answer("tasks", {})["tasks"]}
    assert tasks["a"][0]["n"] == 9 and tasks["a"][1]["n"] == 3
    assert tasks["a"][0]["reward"] == 0.5 and tasks["a"][0]["success"] == pytest.approx(1 / 3)
    groups = api.answer("task", {"task": "a"})["groups"]
    assert [g["step"] for g in groups] == [3, 1]


def test_a_folder_of_runs_lists_kind_status_and_newest_results(tmp_path: Path) -> None:
    folder = make_quickstart(tmp_path / "quickstart")
    (folder / "grpo" / "metrics.jsonl").touch()
    listed = ViewerApi(RunList(folder)).answer("runs", {})
    assert listed["runs"] == [] and listed["folder"]["name"] == "quickstart"
    grpo, sft = listed["folder"]["runs"]
    assert (grpo["name"], grpo["kind"], grpo["status"]) == ("grpo", "GRPO", "finished")
    assert (sft["name"], sft["kind"], sft["status"]) == ("sft", "warm start", "finished")
    assert grpo["warm_start"] == "sft" and grpo["step"] == grpo["iterations"] == 3
    assert grpo["last"]["reward"] == 0.75 and sft["last"]["loss"] == 0.5
    assert grpo["curve"] == [0.75] * 3 and sft["curve"] == [2.0, 1.0, 0.5]


def test_a_question_names_the_runs_of_the_folder_that_it_is_about(tmp_path: Path) -> None:
    api = ViewerApi(RunList(make_quickstart(tmp_path / "quickstart")))
    chosen = api.answer("runs", {"of": "sft", "with": "grpo"})
    assert [run["name"] for run in chosen["runs"]] == ["sft", "grpo"]
    assert chosen["folder"]["name"] == "quickstart"
    assert api.answer("rollouts", {"of": "grpo"})["total"] == 18
    with pytest.raises(OrchError, match="no run 'none'"):
        api.answer("rollouts", {"of": "../three"} | {"of": "none"})


def test_a_run_that_starts_later_is_listed_and_runs_may_lie_deeper(tmp_path: Path) -> None:
    make_quickstart(tmp_path / "quickstart")
    runs = RunList(tmp_path)
    make_run(tmp_path / "later", 1)
    make_run(tmp_path / ".hidden", 1)
    (tmp_path / "notes").mkdir()
    assert set(runs.runs()) == {"later", "quickstart/grpo", "quickstart/sft"}
    with pytest.raises(OrchError, match="no run below it"):
        RunList(tmp_path / "notes")


def test_loss_and_reward_stand_on_one_time_line(tmp_path: Path) -> None:
    folder = make_quickstart(tmp_path / "quickstart")
    moved = folder.rename(tmp_path / "moved")
    found = ViewerApi([RunData(moved / "grpo")]).answer("history", {})
    warm, grpo = found["warm_start"], found["grpo"]
    assert warm["seconds"] == [1.0, 2.0, 3.0] and warm["values"] == [2.0, 1.0, 0.5]
    # The one at the end stands in the summary alone.
    assert [(m["step"], m["success"]) for m in warm["held_out"]] == [(2, 0.125), (3, 0.25)]
    assert grpo["seconds"] == [3.0 + 3.5, 3.0 + 7.0, 3.0 + 10.5]
    [before, after] = grpo["held_out"]
    assert before["seconds"] == 3.0 and before["success"] == 0.25 and before["n"] == 16
    assert (after["low"], after["high"]) == (0.5, 0.9)
    assert ViewerApi([RunData(moved / "sft")]).answer("history", {})["warm_start"] is None


def test_a_warm_start_can_be_looked_at(tmp_path: Path) -> None:
    run = RunData(make_warm_start(tmp_path / "base-sft"))
    shown = run.overview()
    assert shown["problems"] == [] and shown["step"] == 3 and "loss" in shown["metrics"]


@pytest.mark.parametrize(
    ("summary", "status"),
    [('{"interrupted": true}', "interrupted"), ("", "unfinished"), ("[]", "unfinished")],
)
def test_a_run_that_did_not_end_says_so(tmp_path: Path, summary: str, status: str) -> None:
    folder = make_run(tmp_path / "run", 2)
    (folder / "config.yaml").write_text("training: {iterations: 9}\n")
    (folder / "summary.json").write_text(summary)
    assert RunData(folder).status == status
    later = (folder / "summary.json").stat().st_mtime + 5
    os.utime(folder / "metrics.jsonl", (later, later))  # it was resumed since
    assert RunData(folder).status == "unfinished"


def test_components_that_count_are_known_by_the_reward(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", 1)
    (folder / "config.yaml").write_text("environment: {env_config: {reward: graduated}}\n")
    counts = RunData(folder).overview()["counts"]
    assert {"extra_calls", "failed_calls"} <= set(counts) and "matched" not in counts
