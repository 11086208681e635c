"""Rows for other frameworks: their columns, what they must not hold, and `orch export-rows`."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orch_env import EpisodeSource, OrchError, save_tasks
from orch_env.cli.main import main
from orch_env.tasks.files import BUNDLED
from orch_env.tasks.framework_rows import FRAMEWORKS, framework_rows
from orch_env.tasks.selection import load_split
from orch_env.types.json import leaves

HARBOUR = EpisodeSource("harbour")


def keys_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_no_row_holds_what_only_gold_knows(framework: str) -> None:
    rows = framework_rows(framework, HARBOUR.rows("heldout"))
    searched = 0
    for task, row in zip(load_split("harbour", "heldout"), rows, strict=True):
        said = json.dumps(row)
        prompt = json.dumps(task.messages)
        for call in task.gold_calls:
            for _, value in leaves(call.arguments):
                if f"{value}" not in prompt:
                    searched += 1
                    assert f"{value}" not in said, (task.id, value)
        assert not keys_of(row) & {"gold", "answer", "final_state", "provenance", "response"}
    assert searched > 100


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_answer_and_the_final_state_stay_behind(framework: str, tmp_path: Path) -> None:
    task = replace(
        load_split("harbour")[0], answer="SECRET-ANSWER", final_state={"berths": "SECRET-STATE"}
    )
    save_tasks([task], tmp_path / "tasks.jsonl")
    shutil.copy(BUNDLED / "harbour" / "cache.db", tmp_path / "cache.db")
    assert "SECRET" in (tmp_path / "tasks.jsonl").read_text()
    source = EpisodeSource(str(tmp_path / "tasks.jsonl"), str(tmp_path / "cache.db"))
    [row] = framework_rows(framework, source.rows())
    assert "SECRET" not in json.dumps(row)


def test_each_framework_finds_its_columns() -> None:
    [trl], [verl], [skyrl], [nemo] = (
        list(framework_rows(name, [next(HARBOUR.rows())])) for name in FRAMEWORKS
    )
    task = load_split("harbour")[0]
    assert trl["task_id"] == skyrl["task_id"] == task.id == trl["prompt"][0]["task_id"]
    assert verl["prompt"] == skyrl["prompt"] == list(task.messages)
    assert verl["agent_name"] == skyrl["env_class"] == "orch_env"
    assert verl["extra_info"] == {"index": 0, "task_id": task.id, "seed": 0, "split": "train"}
    assert nemo["verifier_metadata"] == {"task_id": task.id, "seed": 0}
    asked = nemo["responses_create_params"]
    assert asked["input"] == list(task.messages)
    assert {t["name"] for t in asked["tools"]} == {t.name for t in HARBOUR.tools(task.id)}
    assert asked["tools"][0]["strict"] is False and "function" not in asked["tools"][0]


def test_an_unknown_framework_is_one_clear_line() -> None:
    with pytest.raises(OrchError, match="rows are written for trl, verl, skyrl, nemo_gym; got 'x'"):
        framework_rows("x", [])


def export(*words: str) -> int:
    return main(["export-rows", *words])


def test_the_command_writes_a_line_a_task_and_says_how_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.jsonl.gz"
    given = ("--for", "verl", "--tasks", "harbour", "--split", "heldout", "--out", str(out))
    assert export(*given, "--json") == 0
    said = capsys.readouterr()
    lines = gzip.decompress(out.read_bytes()).decode().splitlines()
    assert json.loads(said.out) == {"rows": len(lines), "path": str(out)} and said.err == ""
    written = [json.loads(line) for line in lines]
    assert written == list(framework_rows("verl", HARBOUR.rows("heldout")))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--for", "gym", "--tasks", "harbour"), "'gym' is not one of"),
        (("--for", "trl", "--tasks", "nowhere"), "'nowhere' does not exist"),
        (("--for", "trl", "--tasks", "harbour", "--split", "dev"), "no split 'dev'"),
        (("--for", "trl", "--tasks", "harbour", "--out", "/no/rows.jsonl"), "does not exist"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    words: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = () if "--out" in words else ("--out", str(tmp_path / "rows.jsonl"))
    assert export(*words, *out) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_parquet_file_needs_pyarrow_and_the_old_file_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    out = tmp_path / "rows.parquet"
    out.write_text("old")
    assert export("--for", "verl", "--tasks", "harbour", "--out", str(out)) == 2
    assert "pip install pyarrow" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]
    assert out.read_text() == "old"


def test_rows_with_tools_are_no_parquet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.parquet"
    assert export("--for", "nemo_gym", "--tasks", "harbour", "--out", str(out)) == 2
    assert "write to a .jsonl file" in capsys.readouterr().err and not out.exists()
