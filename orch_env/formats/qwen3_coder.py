r"""How Qwen3-Coder and Qwen3.5 and later call tools: XML, one element for each argument.

::

    <tool_call>
    <function=get>
    <parameter=city>
    Oslo
    </parameter>
    </function>
    </tool_call>

One newline at either end of a value belongs to the tags. Values carry no type: what ``5`` means is
up to the tool's schema, see :mod:`orch_env.formats.typed_text`. A message is repaired only where it
can be read in one way. Repaired or accepted are:

* a missing ``<tool_call>``, as the models like to leave it out;
* a missing ``</function>`` or ``</tool_call>``, at the end of the message or before the next call;
* several functions within one ``<tool_call>``, blanks between the tags, values on one line with
  their tags, an extra closing tag;
* ``True``, ``False`` and ``None`` for JSON's words, commas right before a closing bracket;
* of repeated parameters the last counts.

Anything else is a malformed call with a sentence that says what is wrong: no function, JSON between
the tags, a value that is not closed or holds one of the tags, text between two parameters, a
parameter without a name. A closing tag in a message without any opening one is a malformed call
too.

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

_MARKUP = re.compile(r"<(?=/?(?:tool_call|tool_response|tools|think|function|parameter)[>=])")


class _Reader(TaggedReader):
    tags = re.compile(r"</?tool_call>|<function=|</function>|</?think>")
    own_tags = re.compile(r"</?tool_call>|<function=|</function>|<parameter=|</parameter>")
    head = re.compile(r"(?:<tool_call>[ \t\r\n]*)?<function=(?P<name>[^<>\n]+)>")
    head_form = "<function=NAME>"
    before_value = re.compile(r"<parameter=(?P<key>[^<>\n]+)>")
    after_value = "</parameter>"
    newlines = True
    inner_close = "</function>"


@dataclass(frozen=True)
class Qwen3CoderFormat(TaggedFormat):
    """Parse and render the XML of Qwen3-Coder.

    Example:
        >>> Qwen3CoderFormat().parse("<tool_call><function=now></function></tool_call>").calls
        (ToolCall(name='now', arguments={}, error=None),)
    """

    name: str = "qwen3_coder"
    call_form: str = (
        "<tool_call>\n<function=TOOL>\n<parameter=NAME>\nVALUE\n</parameter>\n</function>\n"
        "</tool_call>"
    )
    reader: ClassVar[type[TaggedReader]] = _Reader

    def write_call(self, name: str, arguments: Sequence[tuple[str, str]]) -> str:
        """One call as the chat template of Qwen3.6 writes it."""
        pairs = "".join(f"<parameter={key}>\n{text}\n</parameter>\n" for key, text in arguments)
        return f"<tool_call>\n<function={name}>\n{pairs}</function>\n</tool_call>"

    def render_tools(self, tools: Sequence[ToolSpec]) -> str:
        """A system prompt that offers the tools, one JSON object a line within ``<tools>``."""
        return offer(
            [json_without(_MARKUP, tool.to_openai()) for tool in tools],
            f"To use a tool, write:\n{self.call_form}\n"
            "Each argument is a parameter of its own. Texts stand there as they are, without "
            "quotation marks; all other values are JSON. Calls that do not need each other's "
            "results may stand in one message, each in its own tags. You then read every result "
            "in the same order between tool_response tags.",
        )
