"""What several formats write alike: the system prompt's frame, and results between tags."""

from __future__ import annotations

from collections.abc import Sequence


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
