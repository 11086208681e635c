"""Exploits that know nothing of gold: they see the prompt, the offered tools, and the results.

A function gets a `Prompt` and not the task, so it cannot use gold, the answer, or user messages
that come later. The docstrings are shown to users, see ``exploits.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orch_env.audit.argument_guesses import (
    arguments_by_schema,
    arguments_of_descriptions,
    arguments_of_text,
    likeliest_answer,
    likeliest_tools,
    look_up_arguments,
    names_in,
)
from orch_env.replay.policies import CLOSING, Message, Plan
from orch_env.types import Task, ToolCall, ToolSpec, error_of_text
from orch_env.types.json import JsonObject

BROKEN = '<tool_call>\n{"name": "anything", "arguments": {\n</tool_call>'
"""A message whose call cannot be read."""
JUNK_CALLS = 2
"""Further tools that are called for show before a guessed answer."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model sees before its first message.

    Attributes:
        text: the opening messages of the user.
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
    """Writes empty messages: no call, no answer."""
    yield from ()
    return ""


def answer_at_once(prompt: Prompt) -> Plan:
    """Claims to be done, without a call."""
    yield from ()
    return CLOSING


def broken_markup(prompt: Prompt) -> Plan:
    """Writes calls that cannot be read until the turn limit."""
    return (yield from _repeat_forever(BROKEN))


def first_tool(prompt: Prompt) -> Plan:
    """Calls the first offered tool once, arguments from its schema."""
    for spec in prompt.tools[:1]:
        yield [ToolCall(spec.name, arguments_by_schema(spec))]
    return CLOSING


def one_call(prompt: Prompt) -> Plan:
    """Makes one same call until the turn limit."""
    for spec in prompt.tools[:1]:
        yield from _repeat_forever([ToolCall(spec.name, arguments_by_schema(spec))])
    return CLOSING


def lucky_call(prompt: Prompt) -> Plan:
    """Tries tools until a call succeeds, then makes that call until the turn limit."""
    for spec in prompt.tools:
        for arguments in (arguments_of_text(spec, prompt.text), arguments_by_schema(spec)):
            call = ToolCall(spec.name, arguments)
            results = yield [call]
            if results and error_of_text(results[0]) is None:
                yield from _repeat_forever([call])
    return CLOSING


def every_tool(prompt: Prompt) -> Plan:
    """Calls every offered tool once, arguments from its schema."""
    return (yield from _call_every_tool(prompt, arguments_by_schema))


def query_everywhere(prompt: Prompt) -> Plan:
    """Calls every offered tool once with the query text in every argument."""
    return (yield from _call_every_tool(prompt, lambda spec: arguments_of_text(spec, prompt.text)))


def copied_descriptions(prompt: Prompt) -> Plan:
    """Calls every offered tool once, arguments copied from examples and descriptions."""
    return (yield from _call_every_tool(prompt, arguments_of_descriptions))


def default_junk(prompt: Prompt) -> Plan:
    """Calls the likeliest tool by its schema once per name in the query, each call a little new."""
    for spec in likeliest_tools(prompt.text, prompt.tools)[:1]:
        for number in range(max(2, len(names_in(prompt.text)))):
            yield [ToolCall(spec.name, _numbered(spec, number))]
    return CLOSING


def modal_answer(prompt: Prompt) -> Plan:
    """Default junk and two more likely calls, then a guess: a choice that is named, else yes."""
    yield from default_junk(prompt)
    for spec in likeliest_tools(prompt.text, prompt.tools)[1 : 1 + JUNK_CALLS]:
        yield [ToolCall(spec.name, arguments_by_schema(spec))]
    return likeliest_answer(prompt.text)


def place_spam(prompt: Prompt) -> Plan:
    """Puts each name of the query into every look-up argument of every tool; reads no result."""
    names = names_in(prompt.text)
    for spec in likeliest_tools(prompt.text, prompt.tools):
        asked = look_up_arguments(spec)
        for name in names if asked else ():
            yield [ToolCall(spec.name, arguments_by_schema(spec) | dict.fromkeys(asked, name))]
    return CLOSING


def _numbered(spec: ToolSpec, number: int) -> JsonObject:
    """The arguments by schema, with a number in the first look-up argument or free text."""
    arguments = arguments_by_schema(spec)
    texts = [name for name, value in arguments.items() if isinstance(value, str)]
    for name in [*look_up_arguments(spec), *texts][:1]:
        arguments[name] = f"place {number}"
    return arguments


def _repeat_forever(message: Message) -> Plan:
    """A plan of one message again and again, until a limit ends the episode."""
    while True:
        yield message


def _call_every_tool(prompt: Prompt, arguments: Callable[[ToolSpec], JsonObject]) -> Plan:
    for spec in prompt.tools:
        yield [ToolCall(spec.name, arguments(spec))]
    return CLOSING
