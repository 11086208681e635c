"""A plan: a generator of one episode's messages that is sent each message's results."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeAlias

from orch_env.types import ToolCall

Message: TypeAlias = Sequence[ToolCall] | str
"""Calls of one message, or its raw text."""

Plan: TypeAlias = Generator[Message, Sequence[str], str]
"""Yields messages, is sent the texts of their results, returns the closing answer."""
