"""A server's result as the text that a model reads.

Texts stand as they are, several of them joined by newlines. What a text cannot show becomes one
line in brackets with its type, its size in bytes and the beginning of its SHA-256, so that equal
content has equal text. Structured content is shown, as JSON, only where there is no text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import TYPE_CHECKING

from orch_env.types import ErrorType, ToolResult
from orch_env.types.json import parse_json

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock

_DIGITS = 16
_OWN_ERRORS = frozenset({ErrorType.TOOL_ERROR, ErrorType.NOT_FOUND, ErrorType.INVALID_ARGUMENTS})


def result_text(result: CallToolResult) -> str:
    """The text of a result, by the rules above."""
    lines = list(map(_text_of, result.content))
    no_text = all(block.type != "text" for block in result.content)
    if no_text and result.structured_content is not None:
        lines.append(json.dumps(result.structured_content, ensure_ascii=False))
    return "\n".join(lines)


def tool_result(text: str, *, failed: bool) -> ToolResult:
    """A server's text as a result.

    A failed one keeps it as the message of a ``tool_error``; a server of this project fails with an
    error observation, which stands as it is.
    """
    if not failed:
        return ToolResult(text)
    value = parse_json(text)
    told = value.get("error") if isinstance(value, dict) and value.keys() == {"error"} else None
    if isinstance(told, dict) and told.keys() == {"type", "message", "details"}:
        kind = told["type"]
        if isinstance(kind, str) and kind in _OWN_ERRORS:
            return ToolResult(text, ErrorType(kind))
    return ToolResult.failure(ErrorType.TOOL_ERROR, text)


def _text_of(block: ContentBlock) -> str:
    if block.type == "text":
        return block.text
    if block.type == "resource":
        resource = block.resource
        text: str | None = getattr(resource, "text", None)
        if text is not None:
            return text
        blob = _described(resource.mime_type, getattr(resource, "blob", ""))
        return f"[resource: {resource.uri}, {blob}]"
    if block.type == "resource_link":
        size = "" if block.size is None else f", {block.size} bytes"
        return f"[resource link: {block.name}, {block.uri}, {block.mime_type or 'no type'}{size}]"
    return f"[{block.type}: {_described(block.mime_type, block.data)}]"


def _described(mime_type: str | None, data: str) -> str:
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        content = data.encode()  # not base64: the text itself is what there is
    digest = hashlib.sha256(content).hexdigest()[:_DIGITS]
    return f"{mime_type or 'no type'}, {len(content)} bytes, sha256 {digest}"
