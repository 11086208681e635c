"""The doors to an `mcpServers` file: `gym.make`, sources and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import pytest

from orch_env import EpisodeSource, Task, save_tasks
from orch_env.cli.main import main
from tests.orch_env.mcp.conftest import raw

TASK = Task.from_dict(
    {
        "schema": 1,
        "id": "greet",
        "messages": [{"role": "user", "content": "Say hi."}],
        "tools": ["echo"],
        "gold": [
            [
                {
                    "name": "echo",
                    "arguments": {"text": "hi"},
                    "provenance": {"/text": {"kind": "query"}},
                }
            ]
        ],
    }
)


@pytest.fixture
def files(mcp_file: Callable[..., Path], tmp_path: Path) -> tuple[str, str]:
    save_tasks([TASK], tmp_path / "tasks.jsonl")
    return str(tmp_path / "tasks.jsonl"), str(mcp_file({"raw": raw()}, orch={"ahead": 0}))


def test_an_environment_and_a_source_play_the_servers_of_a_file(files: tuple[str, str]) -> None:
    tasks, mcp = files
    env = gym.make("orch_env/ToolOrchestration-v0", tasks=tasks, mcp=mcp)
    assert json.loads(env.unwrapped.spec.to_json())["kwargs"] == {"tasks": tasks, "mcp": mcp}
    env.reset(seed=0)
    observation, *_ = env.step(
        '<tool_call>\n{"name": "echo", "arguments": {"text": "hi"}}\n</tool_call>'
    )
    assert "hi" in observation
    *_, info = env.step("Done.")
    assert info["success"] and info["reward"]["total"] == 1.0
    env.close()
    source = EpisodeSource(tasks=tasks, mcp=mcp)
    with source.session() as session:
        session.reset(index=0)
        assert session.call("echo", {"text": "hi"}).text == "hi"
        assert session.finish("Done.") is not None and session.reward == 1.0
    free = EpisodeSource(mcp=mcp).session()
    free.reset(seed=0)
    assert {tool.name for tool in free.tools} > {"echo", "note"}
    free.close()


def test_the_command_line_takes_the_file(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, mcp = files
    assert main(["tasks", "validate", tasks, "--mcp", mcp, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"tasks": 1, "ok": 1, "failures": []}
    assert main(["replay", "--tasks", tasks, "--mcp", mcp, "--policy", "gold", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["success_rate"] == 1.0
    assert "reward attack" not in said.err  # which would take no such file


def test_a_file_that_is_missing_is_one_line_everywhere(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, gone = files[0], "no/such/mcp.json"
    for words in (
        ["tasks", "validate", tasks, "--mcp", gone],
        ["replay", "--tasks", tasks, "--mcp", gone],
        ["servers", "check", "--mcp", gone],
        ["train", "configs/servers.yaml", "--mcp", gone, "--dry-run"],
    ):
        assert main(words) == 2, words
        (line,) = capsys.readouterr().err.splitlines()
        assert "no/such/mcp.json" in line and "cannot be read" in line
