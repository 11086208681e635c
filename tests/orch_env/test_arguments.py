"""Arguments leaf by leaf: schemas, sets, and a reason for every leaf that is not gold's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.rewards.credit.explanation import explain
from orch_env.rewards.matching.alignment import MAX_WORK, holds_sets
from orch_env.rewards.matching.arguments import (
    EQUAL,
    MISSING,
    TYPE,
    UNKNOWN,
    WRONG,
    Comparison,
    argument_leaves,
    compare_arguments,
    compare_calls,
)
from orch_env.rewards.matching.calls import MadeCall
from orch_env.types.json import leaves
from orch_env.values import SchemaRules, values_equal

PARAMETERS = {
    "type": "object",
    "properties": {
        "guests": {"type": "integer"},
        "day": {"type": "string", "format": "date"},
        "cabin": {"type": "string", "enum": ["Economy", "Business"]},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "rooms": {
            "type": "array",
            "uniqueItems": True,
            "items": {
                "properties": {
                    "adults": {"type": "integer"},
                    "beds": {"uniqueItems": True},
                }
            },
        },
        "stops": {"type": "array", "items": {"type": "string"}},
    },
}


def test_a_schema_makes_spellings_equal_and_nothing_else() -> None:
    gold = {"guests": 2, "day": "2024-10-13", "cabin": "Economy", "note": "Sea view"}
    made = {"guests": "02", "day": "Oct 13, 2024", "cabin": "economy", "note": "sea view"}
    plain, typed = compare_calls(made, gold), compare_calls(made, gold, PARAMETERS)
    # "02" is a text without a schema: its type is another one.
    assert plain.leaves == {"/guests": TYPE, "/day": WRONG, "/cabin": WRONG, "/note": WRONG}
    assert (plain.types, plain.values) == (0.75, 0.0)
    assert typed.leaves == {"/guests": EQUAL, "/day": EQUAL, "/cabin": EQUAL, "/note": WRONG}
    assert (typed.types, typed.values) == (1.0, 0.75)


def test_every_unequal_leaf_has_a_reason_and_no_other() -> None:
    gold = {"guests": 2, "day": "2024-10-13", "tags": ["sea"], "cabin": "Economy"}
    made = {"guests": 3, "day": ["2024"], "tags": ["sea"], "pets": True}
    comparison = compare_calls(made, gold, PARAMETERS)
    assert comparison.reasons == {
        "/guests": "is 3, gold has 2",
        "/day": "is missing, gold has '2024-10-13'",
        "/day/0": "is not an argument of the gold call",
        "/cabin": "is missing, gold has 'Economy'",
        "/pets": "is not an argument of the gold call",
    }
    # Of six leaves only /tags/0 is right; /guests has the right type beside it.
    assert (comparison.types, comparison.values) == (2 / 6, 1 / 6)
    assert compare_calls({"guests": []}, {"guests": 2}).reasons == {
        "/guests": "is a list where a number is expected"
    }


def test_true_is_not_one_and_one_is_one_point_zero() -> None:
    assert compare_calls({"a": True}, {"a": 1}).leaves == {"/a": TYPE}
    assert compare_calls({"a": 1.0}, {"a": 1}).leaves == {"/a": EQUAL}
    assert compare_calls({"a": float("nan")}, {"a": float("nan")}).values == 1.0


def test_no_arguments_on_either_side_is_a_perfect_match() -> None:
    assert compare_calls({}, {}, PARAMETERS) == Comparison(1.0, 1.0, {})


def test_a_set_may_stand_in_any_order() -> None:
    gold = {"tags": ["sea", "wifi", "pool"], "stops": ["Rome", "Oslo"]}
    made = {"tags": ["pool", "sea", "wifi"], "stops": ["Rome", "Oslo"]}
    assert compare_calls(made, gold, PARAMETERS).values == 1.0
    assert compare_calls(made, gold, PARAMETERS).made["/tags/1"] == "wifi"
    assert compare_calls(made, gold).values == 2 / 5
    turned = {"tags": ["sea", "wifi", "pool"], "stops": ["Oslo", "Rome"]}
    assert compare_calls(turned, gold, PARAMETERS).values == 3 / 5


def test_a_fault_in_a_set_is_laid_at_the_item_of_gold_that_is_not_there() -> None:
    gold = {"tags": ["sea", "wifi", "pool"]}
    comparison = compare_calls({"tags": ["pool", "spa", "sea"]}, gold, PARAMETERS)
    assert comparison.leaves == {"/tags/0": EQUAL, "/tags/1": WRONG, "/tags/2": EQUAL}
    assert comparison.reasons == {"/tags/1": "is 'spa', gold has 'wifi'"}
    short = compare_calls({"tags": ["pool"]}, gold, PARAMETERS)
    assert short.leaves == {"/tags/0": MISSING, "/tags/1": MISSING, "/tags/2": EQUAL}
    more = compare_calls({"tags": ["wifi", "wifi", "pool", "sea"]}, gold, PARAMETERS)
    assert more.leaves["/tags/3"] == UNKNOWN and more.values == 3 / 4


def test_items_of_a_set_are_paired_by_what_they_share() -> None:
    gold = {"rooms": [{"adults": 2, "beds": ["king", "cot"]}, {"adults": 1, "beds": ["twin"]}]}
    made = {"rooms": [{"adults": "1", "beds": ["sofa"]}, {"adults": 3, "beds": ["cot", "king"]}]}
    comparison = compare_calls(made, gold, PARAMETERS)
    assert comparison.leaves == {
        "/rooms/0/adults": WRONG,
        "/rooms/0/beds/0": EQUAL,
        "/rooms/0/beds/1": EQUAL,
        "/rooms/1/adults": EQUAL,
        "/rooms/1/beds/0": WRONG,
    }


def test_alignment_is_asked_for_only_where_gold_holds_a_set() -> None:
    rules = SchemaRules.of(PARAMETERS)
    assert holds_sets({"tags": ["a"]}, rules)
    assert holds_sets({"rooms": [{"beds": []}]}, rules)
    assert not holds_sets({"stops": ["a"], "guests": 2}, rules)
    assert not holds_sets({"tags": ["a"]}, None)


_items = st.sampled_from(["sea", "wifi", "pool", "spa", "Spa", 1, "1", None, ["sea"]])
_words = st.sampled_from(["sea", "wifi", "pool", "spa", "Spa"])
_rooms = st.fixed_dictionaries(
    {},
    optional={
        "adults": st.sampled_from([1, "01", 2, "x"]),
        "beds": st.lists(_items, max_size=3),
    },
)
_arguments = st.fixed_dictionaries(
    {},
    optional={
        "guests": st.sampled_from([2, "2", "02", 3, True]),
        "day": st.sampled_from(["2024-10-13", "13 Oct 2024", "03/04/2024"]),
        "tags": st.lists(_items, max_size=4) | _items,
        "rooms": st.lists(_rooms, max_size=3),
        "stops": st.lists(_items, max_size=3),
        "more": st.lists(_items, max_size=2),
    },
)
_schemas = st.sampled_from([None, PARAMETERS])


@settings(max_examples=200, deadline=None)
@given(_arguments, _arguments, _schemas)
def test_all_leaves_are_equal_exactly_if_the_arguments_are(
    made: Any, gold: Any, schema: Any
) -> None:
    comparison = compare_calls(made, gold, schema)
    assert (comparison.values == 1.0) is values_equal(made, gold, schema)
    assert 0.0 <= comparison.values <= comparison.types <= 1.0
    assert set(comparison.reasons) == {p for p, s in comparison.leaves.items() if s != EQUAL}
    expected = list(argument_leaves(gold))
    assert list(comparison.leaves)[: len(expected)] == expected


@settings(max_examples=150, deadline=None)
@given(st.data(), st.lists(_items | _rooms, max_size=5), st.lists(_items | _rooms, max_size=5))
def test_the_order_of_a_set_never_changes_the_share_of_right_values(
    data: st.DataObject, made: list[Any], gold: list[Any]
) -> None:
    other = data.draw(st.permutations(made))
    one = compare_calls({"rooms": made}, {"rooms": gold}, PARAMETERS)
    two = compare_calls({"rooms": other}, {"rooms": gold}, PARAMETERS)
    assert one.values == pytest.approx(two.values)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.lists(_words, max_size=5), st.lists(_words | _rooms, max_size=5))
def test_nor_does_it_change_the_share_of_right_types(
    data: st.DataObject, made: list[str], gold: list[Any]
) -> None:
    other = data.draw(st.permutations(made))
    one = compare_calls({"rooms": made}, {"rooms": gold}, PARAMETERS)
    two = compare_calls({"rooms": other}, {"rooms": gold}, PARAMETERS)
    assert one.types == pytest.approx(two.types)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6))
def test_each_further_fault_in_a_set_lowers_the_share_of_right_values(
    data: st.DataObject, gold: list[str]
) -> None:
    made: list[str] = list(data.draw(st.permutations(gold)))
    share = compare_calls({"tags": made}, {"tags": gold}, PARAMETERS).values
    assert share == 1.0
    for fault, index in enumerate(data.draw(st.permutations(range(len(gold))))):
        made[index] = f"fresh {fault}"
        worse = compare_calls({"tags": made}, {"tags": gold}, PARAMETERS).values
        assert worse == pytest.approx(1 - (fault + 1) / len(gold))


@settings(max_examples=100, deadline=None)
@given(_arguments)
def test_leaves_are_those_of_the_pointers(arguments: dict[str, Any]) -> None:
    assert argument_leaves(arguments) == (dict(leaves(arguments)) if arguments else {})


def test_keys_with_slashes_keep_their_pointer() -> None:
    assert argument_leaves({"a/b": {"c~d": 1}, "": 2}) == {"/a~1b/c~0d": 1, "/": 2}
    schema = {"properties": {"a/b": {"additionalProperties": {"type": "integer"}}}}
    assert compare_calls({"a/b": {"c~d": "01"}}, {"a/b": {"c~d": 1}}, schema).values == 1.0


def test_large_and_deep_sets_are_compared() -> None:
    gold = {"tags": [f"t{n}" for n in range(3)]}
    made = {"tags": [f"u{n}" for n in range(MAX_WORK)] + ["t1"]}
    comparison = compare_calls(made, gold, PARAMETERS)
    assert comparison.leaves["/tags/1"] == EQUAL
    assert comparison.values == 1 / (MAX_WORK + 1)
    mixed = compare_calls({"rooms": [7, *made["tags"]]}, {"rooms": ["x", 5]}, PARAMETERS)
    assert (mixed.leaves["/rooms/0"], mixed.leaves["/rooms/1"]) == (WRONG, WRONG)
    sets = {"uniqueItems": True, "items": {"$ref": "#/additionalProperties"}}
    schema = {"additionalProperties": sets}
    deep: Any = ["x"]
    other: Any = ["y"]
    for _ in range(200):
        deep, other = [deep, "b"], ["b", other]
    nested = compare_calls({"a": deep}, {"a": other}, schema)
    assert 0.0 < nested.values < 1.0


def test_hostile_schemas_do_not_matter() -> None:
    made, gold = {"a": [1], "b": "x"}, {"a": [1], "b": "x"}
    circle: dict[str, Any] = {"$ref": "#"}
    for schema in ({}, circle, {"properties": 3}, {"properties": {"a": 5}}, {"type": float("nan")}):
        assert compare_calls(made, gold, schema).values == 1.0
        assert compare_calls({"a": {}}, gold, schema).values < 1.0


def test_the_sentence_of_a_call_tells_the_reasons() -> None:
    gold = {"guests": 2, "day": "2024-10-13"}
    made = {"guests": 3, "day": "13 Oct 2024"}
    comparison = compare_arguments(argument_leaves(made), argument_leaves(gold), PARAMETERS)
    sentence = explain(
        MadeCall(0, 0, 0, "book", made, None, "book"),
        gold=0,
        optional=False,
        arguments=comparison.leaves,
        broken=(),
        repeat_of=None,
        name_in_gold=True,
        reasons=comparison.reasons,
    )
    assert sentence == "Stands for gold call 0; /guests is 3, gold has 2."
