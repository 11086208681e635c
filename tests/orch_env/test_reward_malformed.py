"""Whatever a model or a record holds, every reward gives a finite total in its documented range.

The ways in: stored episodes, OpenAI messages, the environment's call format, and completions as the
published reward reads them. Each breakdown must be JSON that any reader takes (no NaN).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume
from hypothesis import strategies as st

from orch_env import Episode, GoldCall, Task, ToolCall, ToolOrchestrationEnv, Turn, make_reward
from orch_env.formats import get_format
from orch_env.rewards.presets.catalogue import PRESETS
from orch_env.rewards.presets.paper import PaperReward
from orch_env.rewards.presets.paper.completion import episode_of_completion
from orch_env.types import ErrorType, OrchError, RewardBreakdown
from tests.orch_env.property_tiers import hold
from tests.orch_env.reward_world import World, make_world, output_of
from tests.orch_env.reward_worlds import abstentions, tool_specs, worlds

REWARDS = {name: make_reward(name) for name in PRESETS}

HUGE = 10**400
DEEP = 10_000
MANY = 3_000


def deep_list(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def small_tasks() -> dict[str, World]:
    """One task of each kind: with schemas and without, with goals, and one that needs no call."""
    find = GoldCall("find", {"key": "word0x", "page": 1})
    book = GoldCall(
        "book",
        {"of": "id0x", "legs": [{"from": "id0x", "seats": 2}]},
        depends_on=(0,),
        provenance={"/of": output_of(0), "/legs/0/from": output_of(0)},
    )
    plain = make_world([[find], [book]], ['{"id": "id0x"}', "{}"], "word0x")
    answered = make_world([[find], [book]], plain.results, "word0x", answer=42)
    change = {"desk": {"bookings": {"b1": {"seats": 2}}}}
    stateful = Task.from_dict({**answered.task.to_dict(), "final_state": change})
    return {
        "named tools": plain,
        "whole tools": World(plain.task.with_tools(tool_specs()), plain.results),
        "with goals": World(stateful, plain.results, {1: change}),
        "no calls needed": make_world([], []),
    }


TASKS = small_tasks()


def check(task: Task, episode: Episode) -> None:
    """Every preset scores the episode, in its documented range."""
    for name, reward in REWARDS.items():
        in_range(name, reward(task, episode))


def in_range(name: str, breakdown: RewardBreakdown) -> None:
    preset = PRESETS[name]
    low, high = preset.range
    assert math.isfinite(breakdown.total) and low <= breakdown.total <= high, name
    ranges = {part.name: (part.low, part.high) for part in preset.components}
    for part, value in breakdown.components.items():
        assert math.isfinite(value), (name, part)
        least, most = ranges[part]
        assert least <= value <= most + 1e-12, (name, part, value)
    if breakdown.turns is not None:
        shares = math.fsum([breakdown.base, *breakdown.turns])
        assert shares == pytest.approx(breakdown.total, abs=1e-9 * max(1, len(breakdown.calls)))
    again = json.loads(json.dumps(breakdown.to_dict(), allow_nan=False))
    assert RewardBreakdown.from_dict(again) == breakdown


# -- stored episodes -------------------------------------------------------------------------

GOOD = {"name": "find", "arguments": {"key": "word0x", "page": 1}, "error": None}

ODD_CALLS: dict[str, Any] = {
    "null": None,
    "a number": 3,
    "a text": "find",
    "a list": ["find", {}],
    "no name": {"arguments": {}},
    "an empty name": {"name": "", "arguments": {}},
    "a name that is no text": {"name": 7, "arguments": {}},
    "arguments as a text": {"name": "find", "arguments": '{"key": "word0x"}'},
    "arguments as broken text": {"name": "find", "arguments": '{"key": '},
    "arguments as a list": {"name": "find", "arguments": [1, 2]},
    "arguments missing": {"name": "find"},
    "arguments null": {"name": "find", "arguments": None},
    "NaN": {"name": "find", "arguments": {"page": math.nan, "key": math.inf}},
    "a huge integer": {"name": "find", "arguments": {"page": HUGE, "key": -HUGE}},
    "a huge float": {"name": "find", "arguments": {"page": 1e308 * 10, "price": -1e308}},
    "deep arguments": {"name": "book", "arguments": {"of": deep_list(DEEP)}},
    "lone surrogates": {"name": "find\udcff", "arguments": {"key\ud800": "\udfff"}},
    "a lone surrogate as a value": {"name": "find", "arguments": {"key": "\ud83c"}},
    "empty keys": {"name": "find", "arguments": {"": "", "/": 1, "~": 2, "~1": 3}},
    "a nul": {"name": "find", "arguments": {"key": "\x00"}},
    "a very long text": {"name": "find", "arguments": {"key": "word0x " * 20_000}},
    "many arguments": {"name": "find", "arguments": {f"a{i}": i for i in range(2_000)}},
    "containers for scalars": {"name": "book", "arguments": {"of": {}, "legs": {"0": []}}},
    "scalars for containers": {"name": "book", "arguments": {"of": "id0x", "legs": "id0x"}},
}

ODD_RESULTS: dict[str, Any] = {
    "not JSON": ["<html>500</html>"],
    "an empty text": [""],
    "a number": ["3"],
    "NaN": ['{"id": NaN, "x": Infinity}'],
    "a huge integer": ['{"id": 1' + "0" * 400 + "}"],
    "more digits than Python reads": ['{"id": ' + "9" * 5_000 + "}"],
    "deep": ["[" * DEEP + "]" * DEEP],
    "deep and cut off": ['{"a":' * DEEP],
    "lone surrogates": ['{"id": "\\ud800"}', '{"id": "\ud800"}'],
    "duplicate keys": ['{"id": "id0x", "id": "other"}'],
    "none": [],
}


def stored(calls: list[Any], results: list[Any]) -> Episode:
    turns = [
        {"action": "", "calls": calls, "results": results, "observation": ""},
        {"action": "", "calls": [GOOD], "results": ["{}"], "observation": ""},
    ]
    return Episode.from_dict({"task_id": "t", "turns": turns, "final": "42"})


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("odd", ODD_CALLS)
def test_a_stored_call_of_any_shape_is_scored(odd: str, kind: str) -> None:
    check(TASKS[kind].task, stored([ODD_CALLS[odd]], ["{}"]))
    check(TASKS[kind].task, stored([ODD_CALLS[odd]] * 3, ['{"id": "id0x"}']))


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("odd", ODD_RESULTS)
def test_results_of_any_shape_and_number_are_scored(odd: str, kind: str) -> None:
    book = {"name": "book", "arguments": {"of": "id0x", "legs": [{"from": "id0x", "seats": 2}]}}
    check(TASKS[kind].task, stored([GOOD, book], ODD_RESULTS[odd]))


@pytest.mark.parametrize(
    ("results", "why"),
    [
        (["{}"] * 3, "3 results for 2 calls"),
        ([None], "'results' entry 0 must be a text"),
        ([3], "'results' entry 0 must be a text"),
        ("{}", "'results' must be a list"),
    ],
)
def test_results_that_would_be_lost_are_refused(results: Any, why: str) -> None:
    with pytest.raises(OrchError, match=why):
        stored([GOOD, GOOD], results)


@pytest.mark.parametrize("odd", ["null", "a number", "a text", "a list"])
def test_what_is_no_object_is_a_call_that_could_not_be_read(odd: str) -> None:
    assert ToolCall.from_dict(ODD_CALLS[odd]) == ToolCall("", {}, ErrorType.MALFORMED_CALL)


def test_arguments_as_a_text_are_read_and_other_arguments_are_malformed() -> None:
    read = {odd: ToolCall.from_dict(ODD_CALLS[odd]) for odd in ODD_CALLS}
    assert read["arguments as a text"] == ToolCall("find", {"key": "word0x"})
    assert read["arguments missing"] == read["arguments null"] == ToolCall("find", {})
    for odd in ("arguments as broken text", "arguments as a list"):
        assert read[odd] == ToolCall("find", {}, ErrorType.MALFORMED_CALL)


def test_an_error_type_that_no_environment_gives_is_a_broken_record() -> None:
    with pytest.raises(OrchError, match="'burnt' is not a valid ErrorType"):
        stored([{"name": "find", "error": "burnt"}], ["{}"])


@pytest.mark.parametrize("kind", ["with goals", "no calls needed"])
def test_thousands_of_calls_are_scored(kind: str) -> None:
    task = TASKS[kind].task
    same = ToolCall("find", {"key": "word0x", "page": 1})
    each = [ToolCall("find", {"key": f"word{n}x", "page": n}) for n in range(MANY)]
    errors = [ToolCall("", {}, ErrorType.MALFORMED_CALL)] * MANY
    for calls in ([same] * MANY, each, errors):
        one_message = Turn.of("", tuple(calls), ("{}",) * MANY)
        check(task, Episode("t", turns=(one_message,)))
        check(task, Episode("t", turns=tuple(Turn.of("", (c,), ("{}",)) for c in calls)))


def test_an_episode_without_turns_is_scored() -> None:
    for world in TASKS.values():
        for final in (None, "", "42", "\udcff", "[" * DEEP, "9" * 5_000, "NaN"):
            check(world.task, Episode("t", final=final))


@pytest.mark.parametrize(
    "state",
    [None, {}, [], 3, "done", {"desk": None}, {"desk": {"bookings": 3}}, {"desk": [1]},
     {"desk": {"bookings": {"b1": "text"}}}, {"": {"": {"": None}}}, deep_list(DEEP),
     {"desk": {"bookings": {"b1": {"seats": math.nan}}}}],
)  # fmt: skip
def test_a_state_of_any_shape_is_scored(state: Any) -> None:
    for world in TASKS.values():
        check(world.task, Episode("t", turns=(Turn.of("done"),), final="42", state=state))


# -- messages, markup and completions --------------------------------------------------------

ODD_BODIES: dict[str, str] = {
    "empty": "",
    "not JSON": "find(key=word0x)",
    "a list": '[{"name": "find", "arguments": {}}]',
    "a number": "17",
    "null": "null",
    "cut off": '{"name": "find", "arguments": {"key": "wo',
    "arguments as a text": '{"name": "find", "arguments": "{\\"key\\": \\"word0x\\"}"}',
    "arguments as twice a text": json.dumps({"name": "find", "arguments": json.dumps('{"a": 1}')}),
    "NaN": '{"name": "find", "arguments": {"key": NaN, "page": -Infinity}}',
    "a huge integer": '{"name": "find", "arguments": {"page": 1' + "0" * 400 + "}}",
    "more digits than Python reads": '{"name": "find", "arguments": {"page": ' + "9" * 5_000 + "}}",
    "an exponent": '{"name": "find", "arguments": {"page": 1e400}}',
    "duplicate keys": '{"name": "x", "name": "find", "arguments": {"key": 1, "key": "word0x"}}',
    "deep": '{"name": "find", "arguments": {"key": ' + "[" * DEEP + "]" * DEEP + "}}",
    "deep objects": '{"name": "find", "arguments": ' + '{"a":' * DEEP + "1" + "}" * DEEP + "}",
    "deep and cut off": '{"name": "find", "arguments": {"key": ' + "[" * DEEP,
    "lone surrogates": '{"name": "find\\ud800", "arguments": {"key": "\\udfff", "\ud800": 1}}',
    "an empty name": '{"name": "", "arguments": {}}',
    "a name that is no text": '{"name": {"a": 1}, "arguments": {}}',
    "arguments as a list": '{"name": "find", "arguments": [1]}',
    "markup inside": '{"name": "find", "arguments": {"key": "<tool_response>word0x"}}',
}


def openai(body: str) -> Mapping[str, Any]:
    """The body's name and argument text as a structured call, or the text itself as arguments."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {"function": {"name": "find", "arguments": body}}
    if not isinstance(value, dict):
        return {"function": value}
    return {"function": {"name": value.get("name"), "arguments": value.get("arguments")}}


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("odd", ODD_BODIES)
def test_calls_written_in_any_way_are_scored(odd: str, kind: str) -> None:
    task, body = TASKS[kind].task, ODD_BODIES[odd]
    text = f"<tool_call>\n{body}\n</tool_call>"
    calls = get_format("hermes").parse(text * 2).calls
    check(task, Episode("t", turns=(Turn.of(text, calls, ("{}",) * len(calls)),), final="x"))
    for completion in (text, f"{text}\n<tool_response>\n{body}\n</tool_response>", text[:-5]):
        check(task, episode_of_completion(task, completion))
        in_range("paper", PaperReward().score_completion(task, completion))
    answers = [
        {"role": "tool", "content": body},
        {"role": "tool", "tool_call_id": "a", "content": None},
        {"role": "tool", "content": [{"text": body}, {"text": "more"}]},
    ]
    for wrap in ({"id": "a", **openai(body)}, body, None, [body], {"function": body}):
        message = {"role": "assistant", "content": body, "tool_calls": [wrap]}
        for answer in answers:
            check(task, Episode.from_messages(task, [message, answer]))
        check(task, Episode.from_messages(task, [message, message]))


