"""The calls of an episode as rewards look at them: numbered, with their canonical identity."""

from __future__ import annotations

from dataclasses import dataclass

from orch_env.types import Episode, ErrorType
from orch_env.types.json import JsonObject
from orch_env.values import canonical_text


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


def call_identity(name: str, arguments: JsonObject) -> str:
    """Canonical text of a call: equal texts are the same call up to the equality of values."""
    return canonical_text([name, arguments])


def made_calls(episode: Episode) -> tuple[MadeCall, ...]:
    """All calls of a finished or running episode, in order."""
    made: list[MadeCall] = []
    for number, turn in enumerate(episode.turns):
        for index, call in enumerate(turn.calls):
            readable = bool(call.name) and call.error is not ErrorType.MALFORMED_CALL
            made.append(
                MadeCall(
                    position=len(made),
                    turn=number,
                    index=index,
                    name=call.name,
                    arguments=call.arguments,
                    error=call.error,
                    key=call_identity(call.name, call.arguments) if readable else None,
                )
            )
    return tuple(made)
