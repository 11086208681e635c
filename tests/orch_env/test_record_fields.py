"""Fields of tasks, tools and episodes: a value of a wrong JSON type is one line, never a crash."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orch_env.episodes import StoredEpisode
from orch_env.rewards.presets.paper.completion import ReferenceCase
from orch_env.tasks.resolved import offered_tool
from orch_env.types import OrchError, Task, ToolSpec
from orch_env.types.episode import error_of_text

TASK: dict[str, Any] = {
    "schema": 1,
    "id": "t",
    "today": "2024-10-13",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Find."}]}],
    "followups": ["And then?", {"role": "user", "content": "Bye."}],
    "after_followup": [0, 1],
    "tools": [
        "search",
        {
            "name": "find",
            "description": "d",
            "parameters": {
                "type": "object",
                "properties": {"q": {"type": "string"}},
                "required": ["q"],
            },
            "aliases": ["Find"],
        },
    ],
    "gold": [
        [{"name": "search", "arguments": {}, "optional": False, "response": "00"}],
        [
            {
                "name": "find",
                "arguments": {"q": "a,b"},
                "depends_on": [0],
                "provenance": {
                    "/q": {
                        "kind": "composite",
                        "parts": [{"kind": "output", "call": 0, "path": "/a"}, {"kind": "query"}],
                    }
                },
            }
        ],
    ],
    "servers": ["harbour"],
    "seed": 3,
    "answer": None,
    "final_state": None,
    "metadata": {"domain": "d"},
}
EPISODE: dict[str, Any] = {
    "schema": 1,
    "task_id": "t",
    "seed": 3,
    "turns": [
        {
            "action": "a",
            "calls": [{"name": "find", "arguments": {"q": "x"}, "error": None}],
            "results": ["{}"],
            "observation": "o",
        }
    ],
    "final": "done",
    "stop_reason": "answered",
    "reward": {
        "total": 1.0,
        "components": {"a": 1.0},
        "calls": [
            {
                "turn": 0,
                "index": 0,
                "gold": 1,
                "atomic": 1.0,
                "orchestration": 1.0,
                "arguments": {"/q": "equal"},
                "why": "w",
                "credit": 1.0,
            }
        ],
        "turns": [1.0],
        "base": 0.0,
    },
    "task": TASK,
    "settings": {"call_format": "hermes", "max_turns": 20},
}
WRONG: tuple[Any, ...] = (None, True, 0, 7, -1.5, "", "abc", [], ["abc"], [None], {}, {"a": 1})

# What may hold any JSON value; and the calls of a model, which are read as malformed.
ANYTHING = {"answer", "final_state", "arguments", "parameters", "metadata", "text", "calls"}
TWO_FORMS = {"followups", "tools", "content"}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every field and entry below a value: the way to it, and what stands there."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield (*path, key), value[key]
            yield from places(value[key], (*path, key))


def spoilt(record: dict[str, Any], path: tuple[Any, ...], wrong: Any) -> dict[str, Any]:
    copied = copy.deepcopy(record)
    inner: Any = copied
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = copy.deepcopy(wrong)
    return copied


def same_type(one: Any, other: Any) -> bool:
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return (numbers and bool not in (type(one), type(other))) or type(one) is type(other)


@pytest.mark.parametrize(
    ("record", "read"),
    [(TASK, Task.from_dict), (EPISODE, StoredEpisode.from_dict)],
    ids=["task", "episode"],
)
def test_every_field_with_every_wrong_type_is_refused_in_one_line(
    record: dict[str, Any], read: Callable[[Any], Any]
) -> None:
    read(record)
    kept, refused = [], 0
    for path, right in places(record):
        for wrong in WRONG:
            try:
                read(spoilt(record, path, wrong))
            except OrchError as problem:
                refused += 1
                assert "\n" not in str(problem)
            else:
                free = not {*ANYTHING, *TWO_FORMS}.isdisjoint(path) or path[:2] == (
                    "settings",
                    path[-1],
                )
                if wrong is not None and not same_type(right, wrong) and not free:
                    kept.append((path, wrong))
    assert refused > 200 and kept == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", "search"),
        ("followups", "abc"),
        ("servers", "abc"),
        ("gold", "abc"),
        ("gold", ["abc"]),
        ("gold", [[{"name": "a"}], [{"name": "b", "depends_on": "0"}]]),
        ("gold", [[{"name": "a", "optional": "false"}]]),
        ("gold", [[{"name": "a", "arguments": [["q", "x"]]}]]),
        ("metadata", [["domain", 1]]),
        ("tools", [{"name": "a", "aliases": "abc"}]),
        ("tools", [{"name": "a", "parameters": {"type": "object", "required": "q"}}]),
        ("tools", [{"name": "a", "parameters": []}]),
        ("messages", []),
    ],
)
def test_a_text_is_no_list_and_pairs_are_no_object(field: str, value: Any) -> None:
    with pytest.raises(OrchError, match=r"^task 't': ") as caught:
        Task.from_dict({**TASK, "gold": [], field: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ([0], "needs one number per gold step, got 1 for 2 steps"),
        ([0, 0, 1], "needs one number per gold step, got 3 for 2 steps"),
        ([-1, 0], "entry 0 is -1: it must be at least 0"),
        ([1, 0], "entry 1 is 0: it must be at least 1, as the numbers may not fall"),
        ([0, 3], "entry 1 is 3: .* at most 2, the number of follow-ups"),
        ([0, 1.0], "entry 1 must be a whole number, got 1.0"),
        ([0, True], "entry 1 must be a whole number, got True"),
        (1, "must be a list, got 1"),
    ],
)
def test_times_of_gold_steps_that_cannot_be_are_refused(after: Any, why: str) -> None:
    with pytest.raises(OrchError, match=f"^task 't': 'after_followup' {why}") as caught:
        Task.from_dict({**TASK, "after_followup": after})
    assert "\n" not in str(caught.value)


def test_a_task_without_times_keeps_its_bytes() -> None:
    timed = Task.from_dict(TASK)
    assert timed.to_dict()["after_followup"] == [0, 1] and Task.from_dict(timed.to_dict()) == timed
    untimed = Task.from_dict({**TASK, "after_followup": []})
    assert "after_followup" not in untimed.to_dict()
    assert [untimed.followups_before(n) for n in (0, 1)] == [0, 0]


def test_every_call_of_a_step_waits_for_the_step_s_follow_up() -> None:
    find = TASK["gold"][1][0]
    gold = [TASK["gold"][0], [], [find, find], [find]]
    task = Task.from_dict({**TASK, "gold": gold, "after_followup": [0, 1, 1, 2]})
    assert [task.followups_before(n) for n in range(4)] == [0, 1, 1, 2]
    assert task.opening_query == "Find." and task.query == "Find.\nAnd then?\nBye."


def test_a_tool_that_is_offered_twice_is_refused() -> None:
    with pytest.raises(OrchError, match="tool 'search' is offered twice"):
        Task.from_dict({**TASK, "tools": ["search", {"name": "search"}]})


def test_an_episode_stored_with_another_task_is_refused() -> None:
    with pytest.raises(OrchError, match="episode of task 't' is stored with task 'u'"):
        StoredEpisode.from_dict({**EPISODE, "task": {**TASK, "id": "u"}})


def test_the_published_reward_s_cases_are_read_or_refused_in_one_line() -> None:
    case = {
        "id": "c",
        "weights": {"atomic": 1, "orchestration": 1},
        "task": {
            "query": "Find.",
            "tools": [TASK["tools"][1]],
            "steps": [{"name": "find", "arguments": {"q": "x"}, "depends_on": []}],
        },
        "completion": "done",
    }
    ReferenceCase.from_dict(case)
    for path, _ in places(case):
        for wrong in WRONG:
            try:
                ReferenceCase.from_dict(spoilt(case, path, wrong))
            except OrchError as problem:
                assert "\n" not in str(problem)


# -- the forms of a tool -----------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
NAMED = {"name": "find", "description": "d"}
PLAIN = {**NAMED, "parameters": SCHEMA}
MORE = {"type": "object"}
FORMS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "OpenAI": {"type": "function", "function": PLAIN},
    "Responses": {"type": "function", **PLAIN, "strict": True},
    "MCP": {**NAMED, "title": "Find", "inputSchema": SCHEMA, "outputSchema": MORE},
    "Anthropic": {"type": "custom", **NAMED, "input_schema": SCHEMA, "cache_control": MORE},
    "Bedrock": {**NAMED, "inputSchema": {"json": SCHEMA}},
    "OpenAI, half outside": {"type": "function", "function": NAMED, "parameters": SCHEMA},
    "twice the same": {**PLAIN, "inputSchema": SCHEMA},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_tool_in_every_usual_form_keeps_its_arguments(form: str) -> None:
    assert ToolSpec.from_dict(FORMS[form]) == ToolSpec("find", "d", SCHEMA)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"parameters": None},
        {"parameters": {}},
        {"inputSchema": {}},
        {"strict": True, "title": "Find", "annotations": {"readOnlyHint": True}},
        {"outputSchema": {"type": "object"}, "returns": "a text", "response_schema": {}},
        {"type": "function", "target": "x"},
    ],
)
def test_a_tool_that_names_no_schema_takes_no_arguments(more: dict[str, Any]) -> None:
    assert ToolSpec.from_dict({"name": "now", **more}).parameters == {
        "type": "object",
        "properties": {},
    }


@pytest.mark.parametrize(
    "key", ["args_schema", "schema", "args", "inputs", "arguments", "properties", "inputschema"]
)
def test_arguments_under_a_key_that_is_not_read_are_refused_by_that_key(key: str) -> None:
    with pytest.raises(OrchError, match=f"tool 'find'.*'{key}', which is not read"):
        ToolSpec.from_dict({"name": "find", key: SCHEMA})


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"name": "find", "parameters": SCHEMA, "inputSchema": {"type": "object"}}, "given twice"),
        ({"name": "bash", "type": "bash_20250124"}, "'bash_20250124' without 'parameters'"),
        ({"type": "web_search"}, "needs a non-empty string 'name'"),
        ({"name": "find", "aliases": "abc"}, "'aliases' must be a list, got 'abc'"),
        ({"name": "find", "description": ["a"]}, "'description' must be a text"),
        ({"name": "find", "parameters": {"properties": ["q"]}}, "'properties' must be an object"),
        ("find", "must be a JSON object"),
        (None, "must be a JSON object"),
    ],
)
def test_what_is_no_tool_says_why(data: Any, why: str) -> None:
    with pytest.raises(OrchError, match=why):
        ToolSpec.from_dict(data)


@pytest.mark.parametrize("form", FORMS)
def test_whether_a_tool_is_read_only_is_kept_in_files_and_shown_to_no_model(form: str) -> None:
    plain = ToolSpec.from_dict(FORMS[form])
    for nothing in (None, {}, [True], {"readOnlyHint": "yes"}, {"title": "Find"}):
        spec = ToolSpec.from_dict({**FORMS[form], "annotations": nothing})
        assert spec.to_dict() == plain.to_dict()
    for hint in (True, False):
        hints = {"readOnlyHint": hint, "idempotentHint": True}
        spec = ToolSpec.from_dict({**FORMS[form], "annotations": hints})
        assert spec.to_dict() == {**plain.to_dict(), "annotations": {"readOnlyHint": hint}}
        assert ToolSpec.from_dict(spec.to_dict()).read_only is hint
        assert spec.to_openai() == plain.to_openai()
        offered = [offered_tool(one) for one in (spec, plain)]  # alive at once, so they may share
        assert [tool.spec.read_only for tool in offered] == [hint, None]


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ('{"error": {}}', False),
        ('{"error": []}', False),
        ('{"error": null}', False),
        ('{"error": {"code": 5}}', True),
        ('{"error": {"type": []}}', True),
        ('{"error": {"type": {}}}', True),
        ('{"error": "no"}', True),
        ('{"error": {}, "status": false}', True),
    ],
)
def test_an_error_is_a_truthy_one(text: str, failed: bool) -> None:
    assert (error_of_text(text) is not None) is failed
