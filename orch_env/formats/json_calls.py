"""Calls as JSON behind a tag that nothing closes: a list of objects, or objects in a row.

Read are also: a code fence around the JSON, commas right before a closing bracket, one object
instead of a list, objects that ``;``, ``,`` or nothing but blanks separate, and what
:mod:`orch_env.formats.calls` forgives inside an object. Text after the JSON is text of the message.

Anything else behind the tag is one malformed call, which takes everything up to the next tag:
broken JSON, a list without an object, or no JSON at all. The limits on numbers and nesting are
those of :mod:`orch_env.formats.strict_json`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from orch_env.formats.calls import MAX_CALLS, decode_body, read_call
from orch_env.formats.reader import MessageReader
from orch_env.formats.strict_json import (
    MAX_DEPTH,
    decode_at,
    skip_blanks,
)
from orch_env.types import ToolCall
from orch_env.types.json import Json

LINE_START = r"(?:\A\s*+|(?m:^)|(?<=</think>)\s*+)"
"""Where markup without a tag may stand: at the start of a message or a line, or after a thought."""

NEXT = re.compile(r"\s*+[;,]?\s*+(?=\{)")
"""What may stand between an object and the next one in a row."""

_FENCE = re.compile(r"\s*+```[A-Za-z_]*\s*")
_FENCE_END = re.compile(r"\s*```")


def bodies(calls: Sequence[ToolCall], key: str = "arguments") -> list[Json]:
    """The calls as objects ``{"name": ..., key: {...}}``."""
    return [{"name": call.name, key: call.arguments} for call in calls]


class JsonCallReader(MessageReader):
    """A reader for formats whose calls are JSON values."""

    refused = 0

    def read_values(self, start: int) -> None:
        """Read the JSON at ``start``, and move ``at`` behind it.

        Linear: what a failure reads twice (up to the next tag) is one malformed call, and the
        calls of a message are limited.
        """
        text = self.text
        fence, begin = _FENCE.match(text, start), start
        self.at = fence.end() if fence is not None else start
        while True:
            self.at = skip_blanks(text, self.at)
            try:
                value, end = decode_at(text, self.at, MAX_DEPTH + text.startswith("[", self.at))
            except ValueError:
                self.at = self.next_tag(self.at)
                self.add_broken(text[begin : self.at])
                return
            self.at = end
            self.add_value(value)
            following = NEXT.match(text, self.at) if isinstance(value, dict) else None
            if following is None:
                break
            self.at = begin = following.end()
        if fence is not None:
            self.skip_fence_end()

    def add_value(self, value: Json) -> None:
        """Add the call, or the list of calls, that a JSON value is."""
        if value == []:
            self.add_malformed("the list holds no call")
        for item in value if isinstance(value, list) else [value]:
            self.add(*read_call(item))

    def add_broken(self, body: str) -> None:
        """Add the calls of what is no JSON as it stands: repaired, or one as malformed."""
        try:
            value = decode_body(body)
        except ValueError as problem:
            self.add_malformed(str(problem))
        else:
            self.add_value(value)

    def next_tag(self, start: int) -> int:
        """Index of the first tag at or after ``start``, or of the end of the text."""
        found = self.tags.search(self.text, start)
        return len(self.text) if found is None else found.start()

    def skip_fence_end(self) -> None:
        """Move ``at`` behind the end of a code fence, if one stands there."""
        if closing := _FENCE_END.match(self.text, self.at):
            self.at = closing.end()

    def add_text(self, text: str) -> None:
        """Add text that began as a call does and is none.

        After as many of them as a message may hold calls, the rest of it is text.
        """
        self.refused += 1
        if self.refused > MAX_CALLS:
            text, self.at = text + self.text[self.at :], len(self.text)
        self.content.append(text)
