"""Data never name code: a task, an episode, a state or a case that says ``module:function``.

A module lies on Python's path and every place of every record that holds a name is made to name
it. Whatever the reading of such a record leads to, an error or not, the module is never imported.
A configuration that names it does import it, which shows that the trap works.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orch_env.cli.main import main
from orch_env.env import ToolOrchestrationEnv
from orch_env.rewards import PRESETS, make_reward
from orch_env.tasks.files import load_tasks
from orch_env.types import OrchError
from tests.orch_env.recorded_world import build

MODULE = "planted_by_the_data"
TRAP = f"{MODULE}:score"
AS_REWARD: Any = {"name": TRAP}


@pytest.fixture
def world(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("world")
    (folder / f"{MODULE}.py").write_text("def score(*_):\n    return 1.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    yield build(folder)
    sys.modules.pop(MODULE, None)


def sprung() -> bool:
    return MODULE in sys.modules


def records(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def write(path: Path, lines: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def test_a_configuration_that_names_the_module_imports_it(world: dict[str, str]) -> None:
    assert not sprung()
    make_reward(TRAP)
    assert sprung()


PLANTED_IN_A_TASK: list[dict[str, Any]] = [
    {"metadata": {"reward": AS_REWARD, "answer_match": {"match": "judge", "judge": TRAP}}},
    {"metadata": {"answer_match": TRAP}, "answer": "42"},
    {"metadata": {"answer_match": {"match": "JUDGE", "judge": TRAP}}, "answer": "42"},
    {"metadata": {"answer_match": {"match": "judge", "judge": TRAP}}, "answer": "42"},
    {"metadata": {"answer_match": {"judge": TRAP}}, "answer": "42"},
    {"reward": AS_REWARD, "judge": TRAP, "name": TRAP},
    {"servers": [TRAP]},
    {"tools": [TRAP]},
    {"tools": [{"name": TRAP, "description": "", "parameters": {"$ref": TRAP}}]},
    {"final_state": {TRAP: {TRAP: {TRAP: AS_REWARD}}}},
    {"answer": AS_REWARD},
]


@pytest.mark.parametrize("number", range(len(PLANTED_IN_A_TASK)))
def test_no_field_of_a_task_is_imported(
    world: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    planted = PLANTED_IN_A_TASK[number]
    path = write(tmp_path / "t.jsonl", [{**line, **planted} for line in records(world["tasks"])])
    main(["tasks", "validate", path, "--cache", world["cache"]])
    for reward in PRESETS:
        main(["replay", "--tasks", path, "--cache", world["cache"], "--reward", reward])
    try:
        for task in load_tasks(path):
            env = ToolOrchestrationEnv(path, world["cache"])
            env.reset(seed=0, options={"task_id": task.id})
            env.step("42")
    except OrchError:
        pass  # refusing such a task is as good
    capsys.readouterr()
    assert not sprung()


PLANTED_IN_AN_EPISODE: list[dict[str, Any]] = [
    {"settings": {"call_format": TRAP, "reward": AS_REWARD}},
    {"settings": {"call_format": "hermes", "reward": TRAP, "reward_mode": TRAP}},
    {"settings": AS_REWARD},
    {"reward": {"total": 1.0, "components": {TRAP: 1.0}, "name": TRAP}},
    {"reward": AS_REWARD},
    {"state": AS_REWARD, "name": TRAP, "spec": AS_REWARD},
    {"final": json.dumps(AS_REWARD), "seed": TRAP},
]


@pytest.mark.parametrize("number", range(len(PLANTED_IN_AN_EPISODE)))
def test_no_field_of_a_stored_episode_is_imported(
    world: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    good = str(tmp_path / "good.jsonl")
    main(["replay", "--tasks", world["tasks"], "--cache", world["cache"], "--out", good])
    planted = [{**line, **PLANTED_IN_AN_EPISODE[number]} for line in records(good)]
    for line in planted:
        line.pop("digest", None)  # so that nothing is refused before it is looked at
    path = write(tmp_path / "episodes.jsonl", planted)
    cache = ["--cache", world["cache"]]
    main(["replay", "--verify", path, *cache])
    main(["replay", "--verify", path, *cache, "--tasks", world["tasks"]])
    for reward in PRESETS:
        main(["reward", "score", "--reward", reward, path])
    main(["replay", "--tasks", world["tasks"], "--policy", path, *cache])
    capsys.readouterr()
    assert not sprung()


def test_no_field_of_a_scored_case_is_imported(
    world: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = {"name": TRAP, "arguments": AS_REWARD, "depends_on": [], "candidate_tools": [TRAP]}
    case = {
        "id": TRAP,
        "name": TRAP,
        "reward": AS_REWARD,
        "weights": {"atomic": 0.5, "orchestration": 0.5},
        "task": {"query": TRAP, "tools": [TRAP], "steps": [step], "reward": AS_REWARD},
        "completion": f"<tool_call>{json.dumps({'name': TRAP, 'arguments': {}})}</tool_call>",
    }
    named = {**case, "weights": {"name": TRAP, TRAP: 1.0}}
    path = write(tmp_path / "cases.jsonl", [case])
    other = write(tmp_path / "named.jsonl", [named])
    for reward in PRESETS:
        main(["reward", "score", "--reward", reward, path])
        main(["reward", "score", "--reward", reward, other])
    capsys.readouterr()
    assert not sprung()


def test_no_field_of_an_environment_s_state_is_imported(world: dict[str, str]) -> None:
    env = ToolOrchestrationEnv(world["tasks"], world["cache"])
    env.reset(seed=0)
    state = env.get_state()
    for planted in (
        {"reward": AS_REWARD},
        {"reward": TRAP},
        {"training_step": AS_REWARD},
        {"training_step": TRAP, "spec": AS_REWARD},
        {"settings": {"call_format": TRAP}},
    ):
        try:
            env.set_state({**state, **planted})
            env.step("42")
        except OrchError:
            pass
        assert not sprung()
    env.close()


def test_a_case_s_own_weights_do_not_disturb_rewards_that_have_none_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = {
        "id": "one",
        "weights": {"atomic": 0.25, "orchestration": 0.75},
        "task": {
            "query": "q",
            "tools": ["f"],
            "steps": [{"name": "f", "arguments": {}, "depends_on": [], "candidate_tools": ["f"]}],
        },
        "completion": '<tool_call>{"name": "f", "arguments": {}}</tool_call>\n'
        '<tool_response>{"data": 1}</tool_response>',
    }
    path = write(tmp_path / "cases.jsonl", [case])
    mix = json.dumps({"name": "mix", "components": {"binary": 0.5, "paper": 1}})
    # paper: 0.25 + 0.75 of the case; in a mix its own 0.5 + 0.5; all parts are right.
    own = "tests.orch_env.own_rewards:detailed"
    for reward, total in (("paper", 1.0), ("prove", 1.3), (mix, 1.5), (own, 0.25)):
        assert main(["reward", "score", "--reward", reward, path]) == 0
        assert json.loads(capsys.readouterr().out)["total"] == pytest.approx(total), reward
