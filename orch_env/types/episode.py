"""A finished (or running) episode: what the model did, what it saw, and why it ended.

The digest covers what happened (actions, calls, results, observations, end) and not how it was
scored, so that a new reward does not change a trajectory's identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from orch_env.types.errors import ErrorType, OrchError
from orch_env.types.fields import list_of, of_kind, value_of
from orch_env.types.json import Json, JsonObject, parse_json
from orch_env.types.messages import AssistantMessage, call_body, read_conversation, without_thoughts
from orch_env.types.tools import ToolCall, ToolResult

if TYPE_CHECKING:
    from orch_env.types.task import Task

EPISODE_SCHEMA = 1


class StopReason(StrEnum):
    """Why an episode ended."""

    ANSWERED = "answered"
    """The model wrote a message without a call and no user turn was left (terminated)."""
    MAX_TURNS = "max_turns"
    """The limit on assistant messages was reached (truncated)."""
    MAX_TOOL_CALLS = "max_tool_calls"
    """The limit on tool calls of the episode was reached (truncated)."""
    MAX_ERRORS = "max_errors"
    """Too many failed calls in a row: the model is stuck (terminated)."""
    CONTEXT_OVERFLOW = "context_overflow"
    """The next prompt would not fit the model's context (truncated)."""
    OUTPUT_TRUNCATED = "output_truncated"
    """A message hit the token limit before it was complete; its calls were not run (truncated)."""
    INFRASTRUCTURE = "infrastructure"
    """A runner, engine or server failed: the episode is discarded and never scored."""

    @property
    def terminated(self) -> bool:
        """Gymnasium's ``terminated``; the other reasons mean ``truncated``."""
        return self in (StopReason.ANSWERED, StopReason.MAX_ERRORS)

    @property
    def cut_off(self) -> bool:
        """Whether a token limit, and nothing that the model did, ended the episode."""
        return self in (StopReason.CONTEXT_OVERFLOW, StopReason.OUTPUT_TRUNCATED)

    @property
    def external(self) -> bool:
        """Whether only the caller of the environment can know it, and says so by ``stop()``."""
        return self.cut_off or self is StopReason.INFRASTRUCTURE


@dataclass(frozen=True, slots=True)
class CallAccount:
    """What one model call earned, for credit assignment and for the viewer.

    Attributes:
        turn: turn index.
        index: position of the call within its turn.
        gold: number of the gold call it was assigned to, or ``None``.
        atomic: 0..1, how right the call is by itself.
        orchestration: 0..1, how right its place in the data flow is.
        arguments: leaf pointer -> ``equal | type | wrong | missing | unknown``.
        why: one sentence for a person.
        credit: what the call adds to the total (negative: takes away), see
            :class:`RewardBreakdown`.
    """

    turn: int
    index: int
    gold: int | None = None
    atomic: float = 0.0
    orchestration: float = 0.0
    arguments: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    credit: float = 0.0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CallAccount:
        """Read one entry of ``reward.calls``."""
        arguments = value_of(data, "arguments", dict, {})
        return cls(
            turn=of_kind(data.get("turn"), int, "'turn'"),
            index=of_kind(data.get("index"), int, "'index'"),
            gold=value_of(data, "gold", int, None),
            atomic=value_of(data, "atomic", float, 0.0),
            orchestration=value_of(data, "orchestration", float, 0.0),
            arguments={p: of_kind(how, str, f"'arguments' {p}") for p, how in arguments.items()},
            why=value_of(data, "why", str, ""),
            credit=value_of(data, "credit", float, 0.0),
        )

    def to_dict(self) -> JsonObject:
        """The JSON form of INTERFACE."""
        out = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**out, "arguments": dict(self.arguments)}


