"""How a model family writes tool calls: parse its messages, render what it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orch_env.types import ToolCall, ToolSpec


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """An assistant message as text and calls.

    Attributes:
        content: the text outside the calls, stripped.
        calls: the calls in order; an unreadable one has ``error=ErrorType.MALFORMED_CALL``.
        problems: for each call, what was wrong with it in one sentence, ``None`` if nothing.
    """

    content: str
    calls: tuple[ToolCall, ...] = ()
    problems: tuple[str | None, ...] = ()


class CallFormat(Protocol):
    """One way to write calls and results. Parsing never raises."""

    @property
    def name(self) -> str:
        """The registry name, such as ``hermes``."""
        ...

    def parse(self, text: str) -> ParsedMessage:
        """Read the calls of an assistant message."""
        ...

    def render_calls(self, calls: Sequence[ToolCall]) -> str:
        """The text a model writes to make these calls in one message; inverse of ``parse``."""
        ...

    def render_results(self, results: Sequence[str]) -> str:
        """The observation text for the results of one message, in call order."""
        ...

    def render_tools(self, tools: Sequence[ToolSpec]) -> str:
        """A system prompt that offers the tools, for chat templates that ignore ``tools=``."""
        ...
