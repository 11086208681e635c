"""Conversations in the forms of APIs and frameworks: read whole, or refused by message number."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orch_env import Episode, Task, make_reward
from orch_env.formats.hermes import HermesFormat
from orch_env.types import ErrorType, OrchError

TASK = Task.from_dict({"id": "t", "messages": [{"role": "user", "content": "Find x, then y."}]})
USER = {"role": "user", "content": "Find x, then y."}
Message = dict[str, Any]


def call(q: str, call_id: Any = None) -> Message:
    return {"id": call_id, "function": {"name": "find", "arguments": json.dumps({"q": q})}}


def assistant(*calls: Message, **more: Any) -> Message:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **more}


def tool(text: str, call_id: Any = None, **more: Any) -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": text, **more}


def said(content: Any, **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}


def read(*messages: Any) -> Episode:
    return Episode.from_messages(TASK, [USER, *messages])


def pairs(*messages: Any) -> list[tuple[str, str]]:
    """Each call's query with the text that answered it."""
    turns = read(*messages).turns
    return [(e.call.arguments["q"], e.result.text) for t in turns for e in t.exchanges]


# -- which answer belongs to which call ----------------------------------------------------------


@pytest.mark.parametrize("ids", [("", ""), ("  ", ""), ("call_0", "call_0"), (None, None), (7, 7)])
def test_answers_to_calls_of_one_id_or_none_are_handed_out_once_in_order(ids: Any) -> None:
    messages = assistant(call("x", ids[0]), call("y", ids[1])), tool("X", ids[0]), tool("Y", ids[1])
    assert pairs(*messages) == [("x", "X"), ("y", "Y")]


def test_a_message_without_a_call_ends_a_user_turn_and_one_with_a_broken_call_does_not() -> None:
    first = assistant(call("x", "1")), tool("X", "1"), said("Book it?"), USER
    broken = assistant({"id": "2", "function": {"name": "find", "arguments": "{"}}), tool("?", "2")
    last = assistant(call("y", "3")), tool("Y", "3"), said("Done.")
    assert read().followups_heard == ()
    assert read(*first, *broken, *last).followups_heard == (0, 0, 1, 1, 1)
    assert read(*first, said("Sure?"), USER, *last).followups_heard == (0, 0, 1, 2, 2)


def test_a_repeated_id_does_not_change_the_reward() -> None:
    gold = [{"name": "find", "arguments": {"q": q}} for q in "xy"]
    task = Task.from_dict({**TASK.to_dict(), "tools": ["find"], "gold": [gold]})
    totals = set()
    for one, other in (("a", "b"), ("", ""), ("a", "a")):
        messages = [
            assistant(call("x", one), call("y", other)),
            tool("{}", one),
            tool('{"error": "no such city"}', other),
            {"role": "assistant", "content": "done"},
        ]
        totals.add(make_reward("graduated")(task, Episode.from_messages(task, messages)).total)
    assert len(totals) == 1


def test_answers_out_of_order_find_their_calls() -> None:
    messages = assistant(call("x", "a"), call("y", "b")), tool("Y", "b"), tool("X", "a")
    assert pairs(*messages) == [("x", "X"), ("y", "Y")]


def test_an_id_is_the_same_as_a_number_and_as_a_text() -> None:
    assert pairs(assistant(call("x", 1), call("y", 2)), tool("Y", "2"), tool("X", "1")) == [
        ("x", "X"),
        ("y", "Y"),
    ]


def test_ids_that_begin_anew_in_each_message_belong_to_the_last_one() -> None:
    messages = [
        assistant(call("x", "0")),
        tool("X", "0"),
        assistant(call("y", "0")),
        tool("Y", "0"),
    ]
    assert pairs(*messages) == [("x", "X"), ("y", "Y")]


def test_a_late_answer_finds_the_call_of_an_earlier_message() -> None:
    messages = [
        assistant(call("x", "a")),
        assistant(call("y", "b")),
        tool("Y", "b"),
        tool("X", "a"),
    ]
    assert pairs(*messages) == [("x", "X"), ("y", "Y")]


