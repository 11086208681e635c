"""The replay backend: the order of its checks, repairable errors, and pinned variants in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.backends.protocol import BackendSession, ToolBackend
from orch_env.backends.replay import ReplayBackend
from orch_env.cache import open_cache
from orch_env.types import ErrorType, GoldCall, OrchError, Task, ToolCall, ToolResult, ToolSpec

HOTELS = ToolSpec(
    "find_hotels",
    "Find hotels.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "integer"},
            "sort": {"type": "string", "enum": ["price", "stars"]},
            "rooms": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"adults": {"type": "integer"}},
                    "required": ["adults"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["city"],
    },
    aliases=("Find(Hotels)",),
)
BOOK = ToolSpec("book", "Book a room.")


@pytest.fixture
def digests(tmp_path: Path) -> dict[str, str]:
    with open_cache(tmp_path / "c.db", write=True) as cache:
        cache.put_tool(HOTELS)
        cache.put_tool(BOOK)
        texts = {text: cache.put("find_hotels", {"city": 7}, text) for text in ("old", "new")}
        texts["odd"] = cache.put("find_hotels", {"town": "Oslo"}, "odd")
        texts["refused"] = cache.put("book", {}, '{"error": "full"}', is_error=True)
    return texts


@pytest.fixture
def backend(tmp_path: Path, digests: dict[str, str]) -> ReplayBackend:
    return ReplayBackend(open_cache(tmp_path / "c.db"))


def a_task(*gold: GoldCall, tools: tuple[str | ToolSpec, ...] = ("find_hotels", "book")) -> Task:
    steps = tuple((call,) for call in gold)
    return Task(id="t", messages=({"role": "user", "content": "x"},), tools=tools, gold=steps)


def ask(backend: ToolBackend, name: str, arguments: dict[str, Any], task: Task | None = None):
    return backend.open(task or a_task(), seed=0).answer([ToolCall(name, arguments)])[0]


def details(result: ToolResult) -> dict[str, Any]:
    error = json.loads(result.text)["error"]
    assert set(error) == {"type", "message", "details"} and error["type"] == result.error
    assert error["message"]
    return dict(error["details"])


def test_a_recorded_call_is_answered_byte_for_byte(backend: ReplayBackend) -> None:
    for arguments in ({"city": 7}, {"city": "7"}, {"city": 7.0}):
        assert ask(backend, "find_hotels", arguments) == ToolResult("old")
    assert ask(backend, "Find(Hotels)", {"city": 7}) == ToolResult("old")


def test_the_recording_is_the_truth_even_where_the_schema_disagrees(
    backend: ReplayBackend,
) -> None:
    assert ask(backend, "find_hotels", {"town": "Oslo"}) == ToolResult("odd")
    assert ask(backend, "find_hotels", {"town": "Rome"}).error is ErrorType.INVALID_ARGUMENTS


def test_a_recorded_error_is_a_tool_error(backend: ReplayBackend) -> None:
    assert ask(backend, "book", {}) == ToolResult('{"error": "full"}', ErrorType.TOOL_ERROR)


def test_an_unknown_tool_gets_the_nearest_names(backend: ReplayBackend) -> None:
    result = ask(backend, "find_hotel", {})
    assert result.error is ErrorType.UNKNOWN_TOOL
    assert details(result) == {
        "did_you_mean": ["find_hotels"],
        "available": ["find_hotels", "book"],
    }


def test_a_tool_that_the_task_does_not_offer_is_unknown_though_recorded(
    backend: ReplayBackend,
) -> None:
    result = ask(backend, "book", {}, a_task(tools=("find_hotels",)))
    assert result.error is ErrorType.UNKNOWN_TOOL


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({}, {"missing": ["city"]}),
        (
            {"city": "Oslo"},
            {"wrong_type": [{"at": "/city", "expected": "integer", "got": '"Oslo"'}]},
        ),
        ({"city": 3, "sorts": "price"}, {"unknown": [{"name": "sorts", "did_you_mean": "sort"}]}),
        ({"city": 3, "CITY": 3}, {"unknown": [{"name": "CITY", "did_you_mean": "city"}]}),
        (
            {"city": 3, "sort": "name"},
            {"not_allowed": [{"at": "/sort", "allowed": ["price", "stars"], "got": '"name"'}]},
        ),
        ({"city": 3, "rooms": [{"adults": 2}, {}]}, {"missing": ["rooms/1/adults"]}),
        (
            {"city": 3, "rooms": [{"adults": 2, "Adult": 1}]},
            {"unknown": [{"name": "rooms/0/Adult", "did_you_mean": "adults"}]},
        ),
        (
            {"city": True, "rooms": [{"adults": None}]},
            {
                "wrong_type": [
                    {"at": "/city", "expected": "integer", "got": "true"},
                    {"at": "/rooms/0/adults", "expected": "integer", "got": "null"},
                ]
            },
        ),
    ],
)  # fmt: skip
def test_invalid_arguments_say_what_to_repair(
    backend: ReplayBackend, arguments: dict[str, Any], wanted: dict[str, Any]
) -> None:
    result = ask(backend, "find_hotels", arguments)
    assert result.error is ErrorType.INVALID_ARGUMENTS
    assert details(result) == wanted
    assert "city, sort, rooms" in json.loads(result.text)["error"]["message"]


def test_a_valid_call_that_was_never_recorded_is_told_apart(backend: ReplayBackend) -> None:
    for city in (8, "8", 8.0):
        result = ask(backend, "find_hotels", {"city": city})
        assert result.error is ErrorType.NOT_RECORDED and details(result) == {}
    assert backend.cache.misses["find_hotels"] == 3


def test_the_pinned_variant_answers_its_task(
    backend: ReplayBackend, digests: dict[str, str]
) -> None:
    task = a_task(GoldCall("find_hotels", {"city": 7}, response=digests["new"]))
    assert ask(backend, "find_hotels", {"city": "7"}, task).text == "new"
    assert ask(backend, "find_hotels", {"city": "7"}).text == "old"


def test_one_call_pinned_twice_is_served_in_recorded_order(
    backend: ReplayBackend, digests: dict[str, str]
) -> None:
    gold = [GoldCall("find_hotels", {"city": 7}, response=digests[t]) for t in ("new", "old")]
    session: BackendSession = backend.open(a_task(*gold), seed=0)
    call = ToolCall("find_hotels", {"city": 7})
    before = session.snapshot()
    assert session.answer([call])[0].text == "new"
    between = json.loads(json.dumps(session.snapshot()))
    assert [session.answer([call])[0].text for _ in range(3)] == ["old", "old", "old"]
    session.restore(between)
    assert session.answer([call])[0].text == "old"
    session.restore(before)
    assert session.answer([call])[0].text == "new"
    other = backend.open(a_task(*gold), seed=0)
    assert other.answer([call])[0].text == "new"  # sessions do not share their counts


def test_a_task_of_another_cache_is_refused_when_it_is_opened(backend: ReplayBackend) -> None:
    task = a_task(GoldCall("find_hotels", {"city": 7}, response="ab" * 16))
    with pytest.raises(OrchError, match="does not hold for that call"):
        backend.open(task, seed=0)


def test_an_unknown_tool_of_the_task_itself_is_a_user_s_error(backend: ReplayBackend) -> None:
    with pytest.raises(OrchError, match=r"names tool 'find_hotel'.*nearest: find_hotels"):
        backend.resolve(a_task(tools=("find_hotel",)))


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        ({"type": "dict"}, "no JSON Schema"),
        ({"properties": {"a": {"$ref": "http://example.org/x"}}}, "outside itself"),
        ({"properties": {"a": {"pattern": "("}}}, "no regular expression"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_before_any_call(
    backend: ReplayBackend, schema: dict[str, Any], what: str
) -> None:
    task = a_task(tools=(ToolSpec("find_hotels", "", schema),))
    with pytest.raises(OrchError, match=what):
        backend.open(task, seed=0)


def test_specs_come_in_the_task_s_order_and_its_own_override_the_catalogue(
    backend: ReplayBackend,
) -> None:
    own = ToolSpec("find_hotels", "Mine.", {"type": "object", "properties": {}})
    assert backend.resolve(a_task(tools=("book", own))).tools == (BOOK, own)
    alias = backend.resolve(a_task(tools=("Find(Hotels)",)))
    assert alias.tool_names == ("Find(Hotels)",)
    assert ask(backend, "Find(Hotels)", {"city": 7}, a_task(tools=("Find(Hotels)",))).text == "old"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(["find_hotels", "book", "Find(Hotels)"]) | st.text(st.characters()),
    arguments=st.dictionaries(
        st.sampled_from(["city", "sort", "rooms"]) | st.text(st.characters()), JSON, max_size=4
    ),
)
def test_nothing_a_model_calls_raises(
    world: ReplayBackend, name: str, arguments: dict[str, Any]
) -> None:
    first, second = (ask(world, name, arguments) for _ in range(2))
    assert first == second
    if first.error not in (None, ErrorType.TOOL_ERROR):
        details(first)


def test_hostile_arguments_get_an_answer(world: ReplayBackend) -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, "x" * 1_000_000, "1," * 200_000, 10**4000, float("nan")):
        for arguments in ({"city": value}, {"rooms": value}, {"city": 1, "extra": value}):
            details(ask(world, "find_hotels", arguments))
    details(ask(world, "x" * 1_000_000, {}))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ReplayBackend:
    path = tmp_path_factory.mktemp("world") / "c.db"
    with open_cache(path, write=True) as cache:
        cache.put_tool(HOTELS)
        cache.put_tool(BOOK)
        cache.put("book", {}, '{"error": "full"}', is_error=True)
    return ReplayBackend(open_cache(path))


def test_a_response_is_one_object_while_it_is_kept_and_no_more_is_kept_than_allowed(
    tmp_path: Path, digests: dict[str, str]
) -> None:
    kept = ReplayBackend(open_cache(tmp_path / "c.db"))
    first, second = (ask(kept, "find_hotels", {"city": 7}) for _ in range(2))
    assert first is second
    nothing_kept = ReplayBackend(open_cache(tmp_path / "c.db"), memory_mb=0)
    again = [ask(nothing_kept, "find_hotels", {"city": 7}) for _ in range(2)]
    assert again == [first, first] and again[0] is not again[1]
    for wrong in (-1, 1.5, True):
        with pytest.raises(OrchError, match="memory_mb must be a whole number"):
            ReplayBackend(open_cache(tmp_path / "c.db"), memory_mb=wrong)  # type: ignore[arg-type]


def test_a_task_is_resolved_once_by_a_backend_and_anew_by_another(
    tmp_path: Path, digests: dict[str, str]
) -> None:
    one, other = (ReplayBackend(open_cache(tmp_path / "c.db")) for _ in range(2))
    task = a_task()
    resolved = one.resolve(task)
    assert one.resolve(task) is one.resolve(resolved) is resolved
    assert resolved.source is task and resolved.id == "t"
    assert other.resolve(resolved) is not resolved
    assert one.resolve(a_task()) is not resolved  # another task of the same id
