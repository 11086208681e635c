r"""The Hermes way to call tools: JSON inside ``<tool_call>`` tags, results in ``<tool_response>``.

A message is repaired only where it can be read in one way, because a wrong guess would teach the
model that sloppy calls work. Repaired or accepted are:

* a missing ``</tool_call>``, at the end of the message or before the next ``<tool_call>``;
* a code fence around the object, and commas right before a closing bracket;
* ``"parameters"`` for ``"arguments"``; the object wrapped as ``{"function": {...}}``;
* arguments as a JSON string that holds an object; null, empty or missing arguments (``{}``);
* other keys (an ``id``, say), which are ignored; of repeated keys the last counts;
* a closing tag inside a JSON string, and an extra closing tag.

Anything else inside the tags is a malformed call with a sentence that says what is wrong: broken
JSON, NaN or Infinity, numbers beyond a double, nesting deeper than 64, a list or a scalar instead
of an object, a name that is no string, text after the object. A closing tag in a message without
any opening one is a malformed call too.

Thoughts and the limit of 256 calls are those of :mod:`orch_env.formats.reader`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orch_env.formats.calls import read_call
from orch_env.formats.prompt import json_without, offer, responses
from orch_env.formats.protocol import ParsedMessage
from orch_env.formats.reader import THINK, THOUGHT, MessageReader
from orch_env.types import ToolCall, ToolSpec
from orch_env.types.json import Json

_TAG = re.compile(r"<tool_call>|</tool_call>|<think>|</think>")
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
# Inside a JSON string these would start or end markup for others that read the text.
_MARKUP = re.compile(r"<(?=/?(?:tool_call|tool_response|tools|think)>)")


@dataclass(frozen=True, slots=True)
class HermesFormat:
    """Parse and render Hermes markup. Stateless; one instance serves every thread.

    Example:
        >>> HermesFormat().parse('<tool_call>{"name": "now", "arguments": {}}</tool_call>').calls
        (ToolCall(name='now', arguments={}, error=None),)
    """

    name: str = "hermes"
    call_form: str = '{"name": TOOL, "arguments": {...}}'

    def parse(self, text: str, tools: Sequence[ToolSpec] = ()) -> ParsedMessage:
        """Read the calls of an assistant message; never raises, linear in the text."""
        return ParsedMessage(text, text.strip()) if self.is_plain(text) else _Reader(text).read()

    def is_plain(self, text: str) -> bool:
        """Whether a text holds none of the tags."""
        return not any(tag in text for tag in (_OPEN, _CLOSE, THINK, THOUGHT))

    def render_calls(self, calls: Sequence[ToolCall], tools: Sequence[ToolSpec] = ()) -> str:
        r"""Write calls as a model would; in strings, the ``<`` of markup becomes ``\u003c``."""
        return self.render_unread([{"name": c.name, "arguments": c.arguments} for c in calls])

    def render_unread(self, calls: Sequence[Json]) -> str:
        """Write JSON values, each between the tags of a call."""
        return "\n".join(f"{_OPEN}\n{json_without(_MARKUP, call)}\n{_CLOSE}" for call in calls)

    def render_results(self, results: Sequence[str], names: Sequence[str] = ()) -> str:
        """One ``<tool_response>`` per result, in call order, joined by newlines."""
        return responses(results)

    def render_tools(self, tools: Sequence[ToolSpec]) -> str:
        """A system prompt that offers the tools, one JSON object a line within ``<tools>``."""
        return offer(
            [json_without(_MARKUP, tool.to_openai()) for tool in tools],
            "To use a tool, write its name and arguments as a JSON object between tool_call tags:\n"
            '<tool_call>\n{"name": TOOL_NAME, "arguments": {ARGUMENT: VALUE, ...}}\n</tool_call>\n'
            "Calls that do not need each other's results may stand in one message, each in its "
            "own tags. You then read every result in the same order between tool_response tags.",
        )


class _Reader(MessageReader):
    tags = _TAG

    def read_tag(self, tag: str) -> None:
        if tag != _OPEN:
            self.stray = f"a {_CLOSE} stands without a {_OPEN} before it"
            return
        try:
            value = self.read_json(_CLOSE)
        except ValueError as problem:
            self.add_malformed(str(problem))
        else:
            self.add(*read_call(value))
