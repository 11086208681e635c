"""A tool's arguments: the JSON Schema made from a method's signature, and the check against it.

The schema comes from type hints and docstring alone and uses few keywords. The checker here takes
a few microseconds where a general validator takes a hundred, and its messages tell a model how to
repair its call.
"""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from orch_env.types.json import Json, JsonObject

_SCALARS: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


@dataclass(frozen=True, slots=True)
class Pattern:
    """``Annotated[str, Pattern("S-[0-9]{4}")]``: the whole string must match."""

    regex: str


@dataclass(frozen=True, slots=True)
class Range:
    """``Annotated[int, Range(1, 10)]``: inclusive bounds, ``None`` for no bound."""

    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Length:
    """``Annotated[str, Length(1, 80)]``: characters of a string or items of a list, inclusive."""

    minimum: int = 0
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """``Annotated[str, Format("date")]``: a date, a time of the day, or both, without a zone.

    Args:
        name: ``date`` (2025-03-03), ``time`` (09:30) or ``date-time`` (2025-03-03T09:30).
    """

    name: Literal["date", "time", "date-time"]


MAX_TEXT = 20_000
"""Characters of a string argument that sets no :class:`Length`."""
MAX_ITEMS = 1_000
"""Items of a list argument that sets no :class:`Length`."""
MAX_NUMBER = 2**53
"""Numbers beyond this lose digits in JSON, so none is taken."""


def schema_of(method: Callable[..., Any]) -> tuple[str, JsonObject]:
    """Make ``(description, parameters schema)`` from a tool method.

    The description is the docstring up to ``Args:``; the lines there describe the arguments.
    Supported hints: str, int, float, bool, ``Literal`` of strings, ``list[T]``, ``T | None``
    (optional, needs a default), each with :class:`Pattern`, :class:`Range`, :class:`Length` or
    :class:`Format` through ``Annotated``.

    Raises:
        TypeError: no docstring, an argument without hint or description, or another hint.
    """
    description, described = _read_docstring(inspect.getdoc(method) or "")
    where = f"tool {method.__name__!r}"
    if not description:
        raise TypeError(f"{where} needs a docstring: it is what the model reads")
    hints = get_type_hints(method, include_extras=True)
    properties: JsonObject = {}
    required: list[str] = []
    for name, parameter in list(inspect.signature(method).parameters.items())[1:]:
        if name not in hints or not described.get(name):
            raise TypeError(f"{where}: argument {name!r} needs a type hint and a line in 'Args:'")
        schema = _schema_of_hint(hints[name], f"{where}: argument {name!r}")
        properties[name] = {**schema, "description": described[name]}
        if parameter.default is inspect.Parameter.empty:
            required.append(name)
        elif parameter.default is not None:
            properties[name]["default"] = parameter.default
    return description, {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def problem_with(arguments: Mapping[str, Json], schema: Mapping[str, Json]) -> str | None:
    """What is wrong with the arguments in one sentence, ``None`` if nothing is.

    Args:
        arguments: as the model wrote them.
        schema: a parameters schema made by :func:`schema_of`.
    """
    properties = schema["properties"]
    for name in schema["required"]:
        if name not in arguments:
            return f"Missing argument {name!r}: {properties[name]['description']}"
    for name, value in arguments.items():
        if name not in properties:
            known = ", ".join(properties) or "none"
            return f"Unknown argument {str(name)[:60]!r}; known arguments: {known}."
        problem = _problem_with_value(value, properties[name])
        if problem is not None:
            return f"Argument {name!r} {problem}: {properties[name]['description']}"
    return None


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "array": lambda v: isinstance(v, list),
}


def _problem_with_value(value: Json, schema: Mapping[str, Json]) -> str | None:
    kind = schema["type"]
    if not _CHECKS[kind](value):
        return f"must be of type {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return "must be one of " + ", ".join(map(repr, schema["enum"]))
    if kind == "string":
        return _problem_with_text(value, schema)
    if kind == "array":
        return _problem_with_items(value, schema)
    if kind != "boolean":
        if not math.isfinite(value) or abs(value) > MAX_NUMBER:
            return f"must lie between -{MAX_NUMBER} and {MAX_NUMBER}"
        if "minimum" in schema and not value >= schema["minimum"]:
            return f"must be at least {schema['minimum']}"
        if "maximum" in schema and not value <= schema["maximum"]:
            return f"must be at most {schema['maximum']}"
    return None


