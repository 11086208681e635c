"""A call as a JSON object, without its markup: read it, or say what is wrong with it.

Accepted are also: ``"parameters"`` for ``"arguments"``; the object wrapped as
``{"function": {...}}``; arguments as a JSON string that holds an object; null, empty or missing
arguments (``{}``); other keys (an ``id``, say), which are ignored.
"""

from __future__ import annotations

from orch_env.formats.strict_json import decode
from orch_env.types import ErrorType, ToolCall
from orch_env.types.json import Json, JsonObject

MAX_CALLS = 256
"""Calls read from one message; the limit keeps reading linear in any message."""

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
