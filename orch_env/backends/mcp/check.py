"""What in a server's answers differs from episode to episode, found by playing one twice.

The episode calls each tool that looks as if it only reads, once, with arguments made from its
schema; it is played in fresh servers both times, more than a second apart, so that a clock with
seconds shows. What differs by chance and did not this time, by the day, or only in tools that
write, is not found.
"""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from orch_env.backends.mcp.backend import McpBackend
from orch_env.backends.mcp.errors import ServerFailure
from orch_env.backends.mcp.folder import ALIAS
from orch_env.types import OrchError, Task, ToolCall, ToolResult, ToolSpec
from orch_env.types.json import Json, JsonObject

_APART_S = 1.1
_SHOWN = 80
_READS = re.compile(
    r"^(get|list|read|search|find|show|describe|query|fetch|look|view|count|check|stat)([_\-A-Z]|$)"
    r"|[_-](get|list|read|search|find|show|describe|status|log|diff|info|tree)([_-]|$)"
)
_PLACE = re.compile(r"path|dir|folder|file|root|repo", re.IGNORECASE)
_MOST_DEPTH = 8


def check_servers(path: str | os.PathLike[str]) -> JsonObject:
    """Start the servers of an ``mcpServers`` file twice and compare what they answer.

    Returns:
        ``{ok, problems, differs}``. ``problems`` are sentences on what cannot be used, and ``ok``
        says that there are none. ``differs`` has the tools whose text differed, for the user to
        judge: ``{tool, arguments, first, second}``, each text from shortly before the first
        difference on.

    Raises:
        OrchError: the file is wrong, or MCP's SDK is not installed.
    """
    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always")
        problems, differs = _play_twice(McpBackend(path))
    told = list(dict.fromkeys([*(str(warning.message) for warning in left_out), *problems]))
    return {"ok": not told, "problems": told, "differs": differs}


def _play_twice(backend: McpBackend) -> tuple[list[str], list[JsonObject]]:
    problems: list[str] = []
    differs: list[JsonObject] = []
    try:
        for server in backend.servers:
            try:
                calls = calls_that_read(backend.tools([server]))
            except OrchError as problem:
                problems.append(str(problem))
                continue
            first = dict(_play(backend, server, calls, problems))
            time.sleep(_APART_S)
            second = dict(_play(backend, server, calls, problems))
            differs += [
                _difference(call, first[call.name].text, second[call.name].text)
                for call in calls
                if call.name in first.keys() & second.keys()
                and first[call.name] != second[call.name]
            ]
    finally:
        backend.close()
    return problems, differs


def calls_that_read(tools: Mapping[str, ToolSpec]) -> list[ToolCall]:
    """One call of each tool that says that it only reads, or whose name says so."""
    return [ToolCall(name, _arguments(s)) for name, s in tools.items() if _only_reads(s)]


def _play(
    backend: McpBackend, server: str, calls: list[ToolCall], problems: list[str]
) -> Iterator[tuple[str, ToolResult]]:
    """Each call's result, in a fresh server; after a failure the next call gets another one."""
    task = Task(id=f"check-{server}", messages=(), servers=(server,))
    session = None
    for call in calls:
        try:
            session = session or backend.open(task, seed=0)
            (result,) = session.answer([call])
            yield call.name, result
        except ServerFailure as failure:
            problems.append(f"{call.name}: {failure}")
            session = None
    if session is not None:
        session.close()


def _difference(call: ToolCall, first: str, second: str) -> JsonObject:
    pairs = enumerate(zip(first, second, strict=False))
    at = next((n for n, (a, b) in pairs if a != b), min(len(first), len(second)))
    start = max(0, at - _SHOWN // 2)
    return {
        "tool": call.name,
        "arguments": call.arguments,
        "first": first[start : start + _SHOWN],
        "second": second[start : start + _SHOWN],
    }


def _only_reads(spec: ToolSpec) -> bool:
    if spec.read_only is not None:
        return spec.read_only
    return bool(_READS.search(spec.name))


def _arguments(spec: ToolSpec) -> JsonObject:
    """The required arguments, of values that the schema seems to allow."""
    value: JsonObject = _value(spec.parameters, "", spec.parameters, 0) or {}
    return value


def _value(schema: Any, name: str, root: Mapping[str, Any], depth: int) -> Json:
    if not isinstance(schema, Mapping) or depth > _MOST_DEPTH:
        return None
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        found: Any = root
        for step in reference[2:].split("/"):
            found = found.get(step) if isinstance(found, Mapping) else None
        return _value(found, name, root, depth + 1)
    for key in ("const", "default"):
        if schema.get(key) is not None:
            return schema[key]
    for key in ("enum", "examples"):
        if isinstance(schema.get(key), list) and schema[key]:
            return schema[key][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return _value(schema[key][0], name, root, depth + 1)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or (kind is None and "properties" in schema):
        properties = schema.get("properties") or {}
        return {
            n: _value(properties.get(n), n, root, depth + 1) for n in schema.get("required", ())
        }
    if kind == "array":
        least = max(1, schema.get("minItems") or 1)
        return [_value(schema.get("items"), name, root, depth + 1)] * min(least, 10)
    if kind in ("integer", "number"):
        return schema.get("minimum", schema.get("maximum", 1))
    if kind == "boolean":
        return False
    return _text(schema, name)


def _text(schema: Mapping[str, Any], name: str) -> str:
    known = {
        "date": "2025-01-15",
        "date-time": "2025-01-15T09:00:00Z",
        "time": "09:00:00Z",
        "uri": "https://example.org/",
        "email": "someone@example.org",
    }
    if schema.get("format") in known:
        return known[schema["format"]]
    if "zone" in name.lower():
        return "UTC"
    if _PLACE.search(name):
        return ALIAS
    return "a" * min(max(1, schema.get("minLength") or 1), 1000)
