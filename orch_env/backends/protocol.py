"""What answers tool calls: a `ToolBackend` opens one isolated `Session` per episode."""

from __future__ import annotations

from typing import Protocol

from orch_env.types import Task, ToolCall, ToolResult, ToolSpec
from orch_env.types.json import JsonObject


class Session(Protocol):
    """The tools of one running episode. Nothing it does is visible to another session."""

    def call(self, call: ToolCall) -> ToolResult:
        """Answer one call; a failure is an error result, never an exception."""
        ...

    def snapshot(self) -> JsonObject:
        """The session's state as plain data, for ``get_state`` and forks."""
        ...

    def restore(self, state: JsonObject) -> None:
        """Go back to a snapshot taken from a session of the same task."""
        ...

    def final_state(self) -> JsonObject | None:
        """What the calls so far changed: ``{server: {table: {id: record, or null if deleted}}}``.

        Records are whole; servers and tables without a change are left out, so that ``{}`` says
        that nothing was changed. ``None``: these tools hold no state. Plain data of its own, which
        later calls do not alter.
        """
        ...

    def close(self) -> None:
        """Free what the session holds; may be called twice."""
        ...


class ToolBackend(Protocol):
    """A source of tool results, shared by all episodes of an environment."""

    def tools(self, task: Task) -> tuple[ToolSpec, ...]:
        """The specs offered to the model, in the task's order.

        Raises:
            OrchError: the task names a tool that the catalogue does not have.
        """
        ...

    def open(self, task: Task, *, seed: int) -> Session:
        """Start a session for one episode; the same (task, seed, calls) gives the same bytes."""
        ...

    def close(self) -> None:
        """Free what the backend holds; may be called twice."""
        ...
