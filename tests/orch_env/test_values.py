"""Equality of argument values: what is one value, what is not, and that nothing breaks it."""

from __future__ import annotations

import gzip
import hashlib
import json
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.values import (
    call_key,
    call_key_v1,
    calls_equal,
    canonical_text,
    canonical_text_v1,
    types_compatible,
    values_equal,
)

SAME = [
    (2, 2.0),
    (2, "2"),
    ("2.5", 2.5),
    ("0.00001", 1e-5),
    ("-1364995", -1364995),
    ("32.8967018127441", 32.8967018127441),
    (123456789012345678, "123456789012345678"),
    ("0", -0.0),
    ("Z\u00fcrich", "Zu\u0308rich"),
    ("\ud55c\uae00", "\u1112\u1161\u11ab\u1100\u1173\u11af"),
    ("\u212b,1", "\u00c5,1"),
    ({"Z\u00fcge": 1}, {"Zu\u0308ge": 1}),
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
    ("48,2", "2,48"),
    ("OSL,LHR", "LHR,OSL"),
    ("a::1,b::2", "b::2,a::1"),
    ("1.10", 1.1),
    ("1.10", "1.1"),
    ("3.10", "3.1"),
    ("2.0", 2),
    ("2.0", "2"),
    ("-0", 0),
    ("0.10000000000000001", 0.1),
    ("\ufb01", "fi"),
    ("\u00b2", 2),
    ({"Z\u00fc": 1, "Zu\u0308": 2}, {"Z\u00fc": 2}),
    ({"Z\u00fc": 1, "Zu\u0308": 2}, {"Z\u00fc": 2, "Zu\u0308": 1}),
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


@settings(deadline=None)
@given(_json_values, _json_values)
def test_equality_agrees_with_the_canonical_text_and_the_key(one: object, other: object) -> None:
    same = canonical_text(one) == canonical_text(other)
    assert values_equal(one, other) is values_equal(other, one) is same
    assert (call_key("t", {"a": one}) == call_key("t", {"a": other})) is same
    assert values_equal(one, one)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_fraction_equals_its_own_plain_spelling(number: float) -> None:
    spelt = repr(number).removesuffix(".0")
    if "e" not in spelt and len(spelt.partition(".")[2]) <= 17 and 0 < abs(number) < 1e15:
        assert values_equal(number, spelt)
        assert not values_equal(number, f"{spelt}0" if "." in spelt else f"{spelt}.0")


@given(st.text())
def test_text_is_one_value_in_every_normal_form_that_keeps_its_meaning(text: str) -> None:
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert values_equal(text, composed)
    assert values_equal(composed, decomposed)


def test_hostile_nesting_is_compared() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert not values_equal(deep, [])
    assert len(call_key("t", {"a": deep})) == 16


# Computed before equality knew schemas; files on disk hold such keys.
_NESTED = {"b": [1, "2", {"z": "y,x", "a": [3.0, None]}], "a": {"n": {"m": [[]], "k": {}}}}
PINNED = [
    ({}, "799a781bc1dd2495af80de9bb35dc1e4", "01e7b720ff566d53"),
    ({"a": None}, "99c0da3d04d7c9b296cb3385d3cf9b89", "315668717b2575be"),
    ({"a": True, "b": False}, "ece912a90d301e4948205e90348b7c2d", "07a2d7376b7f64fb"),
    ({"a": 2}, "233ccb9fa86fa0fc0b8de9e6553e7f1c", "91086d20cae57830"),
    ({"a": 2.0}, "233ccb9fa86fa0fc0b8de9e6553e7f1c", "91086d20cae57830"),
    ({"a": "2"}, "233ccb9fa86fa0fc0b8de9e6553e7f1c", "91086d20cae57830"),
    ({"a": "2.50"}, "ff7e6f8b9cac75060ed0c483f5621e48", "e18f41e9b7676bf7"),
    ({"a": -0.0}, "98047077cda6b6e5816e2040087bd40f", "38a3c473daa585d2"),
    ({"a": "007"}, "c3dd43df60f74b81e5e61e0373eb2370", "cbb304bcdf241354"),
    ({"a": 1e300}, "8796a0feec873f7e6046a2ed494f2cb4", "2e64df1374172bac"),
    ({"a": 0.1}, "6793c0aff6778dade182e69a2951ed2e", "44385a8e2b645c45"),
    ({"a": float("nan")}, "75dc28b93b33cf94fce517e39ef6d4cd", "4c300e41fbe8854f"),
    ({"a": float("inf")}, "094ebbcddcc7d433b6da2d20682ca152", "3378ca6741222bfe"),
    ({"a": -float("inf")}, "ef4fbb5ba4b0550f0b6eca0a8d9d5199", "b11f803cc286bab1"),
    ({"a": 10**30}, "83cfe295086f32f8606888ae39986f2e", "dc9a200ae1750dcf"),
    ({"a": "123456789012345678"}, "4f75e3386a211cfc0512f7ea0c23abc4", "4b30b4061eebfe76"),
    ({"a": "1234567890123456789"}, "0893569ebf30bed94297451c59a68f1d", "77c8664eb73b895f"),
    ({"a": "b,a,c"}, "53bb5c43e3cca72cdceba6bb862dcf4a", "707f3f8c133f6a4b"),
    ({"a": "b, a"}, "e182840b3cf513bf12a2d9a14106245b", "954f620719d60a6d"),
    ({"a": "59.91,10.75"}, "c3e995dfc2d2c264412e7c5c7fa44c23", "f55900af3a46174f"),
    ({"a": "4,6"}, "21788cab7ae723fabed06b77b5c6a8c5", "a9f8dbbdfbd98b49"),
    ({"a": "x::2,facility::28"}, "53d29d813690823c3bcb4df89d37276a", "30077e6bf4a1106b"),
    (_NESTED, "5cab0a43cfc7720d709517da8b5521e7", "efdf87fe49ee88f8"),
    (
        {"a": "Z\u00fcrich \u2028 \U0001f600 \ud800"},
        "b626583422f091821dee02060abd1dbf",
        "7c944cb4385ff4b9",
    ),
    ({"a": "  Oslo "}, "a4e3396cc151a384fa935143f6039c1f", "e726e031b7972b83"),
    ({"\u00e9": 1, "e": 2}, "d78a01224756bf349f809d3fa7857044", "4629c9c27fcdebb2"),
    ({"a": ["3", 3, [True, "true"]]}, "5da0f24fd1f8a0688d3b2543b3fcb5d0", "af3e242a43b1293b"),
    ({"a": (1, "x")}, "de950767b9c4692c7aad179f8327a85a", "966879959b6cd289"),
]


@pytest.mark.parametrize(("arguments", "key", "text_digest"), PINNED)
def test_keys_in_existing_files_stay_valid(
    arguments: dict[str, object], key: str, text_digest: str
) -> None:
    assert call_key_v1("tool", arguments).hex() == key
    text = canonical_text_v1(arguments).encode("ascii")
    assert hashlib.blake2b(text, digest_size=8).hexdigest() == text_digest


def test_the_key_of_what_nests_too_deep_stays_valid() -> None:
    deep: list[object] = []
    for _ in range(300):
        deep = [deep]
    assert call_key_v1("tool", {"a": deep}).hex() == "4ac2c3bd19b14db744a0ffd9e4817f4e"


def test_integers_too_long_to_print_are_compared() -> None:
    huge = 10**5000
    assert values_equal([huge], [huge])
    assert not values_equal([huge], [huge + 1])
    assert not values_equal({"a": -huge}, {"a": huge})
    assert call_key("t", {"a": huge}) == call_key("t", {"a": huge})
    assert call_key("t", {"a": huge}) != call_key("t", {"a": huge + 1})


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
