"""Ways to fill a tool's arguments without knowing what is asked: schema, description, query.

Every value has the type that the schema names; one of another type would fail the schema check
and test nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orch_env.types import ToolSpec
from orch_env.types.json import Json, JsonObject

MAX_DEPTH = 8
"""Levels of nested schemas that are filled."""

Fill = Callable[[Mapping[str, Any], str], Json]
"""``(schema of one argument, its JSON type) -> value``; called for scalars only."""

_SCALARS: Mapping[str, Json] = {"integer": 1, "number": 1, "boolean": False, "null": None}
_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d+)?")
_EXAMPLE = re.compile(r"(?:example|e\.g\.|such as|default)\w*\W{1,8}([\w.:-]+)", re.IGNORECASE)
_CAPITALS = re.compile(r"\b[A-Z][A-Z_]{3,}\b")
_NAME = re.compile(r"\b[A-Z][\w'\u2019-]+(?: +[A-Z][\w'\u2019-]+)*")
_OPENING = re.compile(r"(?:^|[.?!:\n])\W*$")
_CALENDAR = re.compile(
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day)s?$"
)
_CHOICE = re.compile(r"([\w'\u2019-]+),? or (?:the |a |an )?[\w'\u2019-]+", re.IGNORECASE)
_LOOK_UP = re.compile(r"query|name|city|place|location|address|keyword|destination", re.IGNORECASE)
_ID = re.compile(r"\bids?\b|_id\b|Id\b|token|key\b|slug|retrieved from")


def arguments_by_schema(spec: ToolSpec) -> JsonObject:
    """The required arguments: default, example, first allowed value, or a simple value."""
    return _object(spec.parameters, lambda _, kind: _SCALARS.get(kind, ""), MAX_DEPTH, every=False)


def arguments_of_text(spec: ToolSpec, text: str) -> JsonObject:
    """Every argument filled with ``text``; numbers with the first number in it."""

    def fill(_: Mapping[str, Any], kind: str) -> Json:
        if kind in ("integer", "number"):
            return _first_number(text, kind)
        return _SCALARS.get(kind, text)

    return _object(spec.parameters, fill, MAX_DEPTH, every=True, prefer_schema=False)


def arguments_of_descriptions(spec: ToolSpec) -> JsonObject:
    """Every argument copied from the schema's examples or from what its description says."""
    return _object(spec.parameters, _from_description, MAX_DEPTH, every=True)


def names_in(text: str) -> list[str]:
    """The capitalised names of a text, in order, each once; no month and no day of the week.

    A single word that opens a sentence is no name.
    """
    found: dict[str, None] = {}
    for match in _NAME.finditer(text):
        name = match.group()
        opens = " " not in name and _OPENING.search(text[: match.start()])
        if not opens and not _CALENDAR.match(name):
            found[name] = None
    return list(found)


def properties_of(spec: ToolSpec | None) -> dict[str, Mapping[str, Any]]:
    """Argument -> its schema, ``{}`` for one that says nothing; none for an unknown tool."""
    found = spec.parameters.get("properties") if spec else None
    if not isinstance(found, Mapping):
        return {}
    return {name: part if isinstance(part, Mapping) else {} for name, part in found.items()}


def is_free_text(schema: Mapping[str, Any]) -> bool:
    """Whether a text argument takes any text."""
    return not {"enum", "const", "pattern", "format"} & set(schema)


def look_up_arguments(spec: ToolSpec) -> list[str]:
    """The string arguments of a tool that ask for a name or a place: free text and no id."""
    return [
        name
        for name, part in properties_of(spec).items()
        if part.get("type", "string") == "string"
        and is_free_text(part)
        and _LOOK_UP.search(f"{name} {part.get('description') or ''}")
        and not _ID.search(f"{name} {part.get('description') or ''}")
    ]


def likeliest_tools(text: str, specs: Sequence[ToolSpec]) -> list[ToolSpec]:
    """Tools by how many words of their name and description stand in a text, most first."""
    said = _words(text)
    return sorted(specs, key=lambda s: -len(said & _words(f"{s.name} {s.description}")))


def likeliest_answer(text: str) -> str:
    """The first of the choices that a question names ("Oslo or Bergen?"), else yes."""
    choice = _CHOICE.search(text)
    return choice.group(1) if choice else "yes"


def _words(text: str) -> set[str]:
    return {word.lower().rstrip("s") for word in re.findall(r"[A-Za-z]{3,}", text)}


def _object(
    schema: Mapping[str, Any], fill: Fill, depth: int, *, every: bool, prefer_schema: bool = True
) -> JsonObject:
    properties = schema.get("properties")
    required = schema.get("required")
    if not isinstance(properties, Mapping) or depth == 0:
        return {}
    wanted = set(required) if isinstance(required, list) else set()
    return {
        name: _value(part, fill, depth - 1, every=every, prefer_schema=prefer_schema)
        for name, part in properties.items()
        if every or name in wanted
    }


def _value(schema: Any, fill: Fill, depth: int, *, every: bool, prefer_schema: bool) -> Json:
    if not isinstance(schema, Mapping):
        return fill({}, "string")
    if prefer_schema:
        for key in ("const", "default", "example"):
            if key in schema:
                return schema[key]
    for key in ("examples", "enum"):
        listed = schema.get(key)
        if isinstance(listed, list) and listed and (prefer_schema or key == "enum"):
            return listed[0]
    kind = schema.get("type", "string")
    if isinstance(kind, list):
        kind = kind[0] if kind else "string"
    if kind == "object":
        return _object(schema, fill, depth, every=every, prefer_schema=prefer_schema)
    if kind == "array":
        example = _example_list(str(schema.get("description") or ""))
        if prefer_schema and example is not None:
            return example
        if depth == 0:
            return []
        items = schema.get("items") or {}
        return [_value(items, fill, depth - 1, every=every, prefer_schema=prefer_schema)]
    return fill(schema, str(kind))


def _from_description(schema: Mapping[str, Any], kind: str) -> Json:
    text = str(schema.get("description") or "")
    if kind in ("integer", "number"):
        return _first_number(text, kind)
    if kind != "string":
        return _SCALARS.get(kind)
    for pattern, group in ((_EXAMPLE, 1), (_CAPITALS, 0)):
        match = pattern.search(text)
        if match is not None:
            return match.group(group)
    return text


def _first_number(text: str, kind: str) -> int | float:
    """The first number in a text, 1 if it holds none."""
    found = _NUMBER.search(text)
    number = float(found.group() if found else 1)
    return int(number) if kind == "integer" or number.is_integer() else number


def _example_list(description: str) -> list[Json] | None:
    """The JSON list that a description shows as an example, ``None`` if it shows none."""
    shown = description[description.find("[") : description.rfind("]") + 1]
    for spelling in (shown, shown.replace("'", '"')):
        try:
            value = json.loads(spelling)
        except (ValueError, RecursionError):
            continue
        return value if isinstance(value, list) else None
    return None
