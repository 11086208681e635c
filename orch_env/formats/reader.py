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

from orch_env.formats.calls import MAX_CALLS, TOO_MANY, malformed
from orch_env.formats.protocol import ParsedMessage
from orch_env.types import ToolCall

THINK, THOUGHT = "<think>", "</think>"


class MessageReader(ABC):
    """Reads one message; a format says how its own markup goes on.

    Attributes:
        tags: (of the class) what starts or ends a call or a thought; ``THINK`` and ``THOUGHT``
            among them.
        text: the message.
        at: where reading goes on; it only moves forward.
        calls: the calls so far.
        stray: what is wrong with markup that belongs to no call; told if there are no calls.
    """

    tags: ClassVar[re.Pattern[str]]

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.calls: list[ToolCall] = []
        self.stray: str | None = None
        self._content: list[str] = []
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

    def read(self) -> ParsedMessage:
        """Read the message to its end."""
        text = self.text
        while (tag := self.tags.search(text, self.at)) is not None:
            self._content.append(text[self.at : tag.start()])
            self.at = tag.end()
            kind = tag.group()
            if kind == THINK:
                self._may_be_thought = False
                end = text.find(THOUGHT, self.at)
                self.at = len(text) if end < 0 else end + len(THOUGHT)
            elif kind == THOUGHT and self._may_be_thought:
                self._forget_thought()
            elif kind == THOUGHT:
                self._content.append(kind)
            else:
                self.read_tag(kind)
        self._content.append(text[self.at :])
        if self.stray is not None and not self.calls:
            self.add_malformed(self.stray)
        content = "".join(self._content).strip()
        if self._discarded and not self.calls and not content:
            self.add_malformed(
                f"it stands before a {THOUGHT}, which makes it a part of the thought; write calls "
                "after that tag"
            )
        return ParsedMessage(text, content, tuple(self.calls), self._problems)

    def _forget_thought(self) -> None:
        """The prompt opened the thought: everything so far belongs to it, calls too."""
        self._may_be_thought, self._discarded = False, bool(self.calls)
        self._content.clear()
        self.calls.clear()
        self._problems.clear()
        self.stray = None
