"""One pass over a message: thoughts, the limit of calls, and what is neither call nor thought.

Every format that has ``<think>`` reads it here. Calls inside ``<think>`` are not calls; nor are
those after a ``<think>`` that is never closed. The first ``</think>`` ends a thought, however often
it was opened. A ``</think>`` with neither of the two tags before it closes a thought that the
prompt opened: what stands before it is no call and no text. If calls stand there and nothing
follows, the model is told so by a malformed call. Every other ``</think>`` is text, and so are
``<THINK>`` and ``<thinking>``.

A message may hold 256 calls; the rest of it is one more call, malformed.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import ClassVar

from orch_env.formats.calls import MAX_CALLS, TOO_MANY, decode_body, malformed
from orch_env.formats.protocol import ParsedMessage
from orch_env.formats.strict_json import decode_at, skip_blanks
from orch_env.types import ToolCall
from orch_env.types.json import Json

THINK, THOUGHT = "<think>", "</think>"


class MessageReader(ABC):
    """Reads one message; a format says how its own markup goes on.

    Attributes:
        tags: (of the class) what starts or ends a call or a thought; ``THINK`` and ``THOUGHT``
            among them.
        text: the message.
        at: where reading goes on; it only moves forward.
        calls: the calls so far.
        content: the texts so far that are no call.
        stray: what is wrong with markup that belongs to no call; told if there are no calls.
    """

    tags: ClassVar[re.Pattern[str]]

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.calls: list[ToolCall] = []
        self.stray: str | None = None
        self.content: list[str] = []
        self._problems: dict[int, str] = {}
        self._may_be_thought = True
        self._discarded = False

    @abstractmethod
    def read_tag(self, tag: str) -> None:
        """Read what one of the format's own tags starts; ``at`` is behind the tag."""

    def add(self, call: ToolCall, problem: str | None = None) -> None:
        """Add a call. Beyond the limit there is one malformed call, and the message ends."""
        if len(self.calls) >= MAX_CALLS:
            self.at = len(self.text)
            if len(self.calls) > MAX_CALLS:
                return
            call, problem = malformed(TOO_MANY)
        if problem is not None:
            self._problems[len(self.calls)] = problem
        self.calls.append(call)

    def add_malformed(self, problem: str, name: str = "") -> None:
        """Add a call that cannot be read."""
        self.add(*malformed(problem, name))

    def read_json(self, close: str) -> Json:
        """The JSON value at ``at``, which moves behind the tag that closes it.

        Strings may hold tags. The closing tag may be missing, and what :func:`decode_body` repairs
        is repaired.

        Args:
            close: the tag behind the value.

        Raises:
            ValueError: there is no value that can be read; the message says why.
        """
        text, start = self.text, skip_blanks(self.text, self.at)
        # Decode first and look for the tag then, so that strings may hold tags.
        if text.startswith("{", start):
            try:
                value, end = decode_at(text, start)
            except ValueError:
                pass
            else:
                after = skip_blanks(text, end)
                following = self.tags.search(text, after)
                closes = following is not None and following.group() == close
                if not closes or following is None or following.start() == after:
                    self.at = following.end() if closes and following is not None else end
                    return value
        return decode_body(self.skip_to(close))

    def skip_to(self, close: str) -> str:
        """The text up to the next tag; ``at`` moves there, behind it if it is ``close``."""
        start, following = self.at, self.tags.search(self.text, self.at)
        end = self.at = len(self.text) if following is None else following.start()
        if following is not None and following.group() == close:
            self.at = following.end()
        return self.text[start:end]

    def read(self) -> ParsedMessage:
        """Read the message to its end."""
        text = self.text
        while (tag := self.tags.search(text, self.at)) is not None:
            self.content.append(text[self.at : tag.start()])
            self.at = tag.end()
            kind = tag.group()
            if kind == THINK:
                self._may_be_thought = False
                end = text.find(THOUGHT, self.at)
                self.at = len(text) if end < 0 else end + len(THOUGHT)
            elif kind == THOUGHT and self._may_be_thought:
                self._forget_thought()
            elif kind == THOUGHT:
                self.content.append(kind)
            else:
                self.read_tag(kind)
        self.content.append(text[self.at :])
        if self.stray is not None and not self.calls:
            self.add_malformed(self.stray)
        content = "".join(self.content).strip()
        if self._discarded and not self.calls and not content:
            self.add_malformed(
                f"it stands before a {THOUGHT}, which makes it a part of the thought; write calls "
                "after that tag"
            )
        return ParsedMessage(text, content, tuple(self.calls), self._problems)

    def _forget_thought(self) -> None:
        """The prompt opened the thought: everything so far belongs to it, calls too."""
        self._may_be_thought, self._discarded = False, bool(self.calls)
        self.content.clear()
        self.calls.clear()
        self._problems.clear()
        self.stray = None
