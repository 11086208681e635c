"""Tool schemas from files of other projects: other type words, odd names, or only examples.

A tool name keeps only letters, digits, ``_`` and ``-``, which function-calling APIs accept. The
original name becomes an alias, so recordings and models may still use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from orch_env.types import OrchError, ToolSpec
from orch_env.types.json import Json, JsonObject
from orch_env.values import json_type

_DIALECT = {
    "dict": "object",
    "float": "number",
    "double": "number",
    "int": "integer",
    "long": "integer",
    "bool": "boolean",
    "str": "string",
    "char": "string",
    "list": "array",
    "tuple": "array",
    "none": "null",
}
_ANY = ("any", "")
_STANDARD = ("object", "array", "string", "number", "integer", "boolean", "null")


def tool_name(original: str) -> str:
    """The name under which a tool is stored: ``Reviews(Tips)_Sort`` -> ``Reviews_Tips__Sort``."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", original).rstrip("_") or original


def tool_spec(data: Json) -> ToolSpec:
    """Read one tool in any of the known dialects.

    Raises:
        OrchError: there is no name, or a type word that no dialect uses.
    """
    if not isinstance(data, Mapping):
        raise OrchError(f"a tool must be a JSON object, got {type(data).__name__}")
    spec = ToolSpec.from_dict(data)
    name = tool_name(spec.name)
    try:
        parameters = _standard_schema(spec.parameters)
    except OrchError as problem:
        raise OrchError(f"tool {spec.name!r}: {problem}") from problem
    parameters.setdefault("type", "object")
    parameters.setdefault("properties", {})
    aliases = dict.fromkeys((*spec.aliases, *([spec.name] if name != spec.name else [])))
    return ToolSpec(name, spec.description, parameters, tuple(aliases))


def _standard_schema(node: Json) -> JsonObject:
    """A copy of a schema in which every ``type`` is a word of JSON Schema."""
    if not isinstance(node, Mapping):
        raise OrchError(f"a schema must be a JSON object, got {node!r:.60}")
    out: JsonObject = dict(node)
    kind = out.get("type")
    if isinstance(kind, str):
        word = kind.strip().lower()
        if word in _ANY:
            del out["type"]
        else:
            out["type"] = _DIALECT.get(word, word)
            if out["type"] not in _STANDARD:
                raise OrchError(f"unknown type {kind!r} (known: {', '.join(_STANDARD)})")
    if isinstance(out.get("properties"), Mapping):
        out["properties"] = {k: _standard_schema(v) for k, v in out["properties"].items()}
    if isinstance(out.get("items"), Mapping):
        out["items"] = _standard_schema(out["items"])
    if isinstance(out.get("required"), bool):
        del out["required"]  # some dialects mark each property; the list holds the same
    return out


def infer_tool(name: str, examples: Iterable[JsonObject]) -> ToolSpec:
    """A permissive spec from recorded arguments: every name and type seen; required if in all."""
    types: dict[str, set[str]] = {}
    required: set[str] | None = None
    for arguments in examples:
        required = set(arguments) if required is None else required & set(arguments)
        for key, value in arguments.items():
            types.setdefault(key, set()).add(_type_of(value))
    properties: JsonObject = {}
    for key, kinds in types.items():
        if "number" in kinds:
            kinds.discard("integer")
        properties[key] = {"type": next(iter(kinds)) if len(kinds) == 1 else sorted(kinds)}
    parameters = {
        "type": "object",
        "properties": properties,
        "required": sorted(required or ()),
        "additionalProperties": True,
    }
    return ToolSpec(name, "", parameters)


def _type_of(value: Json) -> str:
    kind = json_type(value)
    return "integer" if kind == "number" and isinstance(value, int) else kind
