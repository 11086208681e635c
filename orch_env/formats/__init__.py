"""The ways in which model families write tool calls, by name."""

from __future__ import annotations

from orch_env.formats.hermes import HermesFormat
from orch_env.formats.protocol import CallFormat, ParsedMessage
from orch_env.types import OrchError

_FORMATS: dict[str, CallFormat] = {"hermes": HermesFormat()}


def format_names() -> tuple[str, ...]:
    """Names that :func:`get_format` knows."""
    return tuple(sorted(_FORMATS))


def get_format(name: str) -> CallFormat:
    """Return a call format by name.

    Raises:
        OrchError: there is no format of that name; the message lists the known ones.
    """
    found = _FORMATS.get(name)
    if found is None:
        raise OrchError(f"unknown call format {name!r}; known formats: {', '.join(format_names())}")
    return found


__all__ = ["CallFormat", "HermesFormat", "ParsedMessage", "format_names", "get_format"]
