"""What a rollout needs of an environment, and the configured ones with their data.

Imports without torch, so that a wrong path or a damaged cache is found before anything heavy
starts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from orch_env.evaluation.pass_rates import Stratum
from orch_env.tasks.selection import spread
from orch_env.types import OrchError, Task
from orch_env.types.user_code import told
from orch_train.chat.taught_format import AUTO, format_of_model
from orch_train.config import Settings

if TYPE_CHECKING:
    from orch_train.chat.renderer import ChatRenderer

logger = logging.getLogger(__name__)

T = TypeVar("T")


class RolloutEnv(Protocol):
    """The part of ``ToolOrchestrationEnv``, or of a `TextEnv`, that a rollout uses."""

    @property
    def unwrapped(self) -> Any:
        """The environment itself, with ``tasks``, ``stop(reason, action)`` and ``episode``.

        If it has a ``set_training_step(step)``, that is called before each reset. It may have
        ``tool_seconds``, the (tool, seconds) of the episode's calls, and the ``running_tool``.
        """
        ...

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start the task ``options["task_id"]``; info has ``messages`` and ``tools``."""
        ...

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take an assistant message; info has ``messages``, at the end ``success``."""
        ...

    def close(self) -> None:
        """Free what the environment holds."""
        ...


@dataclass(frozen=True, slots=True)
class TaskIds:
    """What there is to train and to measure on.

    Attributes:
        training: ids of the training tasks, in file order.
        held_out: ids of the held-out tasks, in file order; ``None`` if none are configured.
        strata: what each held-out task is counted under; of our own tasks only.
        weights: training task -> the chance that an epoch has it, for those that have one.
    """

    training: tuple[str, ...]
    held_out: tuple[str, ...] | None
    strata: Mapping[str, Stratum] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)


class EnvFactory:
    """Makes the configured environment.

    Environments that can `fork` share their tasks and their open cache with the first one: the
    hundredth costs microseconds instead of reading the task file again.

    Args:
        settings: the whole configuration.
        held_out: on the held-out tasks instead of the training tasks.
        tasks: on these tasks instead of either.
    """

    def __init__(
        self, settings: Settings, *, held_out: bool = False, tasks: str | None = None
    ) -> None:
        self._env = settings.environment.env
        self._seeds = _seeds(settings, held_out=held_out)
        self._config = env_config(settings, held_out=held_out)
        if tasks is not None:
            self._config["tasks"] = tasks
            self._config.pop("split", None)
        if self._config.get("call_format") == AUTO:
            chosen = format_of_model(AUTO, settings.model.path, settings.rollouts)
            self._config["call_format"] = chosen
        self._first: RolloutEnv | None = None

    def __call__(self) -> RolloutEnv:
        """Make one environment.

        Raises:
            OrchError: an argument is wrong, or a file is missing or damaged.
        """
        if self._first is not None and hasattr(self._first.unwrapped, "fork"):
            return cast(RolloutEnv, self._first.unwrapped.fork())
        self._first = self._make()
        return self._first

    def _make(self) -> RolloutEnv:
        import gymnasium as gym

        from orch_env import ToolOrchestrationEnv  # registers it, also inside a fresh worker
        from orch_train.rollouts.text_env import TextEnv

        try:
            # Gymnasium's passive checker would look at every observation again.
            env: Any = gym.make(self._env, disable_env_checker=True, **self._config)
        except OrchError:
            raise
        except (Exception, SystemExit) as problem:  # a user's code may fail in any way
            known = isinstance(problem, gym.error.Error | ImportError)
            # Gymnasium raises what a constructor raised again, with all of its arguments.
            why = str(problem) if known else told(problem.__cause__ or problem)
            raise OrchError(
                f"environment {self._env!r} cannot be made: {why}{self._hint(problem)}"
            ) from problem
        if isinstance(env.unwrapped, ToolOrchestrationEnv):
            return cast(RolloutEnv, env)
        return told_at_the_start(self._env, lambda: TextEnv(env, self._env, self._seeds))

    def _hint(self, problem: BaseException) -> str:
        """What to do about an environment that Gymnasium does not find."""
        if isinstance(problem, ModuleNotFoundError):
            return " (PYTHONPATH=. looks for modules in the current folder)"
        if ":" not in self._env and type(problem).__name__.endswith("NotFound"):
            return (
                f"; one of your own is named with the module that registers it: "
                f"package.module:{self._env}"
            )
        return ""


def told_at_the_start(name: str, call: Callable[[], T]) -> T:
    """What a call of an environment returns before the run starts, where nothing is tried again.

    Raises:
        OrchError: the environment failed, by mistake or by bad luck.
    """
    try:
        return call()
    except OrchError:
        raise
    except Exception as problem:  # whatever a user's environment raises
        raise OrchError(f"environment {name!r} failed with {told(problem)}") from problem


def _seeds(settings: Settings, *, held_out: bool) -> range:
    """The seeds that are the tasks of an environment without tasks; held-out ones follow."""
    count = settings.environment.num_tasks or 0
    if not held_out:
        return range(count)
    return range(count, count + (settings.evaluation.num_tasks or count))


def env_config(settings: Settings, *, held_out: bool) -> dict[str, Any]:
    """Arguments of ``gym.make`` for the training tasks, or for the held-out ones."""
    config = dict(settings.environment.env_config)
    evaluation = settings.evaluation
    if held_out and evaluation.tasks is not None:
        config["tasks"] = evaluation.tasks
        # A split of the training file says nothing about another file.
        config.pop("split", None)
    if held_out and evaluation.split is not None:
        config["split"] = evaluation.split
    return config


def reward_weights(settings: Settings, training_step: int) -> dict[str, float]:
    """The weights of the configured reward that follow a schedule, at a training step.

    Returns:
        Their places in the reward's configuration with their values; empty without schedules.
    """
    from orch_env.rewards.compose.schedule import scheduled_weights

    return scheduled_weights(settings.environment.env_config.get("reward"), training_step)


def check_data(settings: Settings) -> TaskIds:
    """Open the environments once and play one reset; returns the ids of their tasks.

    Raises:
        OrchError: a file is missing or damaged, or an argument of the environment is wrong.
    """
    trained = _open_once(settings, held_out=False)
    training = tuple(task.id for task in trained)
    weights = task_weights(trained) if settings.environment.task_weights == "pass_rate" else {}
    evaluation = settings.evaluation
    if not settings.has_held_out:
        return TaskIds(training, None, weights=weights)
    tasks = _open_once(settings, held_out=True)
    held_out = tuple(task.id for task in tasks)
    both = set(training) & set(held_out)
    if both:
        logger.warning(
            "%d of %d held-out tasks are also trained on: their scores measure memory",
            len(both),
            len(held_out),
        )
    chosen = spread(tasks, evaluation.num_tasks)
    strata = {task.id: Stratum.of(task) for task in chosen if isinstance(task, Task)}
    return TaskIds(training, tuple(task.id for task in chosen), strata, weights)


_LEAST_WEIGHT = 0.1
"""Chance of an epoch for a task that is always or never solved: policies change."""


def task_weights(tasks: Sequence[Any]) -> dict[str, float]:
    """The chance that an epoch has a task, by the pass rate in its metadata.

    ``4 p (1 - p)`` is 1 where half of the episodes succeed: there a group's rewards differ most.

    Raises:
        OrchError: no task has a pass rate.
    """
    found = {
        task.id: max(_LEAST_WEIGHT, 4 * rate * (1 - rate))
        for task in tasks
        if isinstance(task, Task)
        and isinstance(rate := task.metadata.get("pass_rate"), int | float)
        and 0 <= rate <= 1
    }
    if not found:
        raise OrchError(
            "environment.task_weights is pass_rate, and no task has one: measure them with "
            "`orch synth filter`"
        )
    return found


def _open_once(settings: Settings, *, held_out: bool) -> tuple[Any, ...]:
    env = EnvFactory(settings, held_out=held_out)()
    try:
        tasks = env.unwrapped.tasks
        name, options = settings.environment.env, {"task_id": tasks[0].id}
        told_at_the_start(name, lambda: env.reset(seed=0, options=options))
    finally:
        env.close()
    return tuple(tasks)


def demonstrated_tasks(settings: Settings, env: RolloutEnv) -> tuple[Task, ...]:
    """The tasks whose gold plans a warm start imitates.

    Raises:
        OrchError: an environment of the user's own has no gold plans.
    """
    tasks = tuple(env.unwrapped.tasks)
    if not all(isinstance(task, Task) for task in tasks):
        raise OrchError(
            f"environment {settings.environment.env!r} has no gold plans that a warm start could "
            "imitate: start with `orch train`"
        )
    return tasks


def prompt_lengths(settings: Settings, chat: ChatRenderer, *, most: int = 64) -> list[int]:
    """Tokens of the opening prompts of the first training tasks; warns of what looks wrong.

    Raises:
        OrchError: not one of them leaves room for an answer within ``rollouts.max_context``, or
            the template cannot go on with the user's next message.
    """
    chat.warn_of_unread_kwargs()
    env = EnvFactory(settings)()
    lengths = []
    try:
        for task in env.unwrapped.tasks[:most]:
            reset = partial(env.reset, seed=0, options={"task_id": task.id})
            _, info = told_at_the_start(settings.environment.env, reset)
            tools = info.get("tools") or ()
            lengths.append(len(chat.start(info["messages"], tools)))
            if getattr(task, "followups", ()):
                chat.check_followups(tools)
    finally:
        env.close()
    room = settings.rollouts.max_context - settings.rollouts.min_tokens_per_turn
    too_long = sum(length > room for length in lengths)
    if too_long == len(lengths):
        raise OrchError(
            f"rollouts.max_context ({settings.rollouts.max_context}) leaves no room for an answer: "
            f"the shortest of the first {len(lengths)} prompts has {min(lengths)} tokens"
        )
    if too_long:
        logger.warning(
            "%d of the first %d prompts exceed rollouts.max_context (%d): their episodes end "
            "before the first message",
            too_long,
            len(lengths),
            settings.rollouts.max_context,
        )
    return lengths
