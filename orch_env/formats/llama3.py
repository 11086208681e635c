r"""Llama 3: a call is a JSON object, ``{"name": ..., "parameters": {...}}``, in no tag.

An object is a call where it can be nothing else: it begins the message or a line, its first key is
``"name"`` (or ``"type": "function"`` before it), it has ``"parameters"`` or ``"arguments"``, and
no key that calls do not have (a tool's description, say). Every other object is text. Calls may
also stand behind ``<|python_tag|>``, where all is a call: JSON objects, or
``name.call(argument="value")`` with Python literals, which are read and never evaluated
(:mod:`orch_env.formats.literals`). Accepted are also:

* several calls in a row, with ``;``, ``,`` or blanks between them, or as a JSON list;
* text before and after the calls, a code fence around them;
* what :mod:`orch_env.formats.calls` forgives inside an object, and commas right before a closing
  bracket.

Python behind ``<|python_tag|>`` that is no such call is a malformed call, and so is a broken object
that names a function and its parameters. Thoughts and the limit of 256 calls are those of
:mod:`orch_env.formats.reader`. The templates allow one call a message; several are written with
``; `` between them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orch_env.formats.json_calls import LINE_START, NEXT, JsonCallReader, bodies
from orch_env.formats.literals import read_call as read_python_call
from orch_env.formats.prompt import json_without
from orch_env.formats.protocol import ParsedMessage
from orch_env.formats.strict_json import decode_at
from orch_env.types import ToolCall, ToolSpec
from orch_env.types.json import Json
from orch_env.types.text import readable_json

_PYTHON = "<|python_tag|>"
_OBJECT = (
    r"(?:```[A-Za-z_]*+\s*+)?(?=(?:\[\s*+)?\{\s*+"
    r'(?:"type"\s*+:\s*+"function"\s*+,\s*+)?"(?:name|function)"\s*+:)'
)
_TAG = re.compile(rf"<\|python_tag\|>|</?think>|{LINE_START}{_OBJECT}")
_ARGUMENTS = re.compile(r'"(?:parameters|arguments)"\s*+:')
_KEYS = {"type", "id", "name", "parameters", "arguments", "function"}
_BUILT_IN = re.compile(r"[\s;]*+(?=[A-Za-z_][\w.]*+\()")
_MARKUP = re.compile(r"<(?=\|python_tag\|>|/?think>)")


@dataclass(frozen=True, slots=True)
class Llama3Format:
    """Parse and render Llama's JSON calls. Stateless.

    Example:
        >>> Llama3Format().parse('{"name": "now", "parameters": {}}').calls
        (ToolCall(name='now', arguments={}, error=None),)
    """

    name: str = "llama3"
    call_form: str = '{"name": TOOL, "parameters": {...}}'

    def parse(self, text: str, tools: Sequence[ToolSpec] = ()) -> ParsedMessage:
        """Read the calls of an assistant message; never raises, linear in the text."""
        return _Reader(text).read()

    def is_plain(self, text: str) -> bool:
        """Whether a text holds no tag and no line that begins as a call does."""
        return _TAG.search(text) is None

    def render_calls(self, calls: Sequence[ToolCall], tools: Sequence[ToolSpec] = ()) -> str:
        r"""Write calls as objects; in strings, the ``<`` of markup becomes ``\u003c``."""
        return "; ".join(json_without(_MARKUP, body) for body in bodies(calls, "parameters"))

    def render_unread(self, calls: Sequence[Json]) -> str:
        """Write JSON values behind the tag that makes a call of anything."""
        return _PYTHON + json_without(_MARKUP, list(calls))

    def render_results(self, results: Sequence[str], names: Sequence[str] = ()) -> str:
        """One JSON string per result, as the templates write it, in call order."""
        return "\n".join(readable_json(text) for text in results)

    def render_tools(self, tools: Sequence[ToolSpec]) -> str:
        """A system prompt that offers the tools, one JSON object a line."""
        lines = "\n".join(json_without(_MARKUP, tool.to_openai()) for tool in tools)
        return (
            "You can use these functions to help the user. Each line describes one; its parameters "
            f"are a JSON Schema.\n{lines}\n"
            "To call a function, answer only with a JSON object in the format "
            '{"name": function name, "parameters": dictionary of argument name and its value}. '
            "Do not use variables. You then read its result. When you have what you need, answer "
            "the user in a message without a call."
        )


class _Reader(JsonCallReader):
    tags = _TAG

    def read_tag(self, tag: str) -> None:
        if tag != _PYTHON:
            self._read_objects(tag.strip())
        elif _BUILT_IN.match(self.text, self.at):
            self._read_python()
        else:
            self.read_values(self.at)

    def _read_python(self) -> None:
        """Read calls of built-in tools."""
        while (built_in := _BUILT_IN.match(self.text, self.at)) is not None:
            try:
                call, self.at = read_python_call(self.text, built_in.end())
            except ValueError as problem:
                self.at = self.next_tag(self.at)
                self.add_malformed(f"not a call with literals: {problem}")
                return
            self.add(ToolCall(call.name.removesuffix(".call"), call.arguments))

    def _read_objects(self, fence: str) -> None:
        """A line begins as a call does: read it and those behind it, or keep it as text."""
        text = self.text
        while True:
            start = self.at
            try:
                value, end = decode_at(text, start)
            except ValueError:
                end = self.next_tag(start + 1)
                if _ARGUMENTS.search(text, start, end):
                    self.at = end
                    self.add_broken(fence + text[start:end])
                    return
                value = None
            self.at = end
            if not _is_call(value):
                self.add_text(fence + text[start:end])
                return
            self.add_value(value)
            if (following := NEXT.match(text, end)) is None or self.at != end:
                break
            self.at = following.end()
        if fence:
            self.skip_fence_end()


def _is_call(value: Json) -> bool:
    """Whether an object, or each of a list, can be nothing but a call."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(v, dict) and _is_call(v) for v in value)
    if not isinstance(value, dict) or not value.keys() <= _KEYS:
        return False
    body = value if "name" in value else value["function"]
    if not isinstance(body, dict) or not body.keys() <= _KEYS:
        return False
    return "parameters" in body or "arguments" in body
