"""Rewards in training: the step reaches the environments, and a wrong reward stops the run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from gymnasium.envs.registration import register, registry

from orch_env.cli.main import main
from orch_env.env import ToolOrchestrationEnv
from orch_env.formats import get_format
from orch_env.replay.policies import GoldPolicy
from orch_env.types import OrchError, Task
from orch_train import GRPO, GRPOConfig
from orch_train.chat.renderer import ChatRenderer
from orch_train.config import RolloutSettings
from orch_train.engines.scripted import ScriptedEngine
from orch_train.rollouts.env_runner import EnvRunner
from orch_train.rollouts.episode import run_groups
from orch_train.run.metrics_file import flatten
from orch_train.runners.runner_group import LocalRunnerGroup
from orch_train.sampling.observer import SilentObserver
from orch_train.sampling.synchronous import SynchronousSampling
from orch_train.sampling.task_order import TaskOrder
from orch_train.trajectory.requests import SampleFailure, SampleReply, SampleRequest
from orch_train.trajectory.sample import Group
from tests.orch_train.chat_templates import QWEN, tokenizer_for
from tests.orch_train.replies import answer
from tests.orch_train.toy_env import LettersEnv

ROOMY = RolloutSettings(max_tokens_per_turn=600, max_context=20_000)
BINARY_TIMES_STEP = {"name": "mix", "components": {"binary": [[0, 0.0], [100, 100.0]]}}
"""Success pays as much as the training step's number, up to 100."""


@pytest.fixture(scope="module")
def chat() -> ChatRenderer:
    return ChatRenderer(tokenizer_for(QWEN), get_format("hermes"))


def gold(chat: ChatRenderer, task: Task) -> ScriptedEngine:
    def lines() -> list[str]:
        policy = GoldPolicy(get_format("hermes"))
        policy.start(task)
        return [policy.act("", {}) for _ in range(len(task.gold) + 1)]

    actions = lines()
    return ScriptedEngine(lambda _, turn: actions[turn], encode=chat.encode_action)


async def gathered(stream: Any) -> list[Group]:
    return [reply.group async for reply in stream]


# -- from the request to the environment ---------------------------------------------------------


def test_members_of_a_group_share_the_step_and_groups_side_by_side_keep_their_own(
    chat: ChatRenderer,
) -> None:
    env = ToolOrchestrationEnv("harbour", reward=BINARY_TIMES_STEP)
    task = env.tasks[0]
    requests = [
        SampleRequest(f"g{n}", task.id, 0, 0, size=3, training_step=step)
        for n, step in enumerate((7, 0, 100, 250, 7))
    ]
    stream = run_groups(
        env.sibling, gold(chat, task), chat, requests, limits=ROOMY, max_concurrent=4
    )
    rewards = {group.id: group.rewards for group in asyncio.run(gathered(stream))}
    assert rewards == {
        "g0": [7.0] * 3,
        "g1": [0.0] * 3,
        "g2": [100.0] * 3,
        "g3": [100.0] * 3,
        "g4": [7.0] * 3,
    }
    env.close()


class RecordingRunners:
    """Answers every request with a group of equal rewards, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[SampleRequest] = []

    def sample(self, requests: Sequence[SampleRequest], **_: Any) -> list[SampleReply]:
        self.requests += requests
        return [answer(request) for request in requests]


def test_replacements_of_groups_without_spread_have_the_step_of_their_batch() -> None:
    settings = (
        GRPOConfig()
        .training(groups_per_batch=2, zero_variance="resample", max_resample_rounds=2)
        .settings
    )
    runners: Any = RecordingRunners()
    order = TaskOrder([f"t{n}" for n in range(9)], seed=0)
    sampling = SynchronousSampling(
        settings,
        runners,
        order,
        step=12,
        observer=SilentObserver(),
        should_stop=lambda: False,
    )
    sampling.next_batch()
    assert [r.training_step for r in runners.requests] == [12] * 6
    sampling.step_done(None, 0)
    sampling.next_batch()
    assert [r.training_step for r in runners.requests[6:]] == [13] * 6


class FailingOnce:
    """A runner whose first attempt at every group is lost."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    async def sample(self, request: SampleRequest) -> SampleReply | SampleFailure:
        first = request.id not in [name for name, _ in self.seen]
        self.seen.append((request.id, request.training_step))
        if first:
            return SampleFailure("lost")
        return answer(request)

    async def serve(self, weights: Any, version: int) -> int:
        return version

    def stop(self) -> None:
        pass


