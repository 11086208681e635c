"""A recorded trace, before its data flow is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orch_env.types import ToolSpec
from orch_env.types.json import Json, JsonObject


@dataclass(frozen=True, slots=True)
class TraceCall:
    """One call of a trace with its parsed response.

    Attributes:
        name: the tool.
        arguments: the arguments, as recorded.
        response: the whole parsed response, not only its ``data``; a text that is no JSON stays
            a string.
    """

    name: str
    arguments: JsonObject
    response: Json = None


@dataclass(frozen=True, slots=True)
class Trace:
    """The input of :func:`~orch_env.provenance.find_provenance`.

    Attributes:
        query: what the user said before the first call.
        steps: calls of one step could not see each other's responses.
        specs: tool name -> spec; parameter descriptions say where values come from.
        followups: what the user said later.
        after_followup: as in :class:`~orch_env.types.Task`.
    """

    query: str
    steps: tuple[tuple[TraceCall, ...], ...]
    specs: Mapping[str, ToolSpec] = field(default_factory=dict)
    followups: tuple[str, ...] = ()
    after_followup: tuple[int, ...] = ()

    def said_before(self, step: int) -> str:
        """What the user had said when a step was made."""
        heard = self.after_followup[step] if self.after_followup else 0
        return "\n".join([self.query, *self.followups[:heard]])

    def numbered(self) -> list[tuple[int, TraceCall]]:
        """``(step, call)`` in flattened order; the index is the call's number."""
        return [(number, call) for number, step in enumerate(self.steps) for call in step]
