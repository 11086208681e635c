"""The TRL adapter: what it hands to TRL, what it scores, and TRL's own loop in its environment."""

from __future__ import annotations

import inspect
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orch_env import EpisodeSource, load_tasks, save_tasks
from orch_env.adapters.trl import (
    Environment,
    Factory,
    OrchSpec,
    TranscriptReward,
    _class_with,
)
from orch_env.cli.main import main
from orch_env.formats import get_format
from orch_env.types import OrchError, ToolCall, ToolSpec
from tests.adapters.conformance import SOURCE, check_report, expected, message_of, table
from tests.adapters.other_python import run_with
from tests.orch_env.recorded_world import build

END = 7
REWARD = TranscriptReward(SOURCE, END)
GOLD = next(script for script in table() if script.case == "gold")
DONE = [*range(3), END]
CUT = [*range(3)]


def tools_of(environment: Environment) -> list[Any]:
    """The tools that TRL finds: functions of the class, taken from the instance."""
    found = inspect.getmembers(type(environment), predicate=inspect.isfunction)
    names = [name for name, _ in found if name != "reset" and not name.startswith("_")]
    return [getattr(environment, name) for name in names]


@pytest.fixture
def environment() -> Environment:
    made = Factory(SOURCE, GOLD.task_id)()
    made.reset(task_id=GOLD.task_id, seed=0, prompt=[])
    return made


def conversation(environment: Environment, *actions: str) -> list[dict[str, Any]]:
    """What TRL's loop writes down when a model says these messages."""
    tools = {tool.__name__: tool for tool in tools_of(environment)}
    said: list[dict[str, Any]] = []
    for action in actions:
        said.append(message_of(action))
        for call in said[-1].get("tool_calls", ()):
            name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
            result = tools[name](**arguments) if name in tools else f"{{'error': '{name}?'}}"
            said.append({"role": "tool", "name": name, "content": result})
    return said


def score(environment: Environment | None, said: list[dict[str, Any]], ids: list[int]) -> Any:
    environments = None if environment is None else [environment]
    [reward] = REWARD([said], [ids], [GOLD.task_id], environments, trainer_state=None)
    return reward


def test_first_use_without_trl_says_how_to_install_it() -> None:
    with pytest.raises(ImportError, match=r"needs trl.*pip install 'orch-rl\[trl\]'"):
        OrchSpec(SOURCE, tokenizer=None)


def test_trl_finds_the_tools_in_their_order_and_with_their_exact_schemas(
    environment: Environment,
) -> None:
    specs = SOURCE.tools(GOLD.task_id)
    assert tools_of(environment) == [spec.to_openai() for spec in specs] and len(specs) == 12
    assert [tool.__name__ for tool in tools_of(environment)] == [spec.name for spec in specs]


def test_no_tool_name_is_reserved_and_no_argument_name(environment: Environment) -> None:
    names = ["reset", "get_reward", "_hidden", "with space", "tool_0000", "import"]
    found = tools_of(_class_with(len(names))(SOURCE, [ToolSpec(name) for name in names]))
    assert [tool.__name__ for tool in found] == names
    answer = tools_of(environment)[0](**{"self": 1, "from": 2, "name": 3, "arguments": 4})
    assert json.loads(answer)["error"]["type"] in ("invalid_arguments", "unknown_call")


def test_what_a_spawned_process_needs_can_be_pickled() -> None:
    factory, reward = pickle.loads(pickle.dumps((Factory(SOURCE, GOLD.task_id), REWARD)))
    assert (factory.source, reward) == (SOURCE, REWARD)
    assert len(tools_of(factory())) == 12


def test_gold_earns_1_and_its_first_half_what_the_environment_pays_for_it(
    environment: Environment,
) -> None:
    said = conversation(environment, *GOLD.actions)
    assert score(environment, said, DONE) == 1.0
    assert score(None, said, DONE) == 1.0
    half = conversation(environment, GOLD.actions[0])
    assert score(environment, half, CUT) == expected(GOLD, 1).reward < 1.0


