"""Why two values differ: one short phrase about the first difference, and only if they do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.values import difference, shortfall, values_equal

DATE = {"type": "string", "format": "date"}
INTEGER = {"type": "integer"}
CABIN = {"type": "string", "enum": ["Economy", "Business"]}
TAGS = {"type": "array", "uniqueItems": True}

PHRASES: list[tuple[Any, Any, Any, str]] = [
    (3, 2, None, "3 is not 2"),
    ("3", 2, INTEGER, "'3' is not 2"),
    (True, False, None, "true is not false"),
    ("2024-10-14", "2024-10-13", DATE, "'2024-10-14' is not the date 2024-10-13"),
    ("soon", "Oct 13, 2024", DATE, "'soon' is not the date 2024-10-13"),
    (
        "2024-10-13T15:00Z",
        "2024-10-13T16:00+02:00",
        {"format": "date-time"},
        "'2024-10-13T15:00Z' is not the date-time 2024-10-13T14:00:00Z",
    ),
    ("3 PM", "14:00", {"format": "time"}, "'3 PM' is not the time 14:00:00"),
    (
        "03/04/2024",
        "2024-04-03",
        DATE,
        "'03/04/2024' is not the date 2024-04-03 ('03/04/2024' may be two dates)",
    ),
    ([1], "a", None, "a list where a string is expected"),
    (None, 2, INTEGER, "null where a number is expected"),
    ({}, [], None, "an object where a list is expected"),
    (["air", "tv"], ["air", "tv", "wifi"], None, "item 2 missing: 'wifi'"),
    (["air", "tv"], ["tv", "wifi", "air"], TAGS, "item 1 missing: 'wifi'"),
    (["air", "tv", "tv"], ["tv", "air"], TAGS, "item 2 not expected: 'tv'"),
    (["air"], ["air", "air"], TAGS, "item 1 missing: 'air'"),
    (["air", "tv"], ["air"], None, "item 1 not expected: 'tv'"),
    (["air", "tv"], ["tv", "air"], None, "item 0: 'air' is not 'tv'"),
    ({"a": 1}, {"a": 1, "b": 2}, None, "key 'b' missing"),
    ({"a": 1, "b": 2}, {"a": 1}, None, "key 'b' not expected"),
    ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, None, "'a': 'b': item 1: 2 is not 3"),
    ("oslo", "Oslo", None, "'oslo' is not 'Oslo' (differs only in letter case)"),
    ("Oslo ", "Oslo", None, "'Oslo ' is not 'Oslo' (differs only in blanks)"),
    (
        "AIR",
        "Air",
        {"enum": ["Air", "air"]},
        "'AIR' is not 'Air' (differs only in letter case; the schema lists 'Air' and 'air')",
    ),
    (
        "First",
        "Economy",
        CABIN,
        "'First' is not 'Economy' (the schema lists 'Economy', 'Business')",
    ),
    ("Business", "Economy", CABIN, "'Business' is not 'Economy'"),
    ("business", "Economy", CABIN, "'business' is not 'Economy'"),
    ([], {"a": 1}, {"type": ["array", "object"]}, "a list where an object is expected"),
    ("x" * 100, "y", None, f"'{'x' * 60}'... is not 'y'"),
]


@pytest.mark.parametrize(("left", "right", "schema", "phrase"), PHRASES)
def test_the_phrase_names_what_differs(left: Any, right: Any, schema: Any, phrase: str) -> None:
    assert difference(left, right, schema) == phrase


def test_equal_values_have_no_difference() -> None:
    assert difference("Oct 13 2024", "2024-10-13", DATE) is None
    assert difference(["b", "a"], ["a", "b"], TAGS) is None
    assert difference(2, "2") is None


def test_a_shortfall_follows_the_name_of_an_argument() -> None:
    assert shortfall(3, 2) == "is 3, gold has 2"
    assert shortfall([3], "x") == "is a list where a string is expected"
    assert shortfall("oslo", "Oslo") == "is 'oslo', gold has 'Oslo' (differs only in letter case)"
    assert shortfall([], [1]) == "is an empty list, gold has a list of 1"


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)
_schemas = st.sampled_from(
    [None, DATE, INTEGER, CABIN, TAGS, {"items": TAGS}, {"additionalProperties": {"enum": [3]}}]
)


@settings(max_examples=200, deadline=None)
@given(_json_values, _json_values, _schemas)
def test_there_is_a_phrase_exactly_where_values_differ(left: Any, right: Any, schema: Any) -> None:
    phrase = difference(left, right, schema)
    assert (phrase is None) is values_equal(left, right, schema)
    assert phrase is None or (phrase and "\n" not in phrase)
    assert difference(left, left, schema) is None


def test_phrases_stay_short_whatever_the_values() -> None:
    huge, long = 10**5000, "x" * 1_000_000
    assert difference(huge, 1) == f"an integer of {huge.bit_length()} bits is not 1"
    for one, other in [(long, long + "y"), ({long: 1}, {}), ([long], [huge]), (long, 1)]:
        phrase = difference(one, other, DATE)
        assert phrase is not None and len(phrase) < 200
    deep: Any = 1
    other_deep: Any = 2
    for _ in range(100):
        deep, other_deep = [deep], [other_deep]
    assert difference(deep, other_deep, TAGS) is not None
