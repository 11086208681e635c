"""Any text Gymnasium environment can be trained on, and what is wrong in it is told once.

A mistake is told with the environment, the task, and the user's file and line, before anything
heavy is loaded; only bad luck is tried again.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from orch_env.cli.main import main
from orch_env.types import Episode, OrchError, StopReason
from orch_train import GRPOConfig
from orch_train.chat.renderer import ChatRenderer, make_chat
from orch_train.engines.protocol import EngineError
from orch_train.engines.scripted import ScriptedEngine
from orch_train.models.files import load_tokenizer
from orch_train.rollouts.env_runner import EnvRunner
from orch_train.rollouts.environments import EnvFactory, check_data, prompt_lengths
from orch_train.rollouts.rehearsal import ACTIONS, MOST_MESSAGES, rehearse
from orch_train.rollouts.text_env import TextEnv
from orch_train.runners.ledger import GroupFailed
from orch_train.runners.runner_group import LocalRunnerGroup
from orch_train.trajectory.requests import SampleFailure, SampleReply, SampleRequest
from tests.orch_train.plain_env import ENV_ID, FaultyEnv, PlainEnv
from tests.orch_train.toy_env import LettersEnv

FAULTY = ENV_ID.replace("Plain", "Faulty")


@pytest.fixture
def plain(toy_config: GRPOConfig) -> GRPOConfig:
    config = toy_config.to_dict()
    config["environment"] = {"env": ENV_ID, "num_tasks": 3}
    return GRPOConfig().from_dict(config)


def faulty(config: GRPOConfig, fault: str, value: Any = None, **more: Any) -> GRPOConfig:
    options = {"fault": fault, "value": value, **more}
    given = config.to_dict()
    tasks = None if "tasks" in more else 3
    given["environment"] = {"env": FAULTY, "env_config": options, "num_tasks": tasks}
    return GRPOConfig().from_dict(given)


def made(env: str, **options: Any) -> Any:
    return gym.make(env, disable_env_checker=True, **options)


# -- a plain environment needs almost nothing ---------------------------------------------------


def test_a_plain_gymnasium_environment_is_trained_on_and_measured(plain: GRPOConfig) -> None:
    config = plain.training(iterations=1).evaluation(evaluation_interval=1, num_tasks=2)
    with config.build_algo() as algo:
        result = algo.train()
        episode = algo.last_batch[0].records[0].episode
    assert result["env_runners"]["num_episodes"] == 8
    assert result["evaluation"]["n"] == 2
    assert episode.turns[0].action and episode.reward is not None


def test_tasks_are_seeds_and_held_out_tasks_are_the_seeds_that_follow(plain: GRPOConfig) -> None:
    settings = plain.evaluation(evaluation_interval=1, num_tasks=2).settings
    found = check_data(settings)
    assert found.training == ("seed-0", "seed-1", "seed-2")
    assert found.held_out == ("seed-3", "seed-4")
    env = EnvFactory(settings)()
    texts = {env.reset(seed=s, options={"task_id": "seed-1"})[0] for s in range(5)}
    twin = PlainEnv()
    assert texts == {twin.reset(seed=1)[0]}  # members share the task, whatever the group's seed


def test_what_a_plain_environment_does_not_record_is_derived() -> None:
    env = TextEnv(made(ENV_ID), "plain", [0])
    observation, info = env.reset(options={"task_id": "seed-0"})
    assert info["messages"] == [{"role": "user", "content": observation}]
    letter = observation[4]
    *_, terminated, truncated, info = env.step("x")
    assert info["messages"] == [{"role": "user", "content": "Again."}]
    assert not terminated and not truncated and env.episode.reward is None
    _, reward, terminated, _, info = env.step(letter)
    assert reward == 1.0 and terminated and info["success"] is True
    assert [turn.action for turn in env.episode.turns] == ["x", letter]
    assert env.episode.stop_reason is StopReason.ANSWERED and env.episode.final == letter
    assert env.episode.reward is not None and env.episode.reward.total == 1.0
    env.reset(options={"task_id": "seed-0"})
    env.step("x")
    _, reward, _, truncated, info = env.step("x")
    assert (reward, truncated, info["success"]) == (0.0, True, False)
    assert env.episode.stop_reason is StopReason.MAX_TURNS


def test_an_episode_that_is_cut_off_ends_without_a_reward() -> None:
    env = TextEnv(made(ENV_ID), "plain", [0])
    env.reset(options={"task_id": "seed-0"})
    _, reward, terminated, truncated, info = env.stop(StopReason.OUTPUT_TRUNCATED, "half a")
    assert (reward, terminated, truncated, info) == (0.0, False, True, {"success": False})
    assert env.episode.stop_reason is StopReason.OUTPUT_TRUNCATED
    assert [turn.action for turn in env.episode.turns] == ["half a"]


@pytest.mark.parametrize("name", ["success", "is_success"])
def test_the_environment_s_own_verdict_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: PlainEnv, action: str) -> Any:
        return "", 5.0, True, False, {name: False}

    monkeypatch.setattr(PlainEnv, "step", step)
    env = TextEnv(made(ENV_ID), "plain", [0])
    env.reset(options={"task_id": "seed-0"})
    assert env.step("x")[4]["success"] is False


def test_what_an_environment_has_of_its_own_is_used() -> None:
    own = LettersEnv("ab")
    env = TextEnv(own, "letters")
    assert [task.id for task in env.tasks] == ["letter-a", "letter-b"]
    env.reset(options={"task_id": "letter-b"})
    env.step("b")
    env.stop(StopReason.CONTEXT_OVERFLOW)
    assert env.episode == own.episode and env.episode.stop_reason is StopReason.CONTEXT_OVERFLOW


@pytest.mark.parametrize(
    ("tasks", "ids", "passed"),
    [
        (["x", "y"], ["x", "y"], "y"),
        ([4, 7], ["4", "7"], 7),
        ([{"id": 1}, {"id": 2}], ["1", "2"], 2),
        ([{"id": "p"}, {"id": "q"}], ["p", "q"], "q"),
    ],
)
def test_tasks_may_be_names_numbers_or_things_with_an_id(
    tasks: list[Any], ids: list[str], passed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    reset = FaultyEnv.reset

    def note(self: FaultyEnv, **given: Any) -> Any:
        seen.append(given["options"]["task_id"])
        return reset(self, **given)

    monkeypatch.setattr(FaultyEnv, "reset", note)
    env = TextEnv(made(FAULTY, tasks=tasks), "named")
    assert [task.id for task in env.tasks] == ids
    env.reset(options={"task_id": ids[1]})
    assert seen == [passed]
    with pytest.raises(OrchError, match="has no task 'z'"):
        env.reset(options={"task_id": "z"})


@pytest.mark.parametrize("kind", [np.float32, np.array, torch.tensor, int])
def test_scalars_of_numpy_and_torch_are_numbers_and_verdicts(kind: Any) -> None:
    env = TextEnv(made(FAULTY, fault="reward", value=kind(1)), "plain", [0])
    env.reset(options={"task_id": "seed-0"})
    reward = env.step("x")[1]
    assert type(reward) is float and reward == 1.0
    env.step("x")
    assert env.episode.reward is not None and env.episode.reward.total == 2.0
    assert env.running_tool is None
    env = TextEnv(made(FAULTY, fault="truncated", value=None), "plain", [0])
    env.reset(options={"task_id": "seed-0"})
    assert env.step("x")[3] is False
    for fault, place in (("terminated", 2), ("truncated", 3)):
        env = TextEnv(made(FAULTY, fault=fault, value=kind(True)), "plain", [0])
        env.reset(options={"task_id": "seed-0"})
        assert env.step("x")[place] is True
    env = TextEnv(made(FAULTY, fault="success", value=kind(True)), "plain", [0])
    env.reset(options={"task_id": "seed-0"})
    env.step("x")
    assert env.step("x")[4]["success"] is True


def test_members_of_a_wrapper_are_used() -> None:
    class Tasks(gym.Wrapper[Any, Any, Any, Any]):
        tasks = np.array(["x", "y"])

    env = TextEnv(gym.wrappers.TimeLimit(Tasks(made(ENV_ID)), 5), "wrapped")
    assert [task.id for task in env.tasks] == ["x", "y"]


def test_members_by_getattr_are_used_and_their_errors_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members: dict[str, Any] = {"tasks": [{"id": "x"}, {"id": 3}], "stop": None}
    monkeypatch.setattr(PlainEnv, "__getattr__", lambda self, name: members[name], raising=False)
    env = TextEnv(made(ENV_ID), "asked")
    assert [task.id for task in env.tasks] == ["x", "3"]
    with pytest.raises(OrchError, match=r"'running_tool' failed with KeyError: 'running_tool'"):
        _ = env.running_tool


def test_an_error_inside_a_property_is_not_taken_for_its_absence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PlainEnv, "tasks", property(lambda self: self.rows), raising=False)
    with pytest.raises(OrchError, match=r"'tasks' failed with AttributeError: .*'rows', at "):
        TextEnv(made(ENV_ID), "plain", [0])


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ("train.jsonl", "'tasks' must be a list of tasks, got 'train.jsonl'"),
        (5, "'tasks' must be a list of tasks, got 5"),
        ([None], "a name, a number or a thing with an 'id', got None"),
        ([{"question": "2+2"}], "a name, a number or a thing with an 'id', got {'question'"),
        ([{"id": None}], "a name, a number or a thing with an 'id'"),
        ([object()], "a name, a number or a thing with an 'id', got <object"),
    ],
)
def test_tasks_that_cannot_be_named_alike_in_every_runner_are_refused(
    tasks: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlainEnv, "tasks", tasks, raising=False)
    with pytest.raises(OrchError, match=message):
        TextEnv(made(ENV_ID), "plain", [0])


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (None, []),
        ([("find", np.float64(0.5))], [("find", 0.5)]),
        (1.5, "pairs of a tool and seconds, got 1.5"),
        ([1, 2], r"pairs of a tool and seconds, got \[1, 2\]"),
    ],
)
def test_times_of_tools_are_read_or_refused_by_the_rehearsal(
    given: Any, read: Any, plain: GRPOConfig, chat: ChatRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlainEnv, "tool_seconds", given, raising=False)
    if isinstance(read, list):
        assert TextEnv(made(ENV_ID), "plain", [0]).tool_seconds == read
        rehearse(plain.settings, chat)
    else:
        with pytest.raises(OrchError, match=read):
            rehearse(plain.settings, chat)


def test_the_training_step_is_told_in_the_rehearsal_too(
    plain: GRPOConfig, chat: ChatRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlainEnv, "set_training_step", lambda self: None, raising=False)
    with pytest.raises(OrchError, match=r"set_training_step\(\) failed with TypeError"):
        rehearse(plain.settings, chat)


# -- what is wrong is told before anything heavy is loaded ---------------------------------------

HERE = r"tests/orch_train/plain_env\.py:\d+"


@pytest.mark.parametrize(
    ("fault", "value", "message"),
    [
        ("step", None, rf"task 'seed-0': step\(\) failed with KeyError: 'row', at {HERE}"),
        ("assert", None, rf"step\(\) failed with AssertionError, at {HERE}"),
        ("int", None, rf"step\(\) failed with ValueError: invalid literal.*, at {HERE}"),
        ("old reset", None, rf"reset\(\) (must return|failed with) .*{HERE}"),
        ("old step", None, rf"step\(\) (must return|failed with) .*{HERE}"),
        ("observation", None, rf"no info\['messages'\] and an observation that is no .*{HERE}"),
        ("nothing to read", None, r"reset\(\) gave the model nothing to read"),
        ("silent", None, r"neither ended the episode nor gave the model anything to read"),
        (
            "reward",
            "nan",
            rf"step\(\) returned the reward nan; .*number \(defined at {HERE}",
        ),
        ("reward", 1e400, r"returned the reward inf"),
        ("reward", None, r"returned the reward None"),
        ("reward", "1.0", r"returned the reward '1.0'"),
        ("reward", (1.0, {}), r"returned the reward \(1.0, {}\)"),
        ("reward", 10**400, r"returned the reward 1000"),
        ("reward", np.array([1.0]), r"returned the reward array\(\[1\.\]\)"),
        ("success", "False", r"step\(\) returned info\['success'\] = 'False'; it must be True or"),
        ("success", np.array([True, False]), r"returned info\['success'\] = array"),
        ("success", float("nan"), r"returned info\['success'\] = nan"),
        ("terminated", "no", rf"returned terminated = 'no'; .*{HERE}"),
        ("truncated", np.array([True, True]), r"returned truncated = array"),
        ("raise", StopIteration(), rf"step\(\) failed with StopIteration, at {HERE}"),
        ("raise", SystemExit(3), rf"step\(\) failed with SystemExit: 3, at {HERE}"),
        ("messages", "Say a.", r"gave info\['messages'\] = 'Say a.'; it must be a list"),
        ("messages", [{"role": "user"}], r"it must be a list of \{'role'"),
        ("messages", [{"role": "bot", "content": ""}], r"it must be a list of \{'role'"),
        ("messages", [{"role": "user", "content": ["a"]}], r"it must be a list of \{'role'"),
        ("tools", [{"description": "no name"}], r"reset\(\) gave tools that are none"),
        ("tools", 5, r"reset\(\) gave tools that are none"),
        ("tools", np.array([1]), r"reset\(\) gave tools that are none"),
    ],
)
def test_a_mistake_in_an_environment_is_found_by_its_rehearsal(
    fault: str, value: Any, message: str, plain: GRPOConfig, chat: ChatRenderer
) -> None:
    made = faulty(plain, fault)
    settings = made.settings
    settings.environment.env_config["value"] = value  # some values are no JSON
    with pytest.raises(OrchError, match=message) as caught:
        rehearse(settings, chat)
    assert str(caught.value).startswith(f"environment '{FAULTY}', task 'seed-0'")
    assert "docs/environment.md" in str(caught.value)


@pytest.fixture
def chat(plain: GRPOConfig) -> ChatRenderer:
    return make_chat(plain.settings)


def test_the_script_writes_what_an_untrained_model_may_write(
    plain: GRPOConfig, chat: ChatRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def step(self: PlainEnv, action: str) -> Any:
        said.append(action)
        return "on", 0.5, False, False, {}

    monkeypatch.setattr(PlainEnv, "step", step)
    played = rehearse(plain.settings, chat)
    assert set(ACTIONS) == set(said) and "" in said
    assert len(said) == played.messages == MOST_MESSAGES
    assert played.reward == 0.5 * MOST_MESSAGES and not played.success


def test_an_environment_that_never_answers_is_told_at_the_start(
    plain: GRPOConfig, chat: ChatRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    release = threading.Event()
    monkeypatch.setattr(PlainEnv, "step", lambda self, action: release.wait())
    settings = plain.env_runners(env_step_timeout_s=0.2).settings
    try:
        with pytest.raises(OrchError, match=r"did not answer within 0.2 s"):
            rehearse(settings, chat)
    finally:
        release.set()


@pytest.mark.parametrize(
    "problem",
    [RuntimeError("no device"), OSError("no file"), json.JSONDecodeError("empty", "", 0)],
)
@pytest.mark.parametrize("limit", [None, 60.0])
def test_at_the_start_bad_luck_is_told_like_a_mistake(
    problem: Exception, limit: float | None, plain: GRPOConfig, chat: ChatRenderer
) -> None:
    settings = faulty(plain, "raise").env_runners(env_step_timeout_s=limit).settings
    settings.environment.env_config["value"] = problem
    place = rf"environment '{FAULTY}' failed with {type(problem).__name__}: .*, at {HERE}"
    with pytest.raises(OrchError, match=place):
        rehearse(settings, chat)


def test_a_reset_that_fails_by_bad_luck_is_told_at_the_start(
    plain: GRPOConfig, chat: ChatRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reset(self: PlainEnv, **given: Any) -> Any:
        raise OSError("no such file")

    monkeypatch.setattr(PlainEnv, "reset", reset)
    with pytest.raises(OrchError, match=r"failed with OSError: no such file, at .*test_text_env"):
        check_data(plain.settings)
    with pytest.raises(OrchError, match=r"failed with OSError: no such file, at .*test_text_env"):
        prompt_lengths(plain.settings, chat)
    monkeypatch.setattr(PlainEnv, "tasks", property(reset), raising=False)
    with pytest.raises(OrchError, match=r"failed with OSError: no such file, at .*test_text_env"):
        check_data(plain.settings)


@pytest.mark.parametrize("command", [["train"], ["train", "--dry-run"]])
def test_a_mistake_is_one_line_and_exit_code_2(
    command: list[str],
    plain: GRPOConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "own.yaml"
    config = faulty(plain, "step").reporting(log_dir=str(tmp_path / "runs"))
    path.write_text(config.to_yaml())
    assert main([command[0], str(path), *command[1:]]) == 2
    said = capsys.readouterr().err.splitlines()
    assert re.search(rf"^orch: environment .* KeyError: 'row', at {HERE}", said[-1])
    assert not any("Traceback" in line for line in said)


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_warm_start_without_gold_plans_is_one_line(
    options: list[str], plain: GRPOConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(plain.reporting(log_dir=str(tmp_path / "runs")).to_yaml())
    assert main(["sft", str(path), *options]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"orch: environment '{ENV_ID}' has no gold plans")
    assert not (tmp_path / "runs").exists()


def _cannot_be_made(env: str, **env_config: Any) -> str:
    config = GRPOConfig().environment(env, env_config=env_config, num_tasks=1)
    with pytest.raises(OrchError) as caught:
        check_data(config.settings)
    return str(caught.value)


def test_an_environment_that_cannot_be_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "package.module:me/Unregistered-v0" in _cannot_be_made("me/Unregistered-v0")
    assert "PYTHONPATH=." in _cannot_be_made("nowhere:me/Unregistered-v0")
    assert re.search(rf"KeyError: 'folder', at {HERE}", _cannot_be_made(FAULTY, fault="init"))
    assert "unexpected keyword argument 'colour'" in _cannot_be_made(FAULTY, colour=1)
    (tmp_path / "broken_module.py").write_text("import gymnasium\n\nrows = {}['rows']\n")
    (tmp_path / "unfinished_module.py").write_text("import gymnasium\n\ndef (\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "leaving_module.py").write_text("import sys\n\nsys.exit(4)\n")
    kinds = {"broken": "KeyError: 'rows'", "unfinished": "SyntaxError", "leaving": "SystemExit: 4"}
    for name, kind in kinds.items():
        said = _cannot_be_made(f"{name}_module:me/Unregistered-v0")
        assert kind in said and re.search(rf"{name}_module\.py:3", said)


def test_an_environment_without_tasks_says_both_ways_to_have_some(plain: GRPOConfig) -> None:
    given = plain.to_dict()
    del given["environment"]["num_tasks"]
    with pytest.raises(OrchError, match=r"environment\.num_tasks.*property 'tasks'"):
        check_data(GRPOConfig().from_dict(given).settings)
    with pytest.raises(OrchError, match="has tasks of its own"):
        EnvFactory(faulty(plain, "", tasks=["a"]).environment(num_tasks=2).settings)()
    with pytest.raises(OrchError, match="two of its tasks share an id"):
        EnvFactory(faulty(plain, "", tasks=["a", "a"]).settings)()
    with pytest.raises(OrchError, match=r"environment\.num_tasks is for environments of your own"):
        GRPOConfig().environment(env_config={"tasks": "harbour"}, num_tasks=3).validate()


def test_held_out_tasks_are_rehearsed_too(
    plain: GRPOConfig, chat: ChatRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[str] = []
    reset = PlainEnv.reset

    def note(self: PlainEnv, **given: Any) -> Any:
        played.append(f"seed-{given['seed']}")
        return reset(self, **given)

    monkeypatch.setattr(PlainEnv, "reset", note)
    rehearse(plain.settings, chat)
    assert set(played) == {"seed-0"}
    rehearse(plain.evaluation(evaluation_interval=1).settings, chat)
    assert set(played) == {"seed-0", "seed-3"}


def test_attributes_of_the_same_name_and_a_bad_end_do_no_harm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    env = TextEnv(made(ENV_ID), "plain", [0])
    env._own.episode = 7  # a counter of its own
    env.reset(options={"task_id": "seed-0"})
    assert env.episode.task_id == "seed-0"
    monkeypatch.setattr(PlainEnv, "close", lambda self: {}["pipe"], raising=False)
    env.close()
    assert "close() failed with KeyError: 'pipe'" in caplog.text


# -- in the run: mistakes end it at once, bad luck does not --------------------------------------


def runner_of(config: GRPOConfig, engine: Any) -> LocalRunnerGroup:
    settings = config.settings
    return LocalRunnerGroup(EnvRunner(settings, engine=engine), settings, {}, 0)


def saying(chat: ChatRenderer, text: str) -> ScriptedEngine:
    return ScriptedEngine(lambda request, turn: text, encode=chat.encode_action)


def test_a_reset_that_fails_for_one_task_is_told_with_the_task_and_not_tried_again(
    plain: GRPOConfig, chat: ChatRenderer
) -> None:
    config = faulty(plain, "reset of one task", "y", tasks=["x", "y"])
    rehearse(config.settings, chat)  # its first task is sound
    runners = runner_of(config, saying(chat, "x"))
    message = rf"environment '{FAULTY}', task 'y': reset\(\) failed with KeyError.*at {HERE}"
    with pytest.raises(OrchError, match=message) as caught:
        runners.sample([SampleRequest(f"g{t}", t, 0, 0) for t in ("x", "y")])
    assert not isinstance(caught.value, GroupFailed)
    assert runners.fault_counts()["num_groups_reissued"] == 0
    runners.stop()


def test_a_mistake_that_only_some_message_meets_ends_the_run_at_once(
    plain: GRPOConfig, chat: ChatRenderer
) -> None:
    config = faulty(plain, "later")
    rehearse(config.settings, chat)
    runners = runner_of(config, saying(chat, "later"))
    with pytest.raises(OrchError, match=rf"step\(\) failed with KeyError: 'row', at {HERE}"):
        runners.sample([SampleRequest("g", "seed-2", 0, 0)])
    assert runners.fault_counts()["num_groups_reissued"] == 0
    runners.stop()


def test_a_lost_connection_is_tried_again_and_then_told_with_file_and_line(
    plain: GRPOConfig, chat: ChatRenderer
) -> None:
    config = faulty(plain, "network")
    runners = runner_of(config, saying(chat, "x"))
    with pytest.raises(GroupFailed, match=rf"failed 5 times.*reset by peer.*{HERE}"):
        runners.sample([SampleRequest("g", "seed-0", 0, 0)])
    assert runners.fault_counts()["num_groups_reissued"] == 4
    runners.stop()


@pytest.mark.parametrize(
    ("problem", "user_error", "engine_failed"),
    [
        (KeyError("x"), True, False),
        (TypeError("x"), True, False),
        (AttributeError("x"), True, False),
        (EngineError("x"), False, True),
        (TimeoutError("x"), False, False),
        (OSError("x"), False, False),
        (RuntimeError("x"), False, False),
    ],
)
def test_failures_are_sorted_by_whether_they_would_come_back(
    problem: Exception, user_error: bool, engine_failed: bool, plain: GRPOConfig, chat: ChatRenderer
) -> None:
    runner = EnvRunner(plain.settings, engine=ScriptedEngine(lambda request, turn: problem))
    reply = asyncio.run(runner.sample(SampleRequest("g", "seed-1", 0, 0)))
    assert isinstance(reply, SampleFailure)
    assert (reply.user_error is not None, reply.engine_failed) == (user_error, engine_failed)
    if user_error:
        assert "task 'seed-1'" in str(reply.user_error) and "test_text_env" not in reply.reason
    runner.stop()


def test_a_bad_request_is_no_broken_engine(plain: GRPOConfig, chat: ChatRenderer) -> None:
    """With the torch engine itself: the prompt and the message exceed the model's positions."""
    config = plain.rollouts(max_context=20_000, max_tokens_per_turn=19_000)
    runner = EnvRunner(config.settings)
    request = SampleRequest("g", "seed-1", 0, 0)
    reply = asyncio.run(runner.sample(request))
    assert isinstance(reply, SampleFailure) and not reply.engine_failed
    assert "model's 16384 positions" in str(reply.user_error)
    assert "task 'seed-1'" in str(reply.user_error)
    runner.stop()