@dataclass(frozen=True, slots=True)
class RewardBreakdown:
    """A reward with everything it was made of.

    Where ``turns`` is set the total is attributed: ``total == base + sum(turns)`` (up to float
    noise), and a turn's share is the sum of its calls' ``credit`` plus what belongs to the turn
    itself (a closing answer, say).

    Attributes:
        total: the reward.
        components: what it was made of, by name.
        calls: one account per model call, in order.
        turns: each turn's share of the total, ``None`` where the reward does not attribute.
        base: the share of an episode that does nothing.
    """

    total: float
    components: Mapping[str, float] = field(default_factory=dict)
    calls: tuple[CallAccount, ...] = ()
    turns: tuple[float, ...] | None = None
    base: float = 0.0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RewardBreakdown:
        """Read ``{total, components, calls}``, with ``turns`` and ``base`` where attributed."""
        components = value_of(data, "components", dict, {})
        attributed = data.get("turns") is not None
        return cls(
            total=float(of_kind(data.get("total"), float, "'total'")),
            components={
                k: float(of_kind(v, float, f"component {k!r}")) for k, v in components.items()
            },
            calls=tuple(CallAccount.from_dict(c) for c in list_of(data, "calls", dict)),
            turns=tuple(map(float, list_of(data, "turns", float))) if attributed else None,
            base=float(value_of(data, "base", float, 0.0)),
        )

    def to_dict(self) -> JsonObject:
        """The JSON form of INTERFACE."""
        out: JsonObject = {
            "total": self.total,
            "components": dict(self.components),
            "calls": [c.to_dict() for c in self.calls],
        }
        if self.turns is not None:
            out["turns"], out["base"] = list(self.turns), self.base
        return out


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call with what came back.

    Attributes:
        call: as the model wrote it; its ``error`` is the result's.
        result: the result before any truncation.
    """

    call: ToolCall
    result: ToolResult

    @classmethod
    def of(cls, call: ToolCall, result: ToolResult) -> Exchange:
        """Pair a call with its result, and let the call say how it failed."""
        if call.error is not result.error:
            call = ToolCall(call.name, call.arguments, result.error)
        return cls(call, result)


@dataclass(frozen=True, slots=True)
class Turn:
    """One assistant message and what came back.

    Attributes:
        action: the assistant's message as text, markup included.
        exchanges: the calls read out of it, in order, with their results; empty for an answer.
        observation: what the model read next (truncated where a limit says so).
    """

    action: str
    exchanges: tuple[Exchange, ...] = ()
    observation: str = ""

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls in order."""
        return tuple(exchange.call for exchange in self.exchanges)

    @property
    def results(self) -> tuple[str, ...]:
        """The result text of each call, untruncated."""
        return tuple(exchange.result.text for exchange in self.exchanges)

    @classmethod
    def of(
        cls,
        action: str,
        calls: Iterable[ToolCall] = (),
        results: Iterable[str] = (),
        observation: str = "",
    ) -> Turn:
        """Build a turn from calls, each with its ``error`` set, and the texts of their results.

        A call without a text got an empty one; a text without a call is dropped.
        """
        texts = iter(results)
        exchanges = tuple(Exchange(c, ToolResult(next(texts, ""), c.error)) for c in calls)
        return cls(action, exchanges, observation)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Turn:
        """Read ``{action, calls, results, observation}``.

        Raises:
            OrchError: a field has a wrong type, or there are more results than calls.
            ValueError: a call has an error type that no environment gives.
        """
        calls = [ToolCall.from_dict(c) for c in value_of(data, "calls", list, ())]
        results = list_of(data, "results", str)
        if len(results) > len(calls):
            raise OrchError(f"a turn has {len(results)} results for {len(calls)} calls")
        return cls.of(
            action=value_of(data, "action", str, ""),
            calls=calls,
            results=results,
            observation=value_of(data, "observation", str, ""),
        )

    def to_dict(self) -> JsonObject:
        """The JSON form of INTERFACE."""
        return {
            "action": self.action,
            "calls": [e.call.to_dict() for e in self.exchanges],
            "results": [e.result.text for e in self.exchanges],
            "observation": self.observation,
        }


