"""A call as a JSON object, without its markup: read it, or say what is wrong with it.

Accepted are also: ``"parameters"`` for ``"arguments"``; the object wrapped as
``{"function": {...}}``; arguments as a JSON string that holds an object; null, empty or missing
arguments (``{}``); other keys (an ``id``, say), which are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from orch_env.formats.protocol import ParsedMessage
from orch_env.formats.strict_json import decode, without_trailing_commas
from orch_env.types import ErrorType, OrchError, ToolCall
from orch_env.types.json import Json, JsonObject

MAX_CALLS = 256
"""Calls read from one message; the limit keeps reading linear in any message."""

_FENCE = re.compile(r"```[A-Za-z_]*")

TOO_MANY = f"one message may hold at most {MAX_CALLS} calls"


def read_call(value: Json) -> tuple[ToolCall, str | None]:
    """The call that a JSON value describes, and what is wrong with it.

    Returns:
        The call and ``None``, or a call with ``error=ErrorType.MALFORMED_CALL`` and one sentence.
    """
    if isinstance(value, list):
        return malformed("a list stands between the tags; write one object per call")
    if not isinstance(value, dict):
        return malformed("the call must be a JSON object")
    wrapped = value.get("function")
    if isinstance(wrapped, dict) and "name" not in value:
        value = wrapped
    name = value.get("name")
    if not isinstance(name, str) or not name:
        found = "is missing" if "name" not in value else "must be a non-empty string"
        return malformed(f'"name" {found}')
    key = "arguments" if "arguments" in value else "parameters"
    arguments, problem = _arguments(value.get(key), key)
    if problem is not None:
        return malformed(problem, name)
    return ToolCall(name, arguments), None


def decode_body(body: str) -> Json:
    """The JSON value of what stands between the tags of a call.

    A code fence around it and commas right before a closing bracket are passed over.

    Raises:
        ValueError: it is empty or no JSON as :mod:`orch_env.formats.strict_json` reads it.
    """
    inner = body.strip()
    if fence := _FENCE.match(inner):
        inner = inner[fence.end() :].removesuffix("```").strip()
    if not inner:
        raise ValueError("there is nothing between the tags")
    try:
        return decode(inner)
    except ValueError as problem:
        try:
            return decode(without_trailing_commas(inner))
        except ValueError:
            raise ValueError(f"not valid JSON: {problem}") from None


def check_rendered(read: ParsedMessage, calls: Sequence[ToolCall]) -> str:
    """The text of a rendered message, once it was read as the calls that it was made of.

    Raises:
        OrchError: it reads otherwise: a name or a text holds markup of the format, say.
    """
    if read.calls != tuple(calls) or read.content:
        pairs = zip(calls, read.calls, strict=False)
        wrong = next((made for made, found in pairs if made != found), calls[-1])
        raise OrchError(
            f"this call format cannot write the call of {wrong.name!r:.80} so that it reads the "
            "same: its names and texts must hold none of the format's own tags"
        )
    return read.text


def name_and_arguments(call: Json) -> tuple[str, Json]:
    """The parts of a call as it was received, for formats that write the name by itself.

    Raises:
        ValueError: it is no object with both of them.
    """
    if isinstance(call, dict) and isinstance(call.get("name"), str) and "arguments" in call:
        return call["name"], call["arguments"]
    raise ValueError("this call format cannot write a call without a name or without arguments")


def check_unread(read: ParsedMessage, calls: Sequence[Json]) -> str:
    """The text of a rendered message, once the same problems were found in it.

    Raises:
        ValueError: it reads otherwise.
    """
    due = [read_call(call) for call in calls]
    problems = {n: problem for n, (_, problem) in enumerate(due) if problem is not None}
    if (list(read.calls), read.problems) != ([call for call, _ in due], problems):
        raise ValueError("this call format cannot write these calls so that they read the same")
    return read.text


def malformed(problem: str, name: str = "") -> tuple[ToolCall, str]:
    """An unreadable call with its problem."""
    return ToolCall(name, {}, ErrorType.MALFORMED_CALL), problem


def _arguments(value: Json, key: str) -> tuple[JsonObject, str | None]:
    """The arguments object, or what is wrong with it."""
    if value is None:
        return {}, None
    if isinstance(value, str):
        if not value.strip():
            return {}, None
        try:
            value = decode(value)
        except ValueError as problem:
            return {}, f'"{key}" is a string that is not valid JSON: {problem}'
    if not isinstance(value, dict):
        return {}, f'"{key}" must be a JSON object'
    return value, None
