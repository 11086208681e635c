"""Scripted policies: what stands in for a model in tests, baselines and data checks.

A policy is given a task and then turns observations into actions, as a model would. A policy of
this module is a pure function of (task, seed, what it saw), so that every replay of it can be
verified.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from orch_env.formats import CallFormat, get_format
from orch_env.tasks.files import exists, read_records
from orch_env.types import OrchError, Task, ToolCall, ToolSpec
from orch_env.types.json import Json

CLOSING = "Done: this is everything you asked for."
"""What the policies answer with where a task has no gold answer."""

NAMES = ("gold", "noop", "random")


Message: TypeAlias = Sequence[ToolCall] | str
"""Calls of one message, or its raw text."""

Plan: TypeAlias = Generator[Message, Sequence[str], str]
"""Yields messages, is sent the texts of their results, returns the closing answer."""


class Policy(Protocol):
    """Plays one episode at a time."""

    def start(self, task: Task) -> None:
        """A new episode of this task begins."""
        ...

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """The next assistant message, after what ``reset`` or ``step`` returned."""
        ...


def in_time(
    task: Task, steps: Iterable[Sequence[ToolCall]]
) -> Generator[Message, Sequence[str], None]:
    """The messages that make these calls, each step not before its follow-ups.

    Where a step has to wait, closing messages bring the follow-ups. Empty steps are left out.

    Args:
        task: says when its gold steps may be made.
        steps: calls in place of those of the gold steps; steps beyond gold's do not wait.
    """
    said = 0
    for step, due in zip(steps, chain(task.after_followup, repeat(0)), strict=False):
        if step:
            for _ in range(said, due):
                yield CLOSING
            said = max(said, due)
            yield step


class _Writer:
    """Writes messages in a call format, for the tools that were offered last."""

    def __init__(self, call_format: CallFormat) -> None:
        self._format = call_format
        self._tools: tuple[ToolSpec, ...] = ()

    def write(self, message: Message, info: Mapping[str, Any]) -> str:
        if "tools" in info:
            self._tools = tuple(map(ToolSpec.from_dict, info["tools"]))
        if isinstance(message, str):
            return message
        return self._format.render_calls(message, self._tools)


class GoldPolicy:
    """Makes the gold calls, one message per step at its time, and answers each user turn."""

    def __init__(self, call_format: CallFormat) -> None:
        self._writer = _Writer(call_format)
        self._messages: list[Message] = []

    def start(self, task: Task) -> None:
        """Put down the messages of this task, the last one first."""
        steps = [[ToolCall(c.name, c.arguments) for c in step] for step in task.gold]
        messages: list[Message] = list(in_time(task, steps))
        left = len(task.followups) - messages.count(CLOSING)
        self._messages = [*messages, *[CLOSING] * left, _answer_text(task.answer)][::-1]

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """The next gold message."""
        return self._writer.write(self._messages.pop() if self._messages else CLOSING, info)


class NoopPolicy:
    """Answers at once, without a call."""

    def start(self, task: Task) -> None:
        """Nothing to prepare."""

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """The closing sentence."""
        return CLOSING


class RandomPolicy:
    """Calls offered tools at random, with arguments that fit their schemas.

    Strings are taken from the schema's ``enum``, or from words and values seen so far, so that
    some calls succeed; after each message the policy answers with probability 1/4.

    Args:
        call_format: how to write calls.
        seed: with the task's id it determines everything.
    """

    def __init__(self, call_format: CallFormat, seed: int = 0) -> None:
        self._writer = _Writer(call_format)
        self._seed = seed
        self._random = random.Random(seed)
        self._tools: list[dict[str, Any]] = []
        self._seen: list[str] = []

    def start(self, task: Task) -> None:
        """Forget the last episode."""
        # A str seed goes through SHA-512, so that it is the same on every machine.
        self._random = random.Random(f"{self._seed}\x1f{task.id}")
        self._tools = []
        self._seen = []

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """One to three random calls, or the closing sentence."""
        self._tools = [tool["function"] for tool in info.get("tools", ())] or self._tools
        found = re.findall(r'"([^"\\\n]{1,60})"|(\w[\w.-]{0,59})', observation[:20_000])
        self._seen = [*self._seen, *(quoted or word for quoted, word in found)][-5_000:]
        started = "tools" not in info
        if not self._tools or (started and self._random.random() < 0.25):
            return CLOSING
        picked = self._random.choices(self._tools, k=self._random.choice((1, 1, 2, 3)))
        return self._writer.write(
            [ToolCall(tool["name"], self._arguments(tool["parameters"])) for tool in picked], info
        )

    def _arguments(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        required = set(schema.get("required") or ())
        return {
            name: self._value(part, depth=0)
            for name, part in (schema.get("properties") or {}).items()
            if name in required or self._random.random() < 0.3
        }

    def _value(self, schema: Any, depth: int) -> Json:
        if not isinstance(schema, Mapping) or depth > 8:
            return None
        if isinstance(schema.get("enum"), Sequence) and schema["enum"]:
            return self._random.choice(schema["enum"])
        kind = schema.get("type", "string")
        if isinstance(kind, list):
            kind = self._random.choice(kind) if kind else "string"
        if kind == "integer":
            return self._random.randint(0, 9)
        if kind in ("number", "float"):
            return self._random.randint(0, 90) / 10
        if kind == "boolean":
            return self._random.random() < 0.5
        if kind == "array":
            count = self._random.randint(1, 2)
            return [self._value(schema.get("items") or {}, depth + 1) for _ in range(count)]
        if kind in ("object", "dict"):
            parts = schema.get("properties") or {}
            return {name: self._value(part, depth + 1) for name, part in parts.items()}
        return self._random.choice(self._seen) if self._seen else ""


class PlanPolicy:
    """Follows a plan; when the plan has returned, it repeats the plan's closing answer.

    Args:
        plan: a generator that yields the messages, is sent the texts of each one's results, and
            returns the closing answer.
        call_format: how to write calls.
    """

    def __init__(self, plan: Plan, call_format: CallFormat) -> None:
        self._plan = plan
        self._writer = _Writer(call_format)
        self._started = False
        self._answer: str | None = None

    def start(self, task: Task) -> None:
        """The plan knows its task already."""

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """The plan's next message."""
        if self._answer is not None:
            return self._answer
        results = [str(m["content"]) for m in info["messages"] if m.get("role") == "tool"]
        try:
            message = self._plan.send(results) if self._started else next(self._plan)
        except StopIteration as stop:
            self._answer = str(stop.value)
            return self._answer
        self._started = True
        return self._writer.write(message, info)


