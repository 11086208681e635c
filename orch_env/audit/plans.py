"""A plan: a generator of the messages of one episode."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeAlias

from orch_env.types import ToolCall

Message: TypeAlias = Sequence[ToolCall] | str
"""Calls of one message, or its raw text."""

Plan: TypeAlias = Generator[Message, Sequence[str], str]
"""Yields messages, receives the texts of their results, returns the closing answer."""
