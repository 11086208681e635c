"""The structural diff of states: readable paths, what is collateral, and ids that servers make."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.rewards.outcome.state_diff import (
    COLLATERAL,
    DEEPEST,
    MISSING,
    WRONG,
    StateChange,
    describe,
    diff_states,
    records_of,
)
from orch_env.types.json import resolve

K1 = {"id": "K-1", "ship": "S-1", "pilot": "P-1", "confirmed": True}
K2 = {"id": "K-2", "ship": "S-2", "pilot": "P-2", "confirmed": False}


def bookings(**records: Any) -> dict[str, Any]:
    return {"harbour": {"bookings": {key.replace("_", "-"): r for key, r in records.items()}}}


def changes_of(*args: Any) -> list[tuple[str, str]]:
    return [(change.kind, change.path) for change in diff_states(*args)]


def test_a_wrong_field_is_named_with_both_values() -> None:
    made = bookings(K_1={**K1, "confirmed": False, "pilot": "P-9"})
    assert diff_states(bookings(K_1=K1), made) == (
        StateChange("/harbour/bookings/K-1/pilot", WRONG, "P-1", "P-9"),
        StateChange("/harbour/bookings/K-1/confirmed", WRONG, True, False),
    )


def test_what_was_left_undone_and_what_nobody_asked_for_are_told_apart() -> None:
    made = {"harbour": {"bookings": {"K-2": K2}, "ships": {"S-1": None}}}
    assert diff_states(bookings(K_1=K1), made) == (
        StateChange("/harbour/bookings/K-1", MISSING, gold=K1),
        StateChange("/harbour/bookings/K-2", COLLATERAL, made=K2),
        StateChange("/harbour/ships/S-1", COLLATERAL, made=None),
    )
    assert changes_of({}, bookings(K_1=K1)) == [(COLLATERAL, "/harbour/bookings/K-1")]


def test_a_deletion_is_a_change_like_any_other() -> None:
    gone = bookings(K_1=None)
    assert changes_of(gone, gone) == []
    assert changes_of(gone, {}) == [(MISSING, "/harbour/bookings/K-1")]
    assert changes_of(gone, bookings(K_1=K1)) == [(WRONG, "/harbour/bookings/K-1")]
    assert changes_of(bookings(K_1=K1), gone) == [(WRONG, "/harbour/bookings/K-1")]


def test_nested_values_are_followed_as_far_as_their_shapes_agree() -> None:
    gold = {"s": {"t": {"1": {"place": {"aisle": 2, "row": [1, 2]}, "tags": ["a"]}}}}
    made = {"s": {"t": {"1": {"place": {"aisle": 2, "row": [1, 3]}, "tags": ["a", "b"]}}}}
    assert diff_states(gold, made) == (
        StateChange("/s/t/1/place/row/1", WRONG, 2, 3),
        StateChange("/s/t/1/tags", WRONG, ["a"], ["a", "b"]),
    )


def test_a_path_ends_where_it_would_be_too_long_to_read() -> None:
    gold, made = 1, 2
    for _ in range(20):
        gold, made = [gold], [made]  # type: ignore[assignment]
    (change,) = diff_states({"s": {"t": {"1": {"x": gold}}}}, {"s": {"t": {"1": {"x": made}}}})
    assert change.path == "/s/t/1/x" + "/0" * DEEPEST


def test_values_are_compared_like_everywhere_else() -> None:
    gold = {"s": {"t": {"1": {"count": 2, "ids": "a,b", "n": "7"}}}}
    assert diff_states(gold, {"s": {"t": {"1": {"count": 2.0, "ids": "a,b", "n": 7}}}}) == ()
    assert len(diff_states(gold, {"s": {"t": {"1": {"count": 2, "ids": "b,a", "n": 7}}}})) == 1


def test_a_field_that_gold_leaves_out_asks_for_nothing() -> None:
    assert diff_states(bookings(K_1={"confirmed": True}), bookings(K_1=K1)) == ()
    lost = bookings(K_1={"id": "K-1"})
    assert changes_of(bookings(K_1={"confirmed": True}), lost) == [
        (MISSING, "/harbour/bookings/K-1/confirmed")
    ]


def test_paths_are_json_pointers_whatever_the_names() -> None:
    gold = {"a/b": {"t~": {"": {"x/y": 1}}}}
    made = {"a/b": {"t~": {"": {"x/y": 2}}}}
    (change,) = diff_states(gold, made)
    assert change.path == "/a~1b/t~0//x~1y"
    assert resolve(made, change.path) == 2


def test_the_same_content_under_another_id_is_another_record() -> None:
    # Opening door 2 instead of door 1 leaves a record of the same content behind.
    gold = {"house": {"doors": {"D-1": {"id": "D-1", "open": True}}}}
    made = {"house": {"doors": {"D-2": {"id": "D-2", "open": True}}}}
    assert changes_of(gold, made) == [
        (MISSING, "/house/doors/D-1"),
        (COLLATERAL, "/house/doors/D-2"),
    ]


CREATED = ["/harbour/bookings/K-1"]


def test_an_id_that_the_server_made_up_may_be_another_one() -> None:
    shifted = bookings(K_5={**K1, "id": "K-5"})
    assert changes_of(bookings(K_1=K1), shifted, CREATED) == []
    # With other content it is no such record.
    wrong = bookings(K_5={**K1, "id": "K-5", "pilot": "P-9"})
    assert changes_of(bookings(K_1=K1), wrong, CREATED) == [
        (MISSING, "/harbour/bookings/K-1"),
        (COLLATERAL, "/harbour/bookings/K-5"),
    ]


def test_a_cancelled_first_try_under_golds_id_is_collateral_and_not_gold() -> None:
    cancelled = {**K1, "pilot": "P-9", "confirmed": False}
    made = bookings(K_1=cancelled, K_2={**K1, "id": "K-2"})
    assert diff_states(bookings(K_1=K1), made, CREATED) == (
        StateChange("/harbour/bookings/K-1", COLLATERAL, made=cancelled),
    )


def test_a_created_record_that_is_only_wrong_is_reported_field_by_field() -> None:
    made = bookings(K_1={**K1, "pilot": "P-9"})
    assert changes_of(bookings(K_1=K1), made, CREATED) == [(WRONG, "/harbour/bookings/K-1/pilot")]


def test_shifted_ids_are_matched_one_to_one() -> None:
    twins = bookings(K_1=K1, K_2={**K1, "id": "K-2"})
    both = ["/harbour/bookings/K-1", "/harbour/bookings/K-2"]
    one = bookings(K_7={**K1, "id": "K-7"})
    two = bookings(K_7={**K1, "id": "K-7"}, K_8={**K1, "id": "K-8"})
    assert changes_of(twins, two, both) == []
    assert changes_of(twins, one, both) == [(MISSING, "/harbour/bookings/K-2")]
    # The record that stands under its own id keeps it; the other one is still missing.
    assert changes_of(twins, bookings(K_2={**K1, "id": "K-2"}), both) == [
        (MISSING, "/harbour/bookings/K-1")
    ]
    # One record of the episode stands for one of gold's, though it stands under the other's id.
    swapped = bookings(K_1=K1, K_2=K2)
    made = bookings(K_2={**K1, "id": "K-2"})
    assert changes_of(swapped, made, both) == [(MISSING, "/harbour/bookings/K-2")]


def test_records_that_name_a_shifted_id_follow_it() -> None:
    def state(booking: str, notice: str, about: str) -> dict[str, Any]:
        return {
            "harbour": {
                "bookings": {booking: {**K1, "id": booking}},
                "notices": {notice: {"id": notice, "about": [about]}},
                "ships": {"S-1": {"id": "S-1", "booking": about}},
            }
        }

    # The notice comes first in this order, and is matched once the booking is.
    created = ["/harbour/notices/N-1", "/harbour/bookings/K-1"]
    gold = state("K-1", "N-1", "K-1")
    assert changes_of(gold, state("K-5", "N-9", "K-5"), created) == []
    assert changes_of(gold, state("K-5", "N-9", "K-6"), created) == [
        (MISSING, "/harbour/notices/N-1"),
        (WRONG, "/harbour/ships/S-1/booking"),
        (COLLATERAL, "/harbour/notices/N-9"),
    ]


def test_people_read_one_line_a_change() -> None:
    made = bookings(K_1={**K1, "pilot": "P-9"}, K_2=K2)
    gold = bookings(K_1=K1, K_3=None)
    assert describe(diff_states(gold, made)) == [
        'wrong       /harbour/bookings/K-1/pilot: gold has "P-1", here "P-9"',
        "missing     /harbour/bookings/K-3: gold has nothing",
        "collateral  /harbour/bookings/K-2: gold leaves it alone, here "
        '{"confirmed": false, "id": "K-2", "pilot": "P-2", "ship": "S-2"}',
    ]
    (line,) = describe(diff_states({}, bookings(K_1={"note": "x" * 10_000})))
    assert len(line) < 200


_scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b,a", "7"])
_fields = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("pq/"), inner, max_size=3)
    ),
    max_leaves=5,
)
_records = st.none() | st.dictionaries(st.sampled_from(["id", "x", "y~"]), _fields, min_size=1)
_ids = st.sampled_from(["1", "2", "a/b"])
states = st.dictionaries(
    st.sampled_from(["s", "r"]),
    st.dictionaries(
        st.sampled_from(["t", "u"]),
        st.dictionaries(_ids, _records, min_size=1, max_size=3),
        min_size=1,
        max_size=2,
    ),
    max_size=2,
)


def pointers(state: dict[str, Any]) -> list[str]:
    return [
        "/" + "/".join(token.replace("~", "~0").replace("/", "~1") for token in place)
        for place in records_of(state)
    ]


@settings(max_examples=150, deadline=None)
@given(states, st.booleans())
def test_equal_states_do_not_differ(state: dict[str, Any], created: bool) -> None:
    known = pointers(state) if created else []
    assert diff_states(state, copy.deepcopy(state), known) == ()


@settings(max_examples=150, deadline=None)
@given(states)
def test_one_record_more_is_collateral_and_one_less_is_missing(state: dict[str, Any]) -> None:
    extra = copy.deepcopy(state)
    extra.setdefault("s", {}).setdefault("t", {})["new"] = {"id": "new"}
    assert changes_of(state, extra) == [(COLLATERAL, "/s/t/new")]
    assert changes_of(extra, state) == [(MISSING, "/s/t/new")]
    assert changes_of({}, state) == [(COLLATERAL, path) for path in pointers(state)]
    assert changes_of(state, {}) == [(MISSING, path) for path in pointers(state)]


@settings(max_examples=150, deadline=None)
@given(states, states)
def test_each_change_shows_what_stands_at_its_path(
    gold: dict[str, Any], made: dict[str, Any]
) -> None:
    for change in diff_states(gold, made):
        if change.kind != COLLATERAL:
            assert resolve(gold, change.path) == change.gold
        if change.kind != MISSING:
            assert resolve(made, change.path) == change.made


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(_anything, _anything, st.lists(st.text(max_size=6) | st.just("/s/t/1"), max_size=2))
def test_any_json_at_all_is_compared(gold: Any, made: Any, created: list[str]) -> None:
    describe(diff_states(gold, made, created))
    assert diff_states(gold, gold, created) == ()


@pytest.mark.parametrize("shape", ["lists", "objects"])
def test_hostile_states_are_compared(shape: str) -> None:
    deep: Any = 1
    for _ in range(50_000):
        deep = [deep] if shape == "lists" else {"a": deep}
    huge = {"s": {"t": {str(n): {"id": str(n), "v": "x" * 10} for n in range(3_000)}}}
    for odd in (deep, {"s": deep}, {"s": {"t": {"1": {"v": deep}}}}, {"s": {"t": [1]}}, 7, "x"):
        for one, other in ((odd, huge), (huge, odd), (odd, odd)):
            describe(diff_states(one, other, ["/s/t/1", "", "/", "/s"]))
    assert len(diff_states({}, huge)) == 3_000
