"""How each type of content becomes text."""

from __future__ import annotations

import base64
from typing import Any

import mcp_types
import pytest

from orch_env.backends.mcp.results import result_text, tool_result
from orch_env.types import ErrorType, ToolResult

PIXEL = base64.b64encode(b"a picture").decode()
LINK = {"type": "resource_link", "uri": "file:///a.txt", "name": "a", "mimeType": "text/plain"}


def resource(**content: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": "file:///a.txt", **content}}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([], ""),
        ([{"type": "text", "text": " as\nit is "}], " as\nit is "),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        (
            [{"type": "image", "data": PIXEL, "mimeType": "image/png"}],
            "[image: image/png, 9 bytes, sha256 92b2fa5802895831]",
        ),
        (
            [{"type": "audio", "data": "no base64!", "mimeType": "audio/wav"}],
            "[audio: audio/wav, 10 bytes, sha256 effb836005e6400d]",
        ),
        ([LINK], "[resource link: a, file:///a.txt, text/plain]"),
        ([{**LINK, "size": 7}], "[resource link: a, file:///a.txt, text/plain, 7 bytes]"),
        ([resource(text="inside")], "inside"),
        (
            [resource(blob=PIXEL, mimeType="image/png")],
            "[resource: file:///a.txt, image/png, 9 bytes, sha256 92b2fa5802895831]",
        ),
        (
            [resource(blob="")],
            "[resource: file:///a.txt, no type, 0 bytes, sha256 e3b0c44298fc1c14]",
        ),
    ],
)
def test_each_type_of_content_becomes_text_by_its_rule(
    content: list[dict[str, Any]], text: str
) -> None:
    result = mcp_types.CallToolResult.model_validate({"content": content}, by_name=False)
    assert result_text(result) == text


def test_structured_content_stands_where_there_is_no_text() -> None:
    both = {"content": [{"type": "text", "text": "t"}], "structuredContent": {"a": "ß"}}
    assert result_text(mcp_types.CallToolResult.model_validate(both, by_name=False)) == "t"
    picture = {"type": "image", "data": PIXEL, "mimeType": "image/png"}
    for content, text in (
        ([], ""),
        ([picture], "[image: image/png, 9 bytes, sha256 92b2fa5802895831]\n"),
    ):
        alone = {"content": content, "structuredContent": {"a": "ß"}}
        read = mcp_types.CallToolResult.model_validate(alone, by_name=False)
        assert result_text(read) == f'{text}{{"a": "ß"}}'


def test_an_error_of_a_server_of_ours_stands_as_it_is() -> None:
    own = ToolResult.failure(ErrorType.NOT_FOUND, "No such boat.", reason="unknown_boat")
    assert tool_result(own.text, failed=True) == own


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "[]",
        '{"error": "no"}',
        '{"error": {"type": ["x"], "message": "", "details": {}}}',
        '{"error": {"type": "limit", "message": "", "details": {}}}',
    ],
)
def test_any_other_error_is_the_message_of_a_tool_error(text: str) -> None:
    assert tool_result(text, failed=True) == ToolResult.failure(ErrorType.TOOL_ERROR, text)
    assert tool_result(text, failed=False) == ToolResult(text)
