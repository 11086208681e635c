"""A conversation that took place elsewhere, as an episode's messages and the results they got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orch_env.formats import CallFormat, ParsedMessage
from orch_env.formats.openai import read_message
from orch_env.types import ErrorType, OrchError, ToolCall, ToolResult, ToolSpec
from orch_env.types.episode import error_of_text
from orch_env.types.messages import Answer, calls_of, read_conversation, text_of

_NOT_RUN = ToolResult.failure(ErrorType.LIMIT, "This call was not run.")


def spoken(
    message: Mapping[str, Any], style: CallFormat, tools: Sequence[ToolSpec]
) -> ParsedMessage:
    """An assistant's message; without ``tool_calls``, its text is read in a call format."""
    try:
        carries_calls = bool(calls_of(message))
    except OrchError:  # in a form that is not read: one malformed call
        carries_calls = True
    if carries_calls:
        return read_message(message, style, tools)
    return style.parse(text_of(message), tools)


def read_transcript(
    task_id: str,
    messages: Sequence[Mapping[str, Any]],
    style: CallFormat,
    tools: Sequence[ToolSpec],
) -> list[tuple[ParsedMessage, list[ToolResult | None]]]:
    """The assistant's messages, each with the result of every call, ``None`` where there is none.

    Raises:
        OrchError: a message is of a form that is not read, or an answer belongs to no call.
    """
    try:
        said = read_conversation([_with_calls(message, style, tools) for message in messages])
    except OrchError as problem:
        raise OrchError(f"task {task_id!r}: {problem}") from problem
    return [
        (
            spoken({"content": one.text, "tool_calls": one.calls}, style, tools),
            [None if answer is None else _result(answer) for answer in one.answers],
        )
        for one in said
    ]


class ToldSession:
    """Answers the calls of a message with the results that it got elsewhere.

    Args:
        tools: what the task offers. A call of another tool failed, in whatever words a framework
            said so.

    Attributes:
        results: of the message that comes next, one per call.
    """

    def __init__(self, tools: Sequence[ToolSpec]) -> None:
        self._names = {name for tool in tools for name in (tool.name, *tool.aliases)}
        self.results: Sequence[ToolResult | None] = ()
        self._message: Sequence[ToolCall] = ()

    def whole_message(self, calls: Sequence[ToolCall]) -> None:
        """Remember the calls, to know which results belong to those that are run."""
        self._message = calls

    def answer(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """The results of these calls of the message."""
        at = {id(call): result for call, result in zip(self._message, self.results, strict=False)}
        return [self._judged(call, at.get(id(call)) or _NOT_RUN) for call in calls]

    def _judged(self, call: ToolCall, result: ToolResult) -> ToolResult:
        if call.name in self._names or result.error is ErrorType.LIMIT:
            return result
        return ToolResult(result.text, ErrorType.UNKNOWN_TOOL)

    def close(self) -> None:
        """There is nothing to free."""


def _with_calls(
    message: Mapping[str, Any], style: CallFormat, tools: Sequence[ToolSpec]
) -> Mapping[str, Any]:
    """The same message, with the calls that its text holds as ``tool_calls``."""
    if not isinstance(message, Mapping) or message.get("role") != "assistant" or calls_of(message):
        return message
    parsed = style.parse(text_of(message), tools)
    if not parsed.calls:
        return message
    calls = [
        {"name": call.name, "arguments": "{" if call.error is not None else call.arguments}
        for call in parsed.calls
    ]
    return {"role": "assistant", "content": parsed.content, "tool_calls": calls}


def _result(answer: Answer) -> ToolResult:
    error = error_of_text(answer.text) or (ErrorType.TOOL_ERROR if answer.failed else None)
    return ToolResult(answer.text, error)
