"""Calls whose arguments stand one by one between tags, as bare texts: what two families share.

The text of an argument ends at the first tag of the format. A text that holds such a tag cannot be
written, because it could be read in more than one way. What a text means is said in
:mod:`orch_env.formats.typed_text`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from orch_env.formats.calls import check_rendered, read_call
from orch_env.formats.prompt import responses
from orch_env.formats.protocol import ParsedMessage
from orch_env.formats.reader import MessageReader
from orch_env.formats.strict_json import skip_blanks
from orch_env.formats.typed_text import Arguments
from orch_env.types import ToolCall, ToolSpec
from orch_env.types.json import Json

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class TaggedReader(MessageReader):
    """Reads one message.

    Attributes:
        own_tags: (of the class) every tag that ends the text of an argument.
        head: (of the class) the beginning of a call, with the tool's ``name``; ``head_form`` is
            how it should have been.
        before_value: (of the class) what stands before a text, with the argument's name as
            ``key``.
        after_value: (of the class) the tag behind a text.
        newlines: (of the class) whether a newline at either end of a text belongs to the tags.
        inner_close: (of the class) a tag before ``CLOSE``, which may be missing.
    """

    own_tags: ClassVar[re.Pattern[str]]
    head: ClassVar[re.Pattern[str]]
    head_form: ClassVar[str]
    before_value: ClassVar[re.Pattern[str]]
    after_value: ClassVar[str]
    newlines: ClassVar[bool] = False
    inner_close: ClassVar[str] = ""

    def __init__(self, text: str, tools: Sequence[ToolSpec]) -> None:
        super().__init__(text)
        self._tools = tools
        self._arguments: dict[str, Arguments] = {}

    def read_tag(self, tag: str) -> None:
        """Read the call that a tag opens."""
        if tag in (CLOSE, self.inner_close):
            self.stray = f"a {tag} stands without a call before it"
            return
        name = ""
        try:
            head = self.head.match(self.text, self.at - len(tag))
            if head is None:
                raise ValueError(f"it does not begin with {self.head_form}")
            name, self.at = head["name"].rstrip(), head.end()
            call = self._read_call(name)
        except ValueError as problem:
            self.skip_to(CLOSE)
            self.add_malformed(str(problem), name)
        else:
            self.add(call)

    def _read_call(self, name: str) -> ToolCall:
        text = self.text
        if name not in self._arguments:
            self._arguments[name] = Arguments(name, self._tools)
        found = {}
        while begins := self.before_value.match(text, skip_blanks(text, self.at)):
            key = begins["key"]
            ends = self.own_tags.search(text, begins.end())
            if ends is None or ends.group() != self.after_value:
                raise ValueError(f"the value of {key!r:.80} is not closed by {self.after_value}")
            self.at = ends.end()
            written = text[begins.end() : ends.start()]
            if self.newlines:
                written = written.removeprefix("\n").removesuffix("\n")
            found[key] = self._arguments[name].read(key, written)
        at = skip_blanks(text, self.at)
        if text.startswith(self.inner_close, at):
            at = skip_blanks(text, at + len(self.inner_close))
        tag = self.tags.match(text, at)
        if tag is None and at < len(text) and at == skip_blanks(text, self.at):
            raise ValueError(f"{text[at : at + 30]!r} stands where an argument or the end is due")
        self.at = tag.end() if tag is not None and tag.group() == CLOSE else at
        return ToolCall(name, found)


@dataclass(frozen=True)
class TaggedFormat(ABC):
    """Parse and render such calls. Stateless; one instance serves every thread."""

    name: str
    call_form: str
    reader: ClassVar[type[TaggedReader]]

    @abstractmethod
    def write_call(self, name: str, arguments: Sequence[tuple[str, str]]) -> str:
        """One call with the texts of its arguments."""

    def parse(self, text: str, tools: Sequence[ToolSpec] = ()) -> ParsedMessage:
        """Read the calls of an assistant message; never raises, linear in the text."""
        if self.is_plain(text):
            return ParsedMessage(text, text.strip())
        return self.reader(text, tools).read()

    def is_plain(self, text: str) -> bool:
        """Whether a text holds none of the tags that begin or end a call or a thought."""
        return self.reader.tags.search(text) is None

    def render_calls(self, calls: Sequence[ToolCall], tools: Sequence[ToolSpec] = ()) -> str:
        """Write calls as the family's chat template does.

        Raises:
            OrchError: a text holds one of the tags, or a value is of a type that its schema does
                not allow while it allows text.
            ValueError: an argument is no JSON value.
        """
        written = []
        for call in calls:
            types = Arguments(call.name, tools)
            texts = [(key, types.write(key, value)) for key, value in call.arguments.items()]
            written.append(self.write_call(call.name, texts))
        return check_rendered(self.parse("\n".join(written), tools), calls)

    def render_unread(self, calls: Sequence[Json]) -> str:
        """Write calls that can be read; these formats cannot write what is wrong with another.

        Raises:
            ValueError: one of them cannot be read.
        """
        read = [read_call(call) for call in calls]
        wrong = [problem for _, problem in read if problem is not None]
        if wrong:
            raise ValueError(f"{self.name} cannot write this call: {wrong[0]}")
        return self.render_calls([call for call, _ in read])

    def render_results(self, results: Sequence[str], names: Sequence[str] = ()) -> str:
        """One ``<tool_response>`` per result, in call order, joined by newlines."""
        return responses(results)
