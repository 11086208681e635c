"""Equality under a schema: what each keyword adds, that it stays an equivalence, and that no
schema breaks it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.rewards.matching.arguments import compare_calls
from orch_env.values import (
    SchemaRules,
    call_key,
    canonical_by_schema,
    canonical_text,
    canonical_text_by_schema,
    difference,
    stated,
    types_compatible,
    values_equal,
)

NUMBER = {"type": "number"}
INTEGER = {"type": "integer"}
BOOLEAN = {"type": "boolean"}
STRING = {"type": "string"}
CABIN = {"type": "string", "enum": ["Economy", "Premium Economy", "Business"]}
DATE = {"type": "string", "format": "date"}
NFD = "gru\u0308n"
ANCHORED = {"$dynamicAnchor": "m", "type": "integer"}
TAGS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
LIST = {"type": "array", "items": INTEGER}
FILTERS = {"type": "string", "x-orch-set": ","}
LIMIT = {"type": "integer", "default": 10}
NESTED_DEFAULTS = {
    "properties": {
        "o": {"type": "object", "properties": {"n": LIMIT, "m": INTEGER}, "default": {"n": 10}}
    }
}
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "day": DATE,
                "next": {"$ref": "#/$defs/node"},
                "all": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
        }
    },
    "$ref": "#/$defs/node",
}

SAME: list[tuple[Any, Any, Any]] = [
    (3, " 3 ", INTEGER),
    (3, "+3", INTEGER),
    (3, "03", NUMBER),
    (3000, "3e3", NUMBER),
    (0.5, ".5", NUMBER),
    (12345678901234567891234, "12345678901234567891234", INTEGER),
    (True, "true", BOOLEAN),
    (False, " False", BOOLEAN),
    ("economy", "Economy", CABIN),
    (" premium  economy ", "Premium Economy", CABIN),
    ("ECONOMY", "economy", CABIN),
    ("ja", "JA", {"const": "Ja"}),
    (" 5 ", 5, {"enum": ["5", "6"]}),
    ("A,b", " a,B", {"enum": ["a,B", "c"]}),
    (["wifi", "pool"], ["pool", "wifi"], TAGS),
    (["2024-10-13", "x"], ["x", "Oct 13, 2024"], {"uniqueItems": True, "items": DATE}),
    ([["b", "a"]], [["a", "b"]], {"type": "array", "items": TAGS}),
    ([1, 2], ["1", "02"], LIST),
    ({"n": 1, "x": "2"}, {"x": 2, "n": "01"}, {"properties": {"n": INTEGER}}),
    ({"n": "01"}, {"n": 1}, {"additionalProperties": INTEGER}),
    ("TRUE", True, {"type": ["string", "boolean"]}),
    ("01", 1, {"anyOf": [DATE, INTEGER]}),
    ("13 Oct 2024", "2024-10-13", {"oneOf": [INTEGER, DATE]}),
    ("13 Oct 2024", "2024-10-13", {"allOf": [STRING, {"format": "date"}]}),
    (
        {"all": [{"next": {"day": "2024-10-13"}}]},
        {"all": [{"next": {"day": "13 Oct 2024"}}]},
        TREE,
    ),
    (
        {"n": "01"},
        {"n": 1},
        {"anyOf": [{"properties": {"n": STRING}}, {"additionalProperties": INTEGER}]},
    ),
    ("a,b", "b, a ", FILTERS),
    ("48.1,2", "2,48.1", FILTERS),
    ("a | b", "b|a", {"x-orch-set": "|"}),
    ("a; b", "b; a", {"x-orch-set": "; "}),
    ("Zu\u0308,a", "a,Z\u00fc", FILTERS),
    (",".join(map(str, range(900))), ",".join(map(str, reversed(range(900)))), FILTERS),
    ("1,2", "2,1", {"anyOf": [{"type": "null"}, {"type": "string", "x-orch-set": ","}]}),
    ("1.10", 1.1, NUMBER),
    ("2.0", 2, INTEGER),
    ({}, {"n": 10}, {"properties": {"n": LIMIT}}),
    ({}, {"n": "10"}, {"properties": {"n": LIMIT}}),
    ({"n": 10.0}, {"n": "+10"}, {"properties": {"n": LIMIT}}),
    ({}, {"n": None}, {"properties": {"n": {"type": ["integer", "null"]}}}),
    ({}, {"n": None}, {"properties": {"n": {"type": ["integer", "null"], "default": 10}}}),
    ({}, {"n": None}, {"properties": {"n": {"type": "integer", "nullable": True}}}),
    ({}, {"n": None}, {"properties": {"n": {"anyOf": [INTEGER, {"type": "null"}]}}}),
    ({}, {"n": None}, {"properties": {"n": {"enum": ["a", None]}}}),
    ({}, {"n": None}, {"properties": {"n": {"type": "string", "default": None}}}),
    ({}, {"n": None}, {"properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {}}}),
    ({}, {"day": "13 Oct 2024"}, {"properties": {"day": {**DATE, "default": "2024-10-13"}}}),
    ({}, {"f": "b,a"}, {"properties": {"f": {**FILTERS, "default": "a,b"}}}),
    ({}, {"n": 1}, {"properties": {"n": {"$ref": "#/$defs/i", "default": 1}}}),
    ([{"n": 10}, {}], [{}, {"n": 10}], {"items": {"properties": {"n": LIMIT}}}),
    ({}, {"o": {}}, NESTED_DEFAULTS),
    ({}, {"o": {"n": 10}}, NESTED_DEFAULTS),
    ({"o": {"m": 1}}, {"o": {"n": 10, "m": 1}}, NESTED_DEFAULTS),
    ({}, {"n": 10}, {"allOf": [{"properties": {"n": LIMIT}}, {"properties": {"n": INTEGER}}]}),
]
DIFFERENT: list[tuple[Any, Any, Any]] = [
    (1000, "1,000", NUMBER),
    ("NaN", float("nan"), NUMBER),
    ("1e999", float("inf"), NUMBER),
    (3, "3 adults", INTEGER),
    ("true", True, STRING),
    ("true", True, None),
    ("true", True, {"type": ["integer", "string"], "format": "date"}),
    (1, True, BOOLEAN),
    ("yes", True, BOOLEAN),
    (1, "true", {"type": ["integer", "boolean"]}),
    ("economy", "Economy", STRING),
    ("Oslo ", "Oslo", STRING),
    ("econ", "Economy", CABIN),
    ("A", "a", {"enum": ["A", "a"]}),
    ("Ab", "ab", {"enum": ["AB", "ab"]}),
    ("PremiumEconomy", "Premium Economy", CABIN),
    (["a", "b"], ["b", "a"], {"type": "array", "items": STRING}),
    (["a", "a", "b"], ["a", "b", "b"], TAGS),
    (["a"], ["a", "a"], TAGS),
    ("a", ["a"], TAGS),
    ({"n": "01"}, {"n": 1}, {"properties": {"m": INTEGER}}),
    ({"m": 1}, {"n": 1}, {"additionalProperties": INTEGER}),
    ({}, {"n": None}, {"properties": {"n": {"type": "null"}}, "required": ["n"]}),
    ("b,a", "a,b", STRING),
    ("48,2", "2,48", STRING),
    ("OSL,LHR", "LHR,OSL", STRING),
    ("a,b", "a,b,b", FILTERS),
    ("a;b", "b;a", FILTERS),
    ("a,b", "b,a", {"x-orch-set": ""}),
    ("a,b", "b,a", {"x-orch-set": True}),
    ("a,b;c", "b,a;c", {"anyOf": [{"x-orch-set": ","}, {"x-orch-set": ";"}]}),
    (["a,b"], ["b,a"], {"x-orch-set": ","}),
    ("1.10", 1.1, STRING),
    ("1.10", "1.1", {"type": ["string", "boolean"]}),
    ({}, {"n": 11}, {"properties": {"n": LIMIT}}),
    ({}, {"n": 10}, {"properties": {"n": LIMIT}, "required": ["n"]}),
    ({}, {"n": None}, {"properties": {"n": INTEGER}}),
    ({}, {"n": None}, {"properties": {"n": LIMIT}}),
    ({}, {"n": None}, {"properties": {"n": {"allOf": [INTEGER, {}]}}}),
    ({}, {"n": None}, {"properties": {"n": {"enum": ["a"]}}}),
    ({}, {"n": None}, {"additionalProperties": {"type": "null"}}),
    ({}, {"n": 10}, {"additionalProperties": LIMIT}),
    ({}, {"n": ""}, {"properties": {"n": STRING}}),
    ({}, {"n": False}, {"properties": {"n": BOOLEAN}}),
    ({}, {"n": 10}, {"anyOf": [{"properties": {"n": LIMIT}}, {"required": ["n"]}]}),
    ({}, {"n": 10}, {"oneOf": [{"properties": {"n": LIMIT}, "required": ["n"]}, {}]}),
    ({}, {"n": 10}, {"properties": {"n": LIMIT}, "then": {"required": ["n"]}}),
    ({"m": 1}, {"m": 1, "n": 10}, {"properties": {"n": LIMIT}, "dependentRequired": {"m": ["n"]}}),
    (
        {},
        {"n": 10},
        {"anyOf": [{"properties": {"n": LIMIT}}, {"properties": {"n": {"default": 20}}}]},
    ),
    ({}, {"o": {"n": 11}}, NESTED_DEFAULTS),
    (None, 10, LIMIT),
    ("AA", "aa", {"not": {"enum": ["AA"]}}),
    ("01", 1, {"enum": [True]}),
    ({"q": "03"}, {"q": "3"}, {"patternProperties": {"^n": INTEGER}}),
    ({"q": "03"}, {"q": "3"}, {"patternProperties": {"^n": INTEGER, "^q": STRING}}),
    ({"q": "03"}, {"q": "3"}, {"properties": {"q": STRING}, "additionalProperties": INTEGER}),
    ({}, {NFD: 10}, {"properties": {NFD: LIMIT}, "required": [NFD]}),
    ({}, {"n": None}, {"properties": {"n": {"$dynamicRef": "#m"}}, "$defs": {"m": ANCHORED}}),
]


def _around(schema: Any) -> dict[str, Any]:
    """The schema of ``{"x": [value]}``; definitions stay at the root."""
    definitions = (schema or {}).get("$defs", {})
    return {"properties": {"x": {"items": schema}}, "$defs": definitions}


@pytest.mark.parametrize(("one", "other", "schema"), SAME)
def test_these_are_one_value_under_the_schema(one: Any, other: Any, schema: Any) -> None:
    assert values_equal(one, other, schema)
    assert values_equal(other, one, schema)
    assert values_equal({"x": [one]}, {"x": [other]}, _around(schema))


@pytest.mark.parametrize(("one", "other", "schema"), DIFFERENT)
def test_these_are_two_values_under_the_schema(one: Any, other: Any, schema: Any) -> None:
    assert not values_equal(one, other, schema)
    assert not values_equal(other, one, schema)
    assert not values_equal({"x": [one]}, {"x": [other]}, _around(schema))


def test_text_that_spells_a_number_has_its_type_where_a_number_is_asked_for() -> None:
    assert types_compatible("3 ", 2, INTEGER)
    assert types_compatible("false", True, BOOLEAN)
    assert not types_compatible("3 ", 2)
    assert not types_compatible("3 ", 2, STRING)
    assert not types_compatible("three", 2, INTEGER)
    assert not types_compatible(True, 1, {"type": ["integer", "boolean"]})


DAYS = ("2024-10-13", "13 Oct 2024")
TIMES = ("14:00", "2 pm")
FREE: list[Any] = [
    None,
    {},
    STRING,
    {"type": ["string", "null"]},
    {"type": "str"},
    {"type": "string", "default": "x", "minLength": 1},
    {"allOf": [STRING, {"description": "When."}]},
    {"anyOf": [STRING, {"type": "null"}]},
    {"anyOf": [CABIN, STRING]},
    {"oneOf": [INTEGER, {"anyOf": [DATE, STRING]}]},
    {"$ref": "#/$defs/t", "$defs": {"t": STRING}},
    {"$ref": "#/nowhere"},
    {"type": ["string", "number", "boolean"]},
]
NOT_FREE: list[Any] = [
    INTEGER,
    {"type": ["integer", "null"]},
    {"type": "string", "enum": ["14:00", "x"]},
    {"const": "14:00"},
    {"anyOf": [{"enum": ["14:00"]}, {"type": "null"}]},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "password"},
    {"allOf": [STRING, {"format": "date"}]},
    {"anyOf": [DATE, {"type": "null"}]},
    {"$ref": "#/$defs/d", "$defs": {"d": DATE}},
    FILTERS,
    {"anyOf": [FILTERS, STRING]},
]


def _places(schema: Any, value: str) -> list[tuple[Any, Any]]:
    """Schemas that have a place with the schema, each with a value that has it there."""
    found = [(schema, value)]
    if schema is None:
        object_ = {"type": "object", "properties": {"y": STRING}}
        wide = {"$ref": "#/$defs/o", "$defs": {"o": object_}}
        return [*found, (STRING, [value]), (object_, {"x": [[{"z": value}]]}), (wide, {"x": value})]
    if "$ref" in schema:
        return found
    return [
        *found,
        ({"items": schema}, [value]),
        ({"prefixItems": [INTEGER, schema]}, [1, value]),
        ({"properties": {"x": {"properties": {"y": schema}}}}, {"x": {"y": value}, "z": 1}),
        ({"additionalProperties": schema}, {"x": value}),
        ({"anyOf": [{"properties": {"x": schema}}, {"type": "null"}]}, {"x": value}),
    ]


@pytest.mark.parametrize("schema", FREE)
@pytest.mark.parametrize(("one", "other"), [DAYS, TIMES])
def test_free_text_is_read_for_dates_at_every_place_if_asked(
    schema: Any, one: str, other: str
) -> None:
    for (whole, left), (_, right) in zip(_places(schema, one), _places(schema, other), strict=True):
        rules = SchemaRules.of(whole, respelt=True)
        assert values_equal(left, right, rules)
        assert canonical_text_by_schema(left, rules) == canonical_text_by_schema(right, rules)
        assert values_equal(stated(left, rules), stated(right, rules), rules)
        assert types_compatible(left, right, rules)
        assert difference(left, right, rules) is None
        if schema != FREE[9] or one == TIMES[0]:  # the one that names a date besides
            assert not values_equal(left, right, whole)


@pytest.mark.parametrize("schema", NOT_FREE)
def test_a_place_with_a_format_a_list_or_another_type_has_the_spellings_it_had(schema: Any) -> None:
    rules = SchemaRules.of(schema, respelt=True)
    assert not values_equal("14:00", "2 pm", rules)
    assert values_equal(*DAYS, rules) is values_equal(*DAYS, schema)


def test_a_text_that_is_a_set_stays_one_where_free_text_is_read() -> None:
    rules = SchemaRules.of(FILTERS, respelt=True)
    assert values_equal("Oct 13, 2024", "2024, Oct 13", rules)


@pytest.mark.parametrize("respelt", [False, True])
def test_versions_and_zeros_are_numbers_only_where_the_schema_says_so(respelt: bool) -> None:
    pairs = [("3.10", "3.1"), ("007", "7"), ("007", 7), ("1e3", 1000), ("1e3", "1000")]
    pairs += [("2.50", 2.5), ("2.50", "2.5"), ("3.0", 3), ("+5", "5"), (" 5", "5")]
    for schema in (STRING, None, {}):
        rules = SchemaRules.of(schema, respelt=respelt)
        for one, other in pairs:
            assert not values_equal(one, other, rules)
            assert not values_equal({"x": [one]}, {"x": [other]}, rules)
        assert values_equal("5", 5, rules)
    numbers = SchemaRules.of(NUMBER, respelt=respelt)
    assert all(values_equal(one, other, numbers) for one, other in pairs)


def test_rules_by_pointer_are_the_same_where_free_text_is_read() -> None:
    schema = {"additionalProperties": INTEGER, "properties": {"l": {"items": BOOLEAN}}}
    rules = SchemaRules.of(schema, respelt=True)
    assert rules is not None
    number, truth, unheard = rules.at("/7"), rules.at("/l/7"), rules.at("/l/7/8/x/9")
    assert number is not None and number.numeric and not number.formats
    assert truth is not None and truth.boolean
    assert unheard is not None and values_equal(*DAYS, unheard)
    free = SchemaRules.of(None, respelt=True)
    assert free is not None and free.at("/a/0/b") is free
    assert rules.member("never") is rules.member("heard") is rules.at("/other")


# Values and schemas that have much to do with each other, so that equal ones are found often.
_WORDS = ["1", " 1", "01", "1.0", "true", "True", " TRUE ", "a", "A", " a", "b,a", "a,b", "B,A"]
_DAYS = ["2024-10-13", "13 Oct 2024", "10/13/2024", "2024-10-13T00:00Z", "2024-10-13 01:00+01"]
_scalars = st.sampled_from([*_WORDS, *_DAYS, "12 AM", "00:00", 1, 1.0, True, False, None, 2])
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=6,
)
_plain_schemas = st.sampled_from(
    [
        NUMBER,
        BOOLEAN,
        STRING,
        DATE,
        {"format": "time"},
        {"format": "date-time"},
        {"enum": ["a", "b,A"]},
        {"enum": ["A", "a", "1"]},
        {"enum": ["TRUE", 1]},
        {"const": "True"},
        {"type": ["string", "number", "boolean"]},
        {"$ref": "#"},
        {"uniqueItems": True},
        {"default": 1},
        {"type": "string", "x-orch-set": ","},
        {},
    ]
)
_schemas = st.recursive(
    _plain_schemas,
    lambda inner: (
        st.builds(
            lambda s, u: {"type": "array", "items": s, "uniqueItems": u}, inner, st.booleans()
        )
        | st.builds(lambda a, b: {"properties": {"a": a}, "additionalProperties": b}, inner, inner)
        | st.builds(lambda k, s: {k: s}, st.sampled_from(["anyOf", "oneOf"]), st.lists(inner))
    ),
    max_leaves=5,
)


def _respelt(draw: st.DrawFn, value: Any) -> Any:
    """The value with scalars exchanged and lists shuffled now and then: often an equal one."""
    if isinstance(value, list):
        return [_respelt(draw, item) for item in draw(st.permutations(value))]
    if isinstance(value, dict):
        return {key: _respelt(draw, item) for key, item in value.items()}
    return draw(st.just(value) | _scalars)


@st.composite
def _triples(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    value = draw(_values)
    return value, _respelt(draw, value), _respelt(draw, value)


@settings(max_examples=150, deadline=None)
@given(_triples(), _schemas)
def test_equality_under_a_schema_is_an_equivalence(
    triple: tuple[Any, Any, Any], schema: Any
) -> None:
    one, two, three = triple
    assert values_equal(one, one, schema)
    assert values_equal(one, two, schema) is values_equal(two, one, schema)
    if values_equal(one, two, schema) and values_equal(two, three, schema):
        assert values_equal(one, three, schema)
    same = canonical_text_by_schema(one, schema) == canonical_text_by_schema(two, schema)
    assert values_equal(one, two, schema) is same


@settings(max_examples=150, deadline=None)
@given(_triples(), _schemas | st.none())
def test_reading_free_text_is_an_equivalence_that_parts_nothing(
    triple: tuple[Any, Any, Any], schema: Any
) -> None:
    rules = SchemaRules.of(schema, respelt=True)
    one, two, three = triple
    same = values_equal(one, two, rules)
    assert same is values_equal(two, one, rules)
    if same and values_equal(two, three, rules):
        assert values_equal(one, three, rules)
    if values_equal(one, two, schema):
        assert same
    assert same is (difference(one, two, rules) is None)
    assert same is values_equal(stated(one, rules), stated(two, rules), rules)


@settings(max_examples=150, deadline=None)
@given(_triples(), _schemas)
def test_a_schema_never_parts_what_is_equal_without_it(
    triple: tuple[Any, Any, Any], schema: Any
) -> None:
    for other in triple[1:]:
        if values_equal(triple[0], other):
            assert values_equal(triple[0], other, schema)


@settings(max_examples=150, deadline=None)
@given(_triples(), st.lists(_schemas, min_size=1, max_size=3))
def test_what_any_branch_calls_equal_is_equal(
    triple: tuple[Any, Any, Any], branches: list[Any]
) -> None:
    one, two, _ = triple
    branches = [json.loads(json.dumps(b).replace('"#"', '"#/no"')) for b in branches]
    if any(values_equal(one, two, branch) for branch in branches):
        assert values_equal(one, two, {"anyOf": branches})
        assert values_equal(one, two, {"$defs": {"x": {"oneOf": branches}}, "$ref": "#/$defs/x"})


@settings(max_examples=150, deadline=None)
@given(_triples(), _schemas)
def test_equal_values_have_compatible_types(triple: tuple[Any, Any, Any], schema: Any) -> None:
    one, two, _ = triple
    if values_equal(one, two, schema):
        assert types_compatible(one, two, schema)


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
_KEYWORDS = ["type", "enum", "const", "format", "items", "properties", "additionalProperties"]
_KEYWORDS += ["uniqueItems", "anyOf", "oneOf", "allOf", "$ref", "$defs"]
_hostile_schemas = st.recursive(
    _anything | st.sampled_from(["#", "#/$ref", "#/anyOf/0", "#/items", "date", "string"]),
    lambda inner: (
        st.dictionaries(st.sampled_from(_KEYWORDS), inner, max_size=4) | st.lists(inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(_anything | _values, _anything | _values, _hostile_schemas)
def test_no_schema_makes_equality_raise(one: Any, other: Any, schema: Any) -> None:
    assert values_equal(one, one, schema)
    assert values_equal(one, other, schema) is values_equal(other, one, schema)
    if values_equal(one, other):
        assert values_equal(one, other, schema)
    respelt = SchemaRules.of(schema, respelt=True)
    assert values_equal(one, other, respelt) is values_equal(other, one, respelt)
    if values_equal(one, other, schema):
        assert values_equal(one, other, respelt)


def test_branches_may_differ_in_how_many_items_they_know_by_position() -> None:
    for branches in ([[STRING, INTEGER], [STRING]], [[STRING], [STRING, INTEGER]]):
        schema = {"allOf": [{"prefixItems": prefix} for prefix in branches]}
        assert values_equal(["a", "03"], ["a", 3], schema)
        assert not values_equal(["03", "03"], ["3", "03"], schema)


def test_rules_of_a_member_know_its_name_in_any_normal_form() -> None:
    for schema in ({"properties": {NFD: INTEGER}}, {"patternProperties": {"^gr\u00fcn$": INTEGER}}):
        for name in (NFD, "gr\u00fcn"):
            rules = SchemaRules.of(schema)
            assert rules is not None
            inside = rules.member(name)
            assert inside is not None and inside.numeric
            assert rules.lists(name) is ("properties" in schema)


def test_items_by_position_are_stated_compared_and_told_by_their_own_schemas() -> None:
    first = {"properties": {"n": LIMIT, "tags": TAGS}}
    schema = {"properties": {"v": {"prefixItems": [first]}}}
    gold, made = {"v": [{"tags": ["a", "b"]}, "x"]}, {"v": [{"tags": ["b", "a"], "n": 10}, "x"]}
    assert stated(made, schema) == {"v": [{"tags": ["b", "a"]}, "x"]}
    assert compare_calls(made, gold, schema).values == 1.0
    assert "item 1" in (difference({"v": [*made["v"][:1], "y"]}, gold, schema) or "")


def test_references_in_a_circle_end() -> None:
    circle: dict[str, Any] = {"$ref": "#/$defs/b", "$defs": {"b": {"$ref": "#"}}}
    assert not values_equal("a", "A", circle)
    inside: dict[str, Any] = {"type": "array"}
    inside["items"] = inside
    inside["anyOf"] = [inside, INTEGER]
    deep, other = "01", 1
    for _ in range(100):
        deep, other = [deep], [other]
    assert values_equal(deep, other, inside)


def test_references_that_name_nothing_say_nothing() -> None:
    for reference in ("#/no", "#/enum/" + "9" * 5000, "http://example.org", 7, None, "#no", ""):
        assert values_equal("a", "a", {"$ref": reference, "enum": ["x"]})
        assert not values_equal("a", "A", {"$ref": reference, "enum": ["x"]})


def test_large_values_and_schemas_are_compared() -> None:
    text = "x" * 1_000_000
    assert not values_equal(text, text + "y", CABIN)
    assert not values_equal("1" * 1_000_000, 1, INTEGER)
    assert not values_equal("1e" + "9" * 1000, 1, NUMBER)
    assert values_equal("9" * 1000, 10**1000 - 1, INTEGER)
    assert values_equal([10**5000, "01"], [10**5000, 1], {"items": INTEGER, "uniqueItems": True})
    wide = {"anyOf": [{"enum": ["Ja"]}] + [{"anyOf": [STRING] * 1000}] * 1000}
    assert values_equal("JA", "ja", wide)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    unordered = {"uniqueItems": True, "items": {"$ref": "#"}}
    assert values_equal(deep, deep, unordered)
    assert not values_equal(deep, [], unordered)


def test_rules_can_be_read_once_and_asked_by_pointer() -> None:
    schema = {
        "properties": {
            "legs": {"type": "array", "items": {"properties": {"a/b": DATE}}},
            "0": BOOLEAN,
        },
        "items": INTEGER,
    }
    rules = SchemaRules.of(schema)
    assert rules is not None and SchemaRules.of(rules) is rules
    day, first = rules.at("/legs/7/a~1b"), rules.at("/0")
    assert day is not None and day.formats == ("date",)
    assert first is not None and first.boolean and not first.numeric
    item = rules.at("/1")
    assert item is not None and item.numeric
    assert rules.at("/legs/0/other") is None
    assert rules.at("/unheard/of/9") is None
    assert values_equal({"0": "true"}, {"0": True}, rules)
    assert SchemaRules.of(None) is None


def test_the_form_under_a_schema_is_a_json_value() -> None:
    schema = {"properties": {"day": DATE, "tags": TAGS, "n": INTEGER, "sure": BOOLEAN}}
    value = {"day": "13 Oct 2024", "tags": ["b", "a"], "n": "03", "sure": "True", "x": "2.50"}
    expected = {"day": "2024-10-13", "tags": ["a", "b"], "n": 3, "sure": True, "x": "2.50"}
    assert canonical_by_schema(value, schema) == expected


def test_what_a_value_states_is_equal_to_it_and_spelt_as_it_is() -> None:
    schema = {
        "properties": {"q": STRING, "n": LIMIT, "f": FILTERS, "o": {"properties": {"n": LIMIT}}}
    }
    value = {"q": " Z\u00fc ", "n": "10", "f": "b, a", "o": {"n": 10, "x": None}}
    said = stated(value, schema)
    assert said == {"q": " Z\u00fc ", "f": "b, a", "o": {"x": None}}
    assert values_equal(said, value, schema)
    assert stated(value, None) == value
    assert stated(value, SchemaRules.of(schema, as_written=True)) == value


def test_published_comparisons_tell_an_absent_argument_from_its_default() -> None:
    schema = {"properties": {"n": LIMIT, "legs": {"items": {"properties": {"n": LIMIT}}}}}
    rules = SchemaRules.of(schema, as_written=True)
    for one, other in (({}, {"n": 10}), ({"legs": [{}]}, {"legs": [{"n": 10}]})):
        assert values_equal(one, other, schema)
        assert not values_equal(one, other, rules)
    assert values_equal({"n": "10"}, {"n": 10}, rules)


def test_a_default_that_holds_itself_has_an_end() -> None:
    schema = {"properties": {"next": {"$ref": "#", "default": {"next": {}}}}}
    assert values_equal({"next": {"next": {}}}, {"next": {"next": {}}}, schema)
    wide = {"properties": {name: {"$ref": "#"} for name in "abcdef"}}
    wide["default"] = {name: {} for name in "abcdef"}
    assert values_equal({"a": {"b": {}}}, {"a": {"b": {}}}, wide)
    deep: dict[str, Any] = {"type": "null"}
    for _ in range(5000):
        deep = {"anyOf": [deep]}
    assert not values_equal({}, {"n": None}, {"properties": {"n": deep}})
    loop = {"properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"$ref": "#/$defs/n"}}}
    assert values_equal({"n": 1}, {"n": "1"}, loop)


_DEFAULTED = {
    "properties": {
        "n": LIMIT,
        "m": {"type": ["integer", "null"], "default": 1},
        "f": FILTERS,
        "o": {
            "type": "object",
            "properties": {"n": LIMIT, "m": {"type": ["integer", "null"]}},
            "default": {"n": 10},
        },
    },
    "required": ["q"],
}
_SMALL = st.sampled_from([None, 1, "1", 10, "10", 2.0, "a,b", "b, a", "b,a"])
_SMALL_OBJECTS = st.dictionaries(st.sampled_from("nmfq"), _SMALL, max_size=3)
_ARGUMENTS = st.dictionaries(st.sampled_from("nmfqo"), _SMALL | _SMALL_OBJECTS, max_size=4)


@given(_ARGUMENTS, _ARGUMENTS, _ARGUMENTS)
def test_equality_with_defaults_is_an_equivalence_and_agrees_with_the_key(
    one: Any, other: Any, third: Any
) -> None:
    same = values_equal(one, other, _DEFAULTED)
    assert same == values_equal(other, one, _DEFAULTED)
    assert same == (call_key("t", one, _DEFAULTED) == call_key("t", other, _DEFAULTED))
    assert same == values_equal(stated(one, _DEFAULTED), stated(other, _DEFAULTED), _DEFAULTED)
    if same and values_equal(other, third, _DEFAULTED):
        assert values_equal(one, third, _DEFAULTED)
    # A key made again from the stored plain text is the same key.
    stored = json.loads(canonical_text(one))
    assert call_key("t", stored, _DEFAULTED) == call_key("t", one, _DEFAULTED)
