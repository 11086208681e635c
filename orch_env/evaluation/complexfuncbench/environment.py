"""`ComplexFuncBenchEnv`: the benchmark's conversation as an environment that a policy can drive.

The official scorer's semantics, offline and deterministic: `scorer` says what a message earns,
`expectation` what is expected when, `decisions` which calls match. This module feeds them: recorded
responses come out of the cache, and matched calls are answered with the *golden* call's response,
others with what is wrong or with the benchmark's generic sentence.

The hard decision: it speaks the same interface as ``ToolOrchestrationEnv``, so that whatever rolls
out a model on the one can evaluate it on the other; tasks of any data set work, not only the
benchmark's.
"""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.error import ResetNeeded

from orch_env.backends.arguments import ArgumentChecker
from orch_env.backends.replay import ReplayBackend
from orch_env.cache import ResponseCache, open_cache
from orch_env.env.episode_machine import MAX_OBSERVATION, Limits, RunningEpisode
from orch_env.env.spaces import TextSpace
from orch_env.evaluation.complexfuncbench.decisions import Decision, ExactValues, Judge
from orch_env.evaluation.complexfuncbench.scorer import (
    CallVerdict,
    EpisodeScorer,
    FormatError,
    format_fault,
)
from orch_env.formats import get_format
from orch_env.tasks.files import bundled
from orch_env.tasks.selection import TaskSet, load_split
from orch_env.types import (
    Episode,
    ErrorType,
    OrchError,
    RewardBreakdown,
    StopReason,
    Task,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from orch_env.types.json import JsonObject

MAX_ACTION = 1 << 22
"""Characters of an action that the action space holds; longer ones are read all the same."""

_ALL_CALLS = 1 << 20
_EXTERNAL = (StopReason.CONTEXT_OVERFLOW, StopReason.OUTPUT_TRUNCATED, StopReason.INFRASTRUCTURE)


class ComplexFuncBenchEnv(gym.Env[str, str]):
    """One benchmark conversation per episode.

    The reward is 1.0 at the end of a successful episode and 0.0 otherwise; the last ``info`` holds
    ``score``: ``{success, correct_calls, total_calls, turns_reached, total_turns, error,
    decided_by, format_errors}``.

    Args:
        tasks: path of a task file, or the name of a bundled data set.
        cache: path or URL of the response cache; may be left out for a bundled data set.
        split: keep only the tasks whose metadata names this split.
        call_format: how the model writes calls.
        max_turns: assistant messages per episode; truncates with the error ``max_turns``.
        max_observation_chars: characters of each result as the model reads it.
        exact_match_values: file ``{tool: [argument, ...]}`` of arguments that must match exactly;
            without it a rule of our own decides (see ``decisions``).
        strict: leave out the published code's two quirks (see ``expectation``).
        judge: asked last whether a call does what a golden call does; off by default.

    Raises:
        OrchError: an argument is wrong, or a file is missing or damaged.

    Example:
        >>> env = ComplexFuncBenchEnv("harbour")
        >>> obs, info = env.reset(options={"task_index": 0})
        >>> *_, info = env.step("I would rather not.")
        >>> info["score"]["error"]
        'stop_early'
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        tasks: str | os.PathLike[str],
        cache: str | os.PathLike[str] | None = None,
        *,
        split: str | None = None,
        call_format: str = "hermes",
        max_turns: int = 40,
        max_observation_chars: int | None = None,
        exact_match_values: str | os.PathLike[str] | None = None,
        strict: bool = False,
        judge: Judge | None = None,
    ) -> None:
        self.action_space = TextSpace(MAX_ACTION)
        self.observation_space = TextSpace(MAX_OBSERVATION)
        self._tasks = TaskSet(load_split(tasks, split))
        self._format = get_format(call_format)
        self._limits = Limits(
            max_turns=max_turns,
            max_calls_per_turn=_ALL_CALLS,
            max_errors=None,
            max_observation_chars=max_observation_chars,
        )
        self._exact_values = (
            ExactValues() if exact_match_values is None else ExactValues.load(exact_match_values)
        )
        self._strict = strict
        self._judge = judge
        self._cache = _open(tasks, cache)
        self._backend = ReplayBackend(self._cache)
        self._owns_backend = True
        self._checkers: dict[tuple[str, int], ArgumentChecker] = {}
        self._conversation: _Conversation | None = None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, in file order."""
        return self._tasks.tasks

    @property
    def task(self) -> Task:
        """The task of the current episode."""
        return self._current().running.task

    @property
    def episode(self) -> Episode:
        """The current episode so far; carries the reward once it has ended."""
        current = self._current()
        ended = current.running.stop_reason not in (None, StopReason.INFRASTRUCTURE)
        return current.running.episode(_breakdown(current.scorer) if ended else None)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: recorded with the episode; the conversation does not depend on it.
            options: ``{"task_id": ...}`` or ``{"task_index": ...}``; without either the task is
                drawn from ``np_random``.

        Returns:
            The texts of the task's messages, and ``info`` with ``task_id``, ``messages`` and
            ``tools`` (OpenAI shapes).

        Raises:
            OrchError: an unknown task, or one whose golden calls are not in the cache.
        """
        super().reset(seed=seed)
        task = self._tasks.named(options or {})
        if task is None:
            task = self.tasks[int(self.np_random.integers(len(self.tasks)))]
        specs = self._backend.tools(task)
        session = _FeedbackSession()
        self._conversation = _Conversation(
            running=RunningEpisode(
                task, session, self._format, self._limits, 0 if seed is None else seed
            ),
            scorer=self._scorer(task, specs),
            session=session,
        )
        texts = [m["content"] for m in task.messages if isinstance(m.get("content"), str)]
        return "\n\n".join(texts)[:MAX_OBSERVATION], {
            "task_id": task.id,
            "messages": copy.deepcopy(list(task.messages)),
            "tools": [copy.deepcopy(spec.to_openai()) for spec in specs],
        }

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Take one assistant message; nothing that a model writes raises.

        Raises:
            ResetNeeded: no episode is running.
        """
        current = self._require_running("step()")
        calls = self._format.parse(action).calls
        if calls:
            current.session.feed(calls, current.scorer.take_calls(calls))
        messages = current.running.step(action)
        error = current.scorer.score.error
        if current.running.stop_reason is StopReason.ANSWERED:
            current.scorer.take_answer()
        elif error is not None:
            # The scorer found the model lost; of the reasons an episode may end for, it is this.
            current.running.stop_reason = StopReason.MAX_ERRORS
        elif current.running.stop_reason is not None:
            current.scorer.score.error = current.running.stop_reason.value
        return self._transition(current, current.running.turns[-1].observation, messages)

    def stop(
        self, reason: StopReason, action: str = ""
    ) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """End the episode from outside; see ``ToolOrchestrationEnv.stop``.

        The error is the reason's name. ``infrastructure`` is never scored.

        Raises:
            ResetNeeded: no episode is running.
            OrchError: the environment itself decides about this reason.
        """
        reason = StopReason(reason)
        if reason not in _EXTERNAL:
            allowed = ", ".join(r.value for r in _EXTERNAL)
            raise OrchError(f"stop() takes {allowed}; {reason.value!r} is up to the environment")
        current = self._require_running("stop()")
        current.running.stop(reason, action)
        current.scorer.score.error = reason.value
        return self._transition(current, "", [])

    def sibling(self) -> ComplexFuncBenchEnv:
        """A second environment over the same tasks and the same open cache, without an episode.

        Closing it leaves the cache open.
        """
        twin = copy.copy(self)
        twin._conversation = None
        twin._np_random = None
        twin._owns_backend = False
        return twin

    def close(self) -> None:
        """Close the cache; may be called twice."""
        self._conversation = None
        if self._owns_backend:
            self._backend.close()

    def _current(self) -> _Conversation:
        if self._conversation is None:
            raise ResetNeeded("there is no episode yet: call reset() first")
        return self._conversation

    def _require_running(self, what: str) -> _Conversation:
        current = self._current()
        if current.running.stop_reason is not None:
            raise ResetNeeded(f"{what} after the episode ended: call reset() first")
        return current

    def _transition(
        self, current: _Conversation, observation: str, messages: list[JsonObject]
    ) -> tuple[str, float, bool, bool, dict[str, Any]]:
        info: dict[str, Any] = {"task_id": current.running.task.id, "messages": messages}
        reason = current.running.stop_reason
        if reason is None:
            return observation, 0.0, False, False, info
        info["stop_reason"] = reason.value
        if reason is StopReason.INFRASTRUCTURE:
            return observation, 0.0, False, True, info
        info["score"] = current.scorer.to_dict()
        info["success"] = current.scorer.score.success
        info["reward"] = _breakdown(current.scorer).to_dict()
        return observation, float(info["success"]), reason.terminated, not reason.terminated, info

    def _scorer(self, task: Task, specs: Sequence[ToolSpec]) -> EpisodeScorer:
        named = {name: spec for spec in specs for name in (*spec.aliases, spec.name)}
        return EpisodeScorer(
            task,
            specs=named,
            golden_responses=[self._golden_response(task, n) for n in range(len(task.gold_calls))],
            check_format=lambda call: self._format_fault(call, named),
            responses=self._recorded,
            exact_values=self._exact_values,
            judge=self._judge,
            strict=self._strict,
        )

    def _golden_response(self, task: Task, number: int) -> str:
        call = task.gold_calls[number]
        try:
            digest = bytes.fromhex(call.response) if call.response is not None else None
        except ValueError as problem:
            raise OrchError(
                f"task {task.id!r}: gold call {number} pins {call.response!r}, which is no digest"
            ) from problem
        found = self._cache.get_variant(self._cache.key(call.name, call.arguments), digest)
        if found is None:
            raise OrchError(
                f"task {task.id!r}: the response of gold call {number} ({call.name}) is not in "
                f"cache {self._cache.path!r}; import the tasks and the cache together"
            )
        return found.text

    def _recorded(self, call: ToolCall) -> list[str]:
        return [found.text for found in self._cache.variants(call.name, call.arguments)]

    def _format_fault(
        self, call: ToolCall, specs: dict[str, ToolSpec]
    ) -> tuple[FormatError, str] | None:
        if call.error is not None:
            return FormatError.MALFORMED, "the call could not be read"
        spec = specs.get(call.name)
        if spec is None:
            known = sorted({s.name for s in specs.values()})
            text = ToolResult.failure(
                ErrorType.UNKNOWN_TOOL,
                f"there is no tool {call.name[:80]!r} here. Available: {', '.join(known)}.",
                available=known,
            ).text
            return FormatError.UNKNOWN_FUNCTION, text
        problem = self._checker(spec).problem(call.arguments)
        kind = format_fault(problem.text) if problem is not None else None
        return (kind, problem.text) if kind is not None and problem is not None else None

    def _checker(self, spec: ToolSpec) -> ArgumentChecker:
        # Specs of the catalogue are one object for all tasks; a task's own spec lives as long.
        key = (spec.name, id(spec.parameters))
        if key not in self._checkers:
            self._checkers[key] = ArgumentChecker(spec)
        return self._checkers[key]


@dataclass(slots=True)
class _Conversation:
    """A running episode and what scores it."""

    running: RunningEpisode
    scorer: EpisodeScorer
    session: _FeedbackSession


class _FeedbackSession:
    """Answers the calls of a message with what the scorer said about the message as a whole."""

    def __init__(self) -> None:
        self._waiting: deque[ToolResult] = deque()

    def feed(self, calls: Sequence[ToolCall], verdicts: Sequence[CallVerdict]) -> None:
        """Set out the results of the next message; unreadable calls are not asked for."""
        self._waiting = deque(
            ToolResult(verdict.feedback, _error_of(verdict))
            for call, verdict in zip(calls, verdicts, strict=True)
            if call.error is None
        )

    def call(self, call: ToolCall) -> ToolResult:
        """The next result that was set out."""
        return self._waiting.popleft()

    def snapshot(self) -> JsonObject:
        """Between messages nothing is held."""
        return {}

    def restore(self, state: JsonObject) -> None:
        """Between messages nothing is held."""
        self._waiting.clear()

    def final_state(self) -> None:
        """Recordings hold no state."""

    def close(self) -> None:
        """Nothing to free."""


def _error_of(verdict: CallVerdict) -> ErrorType | None:
    if verdict.matched is not None:
        return None
    if verdict.decision is not Decision.FORMAT:
        return ErrorType.TOOL_ERROR
    unknown = verdict.feedback.startswith('{"error": {"type": "unknown_tool"')
    return ErrorType.UNKNOWN_TOOL if unknown else ErrorType.INVALID_ARGUMENTS


def _breakdown(scorer: EpisodeScorer) -> RewardBreakdown:
    expectation = scorer.expectation
    calls, turns = expectation.total, expectation.total_turns
    return RewardBreakdown(
        total=float(scorer.score.success),
        components={
            "call_accuracy": expectation.made / calls if calls else 0.0,
            "turn_accuracy": expectation.turns_reached / turns if turns else 0.0,
        },
    )


def _open(tasks: str | os.PathLike[str], cache: str | os.PathLike[str] | None) -> ResponseCache:
    if cache is not None:
        return open_cache(cache)
    name = os.fspath(tasks).partition("/")[0]
    found = None if os.path.exists(tasks) else bundled(name, "cache")
    if found is None:
        raise OrchError(
            f"{os.fspath(tasks)!r} needs a response cache (cache=..., --cache DB): the scorer "
            "compares recorded responses"
        )
    return open_cache(found)
