"""One episode at a time for a caller that holds the loop: calls, messages or texts, and the end."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from orch_env.env.environment import ToolOrchestrationEnv
from orch_env.env.transcript import spoken
from orch_env.formats import get_format
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
from orch_env.types.messages import call_body, call_id


class EpisodeSession:
    """One episode at a time, driven by whoever holds the loop; made by ``EpisodeSource.session``.

    Nothing that a model writes raises. After the end of an episode, calls get a ``limit`` error
    and change nothing, until :meth:`reset`. A session has one caller at a time, from any thread; a
    second one at the same time gets an :class:`OrchError`. Sessions of one source are independent.

    Args:
        env: an environment of its own.
        call_format: that of the environment.
    """

    def __init__(self, env: ToolOrchestrationEnv, call_format: str) -> None:
        self._env = env
        self._format = get_format(call_format)
        self._busy = threading.Lock()
        self._stop_reason: StopReason | None = None
        self._breakdown: RewardBreakdown | None = None
        self._success = False
        self._initial: list[JsonObject] = []

    # -- an episode --------------------------------------------------------------------------

    def reset(
        self, task_id: str | None = None, *, index: int | None = None, seed: int = 0
    ) -> list[JsonObject]:
        """Start an episode.

        Args:
            task_id: the task.
            index: or its place in the source; without either, the seed draws one.
            seed: the episode's seed.

        Returns:
            The messages that open it, as in :attr:`initial_messages`.

        Raises:
            OrchError: there is no such task, or both are given.
        """
        if task_id is not None and index is not None:
            raise OrchError("reset() takes a task_id or an index, not both")
        options = {"task_id": task_id} if task_id is not None else {"task_index": index}
        with self._alone():
            _, info = self._env.reset(
                seed=seed, options=None if task_id is None and index is None else options
            )
            self._initial = info["messages"]
            self._stop_reason, self._breakdown, self._success = None, None, False
        return copy.deepcopy(self._initial)

    def call(
        self, name: str, arguments: Mapping[str, Any] | str, *, call_id: str | None = None
    ) -> ToolResult:
        """Make one call, as a message of its own.

        Args:
            name: the tool.
            arguments: an object, or its JSON text.
            call_id: the id under which the result stands in the record of messages.

        Returns:
            The text that the model reads, and the error type if it is an error.
        """
        made = {"id": call_id, "function": {"name": name, "arguments": arguments}}
        with self._alone():
            if self._ended():
                return self._over()
            answer = self._settle_by(self._env.step_message({"tool_calls": [made]}))
            turn = self._env.last_turn
            assert turn is not None
            return ToolResult(answer[0]["content"], turn.calls[0].error)

    def message(
        self, content: str | None, calls: Sequence[Mapping[str, Any] | ToolCall] = ()
    ) -> list[JsonObject]:
        """Take one assistant message; calls that stand in it together stay together.

        Args:
            content: its text. Without ``calls``, calls that stand in the text are read.
            calls: nested (``{"id", "function": {...}}``), flat (``{"id", "name", "arguments"}``)
                or in the shape of the Responses API; arguments as an object or as JSON text.

        Returns:
            What the model reads next: one tool message per call, and the user's next turn if there
            is one. Empty at the end of the episode.
        """
        made = [_nested(c) if isinstance(c, ToolCall) else c for c in calls]
        with self._alone():
            if self._ended():
                over = self._over().text
                return [
                    {"role": "tool", "tool_call_id": id_, "name": name, "content": over}
                    for id_, name in map(_id_and_name, made)
                ]
            if not made:
                return self._settle_by(self._env.step(content or ""))
            return self._settle_by(self._env.step_message({"content": content, "tool_calls": made}))

    def text(self, action: str) -> list[JsonObject]:
        """Take one assistant message as the model wrote it, in the source's ``call_format``.

        Returns:
            As :meth:`message`; nothing after the end.
        """
        with self._alone():
            return [] if self._ended() else self._settle_by(self._env.step(action))

    def finish(
        self,
        message: str | Mapping[str, Any] | None = None,
        *,
        reason: str | StopReason | None = None,
    ) -> RewardBreakdown | None:
        """End the episode, if it has not ended, and say what it earned.

        Args:
            message: the last message, which the session has not seen yet. Without a call in it, it
                is the answer. Its calls are not run.
            reason: why the caller stopped: ``context_overflow``, ``output_truncated`` or
                ``infrastructure``. Without one, what is not over by the message counts as
                ``output_truncated``.

        Returns:
            The breakdown, the same each time; ``None`` for ``infrastructure``.

        Raises:
            OrchError: no episode was started, or the reason is up to the environment.
        """
        why = reason_of(reason)
        if why is not None and not why.external:
            raise OrchError(
                f"finish() takes context_overflow, output_truncated or infrastructure; {why.value} "
                "is up to the environment"
            )
        with self._alone():
            if not self._ended():
                body = {"content": message} if isinstance(message, str) else message
                said = None if body is None else spoken(body, self._format, self.tools)
                if said is not None and why is None and not said.calls:
                    self._settle_by(self._env.step(said.text))
                    said = None
                if not self._ended():
                    why = why or StopReason.OUTPUT_TRUNCATED
                    self._settle_by(self._env.stop(why, "" if said is None else said.text))
            return self._breakdown

    # -- what is known -----------------------------------------------------------------------

    @property
    def initial_messages(self) -> list[JsonObject]:
        """The messages that opened the episode, in OpenAI's shape."""
        return copy.deepcopy(self._initial)

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """The tools that are offered now; a user's turn can add some."""
        return self._env.tools

    @property
    def task(self) -> Task:
        """The task of the episode, with its gold: not for the model's eyes."""
        return self._env.task

    @property
    def episode(self) -> Episode:
        """The record so far."""
        return self._env.episode

    @property
    def observation(self) -> str:
        """What the model reads next, as one text in the source's ``call_format``.

        Empty before the first message and after the answer. The opening is in
        :attr:`initial_messages`.
        """
        turn = self._env.last_turn
        return "" if turn is None else turn.observation

    @property
    def done(self) -> bool:
        """Whether the episode has ended."""
        return self._stop_reason is not None

    @property
    def stop_reason(self) -> StopReason | None:
        """Why it ended, ``None`` while it runs."""
        return self._stop_reason

    @property
    def reward(self) -> float | None:
        """What the ended episode earned; ``None`` before, and for ``infrastructure``."""
        return None if self._breakdown is None else self._breakdown.total

    @property
    def success(self) -> bool:
        """Whether the task was done; False before the end."""
        return self._success

    def final_state(self) -> JsonObject:
        """What the calls changed in stateful servers so far.

        Raises:
            OrchError: the tools of this task hold no state.
        """
        state: JsonObject | None = self._current().state
        if state is None:
            raise OrchError("these tools hold no state: their answers come from a recording")
        return state

    # -- copies ------------------------------------------------------------------------------

    def get_state(self) -> JsonObject:
        """The episode in the middle, as plain data.

        Raises:
            OrchError: no episode was started, or its tools cannot be saved.
        """
        with self._alone():
            return {"env": self._env.get_state(), "initial": copy.deepcopy(self._initial)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go to a state taken by :meth:`get_state` from a session of the same source.

        Raises:
            OrchError: it is no such state.
        """
        with self._alone():
            try:
                inner, initial = state["env"], copy.deepcopy(list(state["initial"]))
            except (KeyError, TypeError) as problem:
                raise OrchError(f"not a session's state ({problem!r})") from problem
            self._env.set_state(inner)
            self._initial = initial
            episode = self._current()
            self._stop_reason, self._breakdown = episode.stop_reason, episode.reward
            self._success = bool(inner["success"])

    def fork(self) -> EpisodeSession:
        """A second session that goes on from here on its own.

        Raises:
            OrchError: the tools cannot be copied in the middle.
        """
        with self._alone():
            twin = EpisodeSession(self._env.fork(), self._format.name)
            twin._initial = copy.deepcopy(self._initial)
            twin._stop_reason, twin._breakdown = self._stop_reason, self._breakdown
            twin._success = self._success
            return twin

    def close(self) -> None:
        """Free what the episode holds; may be called twice. A later reset opens it again."""
        self._env.close()

    def __enter__(self) -> EpisodeSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside ------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise OrchError(
                "a session has one caller at a time: open one per rollout with source.session()"
            )
        try:
            yield
        finally:
            self._busy.release()

    def _current(self) -> Episode:
        return self._env.episode

    def _ended(self) -> bool:
        if self._stop_reason is None:
            _ = self._env.last_turn  # raises where no episode was started
        return self._stop_reason is not None

    def _settle_by(
        self, transition: tuple[Any, float, bool, bool, dict[str, Any]]
    ) -> list[JsonObject]:
        """Note the end of the episode, if this was it; the messages that the step added."""
        *_, info = transition
        if "stop_reason" in info:
            self._stop_reason = StopReason(info["stop_reason"])
            self._breakdown = self._current().reward
            self._success = info.get("success", False)
        messages: list[JsonObject] = info["messages"]
        return messages

    def _over(self) -> ToolResult:
        assert self._stop_reason is not None
        why = self._stop_reason.value
        return ToolResult.failure(
            ErrorType.LIMIT, f"The episode is over ({why}): this call was not run.", stop_reason=why
        )


def reason_of(word: str | StopReason | None) -> StopReason | None:
    """The stop reason of a word.

    Raises:
        OrchError: there is none; the message lists them.
    """
    try:
        return None if word is None else StopReason(word)
    except ValueError:
        known = ", ".join(StopReason)
        raise OrchError(f"{word!r} is no stop reason; the reasons are {known}") from None


def _nested(call: ToolCall) -> JsonObject:
    return {"function": {"name": call.name, "arguments": call.arguments}}


def _id_and_name(call: Any) -> tuple[str | None, Any]:
    body = call_body(call)
    return call_id(call), body.get("name") if isinstance(body, Mapping) else None