def test_the_environment_of_the_documentation_is_whole(
    plain: GRPOConfig, chat: ChatRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "environment.md").read_text()
    [block] = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Guess" in b]
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.envs.registration.registry))
    exec(block, {"__name__": "guess"})
    config = plain.environment("me/Guess-v0", num_tasks=2)
    assert rehearse(config.settings, chat).messages > 1
    runner = EnvRunner(config.settings, engine=saying(chat, "a, b or c"))
    reply = asyncio.run(runner.sample(SampleRequest("g", "seed-1", 0, 0)))
    assert isinstance(reply, SampleReply) and reply.group.rewards == [1.0]
    runner.stop()


def test_a_template_that_refuses_some_message_is_told_once_and_with_the_task(
    plain: GRPOConfig, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(plain.settings.model.path)
    shutil.copytree(plain.settings.model.path, tmp_path / "model")
    loop = "{% for m in messages %}"
    raising = loop + "{%- if 'Again' in m.content %}{{- raise_exception('no Again') }}{%- endif %}"
    tokenizer.chat_template = str(tokenizer.chat_template).replace(loop, raising)
    assert "raise_exception" in tokenizer.chat_template
    tokenizer.save_pretrained(tmp_path / "model")
    config = plain.model(str(tmp_path / "model"))
    chat = make_chat(config.settings)
    message = r"chat template of .*model: it refuses messages of roles .*: no Again"
    with pytest.raises(OrchError, match=message):
        rehearse(config.settings, chat)
    runners = runner_of(config, saying(chat, "x"))
    with pytest.raises(OrchError, match=f"task 'seed-1': {message}"):
        runners.sample([SampleRequest("g", "seed-1", 0, 0)])
    assert runners.fault_counts()["num_groups_reissued"] == 0
    runners.stop()


def test_episodes_of_a_plain_environment_are_stored_like_all_others(
    plain: GRPOConfig, chat: ChatRenderer
) -> None:
    runner = EnvRunner(plain.settings, engine=saying(chat, "abc"))
    reply = asyncio.run(runner.sample(SampleRequest("g", "seed-1", 0, 0, size=2)))
    assert isinstance(reply, SampleReply)
    assert reply.group.rewards == [1.0, 1.0] and reply.group.samples[0].success
    for record in reply.records:
        assert Episode.from_dict(record.episode.to_dict()) == record.episode
    runner.stop()
