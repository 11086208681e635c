"""`ToolOrchestrationEnv`: tool use over recorded responses or tool servers as an environment.

An action is one assistant message, the observation is the text that the model reads next.
Everything is deterministic: (task, seed, actions) gives the same bytes, in ``info`` too. Nothing
that a model writes raises; exceptions are for wrong use of the environment and for broken files.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
from gymnasium.error import InvalidAction, ResetNeeded

from orch_env.backends.open import make_backend
from orch_env.backends.protocol import ToolBackend
from orch_env.env.episode_machine import MAX_OBSERVATION, Answer, EpisodeMachine, Limits
from orch_env.env.payout import Payout, Scorer
from orch_env.env.spaces import TextSpace
from orch_env.formats import get_format
from orch_env.formats.openai import read_message
from orch_env.rewards.compose.schedule import check_step
from orch_env.tasks.files import located
from orch_env.tasks.selection import TaskSet, load_split
from orch_env.types import Episode, OrchError, StopReason, Task, ToolSpec, Turn
from orch_env.types.json import JsonObject

if TYPE_CHECKING:
    from orch_env.rewards.protocol import Reward

MAX_ACTION = 1 << 22
"""Characters of an action that the action space holds; longer ones are read all the same."""

STATE_SCHEMA = 1

FREE_PLAY = Task("free-play", messages=())
"""The task of an environment without tasks."""


class ToolOrchestrationEnv(gym.Env[str, str]):
    """One task of tool orchestration per episode.

    Every argument is plain data, so that ``EnvSpec.to_json`` works.

    Args:
        tasks: path of a task file, or the name of a bundled data set. Without one, the servers can
            be played freely: one task without a request, a goal or a reward.
        cache: path or URL of the response cache; may be left out for a bundled data set.
        servers: names of stateful servers, or ``"package.module:Class"`` of your own. Their tools
            join those of the tasks that run on servers, as distractors.
        mcp: path of an ``mcpServers`` file: its servers answer the calls.
        split: keep only the tasks whose metadata names this split.
        reward: name of a reward preset, or its configuration as a dict; see
            :func:`orch_env.make_reward`.
        reward_mode: ``"terminal"`` pays the score at the end; ``"dense"`` pays its change at each
            step, beginning from 0.
        call_format: how the model writes calls; see :func:`orch_env.formats.get_format`.
        max_turns: assistant messages per episode; truncates.
        max_tool_calls: tool calls per episode; truncates when one more is asked for.
        max_calls_per_turn: calls run per message; those beyond get a ``limit`` error.
        max_errors: messages in a row in which no call succeeded; terminates.
        max_observation_chars: characters of each result as the model reads it, marker included.
        cut_observations: ``"json"`` cuts lists and strings inside a longer result, so that it stays
            JSON; ``"text"`` takes its end away.
        memory_mb: megabytes of recorded responses kept in memory, with what rewards derive from
            them; a larger set is read from the cache again.
        render_mode: ``"ansi"`` (text) or ``"html"`` (one self-contained page).

    Raises:
        OrchError: an argument is wrong, a file is missing or damaged, or there are no tasks.

    Examples:
        >>> import gymnasium as gym, orch_env
        >>> env = gym.make("orch_env/ToolOrchestration-v0", tasks="harbour")
        >>> obs, info = env.reset(seed=7)
        >>> obs, reward, terminated, truncated, info = env.step("I do not know.")
        >>> info["stop_reason"]
        'answered'
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "html"], "render_fps": 1}  # noqa: RUF012

    def __init__(
        self,
        tasks: str | None = None,
        cache: str | None = None,
        *,
        servers: Sequence[str] = (),
        mcp: str | None = None,
        split: str | None = None,
        reward: str | Mapping[str, Any] = "graduated",
        reward_mode: str = "terminal",
        call_format: str = "hermes",
        max_turns: int = 20,
        max_tool_calls: int | None = None,
        max_calls_per_turn: int = 32,
        max_errors: int | None = 5,
        max_observation_chars: int | None = None,
        cut_observations: Literal["text", "json"] = "text",
        memory_mb: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        tasks, cache, mcp = (None if p is None else located(p) for p in (tasks, cache, mcp))
        servers = list(servers)
        # What pickling rebuilds from: every argument is plain data.
        self._arguments: dict[str, Any] | None = {
            k: v for k, v in locals().items() if k not in ("self", "__class__")
        }
        limits = Limits(
            max_turns,
            max_tool_calls,
            max_calls_per_turn,
            max_errors,
            max_observation_chars,
            cut_observations,
        )
        loaded = (FREE_PLAY,) if tasks is None else load_split(tasks, split)
        self._setup(
            TaskSet(loaded),
            lambda: make_backend(
                tasks, cache, loaded, memory_mb=memory_mb, servers=servers, mcp=mcp
            ),
            Payout.nothing() if tasks is None else Payout.from_names(reward, reward_mode),
            call_format,
            limits,
            render_mode,
        )

    @classmethod
    def from_backend(
        cls,
        tasks: Sequence[Task],
        backend: ToolBackend,
        *,
        reward: str | Mapping[str, Any] | Reward | None = "graduated",
        reward_mode: str = "terminal",
        call_format: str = "hermes",
        limits: Limits | None = None,
        scorer: Scorer | None = None,
        render_mode: str | None = None,
    ) -> ToolOrchestrationEnv:
        """Build an environment over tasks and a backend that exist already.

        The backend stays the caller's: closing the environment does not close it.

        Args:
            tasks: the tasks.
            backend: what answers their calls.
            reward: also a reward itself; ``None`` pays what the scorer says.
            reward_mode: see the class.
            call_format: see the class.
            limits: where an episode ends.
            scorer: a benchmark's own verdict on an ended episode: it decides ``info["success"]``
                and adds ``info["score"]``.
            render_mode: see the class.
        """
        env = cls.__new__(cls)
        env._arguments = None
        env._setup(
            TaskSet(tasks),
            lambda: backend,
            Payout.from_names(reward, reward_mode, scorer),
            call_format,
            limits or Limits(),
            render_mode,
        )
        env._owns_backend = False
        return env

    def _setup(
        self,
        tasks: TaskSet,
        open_backend: Callable[[], ToolBackend],
        payout: Payout,
        call_format: str,
        limits: Limits,
        render_mode: str | None,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise OrchError(f"render_mode must be null, 'ansi' or 'html', got {render_mode!r}")
        self.action_space = TextSpace(MAX_ACTION)
        self.observation_space = TextSpace(MAX_OBSERVATION)
        self.render_mode = render_mode
        self._tasks = tasks
        self._format = get_format(call_format)
        self._limits = limits
        self._payout = payout
        self._open_backend = open_backend
        self._owns_backend = True
        self._backend: ToolBackend | None = open_backend()
        self._running: EpisodeMachine | None = None
        self._training_step = 0

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that episodes are drawn from."""
        return self._tasks.tasks

    @property
    def backend(self) -> ToolBackend:
        """What answers the calls of its tasks; opened again after :meth:`close`."""
        if self._backend is None:
            self._backend = self._open_backend()
        return self._backend

    @property
    def task(self) -> Task:
        """The task of the current episode."""
        return self._current().task.source

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """The tools that the current episode offers now."""
        return self._current().tools

    def named(self, task_id: str) -> Task:
        """The task of an id.

        Raises:
            OrchError: there is none; the message has the nearest ids.
        """
        task = self._tasks.named({"task_id": task_id})
        assert task is not None
        return task

    @property
    def settings(self) -> JsonObject:
        """What a trajectory depends on besides task, seed and actions; stored with episodes."""
        return {"call_format": self._format.name, **dataclasses.asdict(self._limits)}

    @property
    def episode(self) -> Episode:
        """The current episode so far; carries the reward once it has ended."""
        return self._current().episode(self._payout.breakdown)

    @property
    def last_turn(self) -> Turn | None:
        """The last message of the current episode with its results, ``None`` at its beginning.

        The same as ``episode.turns[-1]``, without the rest of the record.
        """
        turns = self._current().turns
        return turns[-1] if turns else None

    @property
    def tool_seconds(self) -> list[tuple[str, float]]:
        """Each call of the episode that reached a tool: its name and the seconds it took."""
        return list(self._current().tool_seconds)

    @property
    def running_tool(self) -> str | None:
        """The tool that is being called now, for whoever waits for it in another thread.

        Of several calls that run at the same time, the first.
        """
        running = self._running
        if running is None:
            return None
        offered = {spec.name for spec in running.tools}
        return next((name for name in running.running_tools if name in offered), None)

    def set_training_step(self, step: int) -> None:
        """Say how far training is, for rewards whose weights follow a schedule.

        It counts from the next :meth:`reset` on; an episode keeps the weights it began with.

        Args:
            step: number of training steps done, at least 0; 0 until it is set.

        Raises:
            OrchError: it is no integer of at least 0.
        """
        self._training_step = check_step(step)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: seeds the environment and is the episode's seed. Without one, the episode's seed
                is drawn from ``np_random`` (after the task).
            options: ``{"task_id": ...}`` or ``{"task_index": ...}`` names the task; without
                either it is drawn from ``np_random``.

        Returns:
            The texts of the task's messages, joined by blank lines, and ``info`` with
            ``task_id``, ``messages`` (OpenAI shape) and ``tools`` (OpenAI shape).

        Raises:
            OrchError: an unknown option or task id, or an index that is no whole number or out of
                range.
        """
        super().reset(seed=seed)
        task = self._tasks.named(options)
        if task is None:
            task = self._tasks.tasks[int(self.np_random.integers(len(self._tasks)))]
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        running = self._open(task, seed)
        self._begin(running, self._payout.fresh(self._training_step))
        text, messages, tools = running.task.opening()
        info = {"task_id": task.id, "messages": messages, "tools": tools}
        return text[:MAX_OBSERVATION], info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Take one assistant message.

        Nothing that a model writes raises: what cannot be done comes back as an error
        observation ``{"error": {"type", "message", "details"}}``.

        Args:
            action: the message, tool-call markup included.

        Returns:
            The text that the model reads next; the reward (see ``reward_mode``); ``terminated``
            and ``truncated`` as :class:`StopReason` says; ``info`` with ``task_id`` and
            ``messages`` (chat messages added since the action), at the end also ``stop_reason``,
            ``reward`` (the full breakdown) and ``success``.

        Raises:
            ResetNeeded: no episode is running.
            InvalidAction: the action is no text.
        """
        if not isinstance(action, str):
            raise InvalidAction(f"an action must be a str, got {type(action).__name__}")
        running = self._require_running("step()")
        return self._transition(running, running.take(self._format.parse(action, running.tools)))

    def step_message(
        self, message: Mapping[str, Any]
    ) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Take one assistant message in OpenAI's shape, as agents with native tool calling have it.

        The trajectory is the same as if the message had come as text in the environment's
        ``call_format``, which is what is stored as its action; a message that this format cannot
        write (NaN in arguments, markup in the content) is stored as its JSON.

        Args:
            message: ``{"role": "assistant", "content": ..., "tool_calls": [{"id": ..., "function":
                {"name": ..., "arguments": JSON text or object}}]}``. Calls that cannot be read
                become ``malformed_call``; nothing that the message holds raises.

        Returns:
            What :meth:`step` returns. Tool messages carry the ``id`` of their call, or
            ``call_{turn}_{n}`` where it has none.

        Raises:
            ResetNeeded: no episode is running.
            InvalidAction: it is no mapping, or not an assistant's message.
        """
        if not isinstance(message, Mapping) or message.get("role", "assistant") != "assistant":
            raise InvalidAction(
                f"step_message() takes an assistant message, got {type(message).__name__}"
            )
        running = self._require_running("step_message()")
        said = read_message(message, self._format, running.tools)
        return self._transition(running, running.take(said))

    def stop(
        self, reason: StopReason, action: str = ""
    ) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """End the running episode from outside, for what only the caller can know.

        Args:
            reason: ``context_overflow``, ``output_truncated`` or ``infrastructure``. The last one
                is never scored: no reward is paid and ``info`` holds none.
            action: the incomplete message, if there is one; its calls are recorded with a
                ``limit`` error and not run.

        Returns:
            What :meth:`step` returns, with an empty observation.

        Raises:
            ResetNeeded: no episode is running.
            OrchError: the environment itself decides about this reason.
        """
        reason = StopReason(reason)
        if not reason.external:
            allowed = ", ".join(r.value for r in StopReason if r.external)
            raise OrchError(f"stop() takes {allowed}; {reason.value!r} is up to the environment")
        running = self._require_running("stop()")
        running.stop(reason, self._format.parse(action, running.tools) if action else None)
        return self._transition(running, Answer("", []))

    def render(self) -> str | None:
        """Show the episode so far: text for ``"ansi"``, a self-contained page for ``"html"``.

        Raises:
            ResetNeeded: there is no episode yet.
        """
        if self.render_mode is None:
            gym.logger.warn(
                "render() without a render mode: pass render_mode='ansi' or 'html' to gym.make"
            )
            return None
        from orch_env.episodes.view import episode_html, episode_text

        show = episode_html if self.render_mode == "html" else episode_text
        return show(self.task, self.episode)

    def close(self) -> None:
        """Free sessions and files; may be called twice. A later reset opens them again."""
        if self._running is not None:
            self._running.close()
            self._running = None
        if self._backend is not None and self._owns_backend:
            self._backend.close()
        self._backend = None

    def get_state(self) -> JsonObject:
        """The episode in the middle and the random generator, as plain JSON data.

        Raises:
            ResetNeeded: there is no episode.
        """
        running = self._current()
        return {
            "schema": STATE_SCHEMA,
            "task_id": running.task.id,
            "seed": running.seed,
            **running.state(),
            **self._payout.state(),
            "rng": copy.deepcopy(self.np_random.bit_generator.state),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go to a state taken by :meth:`get_state` of an environment over the same tasks.

        Raises:
            OrchError: it is no such state, or its task is not among this environment's.
        """
        try:
            if state["schema"] != STATE_SCHEMA:
                raise OrchError(f"environment state has schema {state['schema']!r}, not 1")
            task = self.named(state["task_id"])
            running = self._open(task, state["seed"])
            running.restore(state)
            payout = self._payout.restored(state)
            rng = copy.deepcopy(dict(state["rng"]))
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            raise OrchError(
                f"not an environment state ({type(problem).__name__}: {problem})"
            ) from problem
        self._begin(running, payout)
        self.np_random.bit_generator.state = rng

    def fork(self) -> ToolOrchestrationEnv:
        """A second environment that continues from here on its own.

        Tasks, reward and backend are shared; the episode, its session and the random generator
        are copies. Cheaper than :meth:`get_state`: no turn is copied.
        """
        twin = self.sibling()
        twin._np_random = copy.deepcopy(self._np_random)
        twin._np_random_seed = self._np_random_seed
        if self._running is not None:
            mine = self._running
            session = self.backend.open(mine.task, seed=mine.seed)
            twin._begin(mine.fork(session), self._payout.copy())
        return twin

    def sibling(self) -> ToolOrchestrationEnv:
        """An environment without an episode that shares everything that does not change."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        backend = self.backend
        twin._backend = backend
        twin._open_backend = lambda: backend
        twin._owns_backend = False
        twin._running = None
        twin._np_random = None
        twin.action_space = copy.deepcopy(self.action_space)
        twin.observation_space = copy.deepcopy(self.observation_space)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        if self._arguments is None:
            raise TypeError("an environment made by from_backend() cannot be pickled")
        state = None if self._running is None else self.get_state()
        return _rebuild, (type(self), self._arguments, state, self._training_step)

    def __deepcopy__(self, memo: dict[int, Any]) -> ToolOrchestrationEnv:
        return self.fork()

    def _current(self) -> EpisodeMachine:
        if self._running is None:
            raise ResetNeeded("there is no episode yet: call reset() first")
        return self._running

    def _require_running(self, what: str) -> EpisodeMachine:
        running = self._current()
        if running.stop_reason is not None:
            raise ResetNeeded(
                f"{what} after the episode ended ({running.stop_reason.value}): call reset() first"
            )
        return running

    def _open(self, task: Task, seed: int) -> EpisodeMachine:
        backend = self.backend
        resolved = backend.resolve(task)
        session = backend.open(resolved, seed=seed)
        return EpisodeMachine(resolved, session, self._format, self._limits, seed)

    def _begin(self, running: EpisodeMachine, payout: Payout) -> None:
        if self._running is not None:
            self._running.close()
        self._running, self._payout = running, payout

    def _transition(
        self, running: EpisodeMachine, answer: Answer
    ) -> tuple[str, float, bool, bool, dict[str, Any]]:
        info: dict[str, Any] = {"task_id": running.task.id, "messages": answer.messages}
        if answer.tools is not None:
            info["tools"] = [copy.deepcopy(spec.to_openai()) for spec in answer.tools]
        reason, paid = running.stop_reason, 0.0
        if reason is not None:
            info["stop_reason"] = reason.value
        if reason is StopReason.INFRASTRUCTURE:
            if running.problem is not None:
                info["problem"] = running.problem
            return answer.observation, paid, False, True, info
        if self._payout.due(reason is not None):
            paid = self._payout.pay(running.task, running.episode(), running.session)
            if self._payout.breakdown is not None:
                info["reward"] = self._payout.breakdown.to_dict()
                info["success"] = self._payout.success
                if self._payout.details is not None:
                    info["score"] = self._payout.details
        terminated = reason is not None and reason.terminated
        return answer.observation, paid, terminated, reason is not None and not terminated, info


def _rebuild(
    kind: type[ToolOrchestrationEnv],
    arguments: dict[str, Any],
    state: JsonObject | None,
    training_step: int,
) -> ToolOrchestrationEnv:
    """Unpickle: open the files anew, and go on in the middle of the episode."""
    env = kind(**arguments)
    env.set_training_step(training_step)
    if state is not None:
        env.set_state(state)
    return env
