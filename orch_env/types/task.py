"""A task: what is asked, which tools are offered, and the gold trace with its data flow.

Schema version 1, one JSON object a line. Provenance is stored per argument *leaf* (JSON Pointer),
so nested arguments have dependencies like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from orch_env.types.errors import OrchError
from orch_env.types.fields import got, list_of, name_of, of_kind, value_of
from orch_env.types.json import Json, JsonObject
from orch_env.types.text import message_text
from orch_env.types.tools import ToolSpec

TASK_SCHEMA = 1


class Provenance(StrEnum):
    """Where the value of one argument leaf comes from."""

    OUTPUT = "output"
    """Read from the output of an earlier gold call: ``call`` and ``path`` say which and where."""
    QUERY = "query"
    """Stands literally in the user's words."""
    COMPOSITE = "composite"
    """Put together from several sources, listed in ``parts`` (comma-joined ids, say)."""
    REASONED = "reasoned"
    """Inferred from the query: a date from "tomorrow", a code from a place name."""
    CONSTANT = "constant"
    """A default or trivial value that the query does not determine."""


@dataclass(frozen=True, slots=True)
class ValueRef:
    """The source of one argument leaf.

    Attributes:
        kind: see :class:`Provenance`.
        call: number of the producing gold call in the flattened list (``output`` only).
        path: JSON Pointer into that call's parsed response (``output`` only).
        parts: sources of the pieces, in order (``composite`` only).
    """

    kind: Provenance
    call: int | None = None
    path: str | None = None
    parts: tuple[ValueRef, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ValueRef:
        """Read one entry of ``provenance``."""
        kind = data.get("kind")
        if kind not in tuple(Provenance):
            raise OrchError(
                f"provenance 'kind' must be one of {', '.join(Provenance)}, got {got(kind)}"
            )
        return cls(
            kind=Provenance(kind),
            call=value_of(data, "call", int, None),
            path=value_of(data, "path", str, None),
            parts=tuple(cls.from_dict(p) for p in list_of(data, "parts", dict)),
        )

    def to_dict(self) -> JsonObject:
        """The JSON form, without the fields that do not apply."""
        out: JsonObject = {"kind": self.kind.value}
        if self.call is not None:
            out["call"] = self.call
        if self.path is not None:
            out["path"] = self.path
        if self.parts:
            out["parts"] = [p.to_dict() for p in self.parts]
        return out

    def producers(self) -> frozenset[int]:
        """Numbers of all gold calls whose outputs feed this leaf."""
        own = frozenset() if self.call is None else frozenset({self.call})
        return own.union(*(p.producers() for p in self.parts))


@dataclass(frozen=True, slots=True)
class GoldCall:
    """One call of the gold trace.

    Attributes:
        name: the tool.
        arguments: the arguments, as recorded.
        optional: may be left out without loss.
        depends_on: numbers of calls that must come first, value-carrying or not.
        provenance: argument leaf (JSON Pointer) -> source.
        response: digest of the recorded response variant this call was recorded with.
    """

    name: str
    arguments: JsonObject = field(default_factory=dict)
    optional: bool = False
    depends_on: tuple[int, ...] = ()
    provenance: Mapping[str, ValueRef] = field(default_factory=dict)
    response: str | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GoldCall:
        """Read one call of ``gold``."""
        name = name_of(data, "name", "a gold call")
        try:
            return cls(
                name=name,
                arguments=dict(value_of(data, "arguments", dict, {})),
                optional=value_of(data, "optional", bool, False),
                depends_on=list_of(data, "depends_on", int),
                provenance={
                    pointer: ValueRef.from_dict(of_kind(ref, dict, f"provenance of {pointer!r}"))
                    for pointer, ref in value_of(data, "provenance", dict, {}).items()
                },
                response=value_of(data, "response", str, None),
            )
        except OrchError as problem:
            raise OrchError(f"gold call {name!r}: {problem}") from problem

    def to_dict(self) -> JsonObject:
        """The JSON form of INTERFACE."""
        return {
            "name": self.name,
            "arguments": self.arguments,
            "optional": self.optional,
            "depends_on": list(self.depends_on),
            "provenance": {k: v.to_dict() for k, v in self.provenance.items()},
            "response": self.response,
        }

    def state_dependencies(self) -> tuple[int, ...]:
        """Dependencies that carry no value: they order calls by their effect on state."""
        carried = frozenset[int]().union(*(r.producers() for r in self.provenance.values()))
        return tuple(i for i in self.depends_on if i not in carried)


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a data set. See INTERFACE's task schema for the JSON form.

    Attributes:
        id: unique within its file.
        messages: the opening chat messages, OpenAI shape; at least one.
        tools: names in the catalogue (cache or servers), or specs that replace its entries.
        gold: steps in order; the calls of one step may run in parallel.
        today: the task's fixed date, ISO 8601, or ``None``.
        followups: later user turns; a message without a call moves on to the next one.
        after_followup: for each gold step, how many follow-ups the user has said before the step
            may be made; empty means none for every step. Stored only where it is not empty.
        tools_at_followup: for each follow-up, names of ``tools`` that are withheld until the user
            says it; empty means that all are offered from the start. Stored only where not empty.
        servers: names of the stateful servers that the task runs on (empty: the cache).
        seed: seed of the servers' world, ``None`` for the episode's own.
        answer: gold answer, where there is one.
        final_state: what gold changes in the servers, in the form of ``Episode.state``, where
            there is one.
        metadata: domain, template, split, calls, depth, width, edges, and free keys.
    """

    id: str
    messages: tuple[JsonObject, ...]
    tools: tuple[str | ToolSpec, ...] = ()
    gold: tuple[tuple[GoldCall, ...], ...] = ()
    today: str | None = None
    followups: tuple[str, ...] = ()
    after_followup: tuple[int, ...] = ()
    tools_at_followup: tuple[tuple[str, ...], ...] = ()
    servers: tuple[str, ...] = ()
    seed: int | None = None
    answer: Json = None
    final_state: Json = None
    metadata: JsonObject = field(default_factory=dict)

    @property
    def gold_calls(self) -> tuple[GoldCall, ...]:
        """The gold calls flattened in order; a call's number is its index here."""
        return tuple(call for step in self.gold for call in step)

    def followups_before(self, number: int) -> int:
        """How many follow-ups the user has said before gold call ``number`` may be made.

        Raises:
            IndexError: gold has no such call.
        """
        step_of = [step for step, calls in enumerate(self.gold) for _ in calls]
        step = step_of[number]
        return self.after_followup[step] if self.after_followup else 0

    @property
    def opening_query(self) -> str:
        """What the user says before the first follow-up, joined by newlines."""
        return "\n".join(self._opening_texts())

    @property
    def query(self) -> str:
        """Everything the user says: the user messages and follow-ups, joined by newlines."""
        return "\n".join([*self._opening_texts(), *self.followups])

    def _opening_texts(self) -> list[str]:
        return [message_text(m.get("content")) for m in self.messages if m.get("role") == "user"]

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Names of the offered tools."""
        return tuple(t if isinstance(t, str) else t.name for t in self.tools)

    def tool_spec(self, name: str) -> ToolSpec | None:
        """The spec of an offered tool, ``None`` if the task only names it or lacks it."""
        return next((t for t in self.tools if isinstance(t, ToolSpec) and t.name == name), None)

    def with_tools(self, specs: tuple[ToolSpec, ...]) -> Task:
        """A copy with these specs, for rewards that look at schemas."""
        return replace(self, tools=specs)

    def with_metadata(self, **entries: Json) -> Task:
        """A copy with some metadata entries replaced."""
        return replace(self, metadata={**self.metadata, **entries})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Task:
        """Read and check one task.

        Raises:
            OrchError: a field is missing, of a wrong type, or from a newer schema.
        """
        task_id = name_of(of_kind(data, dict, "a task"), "id", "a task")
        schema = data.get("schema", TASK_SCHEMA)
        if schema is True or schema != TASK_SCHEMA:
            raise OrchError(
                f"task {task_id!r} has schema {schema!r}; this version reads schema {TASK_SCHEMA}"
            )
        try:
            task = cls(
                id=task_id,
                messages=tuple(map(_message, list_of(data, "messages", dict))),
                tools=tuple(
                    t if isinstance(t, str) else ToolSpec.from_dict(t)
                    for t in value_of(data, "tools", list, ())
                ),
                gold=tuple(
                    tuple(GoldCall.from_dict(of_kind(call, dict, "a gold call")) for call in step)
                    for step in list_of(data, "gold", list)
                ),
                today=value_of(data, "today", str, None),
                followups=tuple(map(_followup, value_of(data, "followups", list, ()))),
                after_followup=list_of(data, "after_followup", int),
                tools_at_followup=tuple(map(tuple, list_of(data, "tools_at_followup", list))),
                servers=list_of(data, "servers", str),
                seed=value_of(data, "seed", int, None),
                answer=data.get("answer"),
                final_state=data.get("final_state"),
                metadata=dict(value_of(data, "metadata", dict, {})),
            )
            if not task.messages:
                raise OrchError("'messages' must be a non-empty list of chat messages")
            repeated = [n for n, count in Counter(task.tool_names).items() if count > 1]
            if repeated:
                raise OrchError(f"tool {repeated[0]!r} is offered twice")
            task._check_after_followup()
            task._check_tools_at_followup()
        except OrchError as problem:
            raise OrchError(f"task {task_id!r}: {problem}") from problem
        task._check_references()
        return task

    def _check_after_followup(self) -> None:
        after = self.after_followup
        if not after:
            return
        if len(after) != len(self.gold):
            raise OrchError(
                f"'after_followup' needs one number per gold step, got {len(after)} for "
                f"{len(self.gold)} steps"
            )
        for step, count in enumerate(after):
            earlier = max(after[:step], default=0)
            if not earlier <= count <= len(self.followups):
                raise OrchError(
                    f"'after_followup' entry {step} is {count}: it must be at least {earlier}, as "
                    f"the numbers may not fall, and at most {len(self.followups)}, the number of "
                    "follow-ups"
                )

    def _check_tools_at_followup(self) -> None:
        if len(self.tools_at_followup) > len(self.followups):
            raise OrchError(
                f"'tools_at_followup' has {len(self.tools_at_followup)} entries for "
                f"{len(self.followups)} follow-ups"
            )
        withheld = [name for names in self.tools_at_followup for name in names]
        for name in withheld:
            if name not in self.tool_names or withheld.count(name) > 1:
                raise OrchError(
                    f"'tools_at_followup' names {got(name)}: each must be one of 'tools', once"
                )

    def _check_references(self) -> None:
        """Every dependency names an earlier call: the gold order is a topological one."""
        for number, call in enumerate(self.gold_calls):
            named = set(call.depends_on).union(*(r.producers() for r in call.provenance.values()))
            bad = sorted(i for i in named if not 0 <= i < number)
            if bad:
                raise OrchError(
                    f"task {self.id!r}: gold call {number} ({call.name}) depends on call "
                    f"{bad[0]}, which does not come before it"
                )

    def to_dict(self) -> JsonObject:
        """The JSON form; ``Task.from_dict(task.to_dict()) == task``."""
        after: JsonObject = {}
        if self.after_followup:
            after["after_followup"] = list(self.after_followup)
        if self.tools_at_followup:
            after["tools_at_followup"] = [list(names) for names in self.tools_at_followup]
        return {
            "schema": TASK_SCHEMA,
            "id": self.id,
            "today": self.today,
            "messages": [dict(m) for m in self.messages],
            "followups": list(self.followups),
            **after,
            "tools": [t if isinstance(t, str) else t.to_dict() for t in self.tools],
            "gold": [[c.to_dict() for c in step] for step in self.gold],
            "servers": list(self.servers),
            "seed": self.seed,
            "answer": self.answer,
            "final_state": self.final_state,
            "metadata": self.metadata,
        }


def _message(data: Mapping[str, Any]) -> JsonObject:
    if not isinstance(data.get("role"), str):
        raise OrchError(f"a chat message needs a 'role', got {got(data)}")
    content = data.get("content")
    listed = isinstance(content, list) and all(isinstance(part, Mapping) for part in content)
    if not (content is None or isinstance(content, str) or listed):
        raise OrchError(
            f"a message's 'content' must be a text or a list of parts, got {got(content)}"
        )
    return dict(data)


def _followup(said: Json) -> str:
    if isinstance(said, Mapping):
        said = said.get("content")
    return of_kind(said, str, "a follow-up")
