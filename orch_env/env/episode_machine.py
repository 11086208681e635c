"""One running episode as a state machine: messages in, turns out, and when it ends.

No Gymnasium, no reward, no I/O here. The order of the checks after a message, which decides the
stop reason where several apply:

1. no call, no user turn left -> ``answered``; else the next user turn is the observation;
2. the session says that the episode is over -> its reason;
3. ``max_errors`` messages in a row in which no call succeeded -> ``max_errors``;
4. a call was refused because the episode's calls were used up -> ``max_tool_calls``;
5. this was the last allowed message -> ``max_turns``;
6. this was the last allowed message of the user turn -> the next user turn, else ``max_turns``.

A budget of N calls ends the episode when the model asks for call N + 1, not when it makes call N,
so that a model within its budget can still answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Any, Literal, NamedTuple, cast

from orch_env.backends.protocol import (
    BackendSession,
    Converses,
    EndsEpisode,
    HoldsState,
    SeesMessages,
    Snapshots,
    UserTurn,
)
from orch_env.env.json_cut import cut_json
from orch_env.formats import CallFormat, ParsedMessage
from orch_env.tasks.resolved import ResolvedTask
from orch_env.types import (
    Episode,
    ErrorType,
    Exchange,
    InfrastructureError,
    OrchError,
    RewardBreakdown,
    StopReason,
    ToolCall,
    ToolResult,
    ToolSpec,
    Turn,
)
from orch_env.types.json import JsonObject

MAX_OBSERVATION = 1 << 24
"""Characters of an observation at most; longer results are cut like with a limit of the user's."""

_LEAST_CUT = 64  # room for the marker
_NOT_CALLED = (ErrorType.UNKNOWN_TOOL, ErrorType.INVALID_ARGUMENTS)


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
        cut_observations: how a longer one is cut: ``"text"`` takes its end away, ``"json"``
            shortens its lists and strings, so that it stays JSON; what is no JSON is cut as text.
        max_messages_per_user_turn: assistant messages in one user turn; a message with calls that
            reaches it ends that turn.
        next_turn_at_limit: what follows then: the next user turn (``max_turns`` if there is none),
            or, with False, ``max_turns`` at once.
    """

    max_turns: int = 20
    max_tool_calls: int | None = None
    max_calls_per_turn: int = 32
    max_errors: int | None = 5
    max_observation_chars: int | None = None
    cut_observations: Literal["text", "json"] = "text"
    max_messages_per_user_turn: int | None = None
    next_turn_at_limit: bool = True

    def __post_init__(self) -> None:
        for name, least in (
            ("max_turns", 1),
            ("max_tool_calls", 1),
            ("max_calls_per_turn", 1),
            ("max_errors", 1),
            ("max_observation_chars", _LEAST_CUT),
            ("max_messages_per_user_turn", 1),
        ):
            value = getattr(self, name)
            optional = name not in ("max_turns", "max_calls_per_turn")
            if value is None and optional:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                allowed = "a whole number" + (" or null" if optional else "")
                raise OrchError(f"{name} must be {allowed}, at least {least}; got {value!r}")
        if self.cut_observations not in ("text", "json"):
            raise OrchError(f"cut_observations is 'text' or 'json'; got {self.cut_observations!r}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes back for one assistant message.

    Attributes:
        observation: the text that the model reads next; empty at the end.
        messages: the same as chat messages, OpenAI shape.
        exchanges: the message's calls with their results.
        tools: the specs that are offered from now on, ``None`` if nothing changed.
    """

    observation: str
    messages: list[JsonObject]
    exchanges: tuple[Exchange, ...] = ()
    tools: tuple[ToolSpec, ...] | None = None


