"""What answers tool calls: a `ToolBackend` opens one isolated `BackendSession` per episode.

A session must answer and close. The other protocols are capabilities that its class may have
besides: `Snapshots`, `HoldsState`, `SeesMessages`, `Converses`, `EndsEpisode`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orch_env.tasks.resolved import ResolvedTask
from orch_env.types import StopReason, Task, ToolCall, ToolResult, ToolSpec
from orch_env.types.json import JsonObject


class BackendSession(Protocol):
    """The tools of one running episode. Nothing it does is visible to another session."""

    def answer(self, calls: Sequence[ToolCall]) -> Sequence[ToolResult]:
        """Answer the calls of one message, one result per call in their order.

        Calls that could not be read, or that a limit refuses, are not among them.

        Stateful tools answer one after the other, as if each call stood in a message of its own;
        live services may be asked at the same time. A failure is an error result, never an
        exception; an exception is an infrastructure failure.
        """
        ...

    def close(self) -> None:
        """Free what the session holds; may be called twice."""
        ...


class Snapshots(Protocol):
    """A session that can be saved in the middle: for ``get_state``, ``fork`` and copies."""

    def snapshot(self) -> JsonObject:
        """The session's state as plain data."""
        ...

    def restore(self, state: JsonObject) -> None:
        """Go back to a snapshot taken from a session of the same task."""
        ...


class HoldsState(Protocol):
    """A session whose calls change something."""

    def final_state(self) -> JsonObject | None:
        """What the calls so far changed: ``{server: {table: {id: record, or null if deleted}}}``.

        Records are whole; servers and tables without a change are left out, so that ``{}`` says
        that nothing was changed. ``None``: these tools hold no state. Plain data of its own, which
        later calls do not alter.
        """
        ...


class SeesMessages(Protocol):
    """A session that must know a message as a whole before it answers."""

    def whole_message(self, calls: Sequence[ToolCall]) -> None:
        """All calls of a message: also those that could not be read or that a limit refuses.

        ``answer`` is then asked for the others, if there are any.
        """
        ...


@dataclass(frozen=True, slots=True)
class UserTurn:
    """What the user says next.

    Attributes:
        content: the message.
        tools: tools that are offered from now on, beside the earlier ones; the session answers
            them from now on.
    """

    content: str
    tools: tuple[ToolSpec, ...] = ()


class Converses(Protocol):
    """A session that says what the user says, in place of the task's ``followups``."""

    def next_user_turn(self, answer: str | None) -> UserTurn | None:
        """End the user's turn and begin the next one; ``None`` ends the conversation.

        Asked once at the end of each user turn, the last one included, so that a verdict per turn
        can be taken here.

        Args:
            answer: the model's closing message of this turn; ``None`` if the limit of messages per
                user turn ended it.
        """
        ...


class EndsEpisode(Protocol):
    """A session that may end the episode."""

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the episode is over, ``None`` while it is not; asked after each message."""
        ...


class ToolBackend(Protocol):
    """A source of tool results, shared by all episodes of an environment."""

    def resolve(self, task: Task) -> ResolvedTask:
        """The task with the specs that it offers, in its order; the same object while it is kept.

        Raises:
            OrchError: the task names a tool that is not known, or cannot be played.
        """
        ...

    def open(self, task: Task, *, seed: int) -> BackendSession:
        """Start a session for one episode; the same (task, seed, calls) gives the same bytes.

        Raises:
            OrchError: as :meth:`resolve`.
        """
        ...

    def close(self) -> None:
        """Free what the backend holds; may be called twice."""
        ...
