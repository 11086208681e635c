r"""How DeepSeek-V3 and R1 call tools: JSON in a code fence between special tokens.

::

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get
    ```json
    {"city": "Oslo"}
    ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>

A message is repaired only where it can be read in one way. Repaired or accepted are:

* the form of V3.1, ``<｜tool▁call▁begin｜>get<｜tool▁sep｜>{"city": "Oslo"}<｜tool▁call▁end｜>``;
* missing ``calls`` tokens around the calls, and a missing ``<｜tool▁call▁end｜>`` at the end of
  the message or before the next token;
* a missing code fence, and commas right before a closing bracket;
* arguments as a JSON string that holds an object; null (``{}``); of repeated keys the last counts.

Anything else behind ``<｜tool▁call▁begin｜>`` is a malformed call with a sentence that says what
is wrong: no separator, no name, broken JSON, arguments that are no object. One of the other tokens
in a message without any call is a malformed call too.

Thoughts and the limit of 256 calls are those of :mod:`orch_env.formats.reader`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orch_env.formats.calls import check_rendered, check_unread, name_and_arguments, read_call
from orch_env.formats.prompt import json_without, offer
from orch_env.formats.protocol import ParsedMessage
from orch_env.formats.reader import MessageReader
from orch_env.types import ToolCall, ToolSpec
from orch_env.types.json import Json

_CALLS, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _SEPARATOR, _END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
_TAG = re.compile("|".join((_CALLS, _CALLS_END, _CALL, _SEPARATOR, _END, "</?think>")))
# V3 names the tool on a line of its own, before the fence.
_LINE = re.compile(r"[ \t\r\n]*(?P<name>[^\s{`<][^\n{`<]*)")
_KIND = "function"
_MARKUP = re.compile(r"<(?=｜|/?think>|/?tools>)")


@dataclass(frozen=True, slots=True)
class DeepSeekFormat:
    """Parse and render the calls of DeepSeek-V3. Stateless; one instance serves every thread.

    Example:
        >>> calls = [ToolCall("now", {})]
        >>> DeepSeekFormat().parse(DeepSeekFormat().render_calls(calls)).calls
        (ToolCall(name='now', arguments={}, error=None),)
    """

    name: str = "deepseek"
    call_form: str = (
        f"{_CALLS}{_CALL}{_KIND}{_SEPARATOR}TOOL\n```json\n{{...}}\n```{_END}{_CALLS_END}"
    )

    def parse(self, text: str, tools: Sequence[ToolSpec] = ()) -> ParsedMessage:
        """Read the calls of an assistant message; never raises, linear in the text."""
        return ParsedMessage(text, text.strip()) if self.is_plain(text) else _Reader(text).read()

    def is_plain(self, text: str) -> bool:
        """Whether a text holds none of the tokens."""
        return _TAG.search(text) is None

    def render_calls(self, calls: Sequence[ToolCall], tools: Sequence[ToolSpec] = ()) -> str:
        r"""Write calls as V3's chat template does; in strings, ``<`` of tokens is ``\u003c``.

        Raises:
            OrchError: a name cannot be written.
            ValueError: an argument is no JSON value.
        """
        text = _written([(call.name, call.arguments) for call in calls])
        return check_rendered(self.parse(text), calls)

    def render_unread(self, calls: Sequence[Json]) -> str:
        """Write calls that have a name, whatever their arguments are.

        Raises:
            ValueError: one of them has no name, or is no JSON value.
        """
        return check_unread(self.parse(_written(list(map(name_and_arguments, calls)))), calls)

    def render_results(self, results: Sequence[str], names: Sequence[str] = ()) -> str:
        """The results between tokens, in call order."""
        each = "".join(f"<｜tool▁output▁begin｜>{text}<｜tool▁output▁end｜>" for text in results)
        return f"<｜tool▁outputs▁begin｜>{each}<｜tool▁outputs▁end｜>"

    def render_tools(self, tools: Sequence[ToolSpec]) -> str:
        """A system prompt that offers the tools, one JSON object a line within ``<tools>``."""
        return offer(
            [json_without(_MARKUP, tool.to_openai()) for tool in tools],
            "To use a tool, write its name and, as a JSON object, its arguments:\n"
            f"{self.call_form}\n"
            "Calls that do not need each other's results may stand in one message, each between "
            f"{_CALL} and {_END}. You then read every result in the same order.",
        )


def _written(calls: Sequence[tuple[str, Json]]) -> str:
    each = "\n".join(
        f"{_CALL}{_KIND}{_SEPARATOR}{name}\n```json\n{json_without(_MARKUP, arguments)}\n```{_END}"
        for name, arguments in calls
    )
    return f"{_CALLS}{each}{_CALLS_END}"


class _Reader(MessageReader):
    tags = _TAG

    def read_tag(self, tag: str) -> None:
        if tag == _CALL:
            self._read_call()
        else:
            self.stray = self.stray or f"a {tag} stands without a {_CALL}"

    def _read_call(self) -> None:
        head = self.skip_to(_SEPARATOR).strip()
        if not self.text.startswith(_SEPARATOR, self.at - len(_SEPARATOR)):
            self.skip_to(_END)
            self.add_malformed(f"no {_SEPARATOR} stands behind {head!r:.80}")
            return
        name = head
        if head == _KIND and (line := _LINE.match(self.text, self.at)):
            name, self.at = line["name"].rstrip(), line.end()
        try:
            value = self.read_json(_END)
        except ValueError as problem:
            self.add_malformed(str(problem), name)
        else:
            self.add(*read_call({"name": name, "arguments": value}))
