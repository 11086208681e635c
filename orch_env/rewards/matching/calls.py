"""The calls of an episode as rewards see them: numbered, with their canonical identity.

Two calls are the same call exactly if they name one tool and their arguments are equal values, by
the tool's schema where the task carries it. So "identical calls" and "equal to an optional gold
call" never disagree with what a comparison of their arguments says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from orch_env.tasks.resolved import ResolvedTask
from orch_env.types import Episode, ErrorType, Task, ToolCall, ToolSpec
from orch_env.types.json import JsonObject
from orch_env.values import SchemaRules, canonical_text_by_schema

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MadeCall:
    """One call that the model made.

    Attributes:
        position: index in the flat list of the episode's calls.
        turn: turn index.
        index: position within its turn.
        name: the tool, ``""`` if unreadable.
        arguments: the arguments, ``{}`` if unreadable.
        error: why it failed, ``None`` if it ran.
        key: canonical identity; equal keys are the same call. ``None`` for a malformed one,
            which is the same as no other.
    """

    position: int
    turn: int
    index: int
    name: str
    arguments: JsonObject
    error: ErrorType | None
    key: str | None

    @property
    def ok(self) -> bool:
        """Whether the call returned no error."""
        return self.error is None

    @property
    def failure(self) -> str:
        """How it failed, as a clause for a person; empty if it ran."""
        return "" if self.error is None else f"it failed ({self.error.value})"

    @property
    def malformed(self) -> bool:
        """Whether it could not be read as a call at all."""
        return self.key is None


def call_identity(
    name: str, arguments: JsonObject, schema: Mapping[str, Any] | SchemaRules | None = None
) -> str:
    """Canonical text of a call: equal texts are the same call up to the equality of values.

    Args:
        name: the tool.
        arguments: the call's arguments.
        schema: the tool's ``parameters``, ``None`` for the equality without a schema.
    """
    return json.dumps(name) + canonical_text_by_schema(arguments, schema)


MAX_CALLS, MAX_CHARS = 256, 4_000
"""Calls whose identity is kept with a task, and the length of one beyond which it is not kept."""


class CallIdentities:
    """Which calls of one task are the same call; each identity is computed once while it is kept.

    Args:
        task: tools that it only names have no schema.

    Attributes:
        gold: identity of each gold call, by number.
    """

    def __init__(self, task: Task) -> None:
        self._rules = self._read_rules(task)
        self._known: dict[str, str] = {}
        self.gold = tuple(self.of(call.name, call.arguments) for call in task.gold_calls)

    def _read_rules(self, task: Task) -> Mapping[str, SchemaRules | None]:
        if isinstance(task, ResolvedTask):
            return {tool.spec.name: tool.rules for tool in task.offered}
        specs = [tool for tool in task.tools if isinstance(tool, ToolSpec)]
        return {spec.name: SchemaRules.of(spec.parameters) for spec in specs}

    def rules(self, name: str) -> SchemaRules | None:
        """The rules of a tool's arguments, ``None`` without a schema."""
        return self._rules.get(name)

    def of(self, name: str, arguments: JsonObject) -> str:
        """Canonical text of a call of one of the task's tools."""
        return remembered(
            self._known, name, arguments, lambda: call_identity(name, arguments, self.rules(name))
        )

    def of_calls(self, episode: Episode) -> list[str | None]:
        """The identity of each call of an episode, ``None`` for one that is not readable."""
        return [self.of(c.name, c.arguments) if readable(c) else None for c in episode.calls]


class RespeltIdentities(CallIdentities):
    """The same where a date or a time in another spelling is the same value, in any text."""

    def _read_rules(self, task: Task) -> Mapping[str, SchemaRules | None]:
        if isinstance(task, ResolvedTask):
            return {tool.spec.name: tool.respelt for tool in task.offered}
        specs = [tool for tool in task.tools if isinstance(tool, ToolSpec)]
        return {spec.name: SchemaRules.of(spec.parameters, respelt=True) for spec in specs}

    def rules(self, name: str) -> SchemaRules | None:
        """The rules of a tool's arguments."""
        return self._rules.get(name, _NO_SCHEMA)


_NO_SCHEMA = SchemaRules.of(None, respelt=True)


def remembered(kept: dict[str, T], name: str, arguments: JsonObject, make: Callable[[], T]) -> T:
    """``make()`` for a call, made once while the result is kept.

    Nothing is kept of calls longer than ``MAX_CHARS``; a full dict starts anew.
    """
    try:
        text = repr((name, arguments))
    except (RecursionError, ValueError):
        # Nested too deeply, or an integer with more digits than Python prints.
        return make()
    found = kept.get(text)
    if found is None:
        found = make()
        if len(text) <= MAX_CHARS:
            if len(kept) >= MAX_CALLS:
                kept.clear()
            kept[text] = found
    return found


def readable(call: ToolCall) -> bool:
    """Whether the model's text could be read as a call of some tool."""
    return bool(call.name) and call.error is not ErrorType.MALFORMED_CALL


def made_calls(episode: Episode, keys: Sequence[str | None] | None = None) -> tuple[MadeCall, ...]:
    """All calls of a finished or running episode, in order.

    Args:
        episode: the episode.
        keys: identity of each call in order, ``None`` for one that is not readable. By default
            every value is compared without looking at schemas.
    """
    if keys is None:
        keys = [call_identity(c.name, c.arguments) if readable(c) else None for c in episode.calls]
    made: list[MadeCall] = []
    for number, turn in enumerate(episode.turns):
        for index, call in enumerate(turn.calls):
            at, key = len(made), keys[len(made)]
            made.append(MadeCall(at, number, index, call.name, call.arguments, call.error, key))
    return tuple(made)
