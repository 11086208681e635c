"""Held-out measurement: the policy in training, or a model folder.

Episodes are sampled by the same code as in training and on the same kind of environment. Call and
turn accuracy come from the benchmark's scorer, which reads the very messages that the model
wrote; so one pass of sampling gives the reward, the task's verdict and the benchmark's numbers.
The sampling seed is the same at every evaluation: a change of the numbers is a change of the
policy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orch_env.evaluation import complexfuncbench, summarise
from orch_env.evaluation.complexfuncbench.suite import BenchmarkBackend
from orch_env.evaluation.pass_rates import (
    PassCount,
    Stratum,
    by_domain,
    by_gold_calls,
    rates,
    rates_by,
)
from orch_env.types import Episode, OrchError, Task
from orch_train.chat.renderer import chat_of_model
from orch_train.chat.taught_format import DEFAULT, format_of_model
from orch_train.config import RolloutSettings, Settings
from orch_train.config.groups import OUR_ENV, SystemTools
from orch_train.config.reading import read_yaml
from orch_train.engines import make_engine
from orch_train.metrics.rollouts import component_means
from orch_train.rollouts.environments import RolloutEnv, TaskIds, env_config
from orch_train.rollouts.episode import run_groups
from orch_train.sampling.task_order import stable_seed
from orch_train.storage.runs import newest_model, runs_in
from orch_train.trajectory.requests import SampleReply, SampleRequest

if TYPE_CHECKING:
    from orch_train.runners.runner_group import GroupSource

logger = logging.getLogger(__name__)

_BENCHMARK_ARGUMENTS = ("tasks", "cache", "split")


def evaluate_policy(
    settings: Settings,
    runners: GroupSource,
    task_ids: Sequence[str],
    *,
    benchmark: Benchmark | None,
    training_step: int = 0,
    strata: Mapping[str, Stratum] | None = None,
) -> dict[str, Any]:
    """``evaluation.samples_per_task`` episodes per held-out task and temperature.

    Args:
        settings: the whole configuration.
        runners: they serve the policy.
        task_ids: held-out tasks.
        benchmark: scores the messages; see `open_benchmark`.
        training_step: number of training steps done: where the reward's weights follow a
            schedule, its means are comparable only between evaluations of equal weights.
        strata: domain and number of gold calls of the tasks, as far as they are known.

    Returns:
        ``{reward_mean, success, call_accuracy, turn_accuracy, n, num_episodes, avg_at_N,
        pass_at_K, by_domain, by_gold_calls, ...}`` of the first temperature, and the same under
        ``greedy`` (temperature 0) or ``sampled_T`` for the others. ``n`` counts tasks; means are
        over episodes; the rates have 95% intervals. The accuracies are there if ``benchmark`` is.

    Raises:
        SamplingStopped: a stop was requested.
        OrchError: an episode fails everywhere, or no runner is left.
    """
    results: dict[str, dict[str, Any]] = {}
    for temperature in settings.evaluation.temperatures:
        replies = runners.sample(_requests(settings, task_ids, temperature, training_step))
        name = "greedy" if temperature == 0 else f"sampled_{temperature:g}"
        measured = _summary(replies, benchmark, strata or {}, settings.evaluation.pass_at)
        results[name] = {"temperature": temperature, **measured}
    first = next(iter(results))
    rest = {name: found for name, found in results.items() if name != first or name == "greedy"}
    return {**results[first], **rest}


def evaluate_model(
    model: str,
    make_env: Callable[[], RolloutEnv],
    task_ids: Sequence[str],
    *,
    max_tokens_per_turn: int,
    max_context: int,
    temperature: float = 0.0,
    seed: int = 0,
    call_format: str = DEFAULT,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    system_tools: SystemTools | None = None,
    dtype: str = "float32",
    max_concurrent: int = 32,
    samples: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Episode]:
    """Play the tasks with a model folder; no Ray.

    Args:
        model: a model folder, a run, a checkpoint, or a bundled name; see `checkpoint_model`.
        make_env: makes one more environment; closed at the end.
        task_ids: tasks, each once.
        max_tokens_per_turn: tokens of one message.
        max_context: tokens of a whole conversation.
        temperature: 0 is greedy.
        seed: sampling seed.
        call_format: how the model and the environments write calls, a name of
            :func:`call_format_of_model`.
        chat_template_kwargs: further variables for the chat template; ``None``: those that the
            checkpoint was trained with, none for other models.
        system_tools: who offers the tools (``rollouts.system_tools``); ``None``: as the checkpoint
            was trained, ``auto`` for other models.
        dtype: what the model computes in: ``float32`` or ``bfloat16``.
        max_concurrent: episodes in flight.
        samples: episodes per task; the first pass is the same for any number.
        progress: called with the episodes (done, in total).

    Returns:
        The episodes: all tasks in their order, then all of them again.

    Raises:
        OrchError: the model or a task is not usable.
        EngineError: the engine failed.
    """
    folder = checkpoint_model(model)
    limits = _limits(
        model,
        chat_template_kwargs,
        system_tools,
        max_tokens_per_turn=max_tokens_per_turn,
        max_context=max_context,
    )
    chat = chat_of_model(folder, call_format, limits)
    chat.warn_of_unread_kwargs()
    engine = make_engine("torch", model=folder, dtype=dtype, max_batch=max_concurrent)

    async def play() -> list[Episode]:
        episodes: list[Episode] = []
        for requests in _passes(task_ids, seed, samples, temperature):
            played: dict[str, Episode] = {}
            async for reply in run_groups(
                make_env, engine, chat, requests, limits=limits, max_concurrent=max_concurrent
            ):
                played[reply.group.task_id] = reply.records[0].episode
                progress(len(episodes) + len(played), samples * len(requests))
            episodes += [played[task] for task in task_ids]
        return episodes

    try:
        return asyncio.run(play())
    finally:
        engine.close()


def call_format_of_model(
    model: str,
    asked: str | None = None,
    *,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    system_tools: SystemTools | None = None,
) -> str:
    """The call format to evaluate a model with.

    Args:
        model: as for `evaluate_model`.
        asked: a format's name, or ``auto``: what the chat template teaches; ``None``: the one that
            the checkpoint was trained with, for other models what the template teaches, and
            `DEFAULT` if it teaches none.
        chat_template_kwargs: as for `evaluate_model`.
        system_tools: as for `evaluate_model`.

    Raises:
        OrchError: there is no such format, or the model's template teaches another one, or none.
    """
    if asked is None and (trained := _run_config(model)):
        environment = trained.get("environment") or {}
        asked = (environment.get("env_config") or {}).get("call_format", DEFAULT)
    return format_of_model(
        asked, checkpoint_model(model), _limits(model, chat_template_kwargs, system_tools)
    )


def _limits(
    model: str,
    chat_template_kwargs: Mapping[str, Any] | None,
    system_tools: SystemTools | None,
    **limits: Any,
) -> RolloutSettings:
    given = {"chat_template_kwargs": chat_template_kwargs, "system_tools": system_tools}
    trained = _trained_with(model)
    named = {key: value for key, value in given.items() if value is not None}
    return RolloutSettings(**limits, **trained | named)


def _passes(
    task_ids: Sequence[str], seed: int, samples: int, temperature: float
) -> Iterator[list[SampleRequest]]:
    """One request per task and pass; passes differ in their sampling seed alone."""
    for number in range(samples):
        parts = ("evaluation", seed, str(number)) if number else ("evaluation", seed)
        base = stable_seed(*parts)
        yield [
            SampleRequest(f"eval:{task}", task, seed, base, temperature=temperature)
            for task in task_ids
        ]


def checkpoint_model(path: str) -> str:
    """The model of a checkpoint, a run or a folder that holds one GRPO run; else the path itself.

    Raises:
        OrchError: a folder holds several runs, or a run without a model.
    """
    folder = Path(path)
    if not folder.is_dir() or (folder / "config.json").is_file():
        return path
    if (folder / "model" / "config.json").is_file():
        return str(folder / "model")
    return str(newest_model(folder)) if runs_in(folder) else path


def _run_config(path: str) -> Mapping[str, Any]:
    """The configuration of a checkpoint's own run; empty for other models."""
    folder = Path(checkpoint_model(path))
    file = folder.parent / "config.yaml"
    return read_yaml(file) if folder.name == "model" and file.is_file() else {}