def test_a_group_that_is_given_out_again_keeps_its_step() -> None:
    runner: Any = FailingOnce()
    group = LocalRunnerGroup(runner, GRPOConfig().settings, {}, 0)
    group.sample([SampleRequest(f"g{n}", "t", 0, 0, 1, n) for n in range(3)])
    group.stop()
    assert sorted(runner.seen) == [("g0", 0)] * 2 + [("g1", 1)] * 2 + [("g2", 2)] * 2


# -- from the iteration to the request -----------------------------------------------------------

STEPS: list[int] = []
"""The training step of every episode that `SteppedLetters` began, in order."""


class SteppedLetters(LettersEnv):
    """The letters, with a notebook of training steps; ``reward`` is there for the log alone."""

    step_now = 0

    def __init__(self, reward: Any = None, **arguments: Any) -> None:
        super().__init__(**arguments)

    def set_training_step(self, step: int) -> None:
        self.step_now = step

    def reset(self, **kwargs: Any) -> Any:
        STEPS.append(self.step_now)
        return super().reset(**kwargs)


if "orch_test/SteppedLetters-v0" not in registry:
    register(id="orch_test/SteppedLetters-v0", entry_point=SteppedLetters)


def steps_of(work: Callable[[], Any]) -> list[int]:
    STEPS.clear()
    work()
    return list(STEPS)


def test_every_iteration_and_its_evaluation_play_at_their_own_step(
    toy_config: GRPOConfig, tmp_path: Path
) -> None:
    reward = {"name": "graduated", "weights": {"atomic": [[0, 1], [4, 0]]}}
    config = (
        toy_config.environment("orch_test/SteppedLetters-v0", env_config={"reward": reward})
        .training(groups_per_batch=1, group_size=2)
        .evaluation(evaluation_interval=2, tasks="gh", temperatures=[1.0])
    )
    with config.copy().build_algo() as algo:
        assert steps_of(algo.evaluate) == [0, 0]
        assert steps_of(algo.train) == [0, 0]
        # After the second iteration its two held-out tasks are played with what was learned.
        results: list[Any] = []
        assert steps_of(lambda: results.append(algo.train())) == [1, 1, 2, 2]
        # Sampled at step 1 of 4: 1 - 1/4.
        shown = flatten(results[0])
        assert shown["env_runners/reward_weights/weights.atomic"] == 0.75
        algo.save_to_path(tmp_path / "two")
    with GRPO.from_checkpoint(tmp_path / "two") as again:
        assert steps_of(again.train) == [2, 2]
        again.restore_from_path(tmp_path / "two")
        assert steps_of(again.evaluate) == [2, 2]


def test_the_log_holds_the_weights_that_follow_a_schedule() -> None:
    from orch_train.rollouts.environments import reward_weights

    config = GRPOConfig().environment(
        env_config={
            "tasks": "harbour/train",
            "reward": {
                "name": "graduated",
                "weights": {"atomic": [[0, 1.0], [4, 0.0]], "orchestration": 0.0},
            },
        }
    )
    assert reward_weights(config.settings, 1) == {"weights.atomic": 0.75}
    for plain in ("graduated", {"name": "graduated", "weights": {"atomic": 1}}):
        config.environment(env_config={"reward": plain})
        assert reward_weights(config.settings, 1) == {}
    assert reward_weights(GRPOConfig().settings, 1) == {}


# -- the configuration ---------------------------------------------------------------------------

MIX = {
    "name": "mix",
    "components": {
        "graduated.atomic": [[0, 0.5], [100, 0.25]],
        "prove.eff": -0.15,
        "tests.orch_env.own_rewards:brevity": 0.1,
    },
    "options": {"prove": {"alpha": 1}},
}
YAML = """
environment:
  env_config:
    tasks: harbour/train
    reward:
      name: mix
      components:
        graduated.atomic: [[0, 0.5], [100, 0.25]]
        prove.eff: -0.15
        tests.orch_env.own_rewards:brevity: 0.1
      options: {prove: {alpha: 1}}
"""