class FilePolicy:
    """Plays back written actions; when a task's actions run out, or it has none, answers.

    Args:
        path: JSON Lines of ``{task_id, actions: [text, ...]}``, plain or gzipped.

    Raises:
        OrchError: the file is missing, or a line is not of that form.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._actions: dict[str, list[str]] = {}
        self._left: list[str] = []
        for number, data in read_records(Path(path)):
            where = f"{os.fspath(path)}: line {number}"
            task_id, actions = data.get("task_id"), data.get("actions")
            if (
                not isinstance(task_id, str)
                or not isinstance(actions, list)
                or not all(isinstance(a, str) for a in actions)
            ):
                raise OrchError(f'{where} must be {{"task_id": text, "actions": [text, ...]}}')
            if task_id in self._actions:
                raise OrchError(f"{where}: task {task_id!r} has actions on an earlier line")
            self._actions[task_id] = actions
        if not self._actions:
            raise OrchError(f"file {os.fspath(path)!r} holds no actions")

    def start(self, task: Task) -> None:
        """Find the task's actions."""
        self._left = self._actions.get(task.id, [])[::-1]

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """The next written action."""
        return self._left.pop() if self._left else CLOSING


def make_policy(
    name_or_path: str | os.PathLike[str], *, call_format: str = "hermes", seed: int = 0
) -> Policy:
    """Build a policy.

    Args:
        name_or_path: ``gold``, ``noop``, ``random``, or the path of a file of actions.
        call_format: how the policy writes its calls.
        seed: seed of the random policy.

    Raises:
        OrchError: neither a name nor a file, or the file is broken.
    """
    name = os.fspath(name_or_path)
    written = get_format(call_format)
    if name == "gold":
        return GoldPolicy(written)
    if name == "noop":
        return NoopPolicy()
    if name == "random":
        return RandomPolicy(written, seed)
    if not exists(name):
        raise OrchError(
            f"policy {name!r} is none of {', '.join(NAMES)} and no such file of actions exists"
        )
    return FilePolicy(name)


def _answer_text(answer: Json) -> str:
    if answer is None:
        return CLOSING
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
