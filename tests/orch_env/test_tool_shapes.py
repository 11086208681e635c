"""A tool in every shape that frameworks and APIs want."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from orch_env import EpisodeSource, OrchError, ToolSpec
from orch_env.types.tool_shapes import SHAPES, python_docstring, python_signature

ODD = ToolSpec(
    "find.flights",
    "Find flights.",
    {
        "type": "object",
        "properties": {
            "from_": {"type": "string", "pattern": "^[A-Z]{3}$", "description": "IATA code"},
            "day": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            "cabin": {"type": ["string", "null"], "enum": ["economy", "business"]},
            "adults": {"type": "integer", "default": 1, "minimum": 1},
            "via": {"type": "array", "items": {"type": "string"}, "x-orch-set": ","},
            "stops": {"enum": [0, 1]},
            "near": {"$ref": "#/$defs/place"},
            "anything": True,
        },
        "required": ["from_", "day"],
        "additionalProperties": False,
        "$defs": {"place": {"type": "object", "properties": {"lat": {"type": "number"}}}},
    },
    read_only=True,
)
BARE = ToolSpec("now")
SPECS = [ODD, BARE, *EpisodeSource(tasks="harbour").tools("cargo-train-000")]


@pytest.fixture(params=SPECS, ids=lambda spec: spec.name)
def spec(request: pytest.FixtureRequest) -> ToolSpec:
    found: ToolSpec = request.param
    return found


@pytest.mark.parametrize("shape", ["openai", "responses", "mcp"])
def test_a_whole_shape_is_read_back_as_the_same_tool(spec: ToolSpec, shape: str) -> None:
    again = ToolSpec.from_dict(json.loads(json.dumps(SHAPES[shape](spec))))
    shown = ToolSpec.from_dict(spec.to_openai())
    assert again == shown
    assert "x-orch-set" not in json.dumps(SHAPES[shape](spec))
    if shape == "responses":
        assert SHAPES[shape](spec)["strict"] is False
    if shape == "mcp":
        assert again.read_only == spec.read_only


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_every_shape_holds_a_valid_schema_of_its_own(spec: ToolSpec, shape: str) -> None:
    made = SHAPES[shape](spec)
    body = made.get("function", made)
    schema = body.get("parameters", body.get("inputSchema"))
    Draft202012Validator.check_schema(schema)
    schema["properties"]["spoilt"] = {}
    assert "spoilt" not in json.dumps(SHAPES[shape](spec)), "shapes share no object with the spec"


def test_a_flat_property_has_one_type_and_loses_nothing() -> None:
    properties = SHAPES["flat"](ODD)["function"]["parameters"]["properties"]
    assert set(properties) == set(ODD.parameters["properties"])
    for name, inside in properties.items():
        assert set(inside) <= {"type", "description", "enum"} and isinstance(inside["type"], str)
        original = ODD.parameters["properties"][name]
        for word in set(original if isinstance(original, dict) else ()) - {
            "type",
            "description",
            "enum",
            "x-orch-set",
        }:
            assert json.dumps(word) in inside["description"], (name, word)
    told = SHAPES["flat"](ODD)["function"]["description"]
    assert told.startswith("Find flights. (JSON Schema: ")
    assert "additionalProperties" in told and '"lat"' in told
    assert SHAPES["flat"](BARE)["function"]["description"] == ""
    assert properties["cabin"]["enum"] == ["economy", "business"]
    assert "enum" not in properties["stops"] and "[0, 1]" in properties["stops"]["description"]
    assert properties["from_"]["description"].startswith("IATA code (JSON Schema: ")


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"items": {"type": "string"}}, "array"),
        ({"properties": {"lat": {"type": "number"}}}, "object"),
        ({"type": ["integer", "null"]}, "integer"),
        ({"type": ["integer", "string"]}, "string"),
        ({}, "string"),
    ],
)
def test_a_flat_property_has_the_type_that_its_schema_means(
    schema: dict[str, Any], kind: str
) -> None:
    spec = ToolSpec("t", "", {"type": "object", "properties": {"a": schema}})
    assert SHAPES["flat"](spec)["function"]["parameters"]["properties"]["a"]["type"] == kind


def test_a_signature_takes_what_the_tool_takes() -> None:
    signature = python_signature(ODD)
    assert [p.kind for p in signature.parameters.values()] == [inspect.Parameter.KEYWORD_ONLY] * 8
    assert signature.bind(from_="OSL", day=3).arguments == {"from_": "OSL", "day": 3}
    with pytest.raises(TypeError):
        signature.bind(day=3)
    hints = {name: p.annotation for name, p in signature.parameters.items()}
    assert hints["from_"] is str and hints["adults"] is int and hints["day"] is Any
    assert hints["via"] == list | None and signature.parameters["adults"].default == 1
    assert not python_signature(BARE).parameters


@pytest.mark.parametrize("name", ["from", "class", "a-b", "1st", ""])
def test_an_argument_that_python_cannot_name_is_refused(name: str) -> None:
    spec = ToolSpec("t", "", {"type": "object", "properties": {name: {"type": "string"}}})
    with pytest.raises(OrchError, match=f"tool 't': the argument {name!r} cannot be"):
        python_signature(spec)


def test_a_docstring_tells_of_every_argument(spec: ToolSpec) -> None:
    told = python_docstring(spec).splitlines()
    assert told[0] == (spec.description or spec.name).splitlines()[0]
    listed = [line.split(":")[0].strip() for line in told if line.startswith("    ")]
    assert set(spec.parameters.get("properties", {})) <= set(listed)