def reward_of(config: GRPOConfig) -> Any:
    return config.settings.environment.env_config["reward"]


def test_a_mix_survives_yaml_there_and_back(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(YAML)
    config = GRPOConfig().from_yaml(tmp_path / "run.yaml")
    assert reward_of(config) == MIX
    (tmp_path / "again.yaml").write_text(config.to_yaml())
    assert reward_of(GRPOConfig().from_yaml(tmp_path / "again.yaml")) == MIX


def test_an_override_in_json_replaces_the_reward_whole(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(YAML)
    other = {"name": "graduated", "weights": {"atomic": [[0, 1], [9, 0.5]]}}
    for new in (MIX, other, "binary"):
        text = f"environment.env_config.reward={json.dumps(new)}"
        assert (
            reward_of(GRPOConfig().from_yaml(tmp_path / "run.yaml").with_overrides([text])) == new
        )
        laid_over = GRPOConfig().from_yaml(tmp_path / "run.yaml")
        assert reward_of(laid_over.environment(env_config={"reward": new})) == new
    one = "environment.env_config.reward.components={binary: 1}"
    changed = reward_of(GRPOConfig().from_yaml(tmp_path / "run.yaml").with_overrides([one]))
    assert changed == {**MIX, "components": {"binary": 1}}


@pytest.mark.parametrize(
    ("reward", "piece"),
    [
        ("gradated", "did you mean 'graduated'?"),
        ({"name": "mix", "components": {"graduatd.atomic": 1}}, "did you mean 'graduated'?"),
        ({"name": "graduated", "weights": {"atomic": [[0, 1], [0, 2]]}}, "steps must increase"),
        ({"name": "graduated", "weights": {"atomic": [[0, 1], [9, 2]]}}, "sum to 2"),
        ("no_such_module:reward", "there is no module 'no_such_module'"),
        (7, "a reward is a name or an object with a 'name', got 7"),
    ],
)
def test_a_dry_run_says_what_is_wrong_with_a_reward(
    toy_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], reward: Any, piece: str
) -> None:
    config = (
        GRPOConfig()
        .environment(env_config={"tasks": "harbour/train"})
        .model(str(toy_model))
        .rollouts(max_tokens_per_turn=12, max_context=256)
    )
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    words = [f"environment.env_config.reward={json.dumps(reward)}", "training.lr=-1"]
    assert main(["train", str(tmp_path / "run.yaml"), *words, "--dry-run"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert "2 problems" in said.err and "environment.env_config.reward: " in said.err
    assert piece in said.err and "training.lr" in said.err


# -- a reward that fails -------------------------------------------------------------------------


def test_a_function_that_raises_stops_the_run_and_is_not_tried_again(toy_model: Path) -> None:
    reward = {"name": "mix", "components": {"binary": 0.5, "tests.orch_env.own_rewards:broken": 1}}
    settings = (
        GRPOConfig()
        .environment(env_config={"tasks": "harbour/train", "reward": reward})
        .model(str(toy_model))
        .rollouts(max_tokens_per_turn=600, max_context=20_000)
        .settings
    )
    asked: list[str] = []

    def line(request_id: str, turn: int) -> str:
        asked.append(request_id)
        return "I give up."

    runner = EnvRunner(settings, engine=ScriptedEngine(line, encode=encoder(toy_model)))
    group = LocalRunnerGroup(runner, settings, {}, 0)
    task = ToolOrchestrationEnv("harbour", split="train").tasks[0]
    with pytest.raises(OrchError, match=r"reward 'tests\.orch_env\.own_rewards:broken' failed"):
        group.sample([SampleRequest("g", task.id, 0, 0, 1)])
    assert asked == ["g/0"]
    group.stop()


def encoder(model: Path) -> Callable[[str], Sequence[int]]:
    from orch_train.models.files import load_tokenizer

    return ChatRenderer(load_tokenizer(str(model)), get_format("hermes")).encode_action