def test_calls_without_ids_take_answers_that_name_any() -> None:
    """As the environment's own tool messages do for a message whose calls have no ids."""
    messages = assistant(call("x"), call("y")), tool("X", "call_0_0"), tool("Y", "call_0_1")
    assert pairs(*messages) == [("x", "X"), ("y", "Y")]


def test_answers_without_an_id_go_to_the_calls_that_no_id_answers() -> None:
    messages = assistant(call("x", "a"), call("y", "b")), tool("Y"), tool("X", "a")
    assert pairs(*messages) == [("x", "X"), ("y", "Y")]


@pytest.mark.parametrize(
    "answers",
    [
        [tool("X", "zz")],
        [tool("X", "a"), tool("again", "a")],
        [tool("X"), tool("again")],
        [tool("X", "a"), tool("again")],
    ],
)
def test_an_answer_to_no_call_is_refused(answers: list[Message]) -> None:
    with pytest.raises(OrchError, match=r"message \d: it answers a call.* that no message before"):
        read(assistant(call("x", "a")), *answers)


def test_an_answer_before_any_call_is_refused() -> None:
    for first in (tool("X"), {"type": "function_call_output", "call_id": "a", "output": "X"}):
        with pytest.raises(OrchError, match=r"message 1: a .* stands before any assistant"):
            read(first)


def test_thousands_of_answers_are_handed_out_in_linear_time() -> None:
    many = 20_000
    started = time.perf_counter()
    for ids in ([None] * many, ["same"] * many, [f"c{n}" for n in range(many)][::-1]):
        calls = assistant(*(call(str(n), i) for n, i in enumerate(ids)))
        found = pairs(calls, *(tool(str(n), i) for n, i in enumerate(ids)))
        assert all(q == text for q, text in found)
    assert time.perf_counter() - started < 10


# -- the forms -----------------------------------------------------------------------------------

TEXT = {"type": "text", "text": "X"}
ANSWER = {"role": "assistant", "content": "done"}
ARGUMENTS = '{"q": "x"}'
FORMS: dict[str, list[Message]] = {
    "arguments as a text": [assistant(call("x", "a")), tool("X", "a")],
    "arguments as an object": [
        assistant({"id": "a", "function": {"name": "find", "arguments": {"q": "x"}}}),
        tool("X", "a"),
    ],
    "flat": [assistant({"name": "find", "arguments": ARGUMENTS}), tool("X")],
    "one call without a list": [assistant(tool_calls=call("x", "a")), tool("X", "a")],
    "a function call": [
        said(None, function_call={"name": "find", "arguments": ARGUMENTS}),
        {"role": "function", "name": "find", "content": "X"},
    ],
    "Anthropic's blocks": [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I should", "signature": "s"},
                {"type": "tool_use", "id": "u", "name": "find", "input": {"q": "x"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "u", "content": [TEXT]},
                {"type": "text", "text": "Go on."},
            ],
        },
    ],
    "Responses items": [
        {"type": "reasoning", "id": "r", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "find", "arguments": ARGUMENTS},
        {"type": "function_call_output", "id": "fo_1", "call_id": "c", "output": "X"},
    ],
    "LangChain's calls": [
        assistant({"name": "find", "args": {"q": "x"}, "id": "a", "type": "tool_call"}),
        tool("X", "a", status="success"),
    ],
    "a framework that repeats an API's blocks": [
        {
            **assistant({"name": "find", "args": {"q": "x"}, "id": "u"}),
            "content": [{"type": "tool_use", "id": "u", "name": "find", "input": {"q": "x"}}],
            "additional_kwargs": {"tool_calls": [call("x", "u")]},
        },
        tool("X", "u"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_episode(form: str) -> None:
    assert read(*FORMS[form], ANSWER).digest == read(*FORMS["arguments as a text"], ANSWER).digest


def test_text_beside_calls_is_the_action() -> None:
    blocks = [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "name": "find", "input": {}},
    ]
    assert read({"role": "assistant", "content": blocks}).turns[0].action == "I look."
    items = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "I look."}],
    }
    turn = read(items, {"type": "function_call", "name": "find", "arguments": ""}).turns[0]
    assert turn.action == "I look." and [c.name for c in turn.calls] == ["find"]


