r"""How GLM-4.5 and later call tools: a key and a value between tags for each argument.

::

    <tool_call>get
    <arg_key>city</arg_key>
    <arg_value>Oslo</arg_value>
    </tool_call>

Values carry no type: what ``5`` means is up to the tool's schema, see
:mod:`orch_env.formats.typed_text`. A message is repaired only where it can be read in one way.
Repaired or accepted are:

* a missing ``</tool_call>``, at the end of the message or before the next call;
* blanks between the tags, none at all (as GLM-4.7 writes it), an extra closing tag;
* ``True``, ``False`` and ``None`` for JSON's words, commas right before a closing bracket;
* of repeated keys the last counts.

Anything else is a malformed call with a sentence that says what is wrong: no name, JSON between the
tags, a key without a value, a value that is not closed or holds one of the tags, text between two
arguments. A closing tag in a message without any opening one is a malformed call too.

Thoughts and the limit of 256 calls are those of :mod:`orch_env.formats.reader`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from orch_env.formats.prompt import json_without, offer
from orch_env.formats.tagged import TaggedFormat, TaggedReader
from orch_env.types import ToolSpec

_MARKUP = re.compile(r"<(?=/?(?:tool_call|tool_response|tools|think|arg_key|arg_value)>)")


class _Reader(TaggedReader):
    tags = re.compile(r"</?tool_call>|</?think>")
    own_tags = re.compile(r"</?(?:tool_call|arg_key|arg_value)>")
    head = re.compile(r"<tool_call>[ \t\r\n]*(?P<name>[^\s<>{\[][^<>\n]*)")
    head_form = "the tool's name"
    before_value = re.compile(r"<arg_key>(?P<key>[^<>]+)</arg_key>[ \t\r\n]*<arg_value>")
    after_value = "</arg_value>"


@dataclass(frozen=True)
class GlmFormat(TaggedFormat):
    """Parse and render the calls of GLM.

    Example:
        >>> GlmFormat().parse("<tool_call>now</tool_call>").calls
        (ToolCall(name='now', arguments={}, error=None),)
    """

    name: str = "glm"
    call_form: str = (
        "<tool_call>TOOL\n<arg_key>NAME</arg_key>\n<arg_value>VALUE</arg_value>\n</tool_call>"
    )
    reader: ClassVar[type[TaggedReader]] = _Reader

    def write_call(self, name: str, arguments: Sequence[tuple[str, str]]) -> str:
        """One call as the chat template of GLM-4.5 writes it."""
        pairs = "".join(
            f"<arg_key>{key}</arg_key>\n<arg_value>{text}</arg_value>\n" for key, text in arguments
        )
        return f"<tool_call>{name}\n{pairs}</tool_call>"

    def render_tools(self, tools: Sequence[ToolSpec]) -> str:
        """A system prompt that offers the tools, one JSON object a line within ``<tools>``."""
        return offer(
            [json_without(_MARKUP, tool.to_openai()) for tool in tools],
            f"To use a tool, write:\n{self.call_form}\n"
            "Each argument has a key and a value of its own. Texts stand there as they are, "
            "without quotation marks; all other values are JSON. Calls that do not need each "
            "other's results may stand in one message, each in its own tags. You then read every "
            "result in the same order between tool_response tags.",
        )
