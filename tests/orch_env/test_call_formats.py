"""Formats without a tag around each call: what they forgive, refuse, and that parsing is linear."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orch_env.env import ToolOrchestrationEnv
from orch_env.episodes.store import StoredEpisode
from orch_env.formats import format_names, get_format
from orch_env.formats.calls import MAX_CALLS
from orch_env.formats.openai import read_message
from orch_env.replay.play import play
from orch_env.replay.policies import GoldPolicy
from orch_env.replay.verify import Verifier, verify
from orch_env.types import ErrorType, ToolCall, ToolSpec

NAMES = ("llama3", "mistral", "pythonic", "granite", "openai")
MARKUP = re.split(
    " ",
    "<|python_tag|> <think> </think> [TOOL_CALLS] [ARGS] [CALL_ID] <|tool_call|> <tool_call> "
    "</tool_call> <|tool_call_start|> <|tool_call_end|> <function_calls> </function_calls> "
    '<|python_start|> [get(a= get(a=1) ``` ```json {"name": "parameters": "arguments": '
    '{"role": "tool_calls": {"name":"get","parameters":{}} [{"name":"get","arguments":{"a":1}}] '
    "[ ] { } ( ) , ; : = \" ' \\ \\u003c \\\" ''' ** None 1e999 -0 007 NaN .call( ] ) \ud800 é",
)
CALL = ToolCall("get", {"a": 1})


def as_json(calls: Any) -> str:
    return json.dumps([call.to_dict() for call in calls], allow_nan=False)


def any_text(rng: random.Random) -> str:
    return "".join(rng.choice([*MARKUP, "a", "\n", chr(rng.randrange(0x110000))]) for _ in range(3))


def any_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(8 if depth < 3 else 6)
    if kind < 3:
        return any_text(rng)
    if kind < 6:
        return rng.choice([None, True, False, -rng.getrandbits(70), rng.gauss(0, 1e9), -0.0, 1e-9])
    values = [any_value(rng, depth + 1) for _ in range(rng.randrange(3))]
    return values if kind == 6 else {any_text(rng): value for value in values}


def any_call(rng: random.Random) -> ToolCall:
    keys = [any_text(rng) if rng.random() < 0.3 else f"key_{n}" for n in range(rng.randrange(4))]
    name = any_text(rng) if rng.random() < 0.3 else "get-item.v2"
    return ToolCall(name, {key: any_value(rng) for key in keys})


@pytest.mark.parametrize("name", NAMES)
def test_any_call_rendered_and_parsed_is_the_same_call(name: str) -> None:
    rng, style = random.Random(7), get_format(name)
    for before in ["", "I look.", "{}", "["] * 60:
        made = [any_call(rng) for _ in range(rng.randint(1, 3))]
        written = style.render_calls(made)
        parsed = style.parse(f"{before}\n{written}")
        assert (parsed.content, parsed.problems) == (before, {})
        assert as_json(parsed.calls) == as_json(made)
        assert style.parse(written).calls == parsed.calls
        assert not style.is_plain(written)
        written.encode()


@pytest.mark.parametrize("name", NAMES)
def test_the_deepest_call_that_is_read_is_also_written(name: str) -> None:
    deepest: Any = 1
    for _ in range(62):
        deepest = [deepest]
    made = ToolCall("get", {"a": deepest})
    assert get_format(name).parse(get_format(name).render_calls([made])).calls == (made,)


@pytest.mark.parametrize("name", NAMES)
def test_calls_that_cannot_be_read_are_written_so_that_they_have_the_same_problem(
    name: str,
) -> None:
    unread: list[Any] = [{"name": 3}, 4, {"name": "get", "arguments": {"a": 1}}, None, {}]
    parsed = get_format(name).parse(get_format(name).render_unread(unread))
    assert parsed.calls[2] == CALL and list(parsed.problems) == [0, 1, 3, 4]
    assert parsed.problems[0] == '"name" must be a non-empty string'
    assert parsed.problems[1] == "the call must be a JSON object"


@pytest.mark.parametrize("name", NAMES)
def test_a_message_in_openais_shape_is_its_text_in_the_format(name: str) -> None:
    style = get_format(name)
    function = {"name": "get", "arguments": '{"a": 1}'}
    for content in ("I look.", style.render_calls([CALL]), None):
        message = {"content": content, "tool_calls": [{"id": "x1", "function": function}]}
        read = read_message(message, style)
        assert read.calls == (CALL,) and read.ids == {0: "x1"}
        if content != style.render_calls([CALL]):
            assert style.parse(read.text).calls == (CALL,)


def texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    written = [get_format(name).render_calls([CALL, ToolCall("x", {"s": "a\n"})]) for name in NAMES]
    found = []
    for _ in range(count):
        parts = [rng.choice([*MARKUP, " ", "\n", "x"]) for _ in range(rng.randint(0, 14))]
        if rng.random() < 0.5:
            whole = rng.choice(written)
            cut = rng.randrange(len(whole))
            parts.insert(rng.randint(0, len(parts)), whole[cut:] if rng.random() < 0.3 else whole)
            parts.append(whole[:cut] if rng.random() < 0.5 else "")
        found.append(rng.choice(["", " ", "\n"]).join(parts))
    return found


def check_any_text(name: str, text: str) -> None:
    style = get_format(name)
    parsed = style.parse(text)
    malformed = [n for n, c in enumerate(parsed.calls) if c.error is ErrorType.MALFORMED_CALL]
    assert parsed.text == text and malformed == list(parsed.problems)
    assert all(len(problem) < 250 for problem in parsed.problems.values())
    assert parsed.content == parsed.content.strip()
    good = [call for call in parsed.calls if call.ok]
    assert as_json(style.parse(style.render_calls(good)).calls) == as_json(good) or not good
    if style.is_plain(text):
        assert (parsed.calls, parsed.content) == ((), text.strip())


@pytest.mark.parametrize("name", NAMES)
def test_no_text_makes_parsing_raise_and_every_call_is_accounted_for(name: str) -> None:
    found = texts(600, seed=1)
    for text in found:
        check_any_text(name, text)
    assert sum(bool(get_format(name).parse(text).calls) for text in found) > 20


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_twenty_thousand_texts_are_read_without_an_error(name: str) -> None:
    for text in texts(20_000, seed=2):
        check_any_text(name, text)


FLOODS = {
    "llama3": [
        '{"name": "a", "parameters": {"x": [\n' * 30_000,
        '{"name": 1}\n' * 90_000,
        "<|python_tag|>a(b=" * 60_000,
        '<|python_tag|>a(b="' + "\\" * 1_000_000,
        "\n" * 1_000_000 + "{",
        "```" + " " * 1_000_000,
        '{"name": "a", "parameters": {}};' * 30_000,
        '{"name": "a"}' + " " * 1_000_000 + "x",
    ],
    "mistral": [
        "[TOOL_CALLS]" * 90_000,
        '[TOOL_CALLS]a[ARGS]{"x": "' * 40_000,
        "[TOOL_CALLS]" + "a" * 1_000_000,
        "[TOOL_CALLS]a[CALL_ID]" * 45_000,
        "[TOOL_CALLS]" + "[" * 1_000_000,
        '[TOOL_CALLS]{"name": "a"}' + " " * 1_000_000 + "x",
        "[TOOL_CALLS][" + '{"name": "a"},' * 70_000,
    ],
    "pythonic": [
        "[a(b=" * 200_000,
        "[a(b=1)](\n" * 90_000,
        "[a(b=[1\n" * 120_000,
        "<|tool_call_start|>[" + "a()," * 200_000,
        '<|tool_call_start|>[a(b="' * 40_000,
        "<|tool_call_start|>a(b='''" + "''x" * 300_000,
        "<function_calls>" + "(" * 1_000_000,
        "<|tool_call_start|>" + " " * 1_000_000 + '"' + "\\" * 1_000_001,
        "[ " * 500_000,
    ],
    "granite": [
        "<|tool_call|>" * 90_000,
        '<|tool_call|>[{"name": "' * 40_000,
        "<|tool_call|>```" + " " * 1_000_000,
        "</tool_call></think>" * 50_000,
    ],
    "openai": [
        '{"role": "tool_calls\n' * 20_000,
        '{"role": "a"}\n' * 20_000,
        '{"tool_calls": [' * 60_000,
        '{"tool_calls": [' + '{"name": "a"},' * 20_000 + "]}",
    ],
}


@pytest.mark.parametrize(("name", "flood"), [(n, f) for n, all_ in FLOODS.items() for f in all_])
def test_a_long_text_of_anything_is_read_in_linear_time(name: str, flood: str) -> None:
    started = time.perf_counter()
    parsed = get_format(name).parse(flood[:300_000])
    assert time.perf_counter() - started < 3
    assert len(parsed.calls) <= MAX_CALLS + 1


@pytest.mark.parametrize("name", NAMES)
def test_a_message_may_hold_256_calls_and_the_rest_is_one_malformed_call(name: str) -> None:
    parsed = get_format(name).parse(get_format(name).render_calls([CALL] * (MAX_CALLS + 9)))
    assert parsed.calls[:MAX_CALLS] == (CALL,) * MAX_CALLS
    assert len(parsed.calls) == MAX_CALLS + 1 and list(parsed.problems) == [MAX_CALLS]


READ = [
    ("llama3", '{"name": "get", "parameters": {"a": 1}}'),
    ("llama3", '{"name": "get", "arguments": {"a": 1}}'),
    ("llama3", '{"type": "function", "name": "get", "parameters": {"a": 1}}'),
    ("llama3", '[{"name": "get", "parameters": {"a": 1,},}]'),
    ("llama3", '```json\n{"name": "get", "parameters": {"a": 1}}\n```'),
    ("llama3", '```json\n{"name": "get", "parameters": {"a": 1,}}\n```'),
    ("granite", '<|tool_call|>```\n[{"name": "get", "arguments": {"a": 1}},]\n```\n'),
    ("llama3", 'hm</think>\n{"name": "get", "parameters": {"a": 1}}'),
    ("llama3", '<think>{"name": "no", "parameters": {}}</think>{"name": "get", "parameters": '
     '"{\\"a\\": 1}"}'),
    ("llama3", '<|python_tag|>{"name": "get", "parameters": {"a": 1}}'),
    ("llama3", "<|python_tag|>get.call(a=1)"),
    ("mistral", '[TOOL_CALLS][{"name": "get", "arguments": {"a": 1}, "id": "Ab3Ab3Ab3"}]'),
    ("mistral", '[TOOL_CALLS]get[ARGS]{"a": 1}'),
    ("mistral", '[TOOL_CALLS]get[CALL_ID]123456789[ARGS] {"a": 1}'),
    ("mistral", '[TOOL_CALLS]get{"a": 1}'),
    ("mistral", '[TOOL_CALLS] {"name": "get", "arguments": {"a": 1}}'),
    ("mistral", '[TOOL_CALLS] ```json\n[{"name": "get", "arguments": {"a": 1}}]\n```'),
    ("pythonic", "[get(a=1)]"),
    ("pythonic", "<|tool_call_start|>[get(a=1)]"),
    ("pythonic", "<|python_start|>[get(a=+1,)]<|python_end|>"),
    ("pythonic", "<function_calls>\nget(a=1)\n</function_calls>"),
    ("pythonic", '<|tool_call_start|>[{"name": "get", "arguments": {"a": 1}}]<|tool_call_end|>'),
    ("pythonic", "<think>[no()]</think>\n[ get ( a = 1 ) ]"),
    ("granite", '<|tool_call|>[{"name": "get", "arguments": {"a": 1}}]'),
    ("granite", '<tool_call>[{"name": "get", "arguments": {"a": 1}}]</tool_call>'),
    ("granite", '<|tool_call|> {"name": "get", "arguments": {"a": 1,}}'),
    ("openai", '{"role": "assistant", "tool_calls": [{"function": {"name": "get", "arguments": '
     '"{\\"a\\": 1}"}}]}'),
    ("openai", '{"tool_calls": [{"name": "get", "arguments": {"a": 1}},]}'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), READ)
def test_what_has_one_reading_is_read(name: str, text: str) -> None:
    parsed = get_format(name).parse(text)
    assert (parsed.calls, parsed.content) == ((CALL,), "")


TEXT = [
    ("llama3", '{"name": "Alice"}'),
    ("llama3", '{"answer": 5}'),
    ("llama3", '{"name": "get", "description": "Gets.", "parameters": {"type": "object"}}'),
    ("llama3", 'I would write {"name": "get", "parameters": {}} then.'),
    ("llama3", "{name: get"),
    ("mistral", '[{"name": "get", "arguments": {}}]'),
    ("pythonic", "[1, 2]"),
    ("pythonic", "[name()](https://example.org)"),
    ("pythonic", "f(x) = [g(1)]"),
    ("pythonic", "[get(1)]"),
    ("granite", '[{"name": "get", "arguments": {}}]'),
    ("openai", '{"answer": 5}'),
    ("openai", '{"role": "assistant", "content": 5}'),
]


@pytest.mark.parametrize(("name", "text"), TEXT)
def test_what_may_be_an_answer_is_no_call(name: str, text: str) -> None:
    parsed = get_format(name).parse(text)
    assert (parsed.calls, parsed.content) == ((), text)


REFUSED = [
    ("llama3", '{"name": "get", "parameters": {"a": 1}', "not valid JSON"),
    ("llama3", '{"name": "get", "parameters": [1]}', "must be a JSON object"),
    ("llama3", '{"name": "get", "parameters": {"a": NaN}}', "NaN"),
    ("llama3", "<|python_tag|>print(1)", "each argument needs its name"),
    ("llama3", "<|python_tag|>import os", "not valid JSON"),
    ("mistral", "[TOOL_CALLS]", "there is nothing"),
    ("mistral", "[TOOL_CALLS] []", "holds no call"),
    ("mistral", '[TOOL_CALLS]get[ARGS]{"a": }', "arguments are not valid JSON"),
    ("mistral", "[TOOL_CALLS]get[ARGS][1]", '"arguments" must be a JSON object'),
    ("pythonic", "<|tool_call_start|>[get(1)]<|tool_call_end|>", "needs its name"),
    ("pythonic", "[get(a=b)]", "'b' is no literal"),
    ("pythonic", "[get(a=open('x'))]", "'open' is no literal"),
    ("pythonic", "[get(a=1+2)]", "')' is expected"),
    ("pythonic", "[get(a={1, 2})]", "a key must be a string"),
    ("pythonic", "[get(a='x)]", "a string does not end"),
    ("pythonic", "[get(a=1e999)]", "out of range"),
    ("pythonic", "[get(a=007)]", "JSON"),
    ("pythonic", f"[get(a={'[' * 63}{']' * 63})]", "deeper than 64"),
    ("pythonic", "<|tool_call_start|>[get()] <|tool_call_end|> </function_calls>", ""),
    ("pythonic", "</function_calls>", "stands without a tag"),
    ("granite", '<|tool_call|>[{"name": "get"}', "not valid JSON"),
    ("granite", "</tool_call>", "stands without"),
    ("openai", '{"tool_calls": [{"name": "get"}', "not valid JSON"),
    ("openai", '{"tool_calls": {"name": "get"}}', "must be a list"),
]


@pytest.mark.parametrize(("name", "text", "why"), [case for case in REFUSED if case[2]])
def test_anything_else_is_one_malformed_call_that_says_why(name: str, text: str, why: str) -> None:
    parsed = get_format(name).parse(text)
    assert [call.error for call in parsed.calls] == [ErrorType.MALFORMED_CALL]
    assert why in parsed.problems[0]


def test_python_literals_are_read_as_python_reads_them() -> None:
    written = (
        r"""[get(s='it\'s \x41\u00e9\U0001F600\101\n\q', t='''a"b''', n=None, """
        r"""b=[True, false, null], k=({"x": -1.5e3},), one=(2), e="", a=0, a=1)]"""
    )
    (call,) = get_format("pythonic").parse(written).calls
    expected = {"s": "it's Aé😀A\n\\q", "t": 'a"b', "n": None, "b": [True, False, None]}
    assert call.arguments == {**expected, "k": [{"x": -1500.0}], "one": 2, "e": "", "a": 1}


def test_nothing_that_a_model_writes_is_evaluated(tmp_path: Any) -> None:
    trap = tmp_path / "made"
    for text in (
        f"[get(a=open({str(trap)!r}, 'w'))]",
        f"<|python_tag|>open({str(trap)!r}, 'w')",
        f"<|tool_call_start|>[__import__('pathlib').Path({str(trap)!r}).touch()]<|tool_call_end|>",
    ):
        for name in ("pythonic", "llama3"):
            assert not any(call.ok for call in get_format(name).parse(text).calls)
    assert not trap.exists()


@pytest.mark.parametrize("name", NAMES)
def test_the_tools_prompt_names_each_tool_and_its_example_is_no_call(name: str) -> None:
    tools = [ToolSpec("first_tool", "First [TOOL_CALLS] <think> tool."), ToolSpec("second_tool")]
    prompt = get_format(name).render_tools(tools)
    assert "first_tool" in prompt and "second_tool" in prompt
    assert "<think>" not in prompt
    assert not any(call.ok for call in get_format(name).parse(prompt).calls)


def test_the_page_shows_each_format_as_it_is_written_and_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "call-formats.md").read_text(encoding="utf-8")
    sections = re.split(r"^## `(\w+)`$", page, flags=re.MULTILINE)
    shown = dict(zip(sections[1::2], sections[2::2], strict=True))
    call = ToolCall("get", {"city": "Oslo"})
    assert shown.keys() == set(format_names())
    for name, section in shown.items():
        style = get_format(name)
        # A call of DeepSeek's holds a code fence, so a block that runs shows it.
        due = [] if name == "deepseek" else [style.render_calls([call])]
        due.append(style.render_results(['{"temperature": 4}'], ["get"]))
        blocks = re.findall(r"^```text\n(.*?)\n```$", section, re.DOTALL | re.MULTILINE)
        assert blocks == due[: len(blocks)] and blocks
        assert f"| `{name}` |" in page


@pytest.fixture(scope="module")
def harbour() -> Iterator[ToolOrchestrationEnv]:
    env = ToolOrchestrationEnv("harbour")
    yield env
    env.close()


@pytest.mark.parametrize("name", format_names())
def test_episodes_of_each_format_are_paid_and_replay_alike(
    name: str, harbour: ToolOrchestrationEnv
) -> None:
    task = harbour.tasks[0]
    env = ToolOrchestrationEnv.from_backend([task], harbour.backend, call_format=name)
    play(env, GoldPolicy(get_format(name)), task)
    assert env.episode.reward is not None and env.episode.reward.total == 1.0
    stored = [StoredEpisode(env.episode, task, env.settings)]
    env.reset(options={"task_id": task.id})
    first = task.gold[0][0]
    good = {"name": first.name, "arguments": json.dumps(first.arguments)}
    markup = {"name": first.name, "arguments": json.dumps({"q": " ".join(MARKUP)})}
    for functions in ([good, {"name": 3}], [markup], []):
        calls = [{"id": f"c{n}", "function": f} for n, f in enumerate(functions)]
        env.step_message({"content": "I look.", "tool_calls": calls})
    errors = [e.call.error for turn in env.episode.turns for e in turn.exchanges]
    assert errors == [None, ErrorType.MALFORMED_CALL, ErrorType.INVALID_ARGUMENTS]
    stored.append(StoredEpisode(env.episode, task, env.settings))
    assert verify(Verifier(harbour.backend), stored) is None