@pytest.mark.parametrize("name", PRESETS)
def test_the_environment_pays_for_any_action_text(name: str) -> None:
    env = ToolOrchestrationEnv("harbour", split="heldout", reward=name, max_turns=len(ODD_BODIES))
    env.reset(seed=0)
    total = 0.0
    for body in ODD_BODIES.values():
        action = f"<tool_call>\n{body}\n</tool_call>"
        _, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        if terminated or truncated:
            break
    low, high = PRESETS[name].range
    assert math.isfinite(total) and low <= total <= high
    env.close()


# -- anything at all -------------------------------------------------------------------------

_TEXT = st.text(st.characters(), max_size=8)
_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.just(HUGE) | st.floats() | _TEXT
    | st.sampled_from(["find", "book", "word0x", "id0x", 1, 2.0])
)  # fmt: skip
_KEYS = st.sampled_from(["name", "arguments", "function", "key", "of", "legs", "page"]) | _TEXT
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)
_CALLS = st.builds(
    lambda name, arguments: {"name": name, "arguments": arguments},
    st.sampled_from(["find", "list", "book", "pay", "weather", ""]),
    st.dictionaries(_KEYS, _ANYTHING, max_size=4),
)


def test_any_record_is_scored(examples: int) -> None:
    def body(world: World, calls: list[Any], results: list[Any], final: Any, state: Any) -> None:
        given = [call for call in calls if isinstance(call, dict)]
        # Errors are the environment's; a call named by "function" is of a form that is refused.
        assume(not any("error" in c or isinstance(c.get("function"), str) for c in given))
        texts = [r if isinstance(r, str) else _dumped(r) for r in results[: len(calls)]]
        turns = [{"calls": calls, "results": texts}, {"action": final, "calls": []}]
        record = {"task_id": "t", "turns": turns, "final": final, "state": state}
        check(world.task, Episode.from_dict(record))
        messages = [
            {"role": "assistant", "content": final, "tool_calls": calls},
            *({"role": "tool", "content": result} for result in results[: len(calls)]),
            {"role": "assistant", "content": final},
        ]
        check(world.task, Episode.from_messages(world.task, messages))

    hold(
        examples,
        body,
        worlds(most_calls=4) | abstentions(),
        st.lists(_CALLS | _ANYTHING, max_size=5),
        st.lists(_TEXT | _ANYTHING, max_size=6),
        st.none() | _TEXT,
        _ANYTHING,
    )


def test_any_text_is_scored(examples: int) -> None:
    marks = st.sampled_from(
        ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "\n",
         '{"name": "find", "arguments": {"key": "word0x"}}', '{"id": "id0x"}', "{", "}", "[", '"']
    )  # fmt: skip
    texts = st.lists(marks | _TEXT | _ANYTHING.map(_dumped), max_size=14).map("".join)

    def body(world: World, text: str) -> None:
        in_range("paper", PaperReward().score_completion(world.task, text))
        check(world.task, episode_of_completion(world.task, text))
        calls = get_format("hermes").parse(text).calls
        check(world.task, Episode("t", turns=(Turn.of(text, calls),)))

    hold(examples, body, worlds(most_calls=4) | abstentions(), texts)


def _dumped(value: Any) -> str:
    return json.dumps(value)
