"""Any Gymnasium environment whose observations and actions are text, as a rollout needs it.

The least that such an environment has to be is plain Gymnasium: ``reset`` gives a text that opens
the conversation, ``step`` takes the model's message and gives the text that it reads next. What it
has beyond that is used: ``info["messages"]``, ``info["tools"]``, ``info["success"]``, and the
members ``tasks``, ``stop`` and ``episode``. docs/environment.md describes all of it.

What is wrong in such an environment is told with the environment, the task, and file and line.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import gymnasium as gym

from orch_env.types import Episode, OrchError, RewardBreakdown, StopReason, ToolSpec, Turn
from orch_env.types.text import shortened
from orch_env.types.user_code import MISTAKES, defined_at, is_mistake, number_in, told

logger = logging.getLogger(__name__)

T = TypeVar("T")
Transition = tuple[Any, float, bool, bool, dict[str, Any]]

CONTRACT = "docs/environment.md, 'Text environments of your own', says what is needed"
_OPENING_ROLES = ("system", "user", "assistant", "tool")
_FURTHER_ROLES = ("user", "tool")


@dataclass(frozen=True, slots=True)
class NamedTask:
    """A task of an environment that names its tasks by text or number."""

    id: str
    value: Any


@dataclass(frozen=True, slots=True)
class SeedTask:
    """A task of an environment without tasks: what its ``reset`` makes of a seed."""

    seed: int

    @property
    def id(self) -> str:
        """``seed-N``."""
        return f"seed-{self.seed}"


class TextEnv:
    """A text environment with everything that rollouts ask for.

    Args:
        env: what ``gym.make`` returned.
        name: its id, for errors.
        seeds: the seeds that are its tasks, if it has no ``tasks``.

    Attributes:
        tasks: its own, or one for each seed; each has an ``id``.

    Raises:
        OrchError: there are no tasks, or they cannot be told apart.
    """

    def __init__(self, env: Any, name: str, seeds: Sequence[int] = ()) -> None:
        self._env, self._own, self._name = env, env.unwrapped, name
        self.tasks = self._read_tasks(seeds)
        self._by_id = {task.id: task for task in self.tasks}
        if len(self._by_id) != len(self.tasks):
            raise OrchError(f"environment {name!r}: two of its tasks share an id; {CONTRACT}")
        self._task_id = ""
        self._seed: int | None = None
        self._turns: list[Turn] = []
        self._reward = 0.0
        self._reason: StopReason | None = None

    @property
    def unwrapped(self) -> TextEnv:
        """Itself: it has ``stop`` and ``episode``."""
        return self

    @property
    def episode(self) -> Episode:
        """The environment's own record, or what went through here."""
        own = self._member("episode")
        if isinstance(own, Episode):
            return own
        answered = self._reason is StopReason.ANSWERED and self._turns
        return Episode(
            self._task_id,
            self._seed,
            tuple(self._turns),
            final=self._turns[-1].action if answered else None,
            stop_reason=self._reason,
            reward=RewardBreakdown(self._reward) if self._reason is not None else None,
        )

    @property
    def tool_seconds(self) -> list[tuple[str, float]]:
        """The environment's own, if it has them."""
        given = self._member("tool_seconds")
        try:
            return [(str(tool), float(seconds)) for tool, seconds in given or ()]
        except MISTAKES as problem:
            raise self._wrong(
                f"its 'tool_seconds' must be pairs of a tool and seconds, got {_shown(given)}", None
            ) from problem

    @property
    def running_tool(self) -> str | None:
        """The environment's own, if it has one."""
        tool = self._member("running_tool")
        return None if tool is None else str(tool)

    def set_training_step(self, step: int) -> None:
        """Passed on to an environment that wants to know."""
        set_step = self._member("set_training_step")
        if set_step is not None:
            self._call("set_training_step()", lambda: set_step(step))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start the task ``options["task_id"]``.

        Raises:
            OrchError: there is no such task, or the environment failed.
        """
        wanted = (options or {}).get("task_id", self.tasks[0].id)
        if wanted not in self._by_id:
            raise OrchError(f"environment {self._name!r} has no task {wanted!r}")
        task = self._by_id[wanted]
        passed: dict[str, Any] | None = {**(options or {}), "task_id": task.id}
        if isinstance(task, SeedTask):
            seed, passed = task.seed, None
        elif isinstance(task, NamedTask):
            passed = {**(options or {}), "task_id": task.value}
        self._task_id, self._seed = task.id, seed
        self._turns, self._reward, self._reason = [], 0.0, None
        answer = self._call("reset()", lambda: self._env.reset(seed=seed, options=passed))
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict)):
            raise self._wrong(f"reset() must return (text, info), got {_shown(answer)}", "reset")
        observation, info = answer
        messages = self._messages(observation, info, "reset", _OPENING_ROLES)
        if not messages:
            raise self._wrong("reset() gave the model nothing to read", "reset")
        return observation, {**info, "messages": messages, "tools": self._tools(info)}

    def step(self, action: Any) -> Transition:
        """Take an assistant message.

        Raises:
            OrchError: the environment failed, or what it returned cannot be trained on.
        """
        return self._transition("step", lambda: self._env.step(action), str(action))

    def stop(self, reason: StopReason, action: str = "") -> Transition:
        """End the episode from outside: by the environment's own ``stop``, or without a reward.

        Raises:
            OrchError: the environment failed.
        """
        own = self._member("stop")
        if callable(own):
            return self._transition("stop", lambda: own(reason, action), action, reason)
        if action:
            self._turns.append(Turn.of(action=action))
        self._reason = reason
        return "", 0.0, reason.terminated, not reason.terminated, {"success": False}

    def close(self) -> None:
        """Close the environment; one that fails has done its work."""
        try:
            self._env.close()
        except Exception as problem:  # whatever a user's environment raises
            logger.warning("environment %r: close() failed with %s", self._name, told(problem))

    def _read_tasks(self, seeds: Sequence[int]) -> tuple[Any, ...]:
        given = self._member("tasks")
        if given is None:
            given = ()
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise self._wrong(f"its 'tasks' must be a list of tasks, got {_shown(given)}", None)
        own = self._call("its property 'tasks'", lambda: tuple(map(self._task, given)))
        if own and seeds:
            raise OrchError(
                f"environment {self._name!r} has tasks of its own: environment.num_tasks is for "
                "those without"
            )
        if own:
            return own
        if seeds:
            return tuple(SeedTask(seed) for seed in seeds)
        raise OrchError(
            f"environment {self._name!r} offers no tasks to train on: set environment.num_tasks "
            "(task N is then reset(seed=N)), or give it a property 'tasks' whose items have an "
            f"'id'; {CONTRACT}"
        )

    def _transition(
        self, method: str, call: Callable[[], Any], action: str, reason: StopReason | None = None
    ) -> Transition:
        answer = self._call(f"{method}()", call)
        if not (isinstance(answer, tuple) and len(answer) == 5 and isinstance(answer[4], dict)):
            raise self._wrong(
                f"{method}() must return (text, reward, terminated, truncated, info), got "
                f"{_shown(answer)}",
                method,
            )
        observation, reward, terminated, truncated, info = answer
        number = number_in(reward)
        if not math.isfinite(number):
            raise self._wrong(
                f"{method}() returned the reward {_shown(reward)}; it must be a finite number",
                method,
            )
        terminated = self._truth(terminated, "terminated", method)
        truncated = self._truth(truncated, "truncated", method)
        done = terminated or truncated
        messages = [] if done else self._messages(observation, info, method, _FURTHER_ROLES)
        if not done and not messages:
            raise self._wrong(
                f"{method}() neither ended the episode nor gave the model anything to read", method
            )
        self._reward += number
        if action or method == "step":
            text = observation if isinstance(observation, str) else ""
            self._turns.append(Turn.of(action=action, observation=text))
        info = {**info, "messages": messages}
        if done:
            self._reason = reason or (StopReason.ANSWERED if terminated else StopReason.MAX_TURNS)
            passed = info.get("success", info.get("is_success"))
            info["success"] = (
                terminated and self._reward > 0
                if passed is None
                else self._truth(passed, "info['success']", method)
            )
        return observation, number, terminated, truncated, info

    def _messages(
        self, observation: Any, info: Mapping[str, Any], method: str, roles: Sequence[str]
    ) -> list[dict[str, Any]]:
        """``info["messages"]``, or the observation as one message of the user."""
        given = info.get("messages")
        if given is None:
            if not isinstance(observation, str):
                raise self._wrong(
                    f"{method}() gave no info['messages'] and an observation that is no text but "
                    f"{_shown(observation)}",
                    method,
                )
            return [{"role": "user", "content": observation}] if observation else []
        sound = isinstance(given, Sequence) and all(
            isinstance(m, Mapping) and m.get("role") in roles and isinstance(m.get("content"), str)
            for m in given
        )
        if not sound or isinstance(given, str):
            raise self._wrong(
                f"{method}() gave info['messages'] = {_shown(given)}; it must be a list of "
                f"{{'role': {' or '.join(roles)}, 'content': text}}",
                method,
            )
        return [dict(message) for message in given]

    def _tools(self, info: Mapping[str, Any]) -> list[Any]:
        given = info.get("tools")
        try:
            return [
                t if isinstance(t, ToolSpec) else ToolSpec.from_dict(t).to_openai()
                for t in (() if given is None else given)
            ]
        except (OrchError, *MISTAKES) as problem:
            raise self._wrong(f"reset() gave tools that are none ({problem})", "reset") from problem

    def _call(self, what: str, call: Callable[[], T]) -> T:
        """What the environment's code returns; what is a mistake in it becomes an `OrchError`."""
        try:
            return call()
        except (Exception, SystemExit) as problem:  # whatever a user's environment raises
            if not (isinstance(problem, gym.error.Error) or is_mistake(problem)):
                raise
            raise self._wrong(f"{what} failed with {told(problem)}", None) from problem

    def _member(self, name: str) -> Any:
        """A member of the environment or of a wrapper around it; ``None`` where none has it."""
        layer = self._env
        while isinstance(layer, gym.Wrapper) and not _has(layer, name):
            layer = layer.env
        missing = () if _has(layer, name) else (None,)  # it may have a __getattr__
        return self._call(f"its property {name!r}", lambda: getattr(layer, name, *missing))

    def _task(self, given: Any) -> Any:
        """A task with an id that is text."""
        own = given["id"] if isinstance(given, Mapping) and "id" in given else None
        own = getattr(given, "id", own)
        if isinstance(own, str) and not isinstance(given, Mapping):
            return given
        if own is None:
            # The text of any other thing may differ in each runner.
            if not isinstance(given, str) and not math.isfinite(number_in(given)):
                raise self._wrong(
                    f"a task must be a name, a number or a thing with an 'id', got {_shown(given)}",
                    None,
                )
            own = given
        return NamedTask(str(own), own)

    def _truth(self, value: Any, what: str, method: str) -> bool:
        if value is not None and number_in(value) not in (0, 1):
            raise self._wrong(
                f"{method}() returned {what} = {_shown(value)}; it must be True or False", method
            )
        return bool(value)

    def _wrong(self, problem: str, method: str | None) -> OrchError:
        task = f", task {self._task_id!r}" if getattr(self, "_task_id", "") else ""
        place = defined_at(getattr(self._own, method)) if method else ""
        return OrchError(f"environment {self._name!r}{task}: {problem}{place}; {CONTRACT}")


def _has(layer: Any, name: str) -> bool:
    """Whether it has a member; an error inside a property is not taken for its absence."""
    return inspect.getattr_static(layer, name, None) is not None


def _shown(value: Any) -> str:
    return shortened(repr(value), 80)
