"""What several formats write alike: JSON without tags, the system prompt's frame, results."""

from __future__ import annotations

import re
from collections.abc import Sequence

from orch_env.types.json import Json
from orch_env.types.text import readable_json


def offer(tools: Sequence[str], how: str) -> str:
    """A system prompt that offers tools.

    Args:
        tools: each tool as one line of JSON.
        how: how to call one and what comes back, in whole sentences.
    """
    lines = "\n".join(tools)
    return (
        "You can use tools to help the user. Each line between the <tools> tags describes one "
        "tool; its parameters are a JSON Schema.\n"
        f"<tools>\n{lines}\n</tools>\n"
        f"{how} When you have what you need, answer the user in a message without a tool call."
    )


def responses(results: Sequence[str]) -> str:
    """One ``<tool_response>`` per result, in call order, joined by newlines."""
    return "\n".join(f"<tool_response>\n{text}\n</tool_response>" for text in results)


def json_without(markup: re.Pattern[str], value: Json) -> str:
    r"""JSON text in whose strings the ``<`` or ``[`` of a format's own tags is escaped.

    Args:
        markup: matches the first character of a tag.
        value: what is written; its structure is never touched, only text inside strings may be.
    """
    return markup.sub(lambda found: f"\\u{ord(found.group()):04x}", readable_json(value))
