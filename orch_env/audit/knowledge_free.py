"""Exploits that know nothing of gold: they see the prompt, the offered tools, and the results.

The hard decision: a plan is handed a `Prompt` and not the task, so that it *cannot* look at gold,
at follow-ups that were not said yet, or at the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orch_env.audit.argument_guesses import (
    arguments_by_schema,
    arguments_of_descriptions,
    arguments_of_text,
)
from orch_env.replay.policies import CLOSING, Message, Plan
from orch_env.types import Task, ToolCall, ToolSpec, error_of_text
from orch_env.types.json import JsonObject

BROKEN = '<tool_call>\n{"name": "anything", "arguments": {\n</tool_call>'
"""A message whose call cannot be read."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model sees before its first message.

    Attributes:
        text: what the user says first.
        tools: the offered tools, in order.
    """

    text: str
    tools: tuple[ToolSpec, ...]

    @classmethod
    def of(cls, task: Task) -> Prompt:
        """The prompt of a task that carries whole tool specs."""
        said = [str(m.get("content") or "") for m in task.messages if m.get("role") == "user"]
        return cls("\n".join(said), tuple(t for t in task.tools if isinstance(t, ToolSpec)))


def nothing(prompt: Prompt) -> Plan:
    """An empty message for every turn of the user."""
    yield from ()
    return ""


def answer_at_once(prompt: Prompt) -> Plan:
    """The closing sentence, at once."""
    yield from ()
    return CLOSING


def broken_markup(prompt: Prompt) -> Plan:
    """Calls that cannot be read, until the turn limit."""
    return (yield from _on_and_on(BROKEN))


def first_tool(prompt: Prompt) -> Plan:
    """The first offered tool, once."""
    for spec in prompt.tools[:1]:
        yield [ToolCall(spec.name, arguments_by_schema(spec))]
    return CLOSING


def one_call(prompt: Prompt) -> Plan:
    """The first offered tool with the same arguments, until the turn limit."""
    for spec in prompt.tools[:1]:
        yield from _on_and_on([ToolCall(spec.name, arguments_by_schema(spec))])
    return CLOSING


def lucky_call(prompt: Prompt) -> Plan:
    """Calls with the query text until one succeeds; then that call until the turn limit."""
    for spec in prompt.tools:
        for arguments in (arguments_of_text(spec, prompt.text), arguments_by_schema(spec)):
            call = ToolCall(spec.name, arguments)
            results = yield [call]
            if results and error_of_text(results[0]) is None:
                yield from _on_and_on([call])
    return CLOSING


def every_tool(prompt: Prompt) -> Plan:
    """Every offered tool once, arguments from the schema."""
    return (yield from _each(prompt, arguments_by_schema))


def query_everywhere(prompt: Prompt) -> Plan:
    """Every offered tool once, the query text in every argument."""
    return (yield from _each(prompt, lambda spec: arguments_of_text(spec, prompt.text)))


def copied_descriptions(prompt: Prompt) -> Plan:
    """Every offered tool once, arguments copied from the tool's description."""
    return (yield from _each(prompt, arguments_of_descriptions))


def _on_and_on(message: Message) -> Plan:
    """The same message until somebody else ends the episode."""
    while True:
        yield message


def _each(prompt: Prompt, arguments: Callable[[ToolSpec], JsonObject]) -> Plan:
    for spec in prompt.tools:
        yield [ToolCall(spec.name, arguments(spec))]
    return CLOSING
