"""A task as a backend opens it: tools resolved, and what follows from the task computed once."""

from __future__ import annotations

import json
import marshal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar, cast
from weakref import WeakValueDictionary

from orch_env.types import Task, ToolSpec
from orch_env.types.bounded_store import BoundedStore
from orch_env.types.json import JsonObject
from orch_env.types.text import message_text
from orch_env.values import SchemaRules

T = TypeVar("T")
R = TypeVar("R", bound="ResolvedTask")

MAX_TASKS = 2048
"""Resolved tasks that a backend keeps; some 20 kB each with their gold prepared."""


class OfferedTool:
    """One tool, read once and shared by all tasks that offer it.

    Attributes:
        spec: what the model sees.
        rules: of its arguments.
    """

    __slots__ = ("__weakref__", "_openai", "_respelt", "rules", "spec")

    def __init__(self, spec: ToolSpec) -> None:
        self.spec = spec
        self.rules: SchemaRules | None = SchemaRules.of(spec.parameters)
        self._respelt: SchemaRules | None = None
        self._openai = packed(spec.to_openai())

    @property
    def respelt(self) -> SchemaRules | None:
        """``rules`` under which dates and times in any text may be spelt in other ways."""
        if self._respelt is None:
            self._respelt = SchemaRules.of(self.spec.parameters, respelt=True)
        return self._respelt

    def to_openai(self) -> JsonObject:
        """The OpenAI form, each time a new object of the caller's own."""
        copy: JsonObject = marshal.loads(self._openai)
        return copy


_tools: WeakValueDictionary[str, OfferedTool] = WeakValueDictionary()


def offered_tool(spec: ToolSpec) -> OfferedTool:
    """The tool of a spec; equal specs share one while any task holds it."""
    shape = json.dumps([spec.name, spec.description, spec.parameters, spec.aliases, spec.read_only])
    found = _tools.get(shape)
    if found is None:
        found = _tools[shape] = OfferedTool(spec)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class ResolvedTask(Task):
    """A task whose tools are all specs, with what was derived from it.

    Rewards take it as the task it is. It is made once when a backend first opens the task, and
    is freed when the backend drops it.

    Attributes:
        source: the task as it was loaded.
        offered: the tools in the task's order, withheld ones included.
        resolver: who made it.
    """

    source: Task = field(kw_only=True)
    offered: tuple[OfferedTool, ...] = field(kw_only=True)
    resolver: object = field(default=None, init=False, repr=False)
    _derived: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls: type[R], task: Task, offered: Iterable[OfferedTool], **more: Any) -> R:
        """Resolve a task; ``more`` replaces fields of the task or sets those of a subclass."""
        tools = tuple(offered)
        values = {name: getattr(task, name) for name in _FIELDS}
        values |= {"tools": tuple(t.spec for t in tools), "source": task, "offered": tools}
        return cls(**values | more)

    def derived(self, make: Callable[[Task], T]) -> T:
        """``make(self)``, made once while this object lives."""
        found = self._derived.get(make)
        if found is None:
            found = self._derived[make] = make(self)
        made: T = found
        return made

    @property
    def opening_tools(self) -> list[OfferedTool]:
        """The tools that are offered from the start: all but the withheld ones."""
        if not self.tools_at_followup:
            return list(self.offered)
        withheld = {name for names in self.tools_at_followup for name in names}
        return [tool for tool in self.offered if tool.spec.name not in withheld]

    def tools_with(self, followup: int) -> tuple[ToolSpec, ...]:
        """The tools that are offered from this follow-up on, counted from 0."""
        names = self.tools_at_followup[followup : followup + 1]
        return tuple(t.spec for t in self.offered if names and t.spec.name in names[0])

    def opening(self) -> tuple[str, list[JsonObject], list[JsonObject]]:
        """Prompt text, messages, and tools in OpenAI shape; lists of the caller's own."""
        text, messages = self.derived(_opening)
        return text, marshal.loads(messages), [tool.to_openai() for tool in self.opening_tools]


_FIELDS = tuple(f.name for f in fields(Task))


def derived(task: Task, make: Callable[[Task], T]) -> T:
    """``make(task)``, kept where the task can keep it."""
    return task.derived(make) if isinstance(task, ResolvedTask) else make(task)


def packed(value: Any) -> bytes:
    """JSON data as bytes that ``marshal.loads`` turns into a copy, ten times faster than JSON.

    For use within one process: these bytes are never stored.
    """
    return marshal.dumps(json.loads(json.dumps(value)))


def _opening(task: Task) -> tuple[str, bytes]:
    texts = (message_text(message.get("content")) for message in task.messages)
    return "\n\n".join(filter(None, texts)), packed(task.messages)


class TaskResolver(Generic[R]):
    """Resolves a backend's tasks, each once while it is among those kept; thread-safe.

    Args:
        resolve: makes a task's resolved form.
    """

    def __init__(self, resolve: Callable[[Task], R]) -> None:
        self._resolve = resolve
        self._kept: BoundedStore[str, R] = BoundedStore(MAX_TASKS)

    def __call__(self, task: Task) -> R:
        """The resolved form of a task, or the task itself if it was resolved here."""
        if isinstance(task, ResolvedTask):
            if task.resolver is self:
                return cast(R, task)
            task = task.source
        found = self._kept.get(task.id)
        if found is not None and found.source is task:
            return found
        made = self._resolve(task)
        object.__setattr__(made, "resolver", self)
        self._kept.put(task.id, made, 1)
        return made
