"""Pythonic calls: a list of Python calls with literal arguments, ``[get(city="Bonn"), now()]``.

The calls stand between ``<|tool_call_start|>`` and ``<|tool_call_end|>`` (LFM2); accepted are also
``<|python_start|>`` and ``<|python_end|>`` (Llama 4), ``<function_calls>`` and
``</function_calls>`` (OLMo 3), and no tags at all (Llama 3.2 and 4, models that are prompted so):
a list that begins the message or a line, whose first call has no argument or a named one. Nothing
is evaluated: values are literals, read by :mod:`orch_env.formats.literals`, which says what it
accepts. Accepted are also:

* between tags: no brackets around the calls, line breaks or ``;`` between them, and the calls as
  JSON (:mod:`orch_env.formats.json_calls`);
* a missing closing tag, an extra closing tag, and text before and after the list.

Anything else that begins so is a malformed call, which takes everything up to the next tag: broken
strings, positional arguments, variables, calls as arguments, text between the tags. Thoughts and
the limit of 256 calls are those of :mod:`orch_env.formats.reader`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orch_env.formats.calls import MAX_CALLS
from orch_env.formats.json_calls import LINE_START, JsonCallReader
from orch_env.formats.literals import read_call, write_call
from orch_env.formats.prompt import json_without
from orch_env.formats.protocol import ParsedMessage
from orch_env.types import ToolCall, ToolSpec
from orch_env.types.json import Json

_START, _END = "<|tool_call_start|>", "<|tool_call_end|>"
_TAGS = r"\|tool_call_(?:start|end)\|>|\|python_(?:start|end)\|>|/?function_calls>|/?think>"
_BARE = r"\[\s*+[^\W\d][\w.\-]*+\s*+\((?=\s*+(?:\)|[^\W\d]\w*+\s*+=))"
_TAG = re.compile(rf"<(?:{_TAGS})|{LINE_START}{_BARE}")
_MARKUP = re.compile(rf"<(?={_TAGS}|\|tool_(?:list|response)_(?:start|end)\|>)")
_CALL = re.compile(r'\s*+\[?\s*+(?:[^\W\d][\w.\-]*+|"(?:[^"\\]|\\.)*+")\s*+\(')
_BETWEEN = re.compile(r"[\s,;]*+")
_CLOSING = {_END, "<|python_end|>", "</function_calls>"}


@dataclass(frozen=True, slots=True)
class PythonicFormat:
    """Parse and render pythonic calls. Stateless.

    Example:
        >>> PythonicFormat().parse('[now(zone="UTC")]').calls
        (ToolCall(name='now', arguments={'zone': 'UTC'}, error=None),)
    """

    name: str = "pythonic"
    call_form: str = "<|tool_call_start|>[TOOL(argument=VALUE)]<|tool_call_end|>"

    def parse(self, text: str, tools: Sequence[ToolSpec] = ()) -> ParsedMessage:
        """Read the calls of an assistant message; never raises, linear in the text."""
        return _Reader(text).read()

    def is_plain(self, text: str) -> bool:
        """Whether a text holds no tag and no line that begins as a list of calls does."""
        return _TAG.search(text) is None

    def render_calls(self, calls: Sequence[ToolCall], tools: Sequence[ToolSpec] = ()) -> str:
        r"""Write calls as one list; in strings, the ``<`` of markup becomes ``\u003c``."""
        written = _MARKUP.sub(r"\\u003c", ", ".join(map(write_call, calls)))
        return f"{_START}[{written}]{_END}"

    def render_unread(self, calls: Sequence[Json]) -> str:
        """Write JSON values as a list between the tags."""
        return f"{_START}{json_without(_MARKUP, list(calls))}{_END}"

    def render_results(self, results: Sequence[str], names: Sequence[str] = ()) -> str:
        """One ``<|tool_response_start|>`` per result, in call order, joined by newlines."""
        return "\n".join(f"<|tool_response_start|>{text}<|tool_response_end|>" for text in results)

    def render_tools(self, tools: Sequence[ToolSpec]) -> str:
        """A system prompt that offers the tools, as one JSON list."""
        offered = json_without(_MARKUP, [tool.to_openai() for tool in tools])
        return (
            "You can use tools to help the user. Their parameters are JSON Schemas.\n"
            f"List of tools: <|tool_list_start|>{offered}<|tool_list_end|>\n"
            "To use tools, write a list of Python calls with named arguments and literal values:\n"
            f"{_START}[TOOL_NAME(ARGUMENT=VALUE, ...), ...]{_END}\n"
            "You then read every result, in the order of the calls. When you have what you need, "
            "answer the user in a message without a call."
        )


class _Reader(JsonCallReader):
    tags = _TAG

    def read_tag(self, tag: str) -> None:
        if tag in _CLOSING:
            self.stray = f"a {tag} stands without a tag that opens calls before it"
        elif not tag.startswith("<"):
            bracket = self.at - len(tag) + tag.index("[")
            self._read_python(bracket, bare=True)
        elif _CALL.match(self.text, self.at):
            self._read_python(self.at, bare=False)
        else:
            self.read_values(self.at)

    def _read_python(self, start: int, *, bare: bool) -> None:
        try:
            calls, end = self._list(start)
        except ValueError as problem:
            self.at = self.next_tag(self.at)
            self.add_malformed(f"not a list of calls with literals: {problem}")
            return
        self.at = end
        if bare and self.text.startswith("(", end):
            # A link, [name()](address), is text.
            self.add_text(self.text[start:end])
            return
        for call in calls:
            self.add(call)

    def _list(self, start: int) -> tuple[list[ToolCall], int]:
        """The calls that begin at ``start``, and the index behind them and their bracket."""
        text = self.text
        at = _behind(_BETWEEN, text, start)
        bracketed = text.startswith("[", at)
        at += bracketed
        calls: list[ToolCall] = []
        while True:
            at = _behind(_BETWEEN, text, at)
            if bracketed and text.startswith("]", at):
                return calls, at + 1
            if not bracketed and (at == len(text) or _TAG.match(text, at)):
                return calls, at
            if len(calls) > MAX_CALLS:
                return calls, at
            call, at = read_call(text, at)
            calls.append(call)


def _behind(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()
