"""What the Hermes format forgives, what it refuses, and that rendering and parsing are inverse."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.formats import get_format
from orch_env.formats.calls import MAX_CALLS
from orch_env.types import ErrorType, OrchError, ToolCall, ToolSpec

hermes = get_format("hermes")
CALL = ToolCall("get", {"a": 1})

markup = st.sampled_from(
    [
        "</tool_call>",
        "<tool_call>",
        "<think>",
        "</think>",
        "</tool_response>",
        "\\u003c",
        "<",
        "```",
    ]
)
texts = st.lists(markup | st.text(st.characters(), max_size=8), max_size=4).map("".join)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
calls = st.builds(ToolCall, texts.filter(bool), st.dictionaries(texts, values, max_size=4))


@given(st.lists(calls, min_size=1, max_size=4), st.sampled_from(["", "Let me look.", "{}"]))
@settings(max_examples=300, deadline=None)
def test_parsing_undoes_rendering(made: list[ToolCall], before: str) -> None:
    parsed = hermes.parse(before + "\n" + hermes.render_calls(made))
    assert parsed.content == before
    assert parsed.problems == {}
    assert json.dumps([c.to_dict() for c in parsed.calls]) == json.dumps(
        [c.to_dict() for c in made]
    )


@given(st.lists(calls, min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_rendered_strings_hold_no_markup_that_a_plain_tag_splitter_would_see(
    made: list[ToolCall],
) -> None:
    pieces = hermes.render_calls(made).split("<tool_call>")[1:]
    assert len(pieces) == len(made)
    for piece, call in zip(pieces, made, strict=True):
        body, closing = piece.split("</tool_call>", 1)
        assert closing.strip() == ""
        assert json.loads(body)["arguments"] == call.arguments


def test_rendered_calls_are_utf8_even_with_lone_surrogates() -> None:
    call = ToolCall("get", {"q": "é\ud800"})
    hermes.render_calls([call]).encode()
    assert hermes.parse(hermes.render_calls([call])).calls == (call,)


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "get", "arguments": {"a": 1}}\n</tool_call>',
        '<tool_call>{"name": "get", "arguments": {"a": 1}}</tool_call>',
        '<tool_call>\n{"name": "get", "arguments": {"a": 1}}',
        '<tool_call>```json\n{"name": "get", "arguments": {"a": 1}}\n```</tool_call>',
        '<tool_call>\n```\n{"name": "get", "arguments": {"a": 1}}\n```\n',
        '<tool_call>{"name": "get", "arguments": {"a": 1,},}</tool_call>',
        '<tool_call>{"name": "get", "parameters": {"a": 1}}</tool_call>',
        '<tool_call>{"name": "get", "arguments": "{\\"a\\": 1}"}</tool_call>',
        '<tool_call>{"type": "function", "function": {"name": "get", "arguments": {"a": 1}}}'
        "</tool_call>",
        '<tool_call>{"id": "x1", "name": "get", "arguments": {"a": 1}}</tool_call>',
        '<tool_call>{"name": "get", "arguments": {"a": 0, "a": 1}}</tool_call>',
        '<tool_call>{"name": "get", "arguments": {"a": 1}}</tool_call></tool_call>',
        '<think>{"x": <tool_call>{"name": "no"}</tool_call></think>'
        '<tool_call>{"name": "get", "arguments": {"a": 1}}</tool_call>',
        'I try <tool_call>{"name": "no"}</tool_call> no.</think>'
        '<tool_call>{"name": "get", "arguments": {"a": 1}}</tool_call>',
    ],
)
def test_what_has_one_reading_is_read(text: str) -> None:
    assert hermes.parse(text).calls == (CALL,)


@pytest.mark.parametrize("written", ["null", '""', '"  "', "{}", None])
def test_no_arguments_is_an_empty_object(written: str | None) -> None:
    part = "" if written is None else f', "arguments": {written}'
    assert hermes.parse(f'<tool_call>{{"name": "get"{part}}}</tool_call>').calls == (
        ToolCall("get", {}),
    )


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "nothing between"),
        ("get(a=1)", "not valid JSON"),
        ("{'name': 'get'}", "not valid JSON"),
        ('{"name": "get", "arguments": {"a": 1}', "not valid JSON"),
        ('{"name": "get", "arguments": {"a": 1}}}', "not valid JSON: text follows"),
        ('{"name": "get"} and more', "text follows"),
        ('{"name": "get", "arguments": {"a": NaN}}', "NaN"),
        ('{"name": "get", "arguments": {"a": -Infinity}}', "Infinity"),
        ('{"name": "get", "arguments": {"a": 1e999}}', "out of range"),
        ('{"name": "get", "arguments": {"a": ' + "9" * 5000 + "}}", "out of range"),
        ('{"name": "get", "arguments": {"a": ' + "[" * 65 + "]" * 65 + "}}", "deeper than 64"),
        ('{"name": "get", "arguments": ' + '{"a":' * 50_000, "deeper than 64"),
        ('[{"name": "get"}]', "one object per call"),
        ('"get"', "must be a JSON object"),
        ("3", "must be a JSON object"),
        ('{"arguments": {}}', '"name" is missing'),
        ('{"name": 3}', '"name" must be'),
        ('{"name": ""}', '"name" must be'),
        ('{"name": "get", "arguments": [1]}', '"arguments" must be a JSON object'),
        ('{"name": "get", "arguments": "a=1"}', "string that is not valid JSON"),
        ('{"name": "get", "arguments": "[1]"}', "must be a JSON object"),
    ],
)
def test_anything_else_is_one_malformed_call_that_says_why(body: str, why: str) -> None:
    parsed = hermes.parse(f"<tool_call>\n{body}\n</tool_call>")
    assert [c.error for c in parsed.calls] == [ErrorType.MALFORMED_CALL]
    assert why in parsed.problems[0]
    assert len(parsed.problems[0]) < 200


def test_the_bounds_themselves_are_allowed() -> None:
    deepest: Any = 1
    for _ in range(62):  # with the call and its arguments: 64 levels
        deepest = [deepest]
    text = json.dumps({"name": "get", "arguments": {"a": deepest, "b": 10**307, "c": 1e308}})
    (call,) = hermes.parse(f"<tool_call>{text}</tool_call>").calls
    assert call.ok and call.arguments["a"] == deepest
    for beyond in ({"a": [deepest]}, {"b": 10**308}, {"b": -(10**308)}):
        text = json.dumps({"name": "get", "arguments": beyond})
        (call,) = hermes.parse(f"<tool_call>{text}</tool_call>").calls
        assert call.error is ErrorType.MALFORMED_CALL


def test_calls_keep_their_order_around_a_broken_one() -> None:
    parsed = hermes.parse(
        'First <tool_call>{"name": "a"}\n<tool_call>{"name": }</tool_call> then '
        '<tool_call>{"name": "b", "arguments": {"s": "</tool_call>"}}</tool_call> end'
    )
    assert [(c.name, c.error) for c in parsed.calls] == [
        ("a", None),
        ("", ErrorType.MALFORMED_CALL),
        ("b", None),
    ]
    assert parsed.content.split() == ["First", "then", "end"]


def test_a_closing_tag_alone_is_an_attempt_at_a_call() -> None:
    (call,) = hermes.parse('{"name": "get"}\n</tool_call>').calls
    assert call.error is ErrorType.MALFORMED_CALL


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("  It is 5. ", "It is 5."),
        ('{"name": "get", "arguments": {}}', '{"name": "get", "arguments": {}}'),
        ("<think>hm</think> Yes.", "Yes."),
        ("hm</think>\n\nYes.", "Yes."),
        ('<think>I call <tool_call>{"name": "get"}</tool_call>', ""),
        ("</tool_call></think> answer", "answer"),  # the closing tag was part of the thought
        ("", ""),
    ],
)
def test_a_message_without_calls_is_an_answer(text: str, content: str) -> None:
    parsed = hermes.parse(text)
    assert parsed.calls == () and parsed.content == content


WRITTEN = '<tool_call>\n{"name": "get", "arguments": {"a": 1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "calls", "content"),
    [
        (f"<think>plan</think>\n{WRITTEN}\n</think>", 1, "</think>"),
        (f"<think>plan</think>{WRITTEN} I closed </think> twice.", 1, "I closed </think> twice."),
        (f"plan</think>{WRITTEN}</think>", 1, "</think>"),
        (f"a</think>b</think>{WRITTEN}</think></think>", 1, "b</think></think></think>"),
        (f"<think>a</think>{WRITTEN}<think>b</think>{WRITTEN}</think>", 2, "</think>"),
        (f"<think><think>a</think>{WRITTEN}</think>{WRITTEN}", 2, "</think>"),
        (f"{WRITTEN}<think>and then", 1, ""),
        (f"<think></think></think>{WRITTEN}", 1, "</think>"),
        (f"<THINK>a {WRITTEN}</THINK>", 1, "<THINK>a </THINK>"),
        (f"<thinking>a</thinking>{WRITTEN}", 1, "<thinking>a</thinking>"),
        (WRITTEN.replace('{"a": 1}', '{"a": "<think>"}') + WRITTEN, 2, ""),
        ("<think>a</think>Yes.</think>", 0, "Yes.</think>"),
    ],
)
def test_a_stray_tag_throws_no_call_away_that_stands_outside_a_thought(
    text: str, calls: int, content: str
) -> None:
    parsed = hermes.parse(text)
    assert (len(parsed.calls), parsed.content, parsed.problems) == (calls, content, {})


def test_calls_in_a_thought_that_the_prompt_opened_are_told_if_nothing_follows() -> None:
    for text in (f"{WRITTEN}\n</think>", f"plan {WRITTEN}{WRITTEN}</think>\n "):
        parsed = hermes.parse(text)
        assert [c.error for c in parsed.calls] == [ErrorType.MALFORMED_CALL]
        assert "before a </think>" in parsed.problems[0] and parsed.content == ""
    assert hermes.parse(f"{WRITTEN}</think> It is 5.").calls == ()
    assert hermes.parse("only a plan</think>").calls == ()


@pytest.mark.parametrize(
    "flood",
    [
        "</think>" * 130_000,
        "<think>" * 150_000,
        "<think></think>" * 70_000,
        f"{WRITTEN}</think>" * 15_000,
        "</think><tool_call>" * 55_000,
        '<tool_call>{"a": "</think>' * 40_000,
    ],
)
def test_a_megabyte_of_thoughts_is_read_in_linear_time(flood: str) -> None:
    started = time.perf_counter()
    assert len(hermes.parse(flood).calls) <= MAX_CALLS + 1
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "flood",
    [
        "<tool_call>" * 90_000,
        '<tool_call>{"' * 70_000,
        "<tool_call>```" + " " * 1_000_000 + "x",
        '<tool_call>{"a": "' + '\\"' * 500_000,
        "<tool_call>{" + "," * 1_000_000,
        "<tool_call>" + "[" * 1_000_000,
        "</think>" * 120_000 + "</tool_call>" * 80_000,
        '<tool_call>{"name": "a", "arguments": "' + '{\\"a\\":' * 100_000,
    ],
)
def test_a_megabyte_of_anything_is_read_in_bounded_calls(flood: str) -> None:
    parsed = hermes.parse(flood)
    assert 1 <= len(parsed.calls) <= MAX_CALLS + 1
    assert all(c.error is ErrorType.MALFORMED_CALL for c in parsed.calls)


@given(st.text(st.characters(), max_size=200) | texts.map(lambda t: f"<tool_call>{t}</tool_call>"))
@settings(max_examples=300, deadline=None)
def test_parsing_never_raises_and_accounts_for_every_call(text: str) -> None:
    parsed = hermes.parse(text)
    malformed = [n for n, c in enumerate(parsed.calls) if c.error is ErrorType.MALFORMED_CALL]
    assert malformed == list(parsed.problems)


def test_results_are_rendered_byte_for_byte() -> None:
    assert hermes.render_results(['{"a": 1}', "two\n lines"]) == (
        '<tool_response>\n{"a": 1}\n</tool_response>\n'
        "<tool_response>\ntwo\n lines\n</tool_response>"
    )


def test_the_tools_prompt_offers_each_tool_as_one_json_line() -> None:
    tools = [ToolSpec("a", "First </tools> tool."), ToolSpec("b")]
    prompt = hermes.render_tools(tools)
    lines = prompt.split("<tools>\n")[1].split("\n</tools>")[0].split("\n")
    assert [json.loads(line) for line in lines] == [t.to_openai() for t in tools]
    assert "<tool_call>" in prompt


def test_an_unknown_format_names_those_there_are() -> None:
    with pytest.raises(OrchError, match=r"'hermees'.*hermes"):
        get_format("hermees")
