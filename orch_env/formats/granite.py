"""Granite 3: a JSON list of calls behind ``<|tool_call|>``.

Accepted is also ``<tool_call>`` as the tag, with or without a ``</tool_call>`` that closes it, and
what :mod:`orch_env.formats.json_calls` forgives. Thoughts and the limit of 256 calls are those of
:mod:`orch_env.formats.reader`. Granite 4 writes calls as `hermes`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orch_env.formats.json_calls import JsonCallReader, bodies
from orch_env.formats.prompt import json_without, offer, responses
from orch_env.formats.protocol import ParsedMessage
from orch_env.types import ToolCall, ToolSpec
from orch_env.types.json import Json

_OPEN = "<|tool_call|>"
_TAG = re.compile(r"<\|tool_call\|>|</?tool_call>|</?think>")
_MARKUP = re.compile(r"<(?=\|tool_call\|>|/?(?:tool_call|tool_response|tools|think)>)")


@dataclass(frozen=True, slots=True)
class GraniteFormat:
    """Parse and render Granite's markup. Stateless.

    Example:
        >>> GraniteFormat().parse('<|tool_call|>[{"name": "now", "arguments": {}}]').calls
        (ToolCall(name='now', arguments={}, error=None),)
    """

    name: str = "granite"
    call_form: str = '<|tool_call|>[{"name": TOOL, "arguments": {...}}]'

    def parse(self, text: str, tools: Sequence[ToolSpec] = ()) -> ParsedMessage:
        """Read the calls of an assistant message; never raises, linear in the text."""
        return _Reader(text).read()

    def is_plain(self, text: str) -> bool:
        """Whether a text holds none of the tags."""
        return _TAG.search(text) is None

    def render_calls(self, calls: Sequence[ToolCall], tools: Sequence[ToolSpec] = ()) -> str:
        r"""Write calls as one list; in strings, the ``<`` of markup becomes ``\u003c``."""
        return self.render_unread(bodies(calls))

    def render_unread(self, calls: Sequence[Json]) -> str:
        """Write JSON values as one list behind the tag."""
        return _OPEN + json_without(_MARKUP, list(calls))

    def render_results(self, results: Sequence[str], names: Sequence[str] = ()) -> str:
        """One ``<tool_response>`` per result, in call order, joined by newlines."""
        return responses(results)

    def render_tools(self, tools: Sequence[ToolSpec]) -> str:
        """A system prompt that offers the tools, one JSON object a line within ``<tools>``."""
        return offer(
            [json_without(_MARKUP, tool.to_openai()) for tool in tools],
            f"To use tools, answer only with {_OPEN} and a JSON list of calls behind it:\n"
            f'{_OPEN}[{{"name": TOOL_NAME, "arguments": {{ARGUMENT: VALUE, ...}}}}, ...]\n'
            "You then read every result in the same order between tool_response tags.",
        )


class _Reader(JsonCallReader):
    tags = _TAG

    def read_tag(self, tag: str) -> None:
        if tag == "</tool_call>":
            self.stray = f"a {tag} stands without a {_OPEN} before it"
        else:
            self.read_values(self.at)
