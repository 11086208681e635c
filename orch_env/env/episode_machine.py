"""One running episode as a state machine: actions in, turns out, and when it ends.

No Gymnasium, no reward, no I/O here. The order of the checks after a message, which decides the
stop reason where several apply:

1. no call, no user turn left -> ``answered``; else the next user turn is the observation;
2. ``max_errors`` messages in a row in which no call succeeded -> ``max_errors``;
3. a call was refused because the episode's calls were used up -> ``max_tool_calls``;
4. this was the last allowed message -> ``max_turns``.

The hard decision: a budget of N calls ends the episode when the model asks for call N + 1, not
when it makes call N, so that a model within its budget can still answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from orch_env.backends.protocol import Session
from orch_env.formats import CallFormat
from orch_env.types import (
    Episode,
    ErrorType,
    OrchError,
    RewardBreakdown,
    StopReason,
    Task,
    ToolCall,
    ToolResult,
    Turn,
)
from orch_env.types.json import JsonObject

MAX_OBSERVATION = 1 << 24
"""Characters of an observation at most; longer results are cut like with a limit of the user's."""

_LEAST_CUT = 64  # room for the marker


@dataclass(frozen=True, slots=True)
class Limits:
    """Where an episode ends, and how much of a result the model reads. ``None``: no limit.

    Attributes:
        max_turns: assistant messages, at least 1.
        max_tool_calls: tool calls over the whole episode.
        max_calls_per_turn: calls run per message; those beyond get a ``limit`` error.
        max_errors: messages in a row in which no call succeeded.
        max_observation_chars: characters of one result as the model reads it, marker included,
            at least 64. Rewards see the whole result.
    """

    max_turns: int = 20
    max_tool_calls: int | None = None
    max_calls_per_turn: int = 32
    max_errors: int | None = 5
    max_observation_chars: int | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("max_turns", 1),
            ("max_tool_calls", 1),
            ("max_calls_per_turn", 1),
            ("max_errors", 1),
            ("max_observation_chars", _LEAST_CUT),
        ):
            value = getattr(self, name)
            optional = name not in ("max_turns", "max_calls_per_turn")
            if value is None and optional:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                allowed = "a whole number" + (" or null" if optional else "")
                raise OrchError(f"{name} must be {allowed}, at least {least}; got {value!r}")


