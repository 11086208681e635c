"""How a model family writes tool calls: parse its messages, render what it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from orch_env.types import ToolCall, ToolSpec
from orch_env.types.json import Json


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """An assistant message as text and calls.

    Attributes:
        text: the whole message as text, markup included.
        content: the text outside the calls, stripped.
        calls: the calls in order; an unreadable one has ``error=ErrorType.MALFORMED_CALL``.
        problems: position of an unreadable call -> what is wrong with it, in one sentence.
        ids: position of a call -> the id that its writer gave it.
    """

    text: str
    content: str
    calls: tuple[ToolCall, ...] = ()
    problems: Mapping[int, str] = field(default_factory=dict)
    ids: Mapping[int, str] = field(default_factory=dict)


class CallFormat(Protocol):
    """One way to write calls and results. Parsing never raises.

    Some families write arguments without JSON's marks between strings and other values. What such
    a text means depends on the schemas of the ``tools`` that are offered; other formats pay no
    heed to them.
    """

    @property
    def name(self) -> str:
        """The registry name, such as ``hermes``."""
        ...

    @property
    def call_form(self) -> str:
        """How one call is written, in a few words for a model that wrote it otherwise."""
        ...

    def parse(self, text: str, tools: Sequence[ToolSpec] = ()) -> ParsedMessage:
        """Read the calls of an assistant message."""
        ...

    def is_plain(self, text: str) -> bool:
        """Whether a text holds no markup of this format."""
        ...

    def render_calls(self, calls: Sequence[ToolCall], tools: Sequence[ToolSpec] = ()) -> str:
        """The text a model writes to make these calls in one message.

        ``parse`` with the same tools reads the same calls.

        Raises:
            OrchError: this format cannot write one of them.
        """
        ...

    def render_unread(self, calls: Sequence[Json]) -> str:
        """Write calls as they were received: ``{"name", "arguments"}``, or another JSON value.

        ``parse`` finds the same problem in a call that cannot be read.

        Raises:
            ValueError: one of them is no JSON value, or this format cannot write it.
        """
        ...

    def render_results(self, results: Sequence[str], names: Sequence[str] = ()) -> str:
        """The observation text for the results of one message, in call order.

        Args:
            results: what the tools answered.
            names: the tools' names, for formats that write them.
        """
        ...

    def render_tools(self, tools: Sequence[ToolSpec]) -> str:
        """A system prompt that offers the tools, for chat templates that ignore ``tools=``."""
        ...