@dataclass(frozen=True, slots=True)
class Episode:
    """A trajectory of one task.

    Attributes:
        task_id: the task.
        seed: the episode's seed; group members share it.
        turns: in order; the last one may be the closing answer.
        final: the closing answer's text, ``None`` if there was none.
        stop_reason: why it ended, ``None`` while it runs.
        reward: the breakdown, ``None`` if not scored.
        state: what the episode changed in its servers so far, ``{server: {table: {id: record or
            null}}}`` (null: deleted), ``None`` where the tools hold no state.
    """

    task_id: str
    seed: int | None = None
    turns: tuple[Turn, ...] = ()
    final: str | None = None
    stop_reason: StopReason | None = None
    reward: RewardBreakdown | None = None
    state: Json = None

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """All calls in order, over all turns."""
        return tuple(e.call for turn in self.turns for e in turn.exchanges)

    @property
    def followups_heard(self) -> tuple[int, ...]:
        """For each turn, how many follow-ups the user had said before the model wrote it.

        A turn without an exchange ends a user turn. A message whose calls cannot be read has
        exchanges and does not. A follow-up that a limit of messages per user turn brought early
        is not recorded and not counted.
        """
        ended = (not turn.exchanges for turn in self.turns[:-1])
        return tuple(accumulate(ended, initial=0)) if self.turns else ()

    @property
    def digest(self) -> str:
        """Hex BLAKE2b-128 of the trajectory (reward excluded); equal iff it happened the same."""
        record = self.to_dict(with_digest=False)
        del record["reward"]
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Episode:
        """Read the JSON form. A stored digest that does not fit the content is refused.

        Raises:
            OrchError: the record is not an episode, or was changed after it was stored.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("task_id"), str):
            raise OrchError("an episode needs a string 'task_id'")
        schema = data.get("schema", EPISODE_SCHEMA)
        if schema is True or schema != EPISODE_SCHEMA:
            raise OrchError(
                f"episode of task {data['task_id']!r} has schema {schema!r}; "
                f"this version reads schema {EPISODE_SCHEMA}"
            )
        try:
            reason = data.get("stop_reason")
            reward = value_of(data, "reward", dict, None)
            episode = cls(
                task_id=data["task_id"],
                seed=value_of(data, "seed", int, None),
                turns=tuple(map(Turn.from_dict, list_of(data, "turns", dict))),
                final=value_of(data, "final", str, None),
                stop_reason=StopReason(reason) if reason is not None else None,
                reward=RewardBreakdown.from_dict(reward) if reward is not None else None,
                state=data.get("state"),
            )
        except (OrchError, ValueError) as problem:
            raise OrchError(f"episode of task {data['task_id']!r}: {problem}") from problem
        stored = data.get("digest")
        if stored is not None and stored != episode.digest:
            raise OrchError(
                f"episode of task {episode.task_id!r}: digest {stored} does not fit its content "
                f"({episode.digest}); it was changed after it was stored"
            )
        return episode

    def to_dict(self, *, with_digest: bool = True) -> JsonObject:
        """The JSON form of INTERFACE."""
        out: JsonObject = {
            "schema": EPISODE_SCHEMA,
            "task_id": self.task_id,
            "seed": self.seed,
            "turns": [t.to_dict() for t in self.turns],
            "final": self.final,
            "stop_reason": self.stop_reason.value if self.stop_reason is not None else None,
            "reward": self.reward.to_dict() if self.reward is not None else None,
        }
        if self.state is not None:
            out["state"] = self.state
        if with_digest:
            out["digest"] = self.digest
        return out

    @classmethod
    def from_messages(cls, task: Task, messages: Iterable[Mapping[str, Any]]) -> Episode:
        """Build an episode from the messages of a conversation.

        :mod:`orch_env.types.messages` says which forms are read and how answers find their calls.
        A call without an answer counts as not run (``limit``). System and user messages are the
        task's own and are passed over.

        Raises:
            OrchError: a message is of a form that is not read, or an answer belongs to no call;
                with the message's number.
        """
        try:
            said = read_conversation(messages)
        except OrchError as problem:
            raise OrchError(f"task {task.id!r}: {problem}") from problem
        turns = tuple(map(_turn_of_message, said))
        answered = bool(turns) and not turns[-1].calls
        return cls(
            task_id=task.id,
            turns=turns,
            final=without_thoughts(turns[-1].action) if answered else None,
            stop_reason=StopReason.ANSWERED if answered else None,
        )


def error_of_text(text: str) -> ErrorType | None:
    """The error type that a result text shows, ``None`` for a success.

    Our own error shape is recognised exactly; besides it, an object with a truthy ``error`` or
    with ``status`` false is a tool's own error.
    """
    value = parse_json(text)
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    if isinstance(kind, str) and kind in set(ErrorType):
        return ErrorType(kind)
    if error or value.get("status") is False:
        return ErrorType.TOOL_ERROR
    return None


def _call_of_message(item: Json) -> ToolCall:
    body = call_body(item)
    if not isinstance(body, Mapping):
        return ToolCall("", {}, ErrorType.MALFORMED_CALL)
    name, arguments = body.get("name"), body.get("arguments", _elsewhere(item))
    if isinstance(arguments, str):
        arguments = parse_json(arguments) if arguments.strip() else {}
    elif arguments is None:
        arguments = {}
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return ToolCall(name if isinstance(name, str) else "", {}, ErrorType.MALFORMED_CALL)
    return ToolCall(name, arguments)


def _elsewhere(item: Mapping[str, Any]) -> Json:
    """What stands for arguments that a call has under no known key: a false one cannot be read."""
    inner = item.get("function", item)
    return False if any(isinstance(value, Mapping) for value in inner.values()) else None


def _turn_of_message(said: AssistantMessage) -> Turn:
    exchanges: list[Exchange] = []
    for item, answer in zip(said.calls, said.answers, strict=True):
        call, text = _call_of_message(item), "" if answer is None else answer.text
        error = call.error or (ErrorType.LIMIT if answer is None else error_of_text(text))
        if error is None and answer is not None and answer.failed:
            error = ErrorType.TOOL_ERROR
        exchanges.append(Exchange.of(call, ToolResult(text, error)))
    return Turn(
        action=said.text,
        exchanges=tuple(exchanges),
        observation="\n".join(exchange.result.text for exchange in exchanges),
    )
