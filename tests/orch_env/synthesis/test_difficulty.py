"""Tasks are kept by how often a policy solves them; what was played is not played again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from orch_env import load_tasks, save_tasks
from orch_env.cli.main import main
from orch_env.synthesis.pipeline.difficulty import PassRates, keep
from orch_env.types import OrchError
from tests.orch_env.chat_server import chat_server

TASKS = [task for task in load_tasks("harbour") if len(task.gold_calls) == 2][:6]


def _alternate(played: list[str]) -> Any:
    """Solves even tasks always, odd ones every other time."""

    def play(names: Sequence[str]) -> Iterator[tuple[str, bool]]:
        for name in names:
            even = int(TASKS.index(next(t for t in TASKS if t.id == name))) % 2 == 0
            played.append(name)
            yield name, even or played.count(name) % 2 == 0

    return play


def test_each_task_is_played_k_times_and_its_rate_is_kept(tmp_path: Path) -> None:
    rates = PassRates(tmp_path / "rates", "scripted").measure(TASKS, 4, _alternate([]))
    assert [rates[t.id] for t in TASKS] == [1.0, 0.5, 1.0, 0.5, 1.0, 0.5]
    kept = keep(TASKS, rates, 4, "scripted", 0.05, 0.95)
    assert [t.id for t in kept] == [t.id for t in TASKS[1::2]]
    assert {t.metadata["pass_rate"] for t in kept} == {0.5}
    assert kept[0].metadata["pass_episodes"] == 4


def test_a_rerun_plays_only_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "rates"
    played: list[str] = []

    def dies(names: Sequence[str]) -> Iterator[tuple[str, bool]]:
        for number, one in enumerate(_alternate(played)(names)):
            if number == 4:
                raise KeyboardInterrupt
            yield one

    with pytest.raises(KeyboardInterrupt):
        PassRates(path, "p").measure(TASKS, 2, dies)
    path.write_text(path.read_text() + '{"task_id": "cut')  # as a killed process leaves it
    before = len(path.read_text().splitlines()) - 1
    again: list[str] = []
    PassRates(path, "p").measure(TASKS, 2, _alternate(again))
    assert before == 4 and len(again) == 2 * len(TASKS) - before


def test_rates_of_another_policy_are_not_mixed_in(tmp_path: Path) -> None:
    PassRates(tmp_path / "rates", "one").measure(TASKS[:1], 1, _alternate([]))
    with pytest.raises(OrchError, match="rates of 'one'"):
        PassRates(tmp_path / "rates", "other")


def test_the_command_plays_a_model_behind_an_endpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model knows gold of every other task, by the request that it gets."""
    file, out = str(tmp_path / "t.jsonl"), str(tmp_path / "kept.jsonl")
    save_tasks(TASKS, file)
    gold = {task.query: task for task in TASKS[::2]}

    def reply(body: dict[str, Any], _: int) -> dict[str, Any]:
        assert [tool["function"]["name"] for tool in body["tools"]]
        task = gold.get(next(m["content"] for m in body["messages"] if m["role"] == "user"))
        done = sum(m["role"] == "tool" for m in body["messages"])
        if task is None or done == len(task.gold_calls):
            return {"role": "assistant", "content": "Done."}
        call = task.gold_calls[done]
        function = {"name": call.name, "arguments": json.dumps(call.arguments)}
        made = {"id": f"c{done}", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [made]}

    with chat_server(reply) as server:
        words = ["synth", "filter", "--tasks", file, "--cache", "harbour", "--endpoint", server.url]
        words += ["--model-name", "m", "--k", "2", "--keep", "0.5:1", "--out", out, "--json"]
        assert main(words) == 0
        asked = len(server.requests)
        result = json.loads(capsys.readouterr().out)
        assert main(words) == 0  # everything is known: nothing is asked
        assert len(server.requests) == asked
    assert (result["tasks"], result["kept"]) == (6, 3)
    assert set(result["rates"].values()) == {0.0, 1.0}
    assert [t.id for t in load_tasks(out)] == [t.id for t in TASKS[::2]]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--model PATH or --endpoint URL"),
        (["--model", "a", "--endpoint", "b"], "one of them"),
        (["--endpoint", "http://127.0.0.1:1/v1"], "--model-name"),
        (["--model", "a", "--keep", "0.9:0.1"], "the least first"),
        (["--model", "a", "--keep", "x"], "is no range"),
        (["--model", "a", "--split", "nowhere"], "holds no such tasks"),
    ],
)
def test_bad_options_are_one_line(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", "filter", "--tasks", "harbour", *words]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
