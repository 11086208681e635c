"""The calls of an episode as rewards look at them: numbered, with their canonical identity.

The hard decision: two calls are the same call exactly if they name one tool and their arguments
are equal values, by the tool's schema where the task carries it. So "identical calls" and "equal
to an optional gold call" never disagree with what a comparison of their arguments says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orch_env.types import Episode, ErrorType, Task, ToolCall, ToolSpec
from orch_env.types.json import JsonObject
from orch_env.values import SchemaRules, canonical_text_by_schema


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


class ToolRules:
    """The schemas of a task's tools, each read once.

    Args:
        task: tools that it only names have no schema.
    """

    __slots__ = ("_read", "_specs")

    def __init__(self, task: Task) -> None:
        self._specs = {tool.name: tool for tool in task.tools if isinstance(tool, ToolSpec)}
        self._read: dict[str, SchemaRules | None] = {}

    def of(self, name: str) -> SchemaRules | None:
        """The rules of a tool's arguments, ``None`` without a schema."""
        if name not in self._specs:
            return None
        if name not in self._read:
            self._read[name] = SchemaRules.of(self._specs[name].parameters)
        return self._read[name]

    def identity(self, name: str, arguments: JsonObject) -> str:
        """Canonical text of a call of one of the task's tools."""
        return call_identity(name, arguments, self.of(name))


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
            position = len(made)
            made.append(
                MadeCall(
                    position, number, index, call.name, call.arguments, call.error, keys[position]
                )
            )
    return tuple(made)
