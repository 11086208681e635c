"""Tasks are kept by how often a policy solves them; what was played is not played again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
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

    def play(names: Sequence[str], _: int) -> Iterator[tuple[str, bool]]:
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


@pytest.mark.parametrize(
    "line",
    [
        '{"policy": "p", "task_id": 3, "success": true}',
        '{"policy": "p", "task_id": "a", "success": "yes"}',
        "3",
    ],
)
def test_a_file_with_values_of_other_types_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rates"
    path.write_text(line + "\n")
    with pytest.raises(OrchError, match="line 1: no result of an episode"):
        PassRates(path, "p")


def test_a_rerun_plays_only_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "rates"
    played: list[str] = []

    def dies(names: Sequence[str], number: int) -> Iterator[tuple[str, bool]]:
        for place, one in enumerate(_alternate(played)(names, number)):
            if place == 4:
                raise KeyboardInterrupt
            yield one

    with pytest.raises(KeyboardInterrupt):
        PassRates(path, "p").measure(TASKS, 2, dies)
    path.write_text(path.read_text() + '{"task_id": "cut')  # as a killed process leaves it
    before = len(path.read_text().splitlines()) - 1
    again: list[str] = []
    PassRates(path, "p").measure(TASKS, 2, _alternate(again))
    assert before == 4 and len(again) == 2 * len(TASKS) - before
    assert [json.loads(line)["task_id"] for line in path.read_text().splitlines()]
    PassRates(path, "p").measure(TASKS, 2, _alternate(again))  # the cut line cost no result
    assert len(again) == 2 * len(TASKS) - before


def test_rates_of_another_policy_are_not_mixed_in(tmp_path: Path) -> None:
    PassRates(tmp_path / "rates", "one").measure(TASKS[:1], 1, _alternate([]))
    with pytest.raises(OrchError, match="rates of 'one'"):
        PassRates(tmp_path / "rates", "other")


def solver(body: dict[str, Any], _: int) -> dict[str, Any]:
    """Knows gold of every third task always, of the next one with odd seeds; else gives up."""
    assert [tool["function"]["name"] for tool in body["tools"]]
    query = next(m["content"] for m in body["messages"] if m["role"] == "user")
    place = [task.query for task in TASKS].index(query)
    calls = TASKS[place].gold_calls
    done = sum(m["role"] == "tool" for m in body["messages"])
    if place % 3 > body["seed"] % 2 or done == len(calls):
        return {"role": "assistant", "content": "Done."}
    function = {"name": calls[done].name, "arguments": json.dumps(calls[done].arguments)}
    made = {"id": f"c{done}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [made]}


def filtering(folder: Path, url: str, out: str) -> list[str]:
    save_tasks(TASKS, folder / "t.jsonl")
    words = ["synth", "filter", "--tasks", str(folder / "t.jsonl"), "--cache", "harbour"]
    words += ["--endpoint", url, "--model-name", "m", "--k", "2", "--keep", "0.5:1"]
    return [*words, "--out", str(folder / out), "--json"]


def test_the_command_plays_a_model_behind_an_endpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with chat_server(solver) as server:
        words = filtering(tmp_path, server.url, "kept.jsonl")
        assert main(words) == 0
        asked = len(server.requests)
        result = json.loads(capsys.readouterr().out)
        assert main(words) == 0  # everything is known: nothing is asked
        assert len(server.requests) == asked
    assert (result["tasks"], result["kept"]) == (6, 4)
    assert [result["rates"][t.id] for t in TASKS] == [1.0, 0.5, 0.0, 1.0, 0.5, 0.0]
    assert [t.id for t in load_tasks(tmp_path / "kept.jsonl")] == [
        TASKS[n].id for n in (0, 1, 3, 4)
    ]


def test_a_killed_filter_plays_the_rest_and_gives_the_same_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim: list[subprocess.Popen[bytes]] = []

    def reply(body: dict[str, Any], number: int) -> Any:
        # The first episodes of all tasks cost 10 messages: this is in the second ones.
        if number == 12 and victim:
            os.kill(victim[0].pid, signal.SIGKILL)
        return solver(body, number)

    with chat_server(reply) as server:
        words = filtering(tmp_path, server.url, "kept.jsonl")
        assert main(filtering(tmp_path, server.url, "whole.jsonl")) == 0
        asked = len(server.requests)
        server.requests.clear()
        victim.append(subprocess.Popen([sys.executable, "-m", "orch_env.cli.main", *words]))
        assert victim[0].wait(60) == -signal.SIGKILL
        kept = len((tmp_path / "kept.jsonl.rates").read_text().splitlines())
        assert len(TASKS) <= kept < 2 * len(TASKS)
        server.requests.clear()
        victim.clear()
        assert main(words) == 0
        again = len(server.requests)
    assert again <= asked - 10
    lines = (tmp_path / "kept.jsonl.rates").read_text().splitlines()
    assert len(lines) == 2 * len(TASKS)
    assert (tmp_path / "kept.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_an_endpoint_that_breaks_is_no_failure_of_the_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = TASKS[4].query

    def reply(body: dict[str, Any], number: int) -> Any:
        if any(m.get("content") == broken for m in body["messages"]):
            return (503, {"Retry-After": "0.01"})
        return solver(body, number)

    with chat_server(reply) as server:
        words = filtering(tmp_path, server.url, "kept.jsonl")
        assert main(words) == 2
        error = capsys.readouterr().err
        assert "status_503" in error and "what was measured is kept" in error
        lines = (tmp_path / "kept.jsonl.rates").read_text().splitlines()
        assert TASKS[4].id not in {json.loads(line)["task_id"] for line in lines}
        server.reply = solver
        assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["rates"][TASKS[4].id] == 0.5


@pytest.mark.parametrize("line", ["[]", "nonsense", '{"task_id": "a"}'])
def test_a_file_that_holds_no_rates_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "rates").write_text(f"{line}\n")
    with pytest.raises(OrchError, match="line 1: no result of an episode"):
        PassRates(tmp_path / "rates", "p")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--model PATH or --endpoint URL"),
        (["--model", "a", "--endpoint", "b"], "one of them"),
        (["--endpoint", "http://127.0.0.1:1/v1"], "does not tell its models"),
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
