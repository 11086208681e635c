"""Files of tools, for sources of recordings that hold no schemas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orch_env.importers.schemas import tool_spec
from orch_env.tasks.files import read_text
from orch_env.types import OrchError, ToolSpec
from orch_env.types.json import Json, parse_json, parse_whole
from orch_env.types.tools import SCHEMA_KEYS

_OF_SPEC = ("description", "function", *SCHEMA_KEYS)


def read_tools(path: Path) -> list[ToolSpec]:
    """Read a file of tools, plain or gzipped.

    It is a JSON list, ``{name: spec}``, JSON Lines, what MCP's ``tools/list`` answers (``{"tools":
    [...]}``, also inside ``{"result": ...}``), or what Gemini (``functionDeclarations``) and
    Bedrock (``toolConfig``) are sent.

    Raises:
        OrchError: the file is missing, an entry is no tool, or two have the same name; the message
            says which.
    """
    items = _items(path)
    if not items:
        raise OrchError(f"tools file {str(path)!r} holds no tools")
    specs: dict[str, ToolSpec] = {}
    for number, item in enumerate(items, start=1):
        try:
            spec = tool_spec(item)
            if spec.name in specs:
                raise OrchError(f"there is a tool {spec.name!r} before it")
        except OrchError as problem:
            raise OrchError(f"tools file {str(path)!r}, entry {number}: {problem}") from problem
        specs[spec.name] = spec
    return list(specs.values())


def _items(path: Path) -> list[Json]:
    text = read_text(path)
    try:
        whole = parse_whole(text)
    except ValueError as problem:
        lines = [line for line in text.split("\n") if line.strip(" \t\r")]
        if not lines or parse_json(lines[0]) is None:
            raise OrchError(f"tools file {str(path)!r} is not JSON ({problem})") from problem
        return _unwrapped([_line(path, *numbered) for numbered in enumerate(lines, start=1)])
    found = _unwrapped(whole)
    if found != [whole] or not isinstance(whole, Mapping):
        return found
    if isinstance(whole.get("name", whole.get("function")), str | Mapping):
        return found
    for name, spec in whole.items():
        if isinstance(spec, Mapping) and not any(key in spec for key in _OF_SPEC):
            raise OrchError(
                f"tools file {str(path)!r}: {name!r} is no tool: it has no 'parameters'"
            )
    return [{"name": k, **v} if isinstance(v, Mapping) else v for k, v in whole.items()]


def _unwrapped(value: Json) -> list[Json]:
    """The tools in a list or in one of the objects that services answer; else the value itself."""
    if isinstance(value, list):
        return [tool for item in value for tool in _unwrapped(item)]
    if isinstance(value, Mapping) and "name" not in value:
        for wrapper in ("result", "toolConfig"):
            inner = value.get(wrapper)
            if isinstance(inner, Mapping) and isinstance(inner.get("tools"), list):
                return _unwrapped(inner["tools"])
        for key in ("tools", "functionDeclarations", "function_declarations"):
            if isinstance(value.get(key), list):
                return _unwrapped(value[key])
    return [value]


def _line(path: Path, number: int, line: str) -> Json:
    try:
        return parse_whole(line)
    except ValueError as problem:
        raise OrchError(
            f"tools file {str(path)!r}, line {number}: not JSON ({problem})"
        ) from problem
