"""Held-out measurement: the benchmark's numbers from the messages that the model wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import orch_env  # noqa: F401 - registers the environment
from orch_env.cli.main import main
from orch_env.env import ToolOrchestrationEnv
from orch_env.evaluation import complexfuncbench
from orch_env.formats import get_format
from orch_env.replay.policies import GoldPolicy
from orch_env.types import Episode, OrchError, StopReason, Task
from orch_train import GRPOConfig
from orch_train.chat.renderer import make_chat
from orch_train.cli.train import show_rates
from orch_train.config import Settings
from orch_train.evaluation.policy import (
    Benchmark,
    checkpoint_model,
    evaluate_model,
    evaluate_policy,
    open_benchmark,
)
from orch_train.rollouts.environments import EnvFactory, TaskIds, check_data, prompt_lengths
from orch_train.run.display import evaluation_line
from orch_train.trajectory.requests import SampleReply, SampleRequest
from orch_train.trajectory.sample import TrainingSample
from tests.orch_train.replies import answer

Play = Callable[[Any, Task], None]


def _settings(**evaluation: Any) -> Settings:
    return (
        GRPOConfig()
        .environment(env_config={"tasks": "harbour/train", "max_turns": 12})
        .evaluation(tasks="harbour/heldout", num_tasks=6)
        .from_dict({"evaluation": evaluation})
        .settings
    )


def _gold(env: Any, task: Task) -> None:
    policy = GoldPolicy(get_format("hermes"))
    policy.start(task)
    observation, ended, info = "", False, {}
    while not ended:
        observation, _, terminated, truncated, info = env.step(policy.act(observation, info))
        ended = terminated or truncated


def _first_call_then_stop(env: Any, task: Task) -> None:
    policy = GoldPolicy(get_format("hermes"))
    policy.start(task)
    env.step(policy.act("", {}))
    env.unwrapped.stop(StopReason.CONTEXT_OVERFLOW, "")


def _cut_off(env: Any, task: Task) -> None:
    env.unwrapped.stop(StopReason.OUTPUT_TRUNCATED, "<tool_call>")


def _silent(env: Any, task: Task) -> None:
    env.step("I would rather not.")


def _played(task_id: str, play: Play) -> tuple[TrainingSample, Episode]:
    env = gym.make("orch_env/ToolOrchestration-v0", tasks="harbour/heldout", max_turns=12)
    env.reset(seed=0, options={"task_id": task_id})
    inner: Any = env.unwrapped
    play(env, inner.task)
    episode = inner.episode
    env.close()
    assert episode.reward is not None
    reward = episode.reward.total
    return TrainingSample(reward=reward, success=reward == 1.0), episode


@pytest.fixture(scope="module")
def held_out() -> TaskIds:
    return check_data(_settings())


@pytest.fixture(scope="module")
def benchmark(held_out: TaskIds) -> Benchmark:
    found = open_benchmark(_settings(), held_out)
    assert found is not None
    return found


class _PlayingRunners:
    """Plays every requested task by a script, and remembers the requests."""

    def __init__(self, plays: dict[float, Play]) -> None:
        self.plays = plays
        self.requests: list[SampleRequest] = []

    def _play(self, request: SampleRequest, member: int) -> tuple[TrainingSample, Episode]:
        """The script for the first episode of a task, silence for the others."""
        play = self.plays[request.temperature] if member == 0 else _silent
        return _played(request.task_id, play)

    def sample(self, requests: Sequence[SampleRequest]) -> list[SampleReply]:
        self.requests += requests
        return [answer(r, *(self._play(r, member) for member in range(r.size))) for r in requests]


def _evaluate(
    plays: dict[float, Play],
    held_out: TaskIds,
    benchmark: Benchmark | None,
    **evaluation: Any,
) -> tuple[dict[str, Any], list[SampleRequest]]:
    runners: Any = _PlayingRunners(plays)
    assert held_out.held_out is not None
    measured = evaluate_policy(
        _settings(temperatures=list(plays), **evaluation),
        runners,
        held_out.held_out,
        benchmark=benchmark,
        strata=held_out.strata,
    )
    return measured, runners.requests


def test_gold_scores_everything(held_out: TaskIds, benchmark: Benchmark) -> None:
    measured, _ = _evaluate({1.0: _gold}, held_out, benchmark)
    for name in ("success", "reward_mean", "call_accuracy", "turn_accuracy", "benchmark_success"):
        assert measured[name] == 1.0
    assert measured["n"] == 6
    assert sum(found["n"] for found in measured["by_domain"].values()) == 6


def test_each_temperature_is_a_pass_of_its_own(held_out: TaskIds, benchmark: Benchmark) -> None:
    measured, requests = _evaluate({1.0: _silent, 0.0: _gold, 0.5: _gold}, held_out, benchmark)
    assert (measured["temperature"], measured["success"]) == (1.0, 0.0)
    assert measured["call_accuracy"] == 0.0
    assert measured["errors"] == {"stop_early": 6}
    assert measured["greedy"]["success"] == 1.0
    assert measured["sampled_0.5"]["turn_accuracy"] == 1.0
    assert all(request.held_out and request.size == 1 for request in requests)
    assert len({request.id for request in requests}) == len(requests) == 18


def test_the_sampling_seed_is_the_same_at_every_evaluation(
    held_out: TaskIds, benchmark: Benchmark
) -> None:
    _, first = _evaluate({1.0: _silent}, held_out, benchmark)
    _, second = _evaluate({1.0: _silent}, held_out, benchmark)
    assert first == second


def test_several_samples_per_task_give_pass_and_average(
    held_out: TaskIds, benchmark: Benchmark
) -> None:
    """One of four episodes of each task succeeds."""
    measured, requests = _evaluate(
        {1.0: _gold, 0.0: _gold}, held_out, benchmark, samples_per_task=4, pass_at=[1, 2, 4]
    )
    assert (measured["n"], measured["num_episodes"]) == (6, 24)
    assert measured["success"] == measured["avg_at_4"]["mean"] == 0.25
    assert [measured[f"pass_at_{k}"]["mean"] for k in (1, 2, 4)] == [0.25, 0.5, 1.0]
    # A greedy pass plays every task once, so it has no pass@2.
    assert [request.size for request in requests] == [4] * 6 + [1] * 6
    assert measured["greedy"]["avg_at_1"]["mean"] == 1.0
    assert "pass_at_2" not in measured["greedy"]


def test_rates_stand_by_domain_and_by_number_of_gold_calls(
    held_out: TaskIds, benchmark: Benchmark
) -> None:
    scored, _ = _evaluate({1.0: _gold}, held_out, benchmark)
    bare, _ = _evaluate({1.0: _gold}, held_out, None)
    for measured in (scored, bare):
        for name in ("by_domain", "by_gold_calls"):
            assert sum(found["n"] for found in measured[name].values()) == 6
            assert all(found["avg_at_1"]["mean"] == 1.0 for found in measured[name].values())
    assert all("call_accuracy" in found for found in scored["by_domain"].values())
    calls = {str(s.gold_calls) for s in held_out.strata.values()}
    assert set(bare["by_gold_calls"]) == calls


def test_a_person_sees_the_interval_and_pass_at_k(held_out: TaskIds) -> None:
    measured, _ = _evaluate({1.0: _gold}, held_out, None, samples_per_task=2, pass_at=[1, 2])
    line = evaluation_line(measured)
    assert "success 0.500 [" in line and "pass@2 1.000 [" in line and "pass@1" not in line
    assert line.endswith("n 6")


def test_the_table_at_the_end_of_a_run_has_a_row_for_each_number_of_calls(
    held_out: TaskIds, benchmark: Benchmark, capsys: pytest.CaptureFixture[str]
) -> None:
    measured, _ = _evaluate(
        {1.0: _gold}, held_out, benchmark, samples_per_task=2, pass_at=[1, 2], num_tasks=6
    )
    assert len(measured["by_domain"]) == 6 and len(measured["by_gold_calls"]) > 1
    show_rates(measured)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["held", "out", "avg@2", "pass@2", "tasks"]
    names = [*measured["by_domain"], *measured["by_gold_calls"]]
    assert [line.split()[0] for line in lines[1:]] == ["all", *names]
    assert "50.0% [" in lines[1] and "100.0% [" in lines[1] and lines[1].endswith(" 6")
    assert len({len(line) for line in lines}) == 1, "columns line up"
    show_rates({"success": 0.5})
    assert capsys.readouterr().out == ""


def test_pass_at_k_needs_k_samples() -> None:
    with pytest.raises(OrchError, match="pass@4 needs evaluation"):
        _settings(samples_per_task=2, pass_at=[1, 4])


def test_an_episode_that_was_stopped_keeps_what_it_reached(
    held_out: TaskIds, benchmark: Benchmark
) -> None:
    assert held_out.held_out is not None
    task_id = held_out.held_out[0]
    whole = benchmark.score(_played(task_id, _gold)[1])
    part = benchmark.score(_played(task_id, _first_call_then_stop)[1])
    none = benchmark.score(_played(task_id, _cut_off)[1])
    assert whole["success"] and not part["success"] and not none["success"]
    assert whole["correct_calls"] == whole["total_calls"] > part["correct_calls"] >= 1
    assert none["correct_calls"] == 0
    assert part["error"] == "context_overflow"


def test_without_recorded_responses_reward_and_verdict_remain(held_out: TaskIds) -> None:
    measured, _ = _evaluate({1.0: _gold}, held_out, None)
    assert measured["success"] == 1.0 and "call_accuracy" not in measured


def test_other_environments_have_no_benchmark(toy_config: GRPOConfig) -> None:
    settings = toy_config.evaluation(tasks="xy", evaluation_interval=1).settings
    assert open_benchmark(settings, TaskIds(("a",), ("x",))) is None


# -- models ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_model(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy model with room for the harbour's prompts, which are long in bytes."""
    folder = tmp_path_factory.mktemp("long") / "model"
    shutil.copytree(toy_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = 16384
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _episodes(
    model: Path, make_env: Callable[[], Any], task_ids: Sequence[str], **options: Any
) -> list[Episode]:
    return evaluate_model(
        str(model), make_env, task_ids, max_tokens_per_turn=6, max_context=8192, **options
    )


def test_a_model_is_evaluated_in_the_order_of_the_tasks(
    long_model: Path, held_out: TaskIds
) -> None:
    assert held_out.held_out is not None
    task_ids = list(reversed(held_out.held_out[:5]))
    env = complexfuncbench("harbour/heldout").env()
    seen: list[tuple[int, int]] = []
    episodes = _episodes(
        long_model, env.sibling, task_ids, progress=lambda done, total: seen.append((done, total))
    )
    assert [episode.task_id for episode in episodes] == task_ids
    assert all(episode.stop_reason is not None for episode in episodes)
    assert seen == [(n, 5) for n in range(1, 6)]
    # The environment that was given is still usable: only its siblings were closed.
    env.reset(options={"task_id": task_ids[0]})


def test_how_many_episodes_run_together_changes_no_outcome(
    long_model: Path, held_out: TaskIds
) -> None:
    assert held_out.held_out is not None
    task_ids = held_out.held_out[:3]
    one, many = (
        _episodes(
            long_model,
            lambda: gym.make("orch_env/ToolOrchestration-v0", tasks="harbour/heldout"),
            task_ids,
            temperature=1.0,
            seed=5,
            max_concurrent=count,
        )
        for count in (1, 8)
    )
    assert one == many


def test_further_samples_leave_the_first_pass_alone_and_differ_from_it(
    long_model: Path, held_out: TaskIds
) -> None:
    assert held_out.held_out is not None
    task_ids = held_out.held_out[:3]
    seen: list[tuple[int, int]] = []
    texts: list[str] = []

    class Listening(ToolOrchestrationEnv):
        def step(self, action: Any) -> Any:
            texts.append(str(action))
            return super().step(action)

    env = Listening(tasks="harbour/heldout")
    once = _episodes(long_model, env.sibling, task_ids, temperature=1.0, max_concurrent=1)
    first, texts = texts[:], []
    twice = _episodes(
        long_model,
        env.sibling,
        task_ids,
        temperature=1.0,
        max_concurrent=1,
        samples=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert len(once) == 3 and twice[:3] == once
    assert [episode.task_id for episode in twice] == [*task_ids, *task_ids]
    assert seen == [(n, 6) for n in range(1, 7)]
    assert texts[: len(first)] == first and texts[len(first) :] != first
    env.close()


def test_a_checkpoint_stands_for_its_model(tmp_path: Path, toy_model: Path) -> None:
    shutil.copytree(toy_model, tmp_path / "step_1" / "model")
    assert checkpoint_model(str(tmp_path / "step_1")) == str(tmp_path / "step_1" / "model")
    assert checkpoint_model(str(toy_model)) == str(toy_model)


def test_a_checkpoint_is_evaluated_as_it_was_trained(
    tmp_path: Path, toy_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, str]] = []
    formats: list[str] = []

    def note(path: str, call_format: str, limits: Any) -> Any:
        seen.append((limits.chat_template_kwargs, limits.system_tools))
        formats.append(call_format)
        raise OrchError("seen")

    monkeypatch.setattr("orch_train.evaluation.policy.chat_of_model", note)
    config = GRPOConfig().rollouts(chat_template_kwargs={"a": 1}, system_tools="always")
    config = config.environment(env_config={"tasks": "harbour", "call_format": "pythonic"})
    shutil.copytree(toy_model, tmp_path / "step_1" / "model")
    (tmp_path / "step_1" / "config.yaml").write_text(config.to_yaml())

    def evaluated(path: Path, *options: str) -> tuple[Any, str]:
        tasks = ("--tasks", "harbour/heldout", "--limit", "1")
        assert main(["eval", "--model", str(path), *tasks, *options]) == 2
        return seen[-1]

    assert evaluated(tmp_path / "step_1") == ({"a": 1}, "always")
    assert evaluated(tmp_path / "step_1" / "model") == ({"a": 1}, "always")
    assert evaluated(toy_model) == ({}, "auto")
    assert formats == ["pythonic", "pythonic", "hermes"]
    given = ("--chat-template-kwargs", '{"b": 2}', "--system-tools", "never")
    assert evaluated(tmp_path / "step_1", *given) == ({"b": 2}, "never")
    assert evaluated(toy_model, *given) == ({"b": 2}, "never")
    assert main(["eval", "--model", "tiny", "--tasks", "x", "--chat-template-kwargs", "[]"]) == 2
    assert len(seen) == 5
    evaluated(tmp_path / "step_1", "--call-format", "mistral")
    assert formats[-1] == "mistral"


# -- the data of a run -----------------------------------------------------------------------


def test_environments_of_one_factory_share_their_data_and_not_their_episodes() -> None:
    factory = EnvFactory(_settings(), held_out=True)
    first, second = factory(), factory()
    ids = [task.id for task in first.unwrapped.tasks[:2]]
    first.reset(seed=1, options={"task_id": ids[0]})
    second.reset(seed=2, options={"task_id": ids[1]})
    assert first.unwrapped.episode.task_id == ids[0]
    assert second.unwrapped.episode.task_id == ids[1]
    assert first.unwrapped.tasks is second.unwrapped.tasks
    second.close()
    first.step("done")
    first.close()


def test_training_on_held_out_tasks_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    config = GRPOConfig().environment(env_config={"tasks": "harbour/heldout"})
    check_data(config.evaluation(tasks="harbour/heldout").settings)
    assert "also trained on" in caplog.text


@pytest.mark.parametrize(
    ("env_config", "piece"),
    [
        ({"tasks": "harbour", "split": "nowhere"}, "no split 'nowhere'"),
        ({"tasks": "harbour", "rewards": "paper"}, "rewards"),
        ({"tasks": "harbour", "reward": "papre"}, "papre"),
        ({"tasks": "harbour", "call_format": "morse"}, "morse"),
    ],
)
def test_wrong_arguments_of_the_environment_are_found_before_training(
    env_config: dict[str, Any], piece: str
) -> None:
    with pytest.raises(OrchError, match=piece):
        check_data(GRPOConfig().environment(env_config=env_config).settings)


def test_an_unknown_environment_is_one_clear_error() -> None:
    with pytest.raises(OrchError, match="cannot be made"):
        check_data(GRPOConfig().environment("orch_env/Nothing-v0").settings)


def test_prompts_that_do_not_fit_are_counted(
    long_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = GRPOConfig().environment(env_config={"tasks": "harbour/train"}).model(str(long_model))
    lengths = prompt_lengths(
        config.rollouts(max_context=16384).settings, make_chat(config.settings)
    )
    middle = sorted(lengths)[len(lengths) // 2]
    prompt_lengths(config.rollouts(max_context=middle).settings, make_chat(config.settings))
    assert "exceed rollouts.max_context" in caplog.text


def test_a_part_of_the_held_out_tasks_is_of_every_domain_and_the_same_again() -> None:
    settings = _settings(num_tasks=16)
    tasks = check_data(settings)
    assert len(tasks.held_out or ()) == 16
    assert len({stratum.domain for stratum in tasks.strata.values()}) == 8
    assert check_data(settings) == tasks