class RunningEpisode:
    """The conversation of one task with one policy.

    Attributes:
        task: the task.
        seed: the episode's seed.
        turns: what happened so far.
        final: the closing answer, ``None`` before there is one.
        stop_reason: why it ended, ``None`` while it runs.
        tool_seconds: each call that reached a tool: its name and how long it took. Measured, so
            no part of the record or of its state.
        running_tool: name of the tool that is being called now.
    """

    def __init__(
        self, task: Task, session: Session, call_format: CallFormat, limits: Limits, seed: int
    ) -> None:
        self.task = task
        self.seed = seed
        self.turns: list[Turn] = []
        self.final: str | None = None
        self.stop_reason: StopReason | None = None
        self._session = session
        self._format = call_format
        self._limits = limits
        self._followups_used = 0
        self._tool_calls = 0
        self._failed_in_a_row = 0
        self.tool_seconds: list[tuple[str, float]] = []
        self.running_tool: str | None = None

    def step(self, action: str) -> list[JsonObject]:
        """Take one assistant message; return the chat messages that answer it.

        The observation is that of the turn this appends.
        """
        parsed = self._format.parse(action)
        if not parsed.calls:
            return self._take_answer(action, parsed.content)
        refused = False
        results: list[ToolResult] = []
        for position, (call, problem) in enumerate(zip(parsed.calls, parsed.problems, strict=True)):
            result = self._refusal(call, problem, position)
            if result is None:
                self._tool_calls += 1
                result = self._call(call)
            elif result.error is ErrorType.LIMIT and position < self._limits.max_calls_per_turn:
                refused = True
            results.append(result)
        shown = shown_results([result.text for result in results], self._limits)
        self._append(_turn(action, parsed.calls, results, self._format.render_results(shown)))
        self._check_limits(refused)
        return [
            {"role": "tool", "name": call.name, "content": text}
            for call, text in zip(parsed.calls, shown, strict=True)
        ]

    def stop(self, reason: StopReason, action: str = "") -> None:
        """End the episode from outside; the calls of ``action`` are recorded and not run."""
        if action:
            parsed = self._format.parse(action)
            results = [
                ToolResult.failure(
                    ErrorType.LIMIT, f"The episode ended ({reason.value}) before this call was run."
                )
                if call.error is None
                else _unreadable(problem)
                for call, problem in zip(parsed.calls, parsed.problems, strict=True)
            ]
            self._append(_turn(action, parsed.calls, results))
        self.stop_reason = reason

    def episode(self, reward: RewardBreakdown | None = None) -> Episode:
        """The record so far."""
        return Episode(
            task_id=self.task.id,
            seed=self.seed,
            turns=tuple(self.turns),
            final=self.final,
            stop_reason=self.stop_reason,
            reward=reward,
            state=self._session.final_state(),
        )

    def state(self) -> JsonObject:
        """Everything as plain data, the session included."""
        return {
            "turns": [turn.to_dict() for turn in self.turns],
            "final": self.final,
            "stop_reason": self.stop_reason.value if self.stop_reason is not None else None,
            "session": self._session.snapshot(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what :meth:`state` described; the session must be a fresh one of this task."""
        turns = [Turn.from_dict(turn) for turn in state["turns"]]
        reason = state["stop_reason"]
        self.resume(
            turns, state["final"], None if reason is None else StopReason(reason), state["session"]
        )

    def resume(
        self,
        turns: list[Turn],
        final: str | None,
        stop_reason: StopReason | None,
        session: JsonObject,
    ) -> None:
        """Continue after ``turns``; the counters follow from them."""
        self._session.restore(session)
        self.turns = []
        self._followups_used = self._tool_calls = self._failed_in_a_row = 0
        for turn in turns:
            self._tool_calls += sum(
                call.error not in (ErrorType.LIMIT, ErrorType.MALFORMED_CALL) for call in turn.calls
            )
            self._append(turn)
        self.final, self.stop_reason = final, stop_reason

    def snapshot(self) -> JsonObject:
        """The session's own state."""
        return self._session.snapshot()

    def close(self) -> None:
        """Free the session; may be called twice."""
        self._session.close()

    def _call(self, call: ToolCall) -> ToolResult:
        self.running_tool, started = call.name, perf_counter()
        result = self._session.call(call)
        # A call that hangs or raises leaves the tool's name for whoever asks what it was.
        if result.error not in (ErrorType.UNKNOWN_TOOL, ErrorType.INVALID_ARGUMENTS):
            self.tool_seconds.append((call.name, perf_counter() - started))
        self.running_tool = None
        return result

    def _append(self, turn: Turn) -> None:
        self.turns.append(turn)
        if not turn.calls:
            self._followups_used += 1
        failed = bool(turn.calls) and not any(call.ok for call in turn.calls)
        self._failed_in_a_row = self._failed_in_a_row + 1 if failed else 0

    def _take_answer(self, action: str, content: str) -> list[JsonObject]:
        if self._followups_used == len(self.task.followups):
            self.final = content
            self._append(Turn(action))
            self.stop_reason = StopReason.ANSWERED
            return []
        said = self.task.followups[self._followups_used]
        self._append(Turn(action, observation=said))
        self._check_limits(refused=False)
        return [{"role": "user", "content": said}]

    def _refusal(self, call: ToolCall, problem: str | None, position: int) -> ToolResult | None:
        """Why this call is not run, ``None`` if it is."""
        limits = self._limits
        if position >= limits.max_calls_per_turn:
            return ToolResult.failure(
                ErrorType.LIMIT,
                f"Only the first {limits.max_calls_per_turn} calls of a message are run; "
                "make this call in a later message.",
                limit="max_calls_per_turn",
                value=limits.max_calls_per_turn,
            )
        if call.error is not None:
            return _unreadable(problem)
        if limits.max_tool_calls is not None and self._tool_calls >= limits.max_tool_calls:
            return ToolResult.failure(
                ErrorType.LIMIT,
                f"All {limits.max_tool_calls} tool calls of this episode were used up.",
                limit="max_tool_calls",
                value=limits.max_tool_calls,
            )
        return None

    def _check_limits(self, refused: bool) -> None:
        limits = self._limits
        if limits.max_errors is not None and self._failed_in_a_row >= limits.max_errors:
            self.stop_reason = StopReason.MAX_ERRORS
        elif refused:
            self.stop_reason = StopReason.MAX_TOOL_CALLS
        elif len(self.turns) >= limits.max_turns:
            self.stop_reason = StopReason.MAX_TURNS


def _unreadable(problem: str | None) -> ToolResult:
    return ToolResult.failure(
        ErrorType.MALFORMED_CALL,
        f"This tool call could not be read: {problem}.",
        expected='{"name": TOOL, "arguments": {...}}',
    )


def _turn(
    action: str, calls: Sequence[ToolCall], results: Sequence[ToolResult], observation: str = ""
) -> Turn:
    """The turn's record: each call carries the error that its result shows."""
    return Turn(
        action=action,
        calls=tuple(
            call if result.error is None else replace(call, error=result.error)
            for call, result in zip(calls, results, strict=True)
        ),
        results=tuple(result.text for result in results),
        observation=observation,
    )


def shown_results(results: Sequence[str], limits: Limits) -> list[str]:
    """The results of one message as the model reads them; together they fit an observation."""
    share = MAX_OBSERVATION // max(1, len(results)) - _LEAST_CUT
    limit = min(limits.max_observation_chars or share, share)
    return [_cut(text, limit) for text in results]


def _cut(text: str, limit: int) -> str:
    """The text, or its beginning with a marker that says how much is missing."""
    if len(text) <= limit:
        return text
    keep = limit - len(_marker(len(text), len(text)))
    return text[:keep] + _marker(len(text) - keep, len(text))


def _marker(missing: int, total: int) -> str:
    return f"\n[cut: {missing} of {total} characters]"