def _trained_with(path: str) -> dict[str, Any]:
    """How a checkpoint's own run uses the chat template; nothing for other models."""
    rollouts = _run_config(path).get("rollouts") or {}
    keys = ("chat_template_kwargs", "system_tools")
    return {key: rollouts[key] for key in keys if key in rollouts}


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The benchmark's rules over the held-out tasks.

    Attributes:
        backend: scores episodes.
        tasks: the held-out tasks by id.
    """

    backend: BenchmarkBackend
    tasks: Mapping[str, Task]

    def score(self, episode: Episode) -> dict[str, Any]:
        """What the benchmark's rules say about an episode's messages."""
        return self.backend.score(self.tasks[episode.task_id], episode)

    def close(self) -> None:
        """Close the cache."""
        self.backend.close()


def open_benchmark(settings: Settings, tasks: TaskIds) -> Benchmark | None:
    """The benchmark's scorer over the held-out tasks.

    ``None`` if there are none, or if it lacks the recorded responses that it compares (tasks that
    run on servers have none); the log then says so, and reward and verdict are all there is.
    """
    if tasks.held_out is None or settings.environment.env != OUR_ENV:
        return None
    config = env_config(settings, held_out=True)
    known = {key: config[key] for key in _BENCHMARK_ARGUMENTS if key in config}
    held_out = set(tasks.held_out)
    try:
        suite = complexfuncbench(**known)
        chosen = {task.id: task for task in suite.tasks if task.id in held_out}
        for task in chosen.values():
            suite.backend.open(task, seed=0)
    except OrchError as problem:
        logger.warning("no call and turn accuracy on the held-out tasks: %s", problem)
        return None
    return Benchmark(suite.backend, chosen)


def _requests(
    settings: Settings, task_ids: Sequence[str], temperature: float, training_step: int
) -> list[SampleRequest]:
    seed = settings.evaluation.seed
    return [
        SampleRequest(
            id=f"eval:{temperature:g}:{task}",
            task_id=task,
            env_seed=stable_seed("evaluation", seed, task),
            sample_seed=stable_seed("evaluation", seed),
            # Greedy episodes of one task are all the same.
            size=settings.evaluation.samples_per_task if temperature > 0 else 1,
            training_step=training_step,
            temperature=temperature,
            held_out=True,
        )
        for task in task_ids
    ]


def _summary(
    replies: Sequence[SampleReply],
    benchmark: Benchmark | None,
    strata: Mapping[str, Stratum],
    pass_at: Sequence[int],
) -> dict[str, Any]:
    groups = [reply.group for reply in replies]
    samples = [sample for group in groups for sample in group.samples]
    episodes = [record.episode for reply in replies for record in reply.records]
    count = len(episodes)
    counts = {
        group.task_id: PassCount(len(group.samples), sum(s.success for s in group.samples))
        for group in groups
    }
    summary: dict[str, Any] = {
        "reward_mean": sum(s.reward for s in samples) / count,
        "success": sum(s.success for s in samples) / count,
        "episode_len_mean": sum(len(e.turns) for e in episodes) / count,
        "tool_calls_mean": sum(len(e.calls) for e in episodes) / count,
        "num_episodes": count,
        "reward": component_means(episodes),
        **rates(list(counts.values()), pass_at),
        "by_domain": rates_by(counts, strata, by_domain, pass_at),
        "by_gold_calls": rates_by(counts, strata, by_gold_calls, pass_at),
    }
    if benchmark is not None:
        scored: Mapping[str, Any] = summarise(
            [benchmark.score(episode) for episode in episodes],
            [benchmark.tasks[episode.task_id] for episode in episodes],
        )
        summary |= {key: scored[key] for key in ("call_accuracy", "turn_accuracy", "errors")}
        summary["benchmark_success"] = scored["success"]
        # The benchmark counts episodes, `rates_by` counts tasks.
        summary["by_domain"] = {
            name: {**found, **summary["by_domain"].get(name, {})}
            for name, found in scored["by_domain"].items()
        }
    return summary
