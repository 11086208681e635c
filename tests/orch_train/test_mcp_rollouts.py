"""A server that is killed in mid-episode costs a trainer one group, which it plays again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil

from orch_env.backends.mcp import McpBackend
from orch_env.env import ToolOrchestrationEnv
from orch_env.formats import get_format
from orch_env.types import Task
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.chat.renderer import ChatRenderer
from orch_train.engines.scripted import ScriptedEngine
from orch_train.rollouts.env_pool import EnvPool
from orch_train.rollouts.env_runner import EnvRunner
from orch_train.runners.runner_group import LocalRunnerGroup
from orch_train.trajectory.requests import SampleRequest
from tests.orch_env.mcp.conftest import raw
from tests.orch_train.chat_templates import QWEN, tokenizer_for

TASK = Task.from_dict(
    {
        "schema": 1,
        "id": "greet",
        "messages": [{"role": "user", "content": "Say hi, then say bye."}],
        "tools": ["echo"],
        "gold": [[{"name": "echo", "arguments": {"text": text}}] for text in ("hi", "bye")],
    }
)


def echo(text: str) -> str:
    call = json.dumps({"name": "echo", "arguments": {"text": text}})
    return f"<tool_call>\n{call}\n</tool_call>"


def servers() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [one for one in found if any("raw_server" in word for word in one.cmdline())]


def test_a_killed_server_costs_one_group_and_the_run_goes_on(tmp_path: Path) -> None:
    chat = ChatRenderer(tokenizer_for(QWEN), get_format("hermes"))
    kills: list[int] = []

    def line(request: str, turn: int) -> str:
        if turn == 1 and not kills:
            kills.extend(one.pid for one in servers())
            for pid in kills:
                os.kill(pid, signal.SIGKILL)
        return [echo("hi"), echo("bye"), "Done."][turn]

    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"raw": raw()}, "orch": {"ahead": 0}}))
    backend = McpBackend(path)
    env = ToolOrchestrationEnv.from_backend([TASK], backend)
    settings = (
        GRPOConfig()
        .environment(env_config={"tasks": "harbour"})
        .model("tiny")
        .rollouts(max_context=1024, max_tokens_per_turn=256)
    ).validate()
    runner = EnvRunner(settings, engine=ScriptedEngine(line, encode=chat.encode_action))
    runner._chat, runner.training_envs = chat, EnvPool(env.sibling, 2)
    group = LocalRunnerGroup(runner, settings, {}, 0)
    replies = group.sample([SampleRequest(f"g{n}", "greet", 0, 0, 2) for n in range(2)])
    assert kills
    assert [reply.group.rewards for reply in replies] == [[1.0, 1.0], [1.0, 1.0]]
    assert 1 <= group.fault_counts()["num_groups_reissued"] <= 2
    group.stop()
    backend.close()
    assert servers() == []
