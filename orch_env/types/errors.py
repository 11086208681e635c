"""How things go wrong: what the model sees (`ErrorType`) and what a user sees (`OrchError`)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class ErrorType(StrEnum):
    """The ``type`` of an error observation. Nothing a model writes raises; it gets one of these."""

    MALFORMED_CALL = "malformed_call"
    """The call could not be read: broken JSON, no name, arguments that are not an object."""
    UNKNOWN_TOOL = "unknown_tool"
    """No tool of that name is offered in this task."""
    INVALID_ARGUMENTS = "invalid_arguments"
    """The arguments break the tool's JSON Schema: missing, unknown or of a wrong type."""
    NOT_RECORDED = "not_recorded"
    """A valid call whose response was never recorded; says nothing about the real service."""
    NOT_FOUND = "not_found"
    """The named thing (an id, a slug) does not exist in the tool's world."""
    TOOL_ERROR = "tool_error"
    """The tool ran and refused, as the real one would."""
    LIMIT = "limit"
    """The call was not run because a limit of the episode was reached."""

    @property
    def echoes(self) -> bool:
        """Whether it is the environment's own: its text only repeats what the model wrote."""
        return self not in (ErrorType.NOT_FOUND, ErrorType.TOOL_ERROR)


class InfrastructureError(Exception):
    """What answers the tool calls was lost: a server died, hung or spoke nonsense.

    It says nothing about the model: the episode is discarded and may be played again.
    """


class OrchError(Exception):
    """Bad input or usage: one clear line for a person. The CLI prints it and exits with 2.

    Args:
        message: the line, complete in itself.
        items: further lines, one for each of several things that are wrong in the same way.
    """

    def __init__(self, message: object = "", items: Iterable[str] = ()) -> None:
        self.message, self.items = str(message), tuple(items)
        super().__init__("\n  ".join((self.message, *self.items)))
