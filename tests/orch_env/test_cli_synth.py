"""`orch synth`: every command once, output keys, exit codes, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orch_env import Task, load_tasks
from orch_env.cli.main import main
from orch_env.cli.synth import synth
from tests.orch_env.chat_server import chat_server
from tests.orch_env.command_line import bad_line, orch, orch_json
from tests.orch_env.synthesis.tours import TOOLS, tours_cache

CALLS, COUNT = 3, 12


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tours_cache(tmp_path_factory.mktemp("tours") / "tours.db"))


@pytest.fixture(scope="module")
def sampled(cache: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks of `orch synth sample`."""
    out = tmp_path_factory.mktemp("sampled") / "tasks.jsonl"
    assert main([str(a) for a in sample(cache, out)]) == 0
    return out


def sample(cache: str, out: Path, *more: Any) -> list[Any]:
    return [
        *("synth", "sample", "--from", "cache", cache, "--calls", CALLS, "--count", COUNT),
        *("--entity-limit", 1, "--out", out, *more),
    ]


@pytest.mark.parametrize("name", sorted(synth.commands))
def test_every_command_teaches_by_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = orch(capsys, "synth", name, "--help")
    assert code == 0 and f"orch synth {name} " in out.split("Example", 1)[1]


def test_graph_tells_the_links_and_draws_them(
    cache: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, data = tmp_path / "graph.svg", tmp_path / "graph.json"
    argv = ["synth", "graph", "--from", "cache", cache, "--out"]
    code, result, _ = orch_json(capsys, *argv, picture)
    assert code == 0 and result["tools"] == len(TOOLS)
    edges = {(e["from_tool"], e["from_path"], e["to_tool"], e["to_path"]) for e in result["edges"]}
    assert edges == {
        ("find_town", "/town_id", "list_tours", "/town_id"),
        ("list_tours", "/tours/*/tour_id", "tour_details", "/tour_id"),
        ("list_tours", "/tours/*/tour_id", "tour_guide", "/tour_id"),
    }
    assert all(set(e) >= {"kind", "support"} for e in result["edges"])
    assert all(tool in picture.read_text(encoding="utf-8") for tool in TOOLS)
    code, out, err = orch(capsys, *argv, data)
    assert code == 0 and json.loads(data.read_text(encoding="utf-8")) == result
    assert "4 tools, 3 links" in out and err.startswith("next: ") and "synth sample" in err


def test_templates_lists_every_workflow_and_sample_fills_them(
    cache: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "workflows.jsonl", tmp_path / "tasks.jsonl"
    argv = ["synth", "templates", "--from", "cache", cache, "--calls", "2:3", "--tries", 50]
    code, result, _ = orch_json(capsys, *argv, "--out", file)
    assert code == 0 and result["templates"] == result["grown"] > 2 and result["path"] == str(file)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == result["templates"]
    chains = {tuple(line["tools"]): line["fillings"] for line in lines}
    assert chains["find_town", "list_tours"] == 30
    assert chains["find_town", "list_tours", "tour_guide"] == 60

    code, result, _ = orch_json(capsys, *sample(cache, out, "--templates", file))
    assert code == 0 and result["tasks"] == COUNT
    known = {line["id"] for line in lines if len(line["tools"]) == CALLS}
    assert {task.metadata["template"] for task in load_tasks(out)} <= known


def test_a_template_that_names_a_missing_tool_is_refused_by_name(
    cache: str, sampled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "workflows.jsonl"
    argv = ["synth", "templates", "--from", "cache", cache, "--calls", 2, "--tries", 20]
    assert orch(capsys, *argv, "--out", file)[0] == 0
    file.write_text(file.read_text(encoding="utf-8").replace("list_tours", "list_cruises"))
    line = bad_line(capsys, *sample(cache, tmp_path / "t.jsonl", "--templates", file))
    assert "list_cruises" in line
    file.write_text('{"tools": 3}\n')
    assert "line 1" in bad_line(capsys, *sample(cache, tmp_path / "t.jsonl", "--templates", file))


def test_sample_makes_valid_tasks_of_the_wanted_shape_the_same_for_a_seed(
    cache: str, sampled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again.jsonl"
    code, result, _ = orch_json(capsys, *sample(cache, again))
    assert code == 0 and result["tasks"] == COUNT
    assert result["attempts"] >= result["accepted"] >= COUNT and result["traces_per_s"] > 0
    assert again.read_bytes() == sampled.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.jsonl"]  # its work is done
    assert {task.metadata["calls"] for task in load_tasks(again)} == {CALLS}
    code, result, _ = orch_json(capsys, "synth", "validate", sampled, "--cache", cache)
    assert (code, result) == (0, {"tasks": COUNT, "ok": COUNT, "failures": []})


def test_validate_names_the_tasks_that_fail(
    cache: str, sampled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = sampled.read_text(encoding="utf-8").splitlines()
    leaking = json.loads(lines[0])
    [town] = [
        call["arguments"]["town_id"]
        for step in leaking["gold"]
        for call in step
        if call["name"] == "list_tours"
    ][:1]
    leaking["messages"][0]["content"] += f" It is {town}."
    bad = tmp_path / "bad.jsonl"
    bad.write_text("\n".join([json.dumps(leaking), *lines[1:]]), encoding="utf-8")
    code, result, _ = orch_json(capsys, "synth", "validate", bad, "--cache", cache)
    assert code == 1 and result["ok"] == COUNT - 1
    assert [failure["id"] for failure in result["failures"]] == [leaking["id"]]
    argv = ["synth", "validate", bad, "--cache", cache, "--no-requests"]
    assert orch_json(capsys, *argv)[0] == 0


def test_a_count_out_of_reach_keeps_what_there_is_and_says_why(
    cache: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = sample(cache, tmp_path / "t.jsonl")
    argv[argv.index("--entity-limit") + 1] = 0.1
    argv[argv.index("--count") + 1] = 900
    code, _, err = orch(capsys, *argv)
    assert code == 1
    made = len(load_tasks(tmp_path / "t.jsonl"))
    assert 0 < made < 900 and f"only {made} of 900 tasks could be made" in err


def test_traces_are_written_into_words_later(
    cache: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traces, tasks = tmp_path / "traces.jsonl", tmp_path / "tasks.jsonl"
    assert orch(capsys, *sample(cache, traces, "--traces-only"))[0] == 0
    assert {task.metadata["writer"] for task in load_tasks(traces)} == {"none"}
    code, result, _ = orch_json(capsys, "synth", "write", traces, "--cache", cache, "--out", tasks)
    assert (code, result) == (0, {"tasks": COUNT, "refused": []})
    silent, written = load_tasks(traces), load_tasks(tasks)
    assert [task.gold_calls[-1].name for task in silent] == [
        task.gold_calls[-1].name for task in written
    ]
    assert {task.metadata["writer"] for task in written} == {"grammar"}
    for task in written:
        assert task.gold_calls[0].arguments["name"] in task.query


def test_an_endpoint_writes_with_options_and_is_asked_once(
    cache: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traces, tasks = tmp_path / "traces.jsonl", tmp_path / "tasks.jsonl"
    assert orch(capsys, *sample(cache, traces, "--traces-only"))[0] == 0
    with chat_server(
        lambda body, _: {"role": "assistant", "content": f"Something, please ({body['seed']})."}
    ) as server:
        argv = ["synth", "write", traces, "--cache", cache, "--out", tasks, "--writer", "endpoint"]
        argv += [
            "--option",
            f"url={server.url}",
            "--option",
            "model=m",
            "--option",
            "max_tokens=99",
        ]
        code, result, _ = orch_json(capsys, *argv)
        asked = len(server.requests)
        again = orch_json(capsys, *argv)
    assert code == 1 and {entry["reason"] for entry in result["refused"]} == {"not_said"}
    assert asked == COUNT == len(server.requests)
    assert {request["max_tokens"] for request in server.requests} == {99}
    assert again[:2] == (code, result)


def test_split_gives_parts_that_share_no_workflow_and_no_entity(
    cache: str, sampled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "split.jsonl"
    argv = ["synth", "split", sampled, "--shares", "train=0.5,test=0.5", "--out", out]
    _, result, _ = orch_json(capsys, *argv)
    tasks = load_tasks(out)
    assert result["splits"] == {
        name: sum(task.metadata["split"] == name for task in tasks) for name in result["splits"]
    }
    assert len(tasks) + result["report"]["left_out"] == COUNT
    for shared in result["report"]["shared"].values():
        assert shared["templates"] == shared["entities"] == 0


def test_stats_counts_what_a_file_holds(sampled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result, _ = orch_json(capsys, "synth", "stats", sampled)
    assert code == 0 and result["calls"] == {str(CALLS): COUNT}
    assert sum(result["tools"].values()) == CALLS * COUNT


def test_run_writes_a_data_set_with_its_card(
    cache: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "job.yaml", tmp_path / "job"
    config.write_text(
        f"source: {{cache: {json.dumps(cache)}}}\nshape: {{calls: 2}}\n"
        "sampling: {growth_tries: 20, entity_limit: 1}\nsplits: {train: 9}\nprocesses: 1\n"
    )
    code, result, _ = orch_json(capsys, "synth", "run", config, f"out={out}", "seed=4")
    assert code == 0 and result["tasks"] == 9 and result["path"] == str(out / "tasks.jsonl")
    assert [set(stage) for stage in result["stages"]] == [{"name", "in", "out", "reasons"}] * 6
    names = {path.name for path in out.iterdir()}
    assert names >= {"README.md", "graph.svg", "sizes.png", "tools.png", "report.json"}
    card = (out / "README.md").read_text(encoding="utf-8")
    digest = json.loads((out / "report.json").read_text(encoding="utf-8"))["cache"]["digest"]
    assert digest in card and "## Stages" in card and "## Known limits" in card
    code, shown, _ = orch(capsys, "synth", "run", config, f"out={out}", "seed=4")
    assert code == 0 and "replayed" in shown and "9 tasks in" in shown
    line = bad_line(capsys, "synth", "run", config, f"out={out}", "seed=5")
    assert "other settings" in line
    assert "shape.call: there is no such setting" in bad_line(
        capsys, "synth", "run", config, "shape.call=2"
    )


def test_what_a_benchmark_holds_is_left_out(
    cache: str, sampled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.jsonl"
    argv = sample(cache, out, "--exclude-benchmark", sampled)
    assert orch(capsys, *argv)[0] == 0
    assert called(load_tasks(out)) and not called(load_tasks(out)) & called(load_tasks(sampled))


def called(tasks: list[Task]) -> set[str]:
    return {f"{call.name} {call.arguments}" for task in tasks for call in task.gold_calls}


def test_rows_for_tables_give_the_tasks_back(
    sampled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyarrow.parquet import read_table

    out, folder = tmp_path / "tasks.parquet", tmp_path / "folder"
    argv = ["synth", "export", sampled, "--for"]
    code, result, _ = orch_json(capsys, *argv, "parquet", "--out", out)
    assert (code, result) == (0, {"rows": COUNT, "path": str(out)})
    rows = read_table(out).to_pylist()
    assert [Task.from_dict(json.loads(row["task"])) for row in rows] == load_tasks(sampled)
    assert {row["calls"] for row in rows} == {CALLS}

    code, result, _ = orch_json(capsys, *argv, "datasets", "--out", folder)
    assert (code, result["rows"]) == (0, {"train": COUNT})
    lines = (folder / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert "path: data/train.jsonl" in (folder / "README.md").read_text(encoding="utf-8")
    assert "is not empty" in bad_line(capsys, *argv, "datasets", "--out", folder)


def test_chats_hold_every_call_with_the_result_that_the_environment_shows(
    cache: str, sampled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "chats.jsonl"
    argv = ["synth", "export", sampled, "--for", "sft", "--out", out]
    assert "--cache" in bad_line(capsys, *argv)
    code, result, _ = orch_json(capsys, *argv, "--cache", cache)
    assert (code, result["rows"]) == (0, COUNT)
    chats = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    for chat, task in zip(chats, load_tasks(sampled), strict=True):
        said = [m for m in chat["messages"] if m["role"] == "assistant"]
        calls = [call for m in said for call in m.get("tool_calls", ())]
        assert [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls] == [
            (c.name, c.arguments) for c in task.gold_calls
        ]
        results = [m for m in chat["messages"] if m["role"] == "tool"]
        assert [m["tool_call_id"] for m in results] == [call["id"] for call in calls]
        assert len({call["id"] for call in calls}) == CALLS
        # What a call needs stands in a result before it.
        assert task.gold_calls[1].arguments["town_id"] in results[0]["content"]
        assert chat["messages"][-1]["role"] == "assistant" and chat["messages"][-1]["content"]
        assert {tool["function"]["name"] for tool in chat["tools"]} == set(task.tool_names)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("graph", "--from", "servers", "harbour"), "--from servers is not there yet"),
        (("graph", "--from", "mcp", "x.json"), "--from mcp is not there yet"),
        (("graph", "--from", "cache", "nowhere.db"), "nowhere.db"),
        (("stats", "nowhere.jsonl"), "nowhere.jsonl"),
        (("run", "nowhere.yaml"), "nowhere.yaml"),
        (
            ("sample", "--from", "cache", "harbour", "--calls", "5:2", "--count", 1, "--out", "t"),
            "the least comes first",
        ),
        (
            ("sample", "--from", "cache", "harbour", "--calls", 40, "--count", 1, "--out", "t"),
            "calls must lie between 1 and 12",
        ),
    ],
)
def test_bad_usage_is_one_line(
    argv: tuple[Any, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in bad_line(capsys, "synth", *argv)
    assert not list(tmp_path.iterdir())