def test_an_answer_that_was_cut_is_no_answer(tmp_path: Path) -> None:
    where = build(tmp_path)
    tasks = {task.id: task for task in load_tasks(where["tasks"])}
    task = replace(tasks["zurich"], answer="rain")
    save_tasks([task], where["tasks"])
    source = EpisodeSource(**where)
    environment = Factory(source, task.id)()
    environment.reset(task_id=task.id)
    steps = [[ToolCall(c.name, c.arguments) for c in step] for step in task.gold]
    actions = [get_format("hermes").render_calls(step) for step in steps]
    said = conversation(environment, *actions, "rain")
    whole, cut, silent = TranscriptReward(source, END)(
        [said, said, []], [DONE, CUT, []], [task.id] * 3
    )
    assert (whole, silent) == (1.0, 0.0)
    assert cut is not None and 0.0 < cut < 1.0


def test_calls_of_unknown_tools_are_errors_in_whatever_words_trl_answers(
    environment: Environment,
) -> None:
    unknown = '<tool_call>\n{"name": "no_such_tool", "arguments": {}}\n</tool_call>'
    script = replace(GOLD, actions=(*[unknown] * 5, *GOLD.actions))
    said = conversation(environment, *script.actions)
    assert expected(script).stop_reason == "max_errors"
    assert score(environment, said, DONE) == expected(script).reward


def test_a_tool_that_breaks_makes_the_rollout_unscorable_until_the_next_reset(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = conversation(environment, *GOLD.actions)
    with monkeypatch.context() as patch:
        patch.setattr(type(environment.session), "call", broken)
        with pytest.raises(ConnectionError):
            tools_of(environment)[0]()
    assert score(environment, said, DONE) is None
    environment.reset(task_id=GOLD.task_id)
    assert score(environment, said, DONE) == 1.0


def broken(*_: Any, **__: Any) -> Any:
    raise ConnectionError("the server is gone")


def test_a_task_with_follow_ups_is_refused_with_the_door_that_takes_it(tmp_path: Path) -> None:
    source = EpisodeSource(**build(tmp_path))
    made = Factory(source, "talk")()
    made.reset(task_id="zurich")
    with pytest.raises(OrchError, match=r"'talk' has more than one user turn.*rollout_func"):
        made.reset(task_id="talk")


# -- in TRL's environment ----------------------------------------------------------------------


@pytest.mark.adapters
@pytest.mark.parametrize("door", ["environment", "rollout"])
def test_trl_plays_the_table_and_pays_what_replay_pays(door: str) -> None:
    found = run_with("adapters", "tests.adapters.trl_conformance", door)
    check_report(found, whole=150)


@pytest.mark.adapters
def test_what_trl_is_handed(tmp_path: Path) -> None:
    found = run_with("adapters", "tests.adapters.trl_checks", str(tmp_path))
    assert found["prompt"] == found["prompt_with_openai_tools"]
    assert found["columns"] == ["prompt", "seed", "task_id"]
    assert found["columns_of_two_sets"] == ["environment", "prompt", "seed", "task_id"]
    assert found["tools_of_two_sets"] == [["search_city", "weather"], ["weather"]]
    assert "set tokenizer.response_template" in found["refused"]


@pytest.mark.adapters
def test_two_grpo_steps_of_trl_have_calls_and_a_gradient(tmp_path: Path) -> None:
    warm = ["sft.max_steps=150", "sft.eval_every=1000", f"sft.out={tmp_path / 'sft'}"]
    assert main(["sft", "configs/quickstart.yaml", *warm]) == 0
    model = ("--model", str(tmp_path / "sft" / "model"), "--out", str(tmp_path / "trl"))
    small = ("--steps", "2", "--prompts", "4", "--group", "4", "--eval-every", "0")
    found = run_with("adapters", "examples.trl_grpo", *model, *small)
    assert len(found["trained"]) == 2
    for step in found["trained"]:
        assert step["grad_norm"] > 0 and step["tools/call_frequency"] > 0.5
        assert 0 < step["reward"] < 1
