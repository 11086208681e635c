"""Tool schemas from files of other projects: other type words, odd names, or only examples.

A tool name keeps only letters, digits, ``_`` and ``-``, which function-calling APIs accept. The
original name becomes an alias, so recordings and models may still use it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from orch_env.backends.dialects import standard_schema
from orch_env.backends.schemas import usable_schema
from orch_env.types import OrchError, ToolSpec
from orch_env.types.json import Json, JsonObject
from orch_env.values import json_type


def tool_name(original: str) -> str:
    """The name under which a tool is stored: ``Reviews(Tips)_Sort`` -> ``Reviews_Tips__Sort``."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", original).rstrip("_") or original


def tool_spec(data: Json) -> ToolSpec:
    """Read one tool in any of the known dialects.

    Raises:
        OrchError: there is no name, or the schema cannot be used: a type word that no dialect
            uses, a reference that leads nowhere, a pattern that is no regular expression.
    """
    if not isinstance(data, Mapping):
        raise OrchError(f"a tool must be a JSON object, got {type(data).__name__}")
    spec = ToolSpec.from_dict(data)
    name = tool_name(spec.name)
    try:
        parameters = standard_schema(spec.parameters)
    except OrchError as problem:
        raise OrchError(f"tool {spec.name!r}: {problem}") from problem
    parameters.setdefault("type", "object")
    parameters.setdefault("properties", {})
    aliases = dict.fromkeys((*spec.aliases, *([spec.name] if name != spec.name else [])))
    _check(spec.name, json.dumps(parameters))
    return replace(spec, name=name, parameters=parameters, aliases=tuple(aliases))


@lru_cache(maxsize=1024)
def _check(name: str, parameters: str) -> None:
    """Refuse a tool that would fail when it is opened; a benchmark repeats its tools per task."""
    usable_schema(ToolSpec(name, parameters=json.loads(parameters)))


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
