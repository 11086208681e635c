"""An assistant message of OpenAI's chat API as JSON text, for logs and programs that play models.

No model family writes it; it is read as it is written: an object that begins the message or a line,
whose first key is ``"role"``, ``"content"`` or ``"tool_calls"``. Its ``content`` is text of the
message, each of its ``tool_calls`` a call, with what :mod:`orch_env.formats.calls` forgives; commas
right before a closing bracket are accepted. A broken object that has ``"tool_calls"``, and
``tool_calls`` that are no list, are a malformed call. Every other object is text. Thoughts and the
limit of 256 calls are those of :mod:`orch_env.formats.reader`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orch_env.formats.calls import read_call
from orch_env.formats.json_calls import LINE_START, JsonCallReader
from orch_env.formats.prompt import json_without
from orch_env.formats.protocol import ParsedMessage
from orch_env.formats.strict_json import decode, decode_at, without_trailing_commas
from orch_env.types import ToolCall, ToolSpec
from orch_env.types.json import Json
from orch_env.types.text import readable_json

_TAG = re.compile(rf'</?think>|{LINE_START}(?=\{{\s*+"(?:role|content|tool_calls)"\s*+:)')
_MARKUP = re.compile(r"<(?=/?think>)")


@dataclass(frozen=True, slots=True)
class OpenAIFormat:
    """Parse and render OpenAI messages as JSON text. Stateless.

    Example:
        >>> text = OpenAIFormat().render_calls([ToolCall("now", {})])
        >>> OpenAIFormat().parse(text).calls
        (ToolCall(name='now', arguments={}, error=None),)
    """

    name: str = "openai"
    call_form: str = '{"role": "assistant", "tool_calls": [{"function": {"name": TOOL, ...}}]}'

    def parse(self, text: str, tools: Sequence[ToolSpec] = ()) -> ParsedMessage:
        """Read the calls of an assistant message; never raises, linear in the text."""
        return _Reader(text).read()

    def is_plain(self, text: str) -> bool:
        """Whether a text holds no tag and no line that begins as a message does."""
        return _TAG.search(text) is None

    def render_calls(self, calls: Sequence[ToolCall], tools: Sequence[ToolSpec] = ()) -> str:
        """Write one message with these calls, arguments as JSON strings as the API has them."""
        return self.render_unread(
            [{"name": call.name, "arguments": readable_json(call.arguments)} for call in calls]
        )

    def render_unread(self, calls: Sequence[Json]) -> str:
        """Write one message with these JSON values as the functions of its calls."""
        items = [
            {"id": f"call_{number}", "type": "function", "function": call}
            if isinstance(call, dict)
            else call
            for number, call in enumerate(calls)
        ]
        message: Json = {"role": "assistant", "content": None, "tool_calls": list(items)}
        return json_without(_MARKUP, message)

    def render_results(self, results: Sequence[str], names: Sequence[str] = ()) -> str:
        """One ``tool`` message a line, in call order."""
        return "\n".join(
            readable_json({"role": "tool", "tool_call_id": f"call_{number}", "content": text})
            for number, text in enumerate(results)
        )

    def render_tools(self, tools: Sequence[ToolSpec]) -> str:
        """A system prompt that offers the tools, as the list that the API takes."""
        return (
            "You can use these tools to help the user:\n"
            f"{json_without(_MARKUP, [tool.to_openai() for tool in tools])}\n"
            "To use tools, answer only with a JSON object:\n"
            '{"role": "assistant", "content": null, "tool_calls": [{"id": "call_0", "type": '
            '"function", "function": {"name": TOOL_NAME, "arguments": ARGUMENTS_AS_JSON_STRING}}, '
            "...]}\nYou then read every result, in the order of the calls. When you have what you "
            "need, answer the user in a message without a call."
        )


class _Reader(JsonCallReader):
    tags = _TAG

    def read_tag(self, tag: str) -> None:
        text, start = self.text, self.at
        problem = ""
        try:
            value, self.at = decode_at(text, start)
        except ValueError as broken:
            problem, self.at = str(broken), self.next_tag(start + 1)
            try:
                value = decode(without_trailing_commas(text[start : self.at]))
            except ValueError:
                value = None
        calls = value.get("tool_calls") if isinstance(value, dict) else None
        content = value.get("content") if isinstance(value, dict) else None
        if value is None and '"tool_calls"' in text[start : self.at]:
            self.add_malformed(f"not valid JSON: {problem}")
        elif not isinstance(value, dict) or not isinstance(content, str | None):
            self.add_text(text[start : self.at])
        elif not isinstance(calls, list | None):
            self.add_malformed('"tool_calls" must be a list')
        else:
            self.content.append(content or "")
            for call in calls or ():
                self.add(*read_call(call))
