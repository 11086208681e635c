"""A tool's spec in every shape that frameworks and APIs want.

What a shape cannot say is written into its descriptions, so that the model still reads it.
"""

from __future__ import annotations

import inspect
import json
import keyword
from collections.abc import Callable, Mapping
from typing import Any

from orch_env.types.errors import OrchError
from orch_env.types.json import Json, JsonObject
from orch_env.types.tools import ToolSpec

_PYTHON: dict[str, type] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
}
_FLAT = ("type", "description", "enum")


def openai_chat(spec: ToolSpec) -> JsonObject:
    """``{"type": "function", "function": {"name", "description", "parameters"}}``."""
    return spec.to_openai()


def openai_responses(spec: ToolSpec) -> JsonObject:
    """``{"type": "function", "name", "description", "parameters", "strict": false}``."""
    return {"type": "function", **spec.to_openai()["function"], "strict": False}


def mcp(spec: ToolSpec) -> JsonObject:
    """``{"name", "description", "inputSchema"}``, with the read-only hint where it is known."""
    function = spec.to_openai()["function"]
    shape = {
        "name": spec.name,
        "description": spec.description,
        "inputSchema": function["parameters"],
    }
    if spec.read_only is not None:
        shape["annotations"] = {"readOnlyHint": spec.read_only}
    return shape


def flat(spec: ToolSpec) -> JsonObject:
    """OpenAI's shape with one level of properties, each with a type, as verl's model reads it.

    Of a property's schema it holds ``type``, ``description`` and ``enum`` (as texts); everything
    else stands in the description as JSON Schema: a property's in its own, that of the whole
    (``additionalProperties``, ``$defs``) in the tool's.
    """
    function = spec.to_openai()["function"]
    parameters = function["parameters"]
    properties = parameters.get("properties", {})
    required = parameters.get("required", [])
    whole = {k: v for k, v in parameters.items() if k not in ("type", "properties", "required")}
    return {
        "type": "function",
        "function": {
            "name": spec.name,
            "description": _with_schema(spec.description, whole),
            "parameters": {
                "type": "object",
                "properties": {name: _flat_property(schema) for name, schema in properties.items()},
                "required": list(required) if isinstance(required, list) else [],
            },
        },
    }


def python_signature(spec: ToolSpec) -> inspect.Signature:
    """The arguments as keyword-only parameters, for frameworks that read a function's signature.

    Optional ones have the default of the schema, or ``None``.

    Raises:
        OrchError: an argument's name cannot be a Python parameter.
    """
    schema = spec.to_openai()["function"]["parameters"]
    properties, required = schema.get("properties", {}), schema.get("required", [])
    parameters = []
    for name, inside in properties.items():
        if not name.isidentifier() or keyword.iskeyword(name):
            raise OrchError(
                f"tool {spec.name!r}: the argument {name!r} cannot be the name of a Python "
                "parameter; hand the tool over by its JSON Schema instead"
            )
        needed = isinstance(required, list) and name in required
        hint = _python_type(inside)
        default = inspect.Parameter.empty if needed else _default(inside)
        if not needed and default is None:
            hint = hint | None if hint is not Any else hint
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint
            )
        )
    return inspect.Signature(parameters, return_annotation=str)


def python_docstring(spec: ToolSpec) -> str:
    """A docstring in Google's style that describes the tool and each argument."""
    properties = spec.to_openai()["function"]["parameters"].get("properties", {})
    lines = [spec.description.strip() or spec.name]
    if properties:
        lines += ["", "Args:"]
        for name, inside in properties.items():
            told = " ".join(_flat_property(inside)["description"].split()) or "no description"
            lines.append(f"    {name}: {told}")
    lines += ["", "Returns:", "    What the tool answers, as text."]
    return "\n".join(lines)


SHAPES: dict[str, Callable[[ToolSpec], JsonObject]] = {
    "openai": openai_chat,
    "responses": openai_responses,
    "mcp": mcp,
    "flat": flat,
}
"""The shapes that are JSON, by name."""


def _flat_property(schema: Json) -> JsonObject:
    """Type, description and enum of a property; the rest of its schema in the description."""
    if not isinstance(schema, Mapping):
        return {"type": "string", "description": ""}
    kind = _json_type(schema)
    said = str(schema.get("description", ""))
    shape: JsonObject = {"type": kind, "description": said}
    options = schema.get("enum")
    listed = isinstance(options, list) and all(isinstance(option, str) for option in options)
    if listed:
        shape["enum"] = options
    left = {
        word: value
        for word, value in schema.items()
        if word not in _FLAT
        or (word == "enum" and not listed)
        or (word == "type" and value != kind)
    }
    return {**shape, "description": _with_schema(said, left)}


def _with_schema(said: str, schema: JsonObject) -> str:
    """A description that also holds what is left of a schema."""
    if not schema:
        return said
    return f"{said} (JSON Schema: {json.dumps(schema, ensure_ascii=False)})".strip()


def _json_type(schema: Mapping[str, Any]) -> str:
    """The one type of a schema; ``string`` where it allows several or names none."""
    kind = schema.get("type")
    kinds = [k for k in kind if k != "null"] if isinstance(kind, list) else [kind]
    if len(kinds) == 1 and kinds[0] in _PYTHON:
        return str(kinds[0])
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _python_type(schema: Json) -> Any:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    return _PYTHON.get(kind, Any) if isinstance(kind, str) else Any


def _default(schema: Json) -> Any:
    return schema.get("default") if isinstance(schema, Mapping) else None
