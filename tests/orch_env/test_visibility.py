"""Which values a text shows, when a model could know one, and where an index is kept."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env import Episode, ToolCall, Turn
from orch_env.rewards.matching.calls import MadeCall
from orch_env.rewards.matching.text_index import TextIndex
from orch_env.rewards.presets.graduated.data_flow import Visibility
from orch_env.rewards.presets.graduated.gold_calls import GoldCalls
from orch_env.tasks.resolved import ResolvedTask, derived
from orch_env.types import ErrorType, GoldCall, Task, ToolResult
from orch_env.types.json import Json
from tests.orch_env.property_tiers import hold

CALL = ToolCall("find")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["5", "5.0", "a,b", "b,a", "", "Oslo", "-5", "1e3", "1.5,2.5"]),
    st.text(max_size=6),
)
PAYLOADS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


def at_turn(turn: int) -> MadeCall:
    return MadeCall(9, turn, 0, "book", {}, None, "book{}")


def played(*results: str, error: ErrorType | None = None) -> Episode:
    turns = tuple(Turn.of("", (ToolCall("find", {}, error),), (text,)) for text in results)
    return Episode("t", turns=turns)


@settings(max_examples=150, deadline=None)
@given(PAYLOADS, st.lists(SCALARS, max_size=8))
def test_what_an_index_answers_does_not_depend_on_what_it_was_asked(
    payload: object, asked: list[object]
) -> None:
    text = json.dumps(payload)
    used = TextIndex(text)
    for scalar in asked:
        fresh = TextIndex(text)
        assert used.shows(scalar) == fresh.shows(scalar)
        if TextIndex(text).shows_verbatim(scalar) or used.shows_verbatim(scalar):
            assert fresh.shows(scalar)


@settings(max_examples=150, deadline=None)
@given(PAYLOADS)
def test_every_leaf_and_key_of_a_payload_is_visible(payload: object) -> None:
    index = TextIndex(json.dumps(payload))
    stack = [payload]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            assert all(index.shows(key) for key in node)
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
        else:
            assert index.shows(node)


def test_a_value_is_visible_in_any_spelling_that_is_the_same_value() -> None:
    index = TextIndex('{"n": 5, "ids": "a,b", "price": "2.50", "none": null, "yes": true}')
    for value in (5, 5.0, "5", "a,b", 2.5, "2.5", None, True, "n"):
        assert index.shows(value), value
    for value in (6, "a", 1, False, "null", 250):
        assert index.shows(value) is (value == "a"), value
    assert not TextIndex("[1, 0]").shows(True)
    assert not TextIndex("[true, false]").shows(1)


def known_from(seen: Visibility, value: object) -> list[bool]:
    return [seen.known_to(at_turn(turn), value) for turn in range(4)]


def test_a_value_is_known_one_turn_after_the_result_that_shows_it() -> None:
    seen = Visibility(
        TextIndex("A room in Oslo"), played('{"id": "h7"}', '{"id": "h8"}', '{"id": "h7"}')
    )
    assert known_from(seen, "Oslo") == [True, True, True, True]
    assert known_from(seen, "h7") == [False, True, True, True]
    assert known_from(seen, "h8") == [False, False, True, True]
    assert known_from(seen, "h9") == [False, False, False, False]


def test_a_word_in_an_earlier_text_counts_before_a_leaf_in_a_later_one() -> None:
    # The quick look for exact leaves finds turn 1; the words of turn 0 hold the value, too.
    seen = Visibility(TextIndex(""), played('"hotel h7, near the sea"', '{"id": "h7"}'))
    assert known_from(seen, "h7") == [False, True, True, True]


def test_a_composite_is_known_when_its_last_piece_is() -> None:
    seen = Visibility(TextIndex(""), played('["x1"]', '["x2"]'))
    assert known_from(seen, "x1,x2") == [False, False, True, True]
    assert known_from(seen, ["x1", {"of": "x2"}]) == [False, False, True, True]
    assert known_from(seen, "x1,x3") == [False] * 4
    # As a whole in a later result, in pieces in earlier ones.
    seen = Visibility(TextIndex(""), played('["x1", "x2"]', '["x1,x2"]'))
    assert known_from(seen, "x1,x2") == [False, True, True, True]


def test_errors_of_the_environment_show_nothing_and_errors_of_a_tool_do() -> None:
    for kind in ErrorType:
        seen = Visibility(TextIndex(""), played('{"error": {"details": "h7"}}', error=kind))
        told = kind in (ErrorType.TOOL_ERROR, ErrorType.NOT_FOUND)
        assert known_from(seen, "h7") == [False, told, told, told], kind


def test_an_integer_too_long_to_print_is_visible_nowhere() -> None:
    assert not TextIndex('{"n": 1}').shows(10**5000)


def test_an_index_lives_with_the_result_and_stays_behind_when_it_is_copied() -> None:
    result = ToolResult('{"id": "value-7"}')
    index = result.derived(TextIndex)
    assert result.derived(TextIndex) is index and index.shows("value-7")
    for copied in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert copied == result and copied.derived(TextIndex) is not index


def test_gold_is_prepared_once_for_a_resolved_task_and_each_time_for_a_plain_one() -> None:
    plain = Task("t", ({"role": "user", "content": ""},), (), ((GoldCall("f", {"n": 0}),),))
    resolved = ResolvedTask.of(plain, ())
    assert derived(resolved, GoldCalls) is derived(resolved, GoldCalls)
    assert derived(plain, GoldCalls) is not derived(plain, GoldCalls)


TRICKY = st.one_of(
    st.text(alphabet='ab5"\\,:. ]}-', max_size=4),
    st.sampled_from(["5", "1.10", "-3", "05", "a,b", "Oslo"]),
    st.integers(-20, 20),
    st.floats(allow_nan=True, width=16),
    st.booleans(),
    st.none(),
)
TEXTS = st.one_of(
    st.recursive(
        TRICKY, lambda s: st.lists(s, max_size=4) | st.dictionaries(st.text(max_size=3), s)
    ).flatmap(lambda v: st.sampled_from([json.dumps(v), json.dumps(v, separators=(",", ":"))])),
    st.text(alphabet='ab5"\\,:. ]}[{-', max_size=30),
)


@pytest.mark.parametrize(
    ("text", "scalar"),
    [
        ('{"a": 1, "b": 2}', ": 1, "),  # between two strings
        ('["a"], "b"', "], "),
        ('["a\\u0062"]', "a\\u0062"),  # the text says "ab"
        ('["a","b"]', 'a","b'),
        ("[15, 2.5]", 5),
        ("[-5]", 5),
        ('{"n": 50}', "5"),
    ],
)
def test_what_only_looks_like_a_leaf_is_not_shown(text: str, scalar: Json) -> None:
    index = TextIndex(text)
    assert not index.shows_verbatim(scalar)


@pytest.mark.parametrize(
    ("text", "scalar"),
    [('["Oslo"]', "Oslo"), ('{"n": 5}', 5), ('{"n":5}', "5"), ('["5"]', 5), ("[1,5]", 5)],
)
def test_a_plain_copy_is_found_without_reading_the_text(text: str, scalar: Json) -> None:
    assert TextIndex(text).shows_verbatim(scalar)


@pytest.mark.parametrize("tier", [pytest.param(400), pytest.param(20_000, marks=pytest.mark.long)])
def test_what_is_found_verbatim_is_shown_by_the_whole_reading_too(tier: int) -> None:
    def body(text: str, scalar: Json) -> None:
        index = TextIndex(text)
        if index.shows_verbatim(scalar):
            assert index.shows(scalar)

    hold(tier, body, TEXTS, TRICKY)


def test_a_reading_does_not_confuse_values_that_python_calls_equal() -> None:
    gold = Task("t", ({"role": "user", "content": ""},), (), ((GoldCall("f", {"n": 1}),),))
    view = GoldCalls(gold)
    values = [view.compare(ToolCall("f", {"n": v})).gold[0].values for v in (1, True, 1.0, "1")]
    assert values == [1.0, 0.0, 1.0, 1.0]