def test_parallel_calls_of_the_responses_api_are_one_turn() -> None:
    items = [
        {"type": "function_call", "call_id": i, "name": "find", "arguments": {"q": i}} for i in "ab"
    ]
    outputs = [{"type": "function_call_output", "call_id": i, "output": i.upper()} for i in "ba"]
    episode = read(*items, *outputs, *items[:1], outputs[1])
    assert [len(turn.calls) for turn in episode.turns] == [2, 1]
    assert episode.turns[0].results == ("A", "B")


@pytest.mark.parametrize(
    "answer",
    [
        tool("it broke", "a", status="error"),
        tool("it broke", "a", isError=True),
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "a", "is_error": True}],
        },
    ],
)  # fmt: skip
def test_an_answer_marked_as_an_error_is_one(answer: Message) -> None:
    (only,) = read(assistant(call("x", "a")), answer).calls
    assert only.error is ErrorType.TOOL_ERROR


MARKUP = '<tool_call>\n{"name": "find", "arguments": {"q": "x"}}\n</tool_call>'
UNREAD: dict[str, tuple[Any, str]] = {
    "Hermes": (said(MARKUP), "<tool_call>"),
    "Hermes in parts": (said([{"type": "text", "text": MARKUP}]), "<tool_call>"),
    "Hermes after a thought": (said(f"<think>a</think>{MARKUP}</think>"), "<tool_call>"),
    "Mistral": (said('[TOOL_CALLS][{"name": "find"}]'), "TOOL_CALLS"),
    "Llama": (said("<|python_tag|>find(q=1)"), "python_tag"),
    "Qwen3-Coder": (said("<function=find><parameter=q>"), "<function="),
    "camel case": (said("", toolCalls=[call("x")]), "'toolCalls'"),
    "broken ones beside": (assistant(call("x"), invalid_tool_calls=[{}]), "invalid_tool_calls"),
    "only beside": (said("", additional_kwargs={"tool_calls": [call("x")]}), "additional_kwargs"),
    "Bedrock": (said([{"toolUse": {"name": "find", "input": {}}}]), "'toolUse'"),
    "AI SDK": (said([{"type": "tool-call", "toolName": "find"}]), "'tool-call'"),
    "AI SDK's results": ({"role": "tool", "content": [{"type": "tool-result"}]}, "'tool-result'"),
    "a server's tool": (said([{"type": "server_tool_use", "name": "web"}]), "'server_tool_use'"),
    "Gemini": ({"role": "model", "parts": [{"functionCall": {"name": "f"}}]}, "role 'model'"),
    "a hosted tool's item": ({"type": "web_search_call", "id": "w"}, "'web_search_call'"),
    "other answers": ({"role": "observation", "content": [{}]}, "role 'observation'"),
    "two forms": (assistant(call("x"), call("y"), function_call={"name": "find"}), "in number"),
    "two names": (assistant(call("x"), function_call={"name": "other"}), "or names"),
    "Gemini's parts": (said(None, parts=[{"functionCall": {"name": "find"}}]), "'parts'"),
    "Gemini's answers": ({"role": "user", "parts": [{"functionResponse": {}}]}, "'parts'"),
    "one block, no list": (said({"type": "server_tool_use", "name": "web"}), "server_tool_use"),
    "Harmony's channel": (said("{}", recipient="functions.find"), "'recipient'"),
    "OpenAI's custom tools": (
        assistant({"type": "custom", "custom": {"name": "find"}}),
        "'custom'",
    ),
    "Llama Stack": (assistant({"tool_name": "find", "arguments": {}}), "'tool_name'"),
    "a name for a function": (assistant({"function": "find", "arguments": {}}), "'find'"),
    "calls as a text": (said("", tool_calls='[{"name": "find"}]'), "objects with a 'name'"),
    "no JSON": (said(b"bytes"), "no JSON"),
    "Kimi": (said("<|tool_calls_section_begin|>"), "<|tool_calls_section_begin|>"),
    "MiniMax": (said("<minimax:tool_call>"), "minimax"),
    "Claude's XML": (said('<invoke name="find">'), "<invoke"),
    "InternLM": (said("<|action_start|><|plugin|>{}"), "plugin"),
    "Command R": (said("<|START_ACTION|>[{}]"), "START_ACTION"),
    "Gemma": (said("```tool_code\nfind()\n```"), "tool_code"),
    "ReAct": (said("Thought: a\nAction: find\nAction Input: {}"), "Action: find"),
    "pythonic": (said('[find(q="x")]'), "[find("),
    "Llama's JSON": (said('{"name": "find", "parameters": {"q": "x"}}'), "JSON"),
    "OpenAI's calls as a text": (said(json.dumps([call("x")])), "JSON"),
    "blocks as a text": (said(json.dumps([{"name": "find", "input": {}}])), "JSON"),
    "a text": ("hello", "must be an object"),
    "no role": ({"content": "hello"}, "no role"),
}


