"""Harder variants of tasks: their gold still earns 1, and what was taken away is away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orch_env import OrchError, Task, load_tasks, save_tasks
from orch_env.backends.local import LocalBackend
from orch_env.cli.main import main
from orch_env.env import ToolOrchestrationEnv
from orch_env.importers.validation import validate_tasks
from orch_env.servers import server_names, server_type
from orch_env.tasks.perturb import Perturbation, perturb
from orch_env.types.tools import ToolSpec
from tools.server_tasks.build import Choice, make_tasks

TASKS = make_tasks(Choice(("banking", "shopping", "vehicle"), distractors=4), "train", 9)
CATALOGUE = {
    name: [tool.spec for tool in server_type(name).tools.values()] for name in server_names()
}
HARD = Perturbation(distractors=6, strip_enums=1.0, withhold=True, seed=3)


def hard(task: Task, how: Perturbation = HARD) -> Task:
    return perturb(LocalBackend().resolve(task), how, CATALOGUE)


def enums(spec: ToolSpec | str) -> list[Any]:
    assert isinstance(spec, ToolSpec)
    return [s["enum"] for s in spec.parameters["properties"].values() if "enum" in s]


def test_gold_of_a_harder_variant_still_earns_1_and_it_survives_its_file(tmp_path: Path) -> None:
    variants = [hard(task) for task in TASKS]
    save_tasks(variants, tmp_path / "hard.jsonl")
    assert load_tasks(tmp_path / "hard.jsonl") == variants
    result = validate_tasks(variants, LocalBackend())
    assert result == {"tasks": len(TASKS), "ok": len(TASKS), "failures": []}
    for task, variant in zip(TASKS, variants, strict=True):
        changed = variant.metadata["perturbed"]
        assert len(changed["distractors"]) == 6
        drawn_from = [n for n in variant.servers if n not in task.servers]
        assert drawn_from, "distractors belong to servers of the task"
        assert set(variant.tool_names) == {*task.tool_names, *changed["distractors"]}
        assert not any(map(enums, variant.tools))
        assert variant == hard(task), "the same seed gives the same variant"
    assert any(
        v != hard(t, Perturbation(6, 1.0, True, 4)) for t, v in zip(TASKS, variants, strict=True)
    )


def test_some_schemas_keep_their_enums_where_only_a_share_loses_them() -> None:
    none = Perturbation()
    for task in TASKS:
        assert any(map(enums, hard(task, none).tools)) == any(
            "enum" in s
            for tool in LocalBackend().resolve(task).offered
            for s in tool.spec.parameters["properties"].values()
        )
    kept = [hard(t, Perturbation(strip_enums=0.5)) for t in TASKS]
    assert any(enums(spec) for task in kept for spec in task.tools)
    assert any(task.metadata["perturbed"]["strip_enums"] for task in kept)


def call(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def test_a_withheld_tool_is_unknown_until_the_user_offers_it() -> None:
    task = hard(next(t for t in TASKS if t.servers == ("banking",)))
    late = task.metadata["perturbed"]["withhold"]
    env = ToolOrchestrationEnv.from_backend([task], LocalBackend())
    _, info = env.reset(seed=0)
    offered = [tool["function"]["name"] for tool in info["tools"]]
    assert late not in offered and len(offered) == len(task.tools) - 1
    observation, *_ = env.step_message(call(late, {}))
    assert "unknown_tool" in observation and late not in observation.split("Tools:")[1]
    twin = env.fork()
    saved = env.get_state()
    for played in (env, twin):
        observation, _, terminated, _, info = played.step("I lack a tool for that.")
        assert not terminated
        assert [tool["function"]["name"] for tool in info["tools"]] == [*offered, late]
        assert json.dumps(late) in observation
        observation, *_ = played.step_message(call(late, {"no": 1}))
        assert "unknown_tool" not in observation
    env.set_state(saved)
    assert [tool.name for tool in env.tools] == offered


@pytest.mark.parametrize(
    ("tools_at_followup", "words"),
    [
        ([["find_ship"], []], "has 2 entries for 1 follow-ups"),
        ([["no_such"]], "each must be one of 'tools'"),
        ([["find_ship", "find_ship"]], "once"),
    ],
)
def test_withheld_tools_of_a_task_file_are_checked(tools_at_followup: Any, words: str) -> None:
    data = {
        "id": "x",
        "messages": [{"role": "user", "content": "?"}],
        "tools": ["find_ship"],
        "gold": [],
        "followups": ["Go on."],
        "tools_at_followup": tools_at_followup,
    }
    with pytest.raises(OrchError, match=words):
        Task.from_dict(data)


def test_perturb_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tasks(TASKS, tmp_path / "tasks.jsonl")
    out = tmp_path / "hard.jsonl"
    words = ["tasks", "perturb", str(tmp_path / "tasks.jsonl"), "--out", str(out), "--json"]
    assert main([*words, "--distractors", "3", "--withhold"]) == 0
    assert json.loads(capsys.readouterr().out) == {"tasks": 9, "left_out": 0}
    recorded = ["tasks", "perturb", "harbour", "--out", str(out), "--distractors", "3"]
    assert main(recorded) == 2
    assert "tasks that all run on servers" in capsys.readouterr().err
