r"""Mistral: a JSON list of calls behind ``[TOOL_CALLS]``, each with an id of nine characters.

Newer models write ``[TOOL_CALLS]name[ARGS]{...}`` for each call. Both are read, by the same rules:

* ``[CALL_ID]...`` between the name and ``[ARGS]``, and a missing ``[ARGS]`` before the object;
* ids, which are ignored: results are told by their order;
* what :mod:`orch_env.formats.json_calls` forgives.

Calls are written as the list, which every generation reads in its history; the id is the position
of the call. Thoughts in ``<think>`` and the limit of 256 calls are those of
:mod:`orch_env.formats.reader`; ``[THINK]`` is text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orch_env.formats.calls import read_call
from orch_env.formats.json_calls import JsonCallReader, bodies
from orch_env.formats.prompt import json_without
from orch_env.formats.protocol import ParsedMessage
from orch_env.formats.strict_json import decode_at
from orch_env.types import ToolCall, ToolSpec
from orch_env.types.json import Json

_OPEN = "[TOOL_CALLS]"
_TAG = re.compile(r"\[TOOL_CALLS\]|</?think>")
_NAMED = re.compile(
    r"\s*([^\s\[\]{}\"`]{1,256})(?:\[CALL_ID\][^\[\]{}]{0,256})?(?:\[ARGS\]\s*|(?=\{))"
)
_MARKUP = re.compile(
    r"\[(?=(?:TOOL_CALLS|ARGS|CALL_ID|/?TOOL_RESULTS|/?AVAILABLE_TOOLS|/?INST)\])|<(?=/?think>)"
)


@dataclass(frozen=True, slots=True)
class MistralFormat:
    """Parse and render Mistral's markup. Stateless.

    Example:
        >>> MistralFormat().parse('[TOOL_CALLS] [{"name": "now", "arguments": {}}]').calls
        (ToolCall(name='now', arguments={}, error=None),)
    """

    name: str = "mistral"
    call_form: str = '[TOOL_CALLS] [{"name": TOOL, "arguments": {...}}]'

    def parse(self, text: str, tools: Sequence[ToolSpec] = ()) -> ParsedMessage:
        """Read the calls of an assistant message; never raises, linear in the text."""
        return _Reader(text).read()

    def is_plain(self, text: str) -> bool:
        """Whether a text holds none of the tags."""
        return _TAG.search(text) is None

    def render_calls(self, calls: Sequence[ToolCall], tools: Sequence[ToolSpec] = ()) -> str:
        r"""Write calls as one list; in strings, the ``[`` of markup becomes ``\u005b``."""
        return self.render_unread(bodies(calls))

    def render_unread(self, calls: Sequence[Json]) -> str:
        """Write JSON values as one list behind the tag; objects without an id get one."""
        given = [
            {**call, "id": _id(number)} if isinstance(call, dict) and "id" not in call else call
            for number, call in enumerate(calls)
        ]
        return f"{_OPEN} {json_without(_MARKUP, given)}"

    def render_results(self, results: Sequence[str], names: Sequence[str] = ()) -> str:
        """One ``[TOOL_RESULTS]`` per result, in call order, with the id of its call."""
        return "".join(
            f'[TOOL_RESULTS] {{"content": {text}, "call_id": "{_id(number)}"}}[/TOOL_RESULTS]'
            for number, text in enumerate(results)
        )

    def render_tools(self, tools: Sequence[ToolSpec]) -> str:
        """A system prompt that offers the tools, as one JSON list in ``[AVAILABLE_TOOLS]``."""
        offered = json_without(_MARKUP, [tool.to_openai() for tool in tools])
        return (
            "You can use tools to help the user. Their parameters are JSON Schemas.\n"
            f"[AVAILABLE_TOOLS] {offered}[/AVAILABLE_TOOLS]\n"
            f"When you need tools, write {_OPEN} and a JSON list of calls behind it:\n"
            f'{_OPEN} [{{"name": TOOL_NAME, "arguments": {{ARGUMENT: VALUE, ...}}, '
            f'"id": "{_id(0)}"}}, ...]\n'
            "You then read the result of each call, by its id. When you have what you need, "
            "answer the user in a message without a call."
        )


def _id(number: int) -> str:
    return f"{number:09d}"


class _Reader(JsonCallReader):
    tags = _TAG

    def read_tag(self, tag: str) -> None:
        named = _NAMED.match(self.text, self.at)
        if named is None:
            self.read_values(self.at)
            return
        try:
            arguments, self.at = decode_at(self.text, named.end())
        except ValueError as problem:
            self.at = self.next_tag(self.at)
            self.add_malformed(f"the arguments are not valid JSON: {problem}", named[1])
        else:
            self.add(*read_call({"name": named[1], "arguments": arguments}))