class EpisodeMachine:
    """The conversation of one task with one policy.

    Attributes:
        task: the task.
        session: what answers its calls.
        seed: the episode's seed.
        turns: what happened so far.
        final: the closing answer, ``None`` before there is one.
        stop_reason: why it ended, ``None`` while it runs.
        tools: the specs that are offered now.
        tool_seconds: each call that reached a tool: its name and how long it took, calls of one
            message in equal parts. Measured, so no part of the record or of its state.
        running_tools: names of the tools that are being called now.
        problem: what was lost, where the session ended the episode by an infrastructure failure.
    """

    def __init__(
        self,
        task: ResolvedTask,
        session: BackendSession,
        call_format: CallFormat,
        limits: Limits,
        seed: int,
    ) -> None:
        self.task = task
        self.session = session
        self.seed = seed
        self.turns: list[Turn] = []
        self.final: str | None = None
        self.stop_reason: StopReason | None = None
        self.tools: tuple[ToolSpec, ...] = tuple(tool.spec for tool in task.opening_tools)
        self.tool_seconds: list[tuple[str, float]] = []
        self.running_tools: tuple[str, ...] = ()
        self.problem: str | None = None
        self._can = _capabilities(type(session))
        self._format = call_format
        self._limits = limits
        self._user_turns = 0
        self._user_turn_began = 0
        self._tool_calls = 0
        self._failed_in_a_row = 0

    def take(self, message: ParsedMessage) -> Answer:
        """Take one assistant message."""
        if not message.calls:
            return self._take_answer(message)
        try:
            results, refused = self._results(message)
        except InfrastructureError as lost:
            self.problem = str(lost)
            self.stop(StopReason.INFRASTRUCTURE, message)
            return Answer("", [])
        exchanges = tuple(map(Exchange.of, message.calls, results))
        shown = shown_results([result.text for result in results], self._limits)
        number = len(self.turns)
        messages: list[JsonObject] = [
            {
                "role": "tool",
                "tool_call_id": message.ids.get(n) or f"call_{number}_{n}",
                "name": exchange.call.name,
                "content": text,
            }
            for n, (exchange, text) in enumerate(zip(exchanges, shown, strict=True))
        ]
        names = [call.name for call in message.calls]
        observation = self._format.render_results(shown, names)
        self._count(exchanges)
        self.stop_reason = self._reason_to_stop(refused, number + 1)
        tools = None
        if self._user_turn_is_used_up(number + 1):
            said = self._next_user_turn(None)
            if said is None or not self._limits.next_turn_at_limit:
                self.stop_reason = StopReason.MAX_TURNS
            else:
                observation = f"{observation}\n{said.content}"
                messages.append({"role": "user", "content": said.content})
                tools = self._begin_user_turn(said, number + 1)
        self.turns.append(Turn(message.text, exchanges, observation))
        return Answer(observation, messages, exchanges, tools)

    def stop(self, reason: StopReason, message: ParsedMessage | None = None) -> None:
        """End the episode from outside; the calls of a message are recorded and not run."""
        if message is not None:
            unrun = f"The episode ended ({reason.value}) before this call was run."
            results = [
                ToolResult.failure(ErrorType.LIMIT, unrun)
                if call.error is None
                else _unreadable(message.problems.get(position), self._format)
                for position, call in enumerate(message.calls)
            ]
            exchanges = tuple(map(Exchange.of, message.calls, results))
            self._count(exchanges)
            self.turns.append(Turn(message.text, exchanges))
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
            state=self.final_state(),
        )

    def final_state(self) -> JsonObject | None:
        """What the calls changed so far, ``None`` where the tools hold no state."""
        return cast(HoldsState, self.session).final_state() if self._can.hold_state else None

    def state(self) -> JsonObject:
        """Everything as plain data, the session included.

        Raises:
            OrchError: the session cannot be saved in the middle.
        """
        return {
            "turns": [turn.to_dict() for turn in self.turns],
            "final": self.final,
            "stop_reason": self.stop_reason.value if self.stop_reason is not None else None,
            "session": self._saved_session(),
            "user_turns": [self._user_turns, self._user_turn_began],
            "added_tools": [spec.to_dict() for spec in self.tools[len(self.task.opening_tools) :]],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what :meth:`state` described; the session must be a fresh one of this task."""
        self.turns = [Turn.from_dict(turn) for turn in state["turns"]]
        reason = state["stop_reason"]
        self.final = state["final"]
        self.stop_reason = None if reason is None else StopReason(reason)
        answers = [n for n, turn in enumerate(self.turns, start=1) if not turn.exchanges]
        default = [len(answers), answers[-1] if answers else 0]
        self._user_turns, self._user_turn_began = state.get("user_turns", default)
        added = state.get("added_tools", ())
        self.tools = (*self.tools, *(ToolSpec.from_dict(spec) for spec in added))
        for turn in self.turns:
            self._tool_calls += sum(
                call.error not in (ErrorType.LIMIT, ErrorType.MALFORMED_CALL) for call in turn.calls
            )
            self._count(turn.exchanges)
        self._restore_session(state["session"])

    def fork(self, session: BackendSession) -> EpisodeMachine:
        """A second episode that goes on from here in a fresh session; no turn is copied."""
        twin = EpisodeMachine(self.task, session, self._format, self._limits, self.seed)
        kept = {k: v for k, v in vars(self).items() if k != "session"}
        vars(twin).update(kept, turns=list(self.turns), tool_seconds=list(self.tool_seconds))
        twin._restore_session(self._saved_session())
        return twin

    def close(self) -> None:
        """Free the session; may be called twice."""
        self.session.close()

    def _results(self, message: ParsedMessage) -> tuple[list[ToolResult], bool]:
        """The result of each call, and whether one was refused for want of tool calls."""
        limits = self._limits
        results: list[ToolResult | None] = []
        runs: list[ToolCall] = []
        refused = False
        if self._can.see_messages:
            cast(SeesMessages, self.session).whole_message(message.calls)
        for position, call in enumerate(message.calls):
            if position >= limits.max_calls_per_turn:
                results.append(_over("max_calls_per_turn", limits.max_calls_per_turn))
            elif call.error is not None:
                results.append(_unreadable(message.problems.get(position), self._format))
            elif limits.max_tool_calls is not None and self._tool_calls >= limits.max_tool_calls:
                refused = True
                results.append(_over("max_tool_calls", limits.max_tool_calls))
            elif self.task.tools_at_followup and call.name not in self._offered_now():
                results.append(self._not_offered(call.name))
            else:
                self._tool_calls += 1
                runs.append(call)
                results.append(None)
        answered = iter(self._answers(runs) if runs else ())
        return [next(answered) if result is None else result for result in results], refused

    def _answers(self, calls: Sequence[ToolCall]) -> Sequence[ToolResult]:
        self.running_tools, started = tuple(call.name for call in calls), perf_counter()
        results = self.session.answer(calls)
        # If it hangs or raises, the names stay for whoever asks what was called.
        share = (perf_counter() - started) / len(calls)
        self.tool_seconds += [
            (call.name, share)
            for call, result in zip(calls, results, strict=True)
            if result.error not in _NOT_CALLED
        ]
        self.running_tools = ()
        return results

    def _offered_now(self) -> list[str]:
        return [name for spec in self.tools for name in (spec.name, *spec.aliases)]

    def _not_offered(self, name: str) -> ToolResult:
        known = ", ".join(spec.name for spec in self.tools)
        text = f"No tool {name[:60]!r}. Tools: {known}."
        return ToolResult.failure(ErrorType.UNKNOWN_TOOL, text)

    def _take_answer(self, message: ParsedMessage) -> Answer:
        said = self._next_user_turn(message.content)
        self._failed_in_a_row = 0
        if said is None:
            self.final = message.content
            self.stop_reason = StopReason.ANSWERED
            self.turns.append(Turn(message.text))
            return Answer("", [])
        self.turns.append(Turn(message.text, observation=said.content))
        tools = self._begin_user_turn(said, len(self.turns))
        self.stop_reason = self._reason_to_stop(False, len(self.turns))
        return Answer(said.content, [{"role": "user", "content": said.content}], tools=tools)

    def _next_user_turn(self, answer: str | None) -> UserTurn | None:
        if self._can.converse:
            return cast(Converses, self.session).next_user_turn(answer)
        said = self.task.followups[self._user_turns : self._user_turns + 1]
        return UserTurn(said[0], self.task.tools_with(self._user_turns)) if said else None

    def _begin_user_turn(self, said: UserTurn, began: int) -> tuple[ToolSpec, ...] | None:
        self._user_turns += 1
        self._user_turn_began = began
        if not said.tools:
            return None
        self.tools = (*self.tools, *said.tools)
        return self.tools

    def _user_turn_is_used_up(self, messages: int) -> bool:
        most = self._limits.max_messages_per_user_turn
        if most is None or self.stop_reason is not None:
            return False
        return messages - self._user_turn_began >= most

    def _count(self, exchanges: Sequence[Exchange]) -> None:
        failed = bool(exchanges) and not any(e.call.error is None for e in exchanges)
        self._failed_in_a_row = self._failed_in_a_row + 1 if failed else 0

    def _reason_to_stop(self, refused: bool, messages: int) -> StopReason | None:
        limits = self._limits
        if self._can.end and (over := cast(EndsEpisode, self.session).stop_reason) is not None:
            return over
        if limits.max_errors is not None and self._failed_in_a_row >= limits.max_errors:
            return StopReason.MAX_ERRORS
        if refused:
            return StopReason.MAX_TOOL_CALLS
        return StopReason.MAX_TURNS if messages >= limits.max_turns else None

    def _saved_session(self) -> JsonObject:
        return self._snapshots().snapshot()

    def _restore_session(self, state: JsonObject) -> None:
        self._snapshots().restore(state)

    def _snapshots(self) -> Snapshots:
        if self._can.be_saved:
            return cast(Snapshots, self.session)
        raise OrchError(
            f"an episode on {type(self.session).__name__} cannot be saved, copied or forked in the "
            "middle: these tools have no snapshot() and restore()"
        )


class _Capabilities(NamedTuple):
    """What sessions of one type can do besides answering."""

    converse: bool
    end: bool
    hold_state: bool
    be_saved: bool
    see_messages: bool


@lru_cache(maxsize=256)
def _capabilities(kind: type[Any]) -> _Capabilities:
    return _Capabilities(
        converse=hasattr(kind, "next_user_turn"),
        end=hasattr(kind, "stop_reason"),
        hold_state=hasattr(kind, "final_state"),
        be_saved=hasattr(kind, "snapshot") and hasattr(kind, "restore"),
        see_messages=hasattr(kind, "whole_message"),
    )


def _over(limit: str, value: int) -> ToolResult:
    if limit == "max_calls_per_turn":
        text = (
            f"Only the first {value} calls of a message are run; make this call in a later message."
        )
    else:
        text = f"All {value} tool calls of this episode were used up."
    return ToolResult.failure(ErrorType.LIMIT, text, limit=limit, value=value)


def _unreadable(problem: str | None, call_format: CallFormat) -> ToolResult:
    return ToolResult.failure(
        ErrorType.MALFORMED_CALL,
        f"This tool call could not be read: {problem}.",
        expected=call_format.call_form,
    )


def shown_results(results: Sequence[str], limits: Limits) -> list[str]:
    """The results of one message as the model reads them; together they fit an observation."""
    share = MAX_OBSERVATION // max(1, len(results)) - _LEAST_CUT
    limit = min(limits.max_observation_chars or share, share)
    if limits.cut_observations == "json":
        return [cut_json(text, limit) or _cut(text, limit) for text in results]
    return [_cut(text, limit) for text in results]


def _cut(text: str, limit: int) -> str:
    """The text, or its beginning with a marker that says how much is missing."""
    if len(text) <= limit:
        return text
    keep = limit - len(_marker(len(text), len(text)))
    return text[:keep] + _marker(len(text) - keep, len(text))


def _marker(missing: int, total: int) -> str:
    return f"\n[cut: {missing} of {total} characters]"
