"""How a tool refuses a call. The model reads the refusal, so it says how to repair the call.

A tool raises one of these; the session then restores the state and makes an error result of it.
"""

from __future__ import annotations

from orch_env.types import ErrorType
from orch_env.types.json import Json


class ToolRefusal(Exception):
    """The tool ran and refused.

    Args:
        message: one or two sentences for the model: what was wrong and what to do instead.
        details: plain data that may help to repair; ``reason`` is the kind of refusal, in
            snake_case (``"insufficient_funds"``).
    """

    kind = ErrorType.TOOL_ERROR

    def __init__(self, message: str, **details: Json) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Json] = details


class NotFound(ToolRefusal):
    """The named thing does not exist in this world."""

    kind = ErrorType.NOT_FOUND


class InvalidArguments(ToolRefusal):
    """Arguments that the schema accepts but the tool cannot work with (a date in the past)."""

    kind = ErrorType.INVALID_ARGUMENTS
