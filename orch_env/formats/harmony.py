r"""How gpt-oss calls tools: messages of one turn, each with a channel and perhaps a recipient.

::

     to=functions.get<|channel|>commentary json<|message|>{"city": "Oslo"}<|call|>

This is how the chat template writes a call behind its ``<|start|>assistant``; the models write
``<|channel|>commentary to=functions.get <|constrain|>json<|message|>...`` as well. The channel
``analysis`` holds thoughts, which are no content; ``final`` and ``commentary`` hold the answer.
A message is repaired only where it can be read in one way. Repaired or accepted are:

* the recipient on either side of ``<|channel|>``, any channel of a call, a missing channel or
  content type;
* a recipient outside ``functions``, whose call has the whole recipient as its name;
* a missing ``<|call|>``, at the end of the message or before the next token; further calls behind
  ``<|start|>assistant``;
* a code fence around the arguments, and commas right before a closing bracket;
* arguments as a JSON string that holds an object; null (``{}``); of repeated keys the last counts.

Anything else with a recipient is a malformed call with a sentence that says what is wrong: no
``<|message|>``, no name, broken JSON, arguments that are no object. A ``<|call|>`` in a message
without any recipient is a malformed call too.

A message may hold 256 calls; the rest of it is one more call, malformed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from orch_env.formats.calls import check_rendered, check_unread, name_and_arguments, read_call
from orch_env.formats.prompt import json_without, offer
from orch_env.formats.protocol import ParsedMessage
from orch_env.formats.reader import MessageReader
from orch_env.types import ToolCall, ToolSpec
from orch_env.types.json import Json
from orch_env.types.text import readable_json

_TAG = re.compile(r"<\|(?:start|end|message|channel|constrain|return|call)\|>")
_START, _CHANNEL, _MESSAGE, _CALL = "<|start|>", "<|channel|>", "<|message|>", "<|call|>"
_CONSTRAIN, _THOUGHTS, _NAMESPACE = "<|constrain|>", "analysis", "functions."
_MARKUP = re.compile(r"<(?=\||/?tools>)")


@dataclass(frozen=True, slots=True)
class HarmonyFormat:
    """Parse and render the messages of gpt-oss. Stateless; one instance serves every thread.

    Example:
        >>> HarmonyFormat().parse(" to=functions.now<|channel|>commentary<|message|>{}").calls
        (ToolCall(name='now', arguments={}, error=None),)
    """

    name: str = "harmony"
    call_form: str = " to=functions.TOOL<|channel|>commentary json<|message|>{...}<|call|>"

    def parse(self, text: str, tools: Sequence[ToolSpec] = ()) -> ParsedMessage:
        """Read the calls of an assistant message; never raises, linear in the text."""
        return ParsedMessage(text, text.strip()) if self.is_plain(text) else _Reader(text).read()

    def is_plain(self, text: str) -> bool:
        """Whether a text holds none of the tokens."""
        return _TAG.search(text) is None

    def render_calls(self, calls: Sequence[ToolCall], tools: Sequence[ToolSpec] = ()) -> str:
        r"""Write calls as the chat template does; in strings, ``<`` of tokens is ``\u003c``.

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
        """Each result as a JSON string in a message of its tool, in call order."""
        return "".join(
            f"{_START}{_NAMESPACE}{name} to=assistant{_CHANNEL}commentary{_MESSAGE}"
            f"{readable_json(text)}<|end|>"
            for text, name in zip_longest(results, names[: len(results)], fillvalue="")
        )

    def render_tools(self, tools: Sequence[ToolSpec]) -> str:
        """A system prompt that offers the tools, one JSON object a line within ``<tools>``."""
        return offer(
            [json_without(_MARKUP, tool.to_openai()) for tool in tools],
            "To use a tool, write a message to it in the commentary channel, with its arguments as "
            f"a JSON object:\n{_START}assistant{self.call_form}\n"
            "You then read its result.",
        )


def _written(calls: Sequence[tuple[str, Json]]) -> str:
    return f"{_START}assistant".join(
        f" to={_NAMESPACE}{name}{_CHANNEL}commentary json{_MESSAGE}"
        f"{json_without(_MARKUP, arguments)}{_CALL}"
        for name, arguments in calls
    )


class _Reader(MessageReader):
    tags = _TAG

    def read_tag(self, tag: str) -> None:
        if tag in (_CHANNEL, _MESSAGE):
            # The prompt began this message: its role stands before the text.
            before, recipient = _recipient(self.content.pop())
            self.content.append(before)
            self._read_message(tag, recipient)
        elif tag == _START:
            _, recipient = _recipient(self.skip_to(""))
            following = self.tags.match(self.text, self.at)
            if following is not None and following.group() in (_CHANNEL, _MESSAGE):
                self.at = following.end()
                self._read_message(following.group(), recipient)
            else:
                self._add_without_message(recipient)
        elif tag == _CALL:
            self.stray = f"a {_CALL} stands without a recipient (to={_NAMESPACE}TOOL) before it"

    def _read_message(self, tag: str, recipient: str) -> None:
        """Read a message whose header goes on behind ``tag``."""
        channel = ""
        if tag == _CHANNEL:
            words = self.skip_to(_CONSTRAIN).split()
            channel = words[0] if words else ""
            named = (word.removeprefix("to=") for word in words if word.startswith("to="))
            recipient = recipient or next(named, "")
            if self.text.startswith(_CONSTRAIN, self.at - len(_CONSTRAIN)):
                self.skip_to("")
            if not self.text.startswith(_MESSAGE, self.at):
                self._add_without_message(recipient)
                return
            self.at += len(_MESSAGE)
        if recipient in ("", "assistant"):
            text = self.skip_to("")
            if channel != _THOUGHTS:
                self.content.append(f"{text}\n")
            return
        name = recipient.removeprefix(_NAMESPACE)
        try:
            arguments = self.read_json(_CALL)
        except ValueError as problem:
            self.add_malformed(str(problem), name)
        else:
            self.add(*read_call({"name": name, "arguments": arguments}))

    def _add_without_message(self, recipient: str) -> None:
        if recipient:
            name = recipient.removeprefix(_NAMESPACE)
            self.add_malformed(f"no {_MESSAGE} stands before its arguments", name)


def _recipient(header: str) -> tuple[str, str]:
    """What stands before ``to=NAME`` at the end of a header, and that name; ``""`` without one."""
    header = header.rstrip()
    before, mark, name = header.rpartition("to=")
    alone = not before or before[-1].isspace()
    if mark and alone and len(name.split()) == 1:
        return before, name
    return header, ""
