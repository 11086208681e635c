"""Equality of argument values: what is one value, what is not, and that nothing breaks it."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch_env.values import call_key, calls_equal, canonical_text, types_compatible, values_equal

SAME = [
    (2, 2.0),
    (2, "2"),
    ("2.50", 2.5),
    ("-1364995", -1364995),
    ("32.8967018127441", 32.8967018127441),
    (123456789012345678, "123456789012345678"),
    ("0", -0.0),
    ("b::2,a::1", "a::1,b::2"),
    ({"a": 1, "b": [2]}, {"b": ["2"], "a": 1.0}),
    (float("nan"), float("nan")),
]
DIFFERENT = [
    (True, 1),
    (False, "0"),
    (None, ""),
    (None, "null"),
    ("007", 7),
    ("1e3", 1000),
    ("+5", 5),
    ("Paris", "paris"),
    ("a, b", "b, a"),
    ("59.91,10.75", "10.75,59.91"),
    ([1, 2], [2, 1]),
    ([], {}),
    ("\uff11\uff12", 12),
    ("12345678901234567890", 12345678901234567891),
    (123456789012345678, 123456789012345679),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_these_are_one_value(one: object, other: object) -> None:
    assert values_equal(one, other)
    assert values_equal({"x": [one]}, {"x": [other]})


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_these_are_two_values(one: object, other: object) -> None:
    assert not values_equal(one, other)
    assert not values_equal({"x": [one]}, {"x": [other]})


def test_types_are_compatible_by_json_type_or_by_value() -> None:
    assert types_compatible(1, 2.5)
    assert types_compatible("5", 5)
    assert types_compatible("Oslo", "Rome")
    assert not types_compatible("Oslo", 5)
    assert not types_compatible(True, 1)
    assert not types_compatible([1], {"a": 1})


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(_json_values, _json_values)
def test_equality_agrees_with_the_canonical_text_and_the_key(one: object, other: object) -> None:
    same = canonical_text(one) == canonical_text(other)
    assert values_equal(one, other) is values_equal(other, one) is same
    assert (call_key("t", {"a": one}) == call_key("t", {"a": other})) is same
    assert values_equal(one, one)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_fraction_equals_its_own_plain_spelling(number: float) -> None:
    spelt = repr(number)
    if "e" not in spelt and len(spelt.partition(".")[2]) <= 17 and abs(number) < 1e15:
        assert values_equal(number, spelt)


def test_hostile_nesting_is_compared() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert not values_equal(deep, [])
    assert len(call_key("t", {"a": deep})) == 16


def test_calls_are_equal_by_name_and_values() -> None:
    assert calls_equal("f", {"a": 1}, "f", {"a": "1"})
    assert not calls_equal("f", {"a": 1}, "g", {"a": 1})


@pytest.mark.shared_data
def test_no_two_recorded_calls_with_different_responses_fall_together(shared_data: Path) -> None:
    """Canonical keys join only spellings: joined calls were answered alike by the real API."""
    source = shared_data / "complexfuncbench" / "ComplexFuncBench.public.jsonl.gz"
    spellings: dict[bytes, dict[str, set[str]]] = {}
    with gzip.open(source, "rt") as lines:
        for line in lines:
            messages = json.loads(line)["conversations"]
            for asked, answered in pairwise(messages):
                for call, response in zip(
                    asked.get("function_call") or (), answered.get("content") or (), strict=False
                ):
                    key = call_key(call["name"], call["arguments"])
                    spelling = json.dumps(call["arguments"], sort_keys=True)
                    answers = spellings.setdefault(key, {}).setdefault(spelling, set())
                    answers.add(json.dumps(response, sort_keys=True))
    joined = [answers for answers in spellings.values() if len(answers) > 1]
    assert all(set.intersection(*answers.values()) for answers in joined)
    assert len(spellings) > 2000
