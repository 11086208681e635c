"""What every importer reads its source into: recorded responses and recorded traces."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from orch_env.types import OrchError, ToolSpec
from orch_env.types.fields import name_of
from orch_env.types.json import Json, JsonObject


@dataclass(frozen=True, slots=True)
class RecordedResponse:
    """One recorded call; ``text`` is ``None`` where the source does not hold the response."""

    name: str
    arguments: JsonObject
    text: str | None


@dataclass(frozen=True, slots=True)
class RecordedTrace:
    """One task of a source, before responses are stored and provenance is found.

    Attributes:
        id: unique within the source.
        messages: the opening user (and system) messages.
        followups: later user turns.
        after_followup: for each step, how many of them came before it; empty means none.
        today: ISO date that the query states, or ``None``.
        steps: recorded calls by step.
        tools: names of the offered tools, in order.
        specs: the specs that this task came with; may be fewer than ``tools``.
        metadata: domain and whatever the source adds.
    """

    id: str
    messages: tuple[JsonObject, ...]
    steps: tuple[tuple[RecordedResponse, ...], ...]
    tools: tuple[str, ...]
    specs: tuple[ToolSpec, ...] = ()
    followups: tuple[str, ...] = ()
    after_followup: tuple[int, ...] = ()
    today: str | None = None
    metadata: JsonObject = field(default_factory=dict)

    @property
    def calls(self) -> tuple[RecordedResponse, ...]:
        """All calls, in order."""
        return tuple(call for step in self.steps for call in step)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A task that was not imported, and why."""

    id: str
    reason: str

    def to_dict(self) -> JsonObject:
        """The ``{id, reason}`` form."""
        return {"id": self.id, "reason": self.reason}


@dataclass(slots=True)
class Recordings:
    """Everything read from one source.

    Attributes:
        format: the source's format.
        traces: tasks that could be read.
        refused: tasks that could not.
        responses: recorded responses that belong to no trace.
    """

    format: str
    traces: list[RecordedTrace] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    responses: list[RecordedResponse] = field(default_factory=list)
    _ids: set[str] = field(default_factory=set, repr=False)

    def add(self, task_id: str, read: Callable[[], RecordedTrace]) -> None:
        """Read a task and keep it, or refuse it with the reason.

        Args:
            task_id: its id; one that was used before, or that no file can store, is refused.
            read: reads it; may raise ``OrchError``.
        """
        try:
            name_of({"id": task_id}, "id", "a task")
            if task_id in self._ids:
                raise OrchError("the id was used before")
            self._ids.add(task_id)
            self.traces.append(read())
        except OrchError as problem:
            self.refused.append(Refusal(task_id, str(problem)))


def response_text(response: Json) -> str:
    """The text that is stored for a response that a JSON source holds as a value.

    A JSON source does not keep the bytes that the service sent. The text is
    ``json.dumps(response, ensure_ascii=False)``, or the response itself if it is a string.
    """
    return response if isinstance(response, str) else json.dumps(response, ensure_ascii=False)


def parse_response(text: str) -> Json:
    """The value that provenance paths point into: the parsed JSON, or the text if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
