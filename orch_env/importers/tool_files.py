"""Files of tools, for sources of recordings that hold no schemas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orch_env.importers.schemas import tool_spec
from orch_env.tasks.files import read_text
from orch_env.types import OrchError, ToolSpec
from orch_env.types.json import Json, parse_json, parse_whole


def read_tools(path: Path) -> list[ToolSpec]:
    """Read a file of tools, plain or gzipped.

    It is a JSON list, ``{name: spec}``, JSON Lines, or what MCP's ``tools/list`` answers:
    ``{"tools": [...]}``, also inside ``{"result": ...}``.

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
        return [_line(path, number, line) for number, line in enumerate(lines, start=1)]
    if isinstance(whole, Mapping) and isinstance(whole.get("result"), Mapping):
        whole = whole["result"]
    if isinstance(whole, Mapping) and isinstance(whole.get("tools"), list):
        whole = whole["tools"]
    if not isinstance(whole, Mapping):
        return whole if isinstance(whole, list) else []
    if isinstance(whole.get("name", whole.get("function")), str | Mapping):
        return [whole]
    return [{"name": k, **v} if isinstance(v, Mapping) else v for k, v in whole.items()]


def _line(path: Path, number: int, line: str) -> Json:
    try:
        return parse_whole(line)
    except ValueError as problem:
        raise OrchError(
            f"tools file {str(path)!r}, line {number}: not JSON ({problem})"
        ) from problem