@pytest.mark.parametrize("form", UNREAD)
def test_calls_in_a_form_that_is_not_read_are_refused_by_number_and_form(form: str) -> None:
    message, named = UNREAD[form]
    with pytest.raises(OrchError, match=r"^task 't': message 1: ") as caught:
        read(message, ANSWER)
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        f"<think>I could write {MARKUP} here.</think> It is 5.",
        [{"type": "text", "text": "It is "}, {"type": "text", "text": "5."}],
        "A tool call, or tool_calls, is a message with a function.",
        [
            {"type": "image_url", "image_url": {"url": "data:"}},
            {"type": "text", "text": "It is 5."},
        ],
        {"type": "text", "text": "It is 5."},
        [],
        '{"name": "Oslo", "rooms": [{"name": "A", "args": 1}]}',
        '{"args": {"a": 1}}',
        "[]",
        "[Oslo](a link) and [one more]",
    ],
)
def test_an_answer_that_only_speaks_of_calls_is_an_answer(content: Any) -> None:
    episode = read(
        {"role": "assistant", "content": content, "tool_calls": [], "function_call": None}
    )
    said = episode.turns[0].action.removeprefix(f"<think>I could write {MARKUP} here.</think> ")
    assert episode.final == said and episode.calls == ()


@pytest.mark.parametrize(
    "content",
    [
        "It is 5. ",
        "<think>It is 4.</think>\nIt is 5.",
        "It is 4.</think>It is 5.",
        "It is 4.</think>It is <think>not</think>5.</think>",
        "It is 5.<think>Or",
        "It <think>b</think>is 5.",
        "<think>a<think>b</think>It is 5.</think>",
        "<THINK>a</THINK>",
        "</think>",
    ],
)
def test_the_final_text_is_what_the_environment_takes_for_it(content: str) -> None:
    assert read(said(content)).final == HermesFormat().parse(content).content


def test_a_refusal_is_what_was_said() -> None:
    assert read(said(None, refusal="I cannot.")).final == "I cannot."


def test_an_empty_content_is_an_empty_answer() -> None:
    assert read(said([])).final == ""


def test_a_call_that_is_repeated_as_text_or_named_twice_is_one_call() -> None:
    named = {**call("x"), "tool_name": "find"}
    assert pairs(assistant(named, content=MARKUP), tool("X")) == [("x", "X")]


def test_one_block_that_stands_in_no_list_is_a_call() -> None:
    block = {"type": "tool_use", "id": "1", "name": "find", "input": {"q": "x"}}
    assert pairs(said(block), tool("X", "1")) == [("x", "X")]


def test_a_call_without_readable_arguments_is_malformed_and_not_empty() -> None:
    (only,) = read(
        assistant({"id": "a", "name": "find", "kwargs": {"q": "x"}}), tool("X", "a")
    ).calls
    assert only.error is ErrorType.MALFORMED_CALL


def test_every_field_of_every_form_may_be_anything() -> None:
    """Read, malformed or refused in one line: nothing else is raised."""
    odd: tuple[Any, ...] = (None, True, 7, "", "abc", [], ["a"], [None], {}, {"a": 1}, [[{}]])
    read_whole = refused = 0
    for messages in FORMS.values():
        for path in places(messages):
            for value in odd:
                try:
                    read(*put(messages, path, value))
                    read_whole += 1
                except OrchError as problem:
                    refused += 1
                    assert "\n" not in str(problem)
    assert min(read_whole, refused) > 100


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], (*path, key))


def put(root: Any, path: tuple[Any, ...], value: Any) -> Any:
    root = copy.deepcopy(root)
    inner = root
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return root
