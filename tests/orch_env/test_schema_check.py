"""What a call gets wrong against its tool's declaration, rule by rule."""

from __future__ import annotations

from typing import Any

import pytest

from orch_env import Task, ToolCall, Turn
from orch_env.rewards.matching.calls import made_calls
from orch_env.rewards.presets.schema_check import CallFaults, Candidates, schema_faults, type_fits
from orch_env.types import Episode, ErrorType, ToolSpec

VALUES: dict[str, Any] = {
    "null": None,
    "boolean": True,
    "integer": 2,
    "whole": 2.0,
    "fraction": 2.5,
    "string": "2",
    "array": [],
    "object": {},
}


@pytest.mark.parametrize(
    ("schema", "fitting"),
    [
        ({"type": "null"}, {"null"}),
        ({"type": "boolean"}, {"boolean"}),
        ({"type": "integer"}, {"integer", "whole"}),
        ({"type": "number"}, {"integer", "whole", "fraction"}),
        ({"type": "string"}, {"string"}),
        ({"type": "array"}, {"array"}),
        ({"type": "object"}, {"object"}),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"type": "string", "nullable": True}, {"string", "null"}),
        ({"nullable": True, "anyOf": [{"type": "array"}]}, {"array", "null"}),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"string", "integer", "whole"}),
        (
            {"oneOf": [{"type": "object"}, {"enum": [1.5]}]},
            {"object", "integer", "whole", "fraction"},
        ),
        ({"allOf": [{"type": "number"}, {"type": ["integer", "string"]}]}, {"integer", "whole"}),
        ({"enum": ["a", "b"]}, {"string"}),
        ({"const": None}, {"null"}),
        ({"$ref": "#/$defs/Id"}, {"string"}),
        ({"$ref": "#/$defs/nowhere"}, set(VALUES)),
        ({"$ref": "https://example.org/schema"}, set(VALUES)),
        ({"type": "date"}, set(VALUES)),  # no JSON type: it says nothing of one
        ({"description": "anything"}, set(VALUES)),
        ({}, set(VALUES)),
        (True, set(VALUES)),
    ],
)
def test_a_type_is_a_json_type(schema: Any, fitting: set[str]) -> None:
    root = {"$defs": {"Id": {"type": "string"}}}
    assert {name for name, value in VALUES.items() if type_fits(value, schema, root)} == fitting


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
def test_numbers_out_of_range_are_numbers(value: Any) -> None:
    assert type_fits(value, {"type": "number"})
    assert not type_fits(value, {"type": "string"})


@pytest.mark.parametrize(
    "inside",
    [
        {"$ref": "#/$defs/a"},
        {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]},
        {"allOf": [{"$ref": "#/$defs/a"}]},
    ],
)
def test_a_schema_that_refers_to_itself_ends_and_says_nothing(inside: dict[str, Any]) -> None:
    assert type_fits(1, {"$ref": "#/$defs/a"}, {"$defs": {"a": inside}})


def test_missing_unknown_and_mistyped_are_counted_by_top_level_property() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "array"}, "c": {}},
        "required": ["a", "c"],
    }
    faults = schema_faults(schema, {"b": {"deep": [1, 2]}, "x": 1, "y": 2})
    assert (faults.missing, faults.unknown, faults.mistyped) == (("a", "c"), ("x", "y"), ("b",))
    assert (faults.parameters, faults.types) == (4, 1)
    assert not faults.callable
    assert schema_faults(schema, {"a": "", "c": None, "x": 1}).callable  # unknown alone


@pytest.mark.parametrize(
    ("extra", "unknown", "mistyped"),
    [
        ({}, ("x",), ()),
        ({"additionalProperties": False}, ("x",), ()),
        ({"additionalProperties": True}, (), ()),
        ({"additionalProperties": {"type": "string"}}, (), ("x",)),
        ({"additionalProperties": {"type": "integer"}}, (), ()),
        ({"patternProperties": {"^x": {}}}, (), ()),
    ],
)
def test_an_argument_is_unknown_unless_the_schema_allows_more(
    extra: dict[str, Any], unknown: tuple[str, ...], mistyped: tuple[str, ...]
) -> None:
    faults = schema_faults({"type": "object", "properties": {}, **extra}, {"x": 1})
    assert (faults.unknown, faults.mistyped) == (unknown, mistyped)


@pytest.mark.parametrize("broken", [{"properties": []}, {"required": "a"}, {"properties": None}])
def test_a_broken_schema_says_nothing(broken: dict[str, Any]) -> None:
    assert schema_faults(broken, {}) == CallFaults()


def faults_of(task: Task, call: ToolCall) -> CallFaults:
    made = made_calls(Episode("t", turns=(Turn.of("", (call,)),)))
    return Candidates(task).faults(made[0])


def test_a_tool_goes_by_its_name_before_another_ones_alias() -> None:
    one = ToolSpec("one", aliases=("two", "uno"))
    two = ToolSpec("two", parameters={"properties": {}, "required": ["a"]})
    task = Task("t", (), (one, two))
    assert Candidates(task).resolve("uno") == "one"
    assert Candidates(task).resolve("two") == "two"
    assert faults_of(task, ToolCall("two")).missing == ("a",)
    assert faults_of(task, ToolCall("three")).unknown_name


def test_a_tool_that_is_only_named_is_judged_by_the_environment() -> None:
    task = Task("t", (), (ToolSpec("one", aliases=("bare",)), "bare"))
    assert faults_of(task, ToolCall("bare", {"x": 1})) == CallFaults()
    refused = ToolCall("bare", {"x": 1}, ErrorType.INVALID_ARGUMENTS)
    assert faults_of(task, refused) == CallFaults(refused=True)
    assert str(faults_of(task, refused)) == "the environment refused its arguments"
    # Where there is a schema it alone decides.
    assert faults_of(task, ToolCall("one", {}, ErrorType.INVALID_ARGUMENTS)) == CallFaults()


def test_long_lists_of_faults_are_cut_for_the_reader() -> None:
    faults = CallFaults(unknown=("a", "b", "c" * 60, "d", "e"))
    assert str(faults) == f"unknown: a, b, {'c' * 40} and 2 more"
