"""OpenEnv: the table over a server and through a harness, its validator, and many sessions."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from orch_env import load_tasks
from orch_env.adapters import openenv
from orch_env.adapters.openenv_environment import every_tool
from orch_env.session import EpisodeSource
from orch_env.tasks.files import bundled
from orch_env.types import OrchError
from tests.adapters.conformance import check_report
from tests.adapters.other_python import output_of, run_with

absent = pytest.mark.skipif(
    importlib.util.find_spec("openenv") is not None, reason="OpenEnv is installed here"
)


@absent
@pytest.mark.parametrize("name", ["OrchAction", "OrchEnvironment", "OrchResourceSessionFactory"])
def test_the_first_use_without_openenv_says_what_to_install(name: str) -> None:
    with pytest.raises(ImportError, match=r"pip install 'orch-rl\[openenv\]'"):
        getattr(openenv, name)(EpisodeSource("harbour"))


@absent
def test_the_server_command_says_it_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert openenv.main([]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "pip install 'orch-rl[openenv]'" in line


def test_a_tool_name_that_openenv_keeps_for_itself_is_refused(tmp_path: Path) -> None:
    record = load_tasks("harbour")[0].to_dict()
    tasks = tmp_path / "tasks.jsonl"
    for name in ("steps", "step"):
        record["tools"] = ["find_ship", {"name": name, "description": "Take a step."}]
        tasks.write_text(json.dumps({**record, "gold": []}) + "\n", encoding="utf-8")
        source = EpisodeSource(str(tasks), cache=str(bundled("harbour", "cache")))
        if name == "steps":
            assert [tool.name for tool in every_tool(source)] == ["find_ship", "steps"]
            every_tool.cache_clear()
        else:
            with pytest.raises(OrchError, match=r"keeps the name 'step'.*rename the tool"):
                every_tool(source)


@pytest.mark.adapters
def test_openenv_passes_the_table_and_earns_what_the_environment_pays() -> None:
    found = run_with("adapters", "tests.adapters.openenv_conformance")
    check_report(found["server"], whole=200)
    check_report(found["harness"], whole=150)


@pytest.mark.adapters
def test_the_server_passes_the_validator_and_answers_bad_input_in_one_line() -> None:
    found = run_with("adapters", "tests.adapters.openenv_server")
    assert found["validator"]["passed"] and found["validator"]["summary"]["passed_count"] == 6
    assert found["in_use"] == [
        2,
        "cannot listen on 127.0.0.1:PORT (Address already in use): choose another host or port",
    ]
    refused = found["refused"]
    assert "there is no task 'none' among 1200" in refused["task_id"]
    assert "task_index must be from 0 to 1199" in refused["index"]
    assert "reset takes seed, episode_id, task_id, index, split; not tasks" in refused["tasks"]
    assert "send 'reset' over /ws first" in refused["step first"]
    assert "CAPACITY_REACHED" in refused["at first"] and refused["then"] == "there is room"
    for call in ("step", "reset"):
        assert "closed after a time without use: connect again" in refused[f"{call} after idle"]
    assert found["episode after refusals"] == 1.0
    assert found["mcp"] == {"before": 12, "reward": 1.0, "done": True}
    assert found["splits"] == ["all", "heldout", "train"]


@pytest.mark.adapters
def test_the_example_serves_and_plays_gold() -> None:
    said = output_of("adapters", "examples/openenv_client.py")
    assert said.count("reward 1.0, answered") == 2 and said.count("12 tools") == 2


@pytest.mark.adapters
@pytest.mark.long
def test_64_sessions_at_once_play_10_000_episodes_and_leave_nothing_behind() -> None:
    found = run_with("adapters", "tests.adapters.openenv_crowd", "10000", seconds=3000)
    assert found["episodes"] == 10_000 and found["at_once"] == 64
    assert found["wrong"] == []
    assert found["sessions_left"] == 0
    assert found["handles"][1] <= found["handles"][0] + 8
    assert found["threads"][1] <= found["threads"][0] + 8
    assert found["megabytes"][1] <= found["megabytes"][0] + 64
