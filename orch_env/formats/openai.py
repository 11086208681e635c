"""Assistant messages in OpenAI's form, as agents with native tool calling write them.

Such a message gives the same `ParsedMessage` as its text in a call format, so the trajectory is the
same for both. The text is the message rendered in that format. A message that the format cannot
write (it holds NaN, or markup in its content) is kept as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orch_env.formats.calls import MAX_CALLS, TOO_MANY, malformed, read_call
from orch_env.formats.protocol import CallFormat, ParsedMessage
from orch_env.types import OrchError, ToolCall, ToolSpec
from orch_env.types.json import Json
from orch_env.types.messages import call_body, call_id, calls_of, text_of


def read_message(
    message: Mapping[str, Any], call_format: CallFormat, tools: Sequence[ToolSpec] = ()
) -> ParsedMessage:
    """Read an assistant message; never raises.

    Args:
        message: ``{"content": ..., "tool_calls": [{"id", "function": {"name", "arguments"}}]}``;
            arguments as a JSON string or as an object. The other forms of
            :mod:`orch_env.types.messages` are read too; calls in a form that is not read become
            one malformed call.
        call_format: the format in which the message is rendered.
        tools: the tools on offer.
    """
    try:
        items = calls_of(message)
    except OrchError as unread:
        call, why = malformed(str(unread))
        return ParsedMessage(_as_json(message), "", (call,), {0: why})
    calls: list[ToolCall] = []
    problems: dict[int, str] = {}
    ids: dict[int, str] = {}
    bodies = [call_body(item) for item in items]
    for position, (item, body) in enumerate(zip(items, bodies, strict=True)):
        call, problem = malformed(TOO_MANY) if position == MAX_CALLS else _read(body)
        calls.append(call)
        if problem is not None:
            problems[position] = problem
        if (given := call_id(item)) is not None:
            ids[position] = given
        if position == MAX_CALLS:
            break
    try:
        content = text_of(message)
    except (TypeError, ValueError, RecursionError):  # no JSON value
        content = ""
    text = _text(content, calls, bodies, not problems, call_format, tools)
    if text is not None and not call_format.is_plain(content):
        # The content holds markup: it must not read as other calls than the message has.
        parsed = call_format.parse(text, tools)
        text, content = (text, parsed.content) if parsed.calls == tuple(calls) else (None, content)
    written = _as_json(message) if text is None else text
    return ParsedMessage(written, content.strip(), tuple(calls), problems, ids)


def reread(
    action: str, call_format: CallFormat, tools: Sequence[ToolSpec] = ()
) -> ParsedMessage | None:
    """The message of an action that was stored as JSON, ``None`` if the action is no JSON."""
    try:
        message = json.loads(action)
    except (ValueError, RecursionError):
        return None
    return read_message(message, call_format, tools) if isinstance(message, dict) else None


def _read(body: Json) -> tuple[ToolCall, str | None]:
    """Read a call; arguments that are an object have the same limits as those in a text."""
    if isinstance(body, dict) and isinstance(body.get("arguments"), dict):
        try:
            body = {**body, "arguments": json.dumps(body["arguments"], allow_nan=False)}
        except (TypeError, ValueError, RecursionError) as problem:
            name = body.get("name")
            named = name if isinstance(name, str) else ""
            return malformed(f'"arguments" cannot be written as JSON: {problem}', named)
    return read_call(body)


def _text(
    content: str,
    calls: Sequence[ToolCall],
    unread: Sequence[Json],
    readable: bool,
    call_format: CallFormat,
    tools: Sequence[ToolSpec],
) -> str | None:
    """The message in a call format, ``None`` if it cannot be written."""
    if not calls:
        return content
    try:
        if readable:
            rendered = call_format.render_calls(calls, tools)
        else:
            rendered = call_format.render_unread(unread)
    except (OrchError, TypeError, ValueError, RecursionError):
        return None
    return f"{content}\n{rendered}" if content else rendered


def _as_json(message: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(message), default=repr)
    except (TypeError, ValueError, RecursionError):
        return json.dumps({"role": "assistant", "content": "", "tool_calls": ["unreadable"]})