_FORMATS: dict[str, tuple[str, str, Callable[[str], object]]] = {
    "date": (r"\d{4}-\d\d-\d\d", "a date such as 2025-03-03", date.fromisoformat),
    "time": (r"\d\d:\d\d", "a time of the day such as 09:30", time.fromisoformat),
    "date-time": (
        r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?",
        "a date and time such as 2025-03-03T09:30",
        datetime.fromisoformat,
    ),
}


def _problem_with_text(value: str, schema: Mapping[str, Json]) -> str | None:
    if len(value) > schema.get("maxLength", MAX_TEXT):
        return f"must have at most {schema.get('maxLength', MAX_TEXT)} characters"
    if len(value) < schema.get("minLength", 0):
        return f"must have at least {schema['minLength']} characters"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "must be valid Unicode, without lone surrogates"
    if "pattern" in schema and not re.fullmatch(schema["pattern"], value, re.ASCII):
        return f"must match {schema['pattern']}"
    if "format" in schema:
        form, example, read = _FORMATS[schema["format"]]
        try:
            if re.fullmatch(form, value, re.ASCII):
                read(value)
                return None
        except ValueError:
            pass
        return f"must be {example}"
    return None


def _problem_with_items(value: list[Json], schema: Mapping[str, Json]) -> str | None:
    if len(value) > schema.get("maxItems", MAX_ITEMS):
        return f"must have at most {schema.get('maxItems', MAX_ITEMS)} items"
    if len(value) < schema.get("minItems", 0):
        return f"must have at least {schema['minItems']} items"
    for index, item in enumerate(value):
        problem = _problem_with_value(item, schema["items"])
        if problem is not None:
            return f"item {index} {problem}"
    return None


def _schema_of_hint(hint: Any, where: str) -> JsonObject:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        inner_schema = _schema_of_hint(args[0], where)
        return {**inner_schema, **_constraints(args[1:], inner_schema["type"])}
    if origin in (Union, types.UnionType):
        inner = [a for a in args if a is not types.NoneType]
        if len(inner) == 1:
            return _schema_of_hint(inner[0], where)
    if origin is Literal and all(isinstance(a, str) for a in args):
        return {"type": "string", "enum": list(args)}
    if origin is list:
        return {"type": "array", "items": _schema_of_hint(args[0], where)}
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    raise TypeError(f"{where} has the type {hint!r}, which no schema is made for")


def _constraints(marks: tuple[Any, ...], kind: str) -> JsonObject:
    out: JsonObject = {}
    for mark in marks:
        if isinstance(mark, Pattern):
            # Anchored: JSON Schema only searches, but here the whole string must match.
            out["pattern"] = f"^{mark.regex}$"
        elif isinstance(mark, Range):
            bounds = {"minimum": mark.minimum, "maximum": mark.maximum}
            out.update({key: bound for key, bound in bounds.items() if bound is not None})
        elif isinstance(mark, Length):
            what = "Items" if kind == "array" else "Length"
            if mark.minimum:
                out[f"min{what}"] = mark.minimum
            if mark.maximum is not None:
                out[f"max{what}"] = mark.maximum
        elif isinstance(mark, Format):
            out["format"] = mark.name
    return out


def _read_docstring(text: str) -> tuple[str, dict[str, str]]:
    head, _, rest = text.partition("\nArgs:\n")
    described: dict[str, str] = {}
    name = ""
    for line in rest.split("\n"):
        if line.strip() and not line.startswith(" "):
            break
        entry = re.match(r"    (\w+): (.*)", line)
        if entry:
            name = entry[1]
            described[name] = entry[2].strip()
        elif name and line.strip():
            described[name] += " " + line.strip()
    return " ".join(head.split()), described
