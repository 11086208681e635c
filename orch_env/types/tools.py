"""Tools as a model sees them, and one call of a tool with its result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orch_env.types.errors import ErrorType, OrchError
from orch_env.types.fields import got, list_of, name_of, value_of
from orch_env.types.json import Json, JsonObject, parse_json

T = TypeVar("T")

SET_KEYWORD = "x-orch-set"
"""In the schema of a string argument: what joins its pieces, whose order does not matter."""

_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_DATA = frozenset({"default", "enum", "const", "examples", "required"})


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A callable tool: its name, description and the JSON Schema of its arguments.

    Attributes:
        name: what the model writes to call it.
        description: one or more sentences for the model.
        parameters: JSON Schema (draft 2020-12) of type ``object``.
        aliases: other names under which recordings know this tool.
        read_only: whether a call changes nothing, ``None`` where it is not known. The model does
            not see it, and it makes no difference between two specs.
    """

    name: str
    description: str = ""
    parameters: JsonObject = field(default_factory=lambda: {"type": "object", "properties": {}})
    aliases: tuple[str, ...] = ()
    read_only: bool | None = field(default=None, compare=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ToolSpec:
        """Read a tool in any of the usual forms.

        Those are ``{name, description, parameters}`` (the Responses API too), OpenAI's ``{type,
        function: {...}}``, MCP's with ``inputSchema``, Anthropic's with ``input_schema``, Gemini's
        with ``parametersJsonSchema`` and Bedrock's ``{toolSpec: {...}}``. A tool without any of
        these keys takes no arguments.

        Raises:
            OrchError: it has no name, a field has a wrong type, or its arguments stand under a key
                that is not read.
        """
        if not isinstance(data, Mapping):
            raise OrchError(f"a tool must be a JSON object, got {got(data)}")
        for wrapper in ("function", "toolSpec"):
            inner = data.get(wrapper)
            if isinstance(inner, Mapping):
                data = {**{k: v for k, v in data.items() if k != wrapper}, **inner}
        name = name_of(data, "name", "a tool")
        try:
            return cls(
                name=name,
                description=value_of(data, "description", str, ""),
                parameters=_parameters(data),
                aliases=list_of(data, "aliases", str),
                read_only=_read_only(data),
            )
        except OrchError as problem:
            raise OrchError(f"tool {name!r}: {problem}") from problem

    def to_dict(self) -> JsonObject:
        """The plain form; ``aliases`` and MCP's ``annotations`` appear only where there are any."""
        out: JsonObject = self._function(self.parameters)
        if self.aliases:
            out["aliases"] = list(self.aliases)
        if self.read_only is not None:
            out["annotations"] = {"readOnlyHint": self.read_only}
        return out

    def to_openai(self) -> JsonObject:
        """The ``{type: function, function: {...}}`` form that chat templates take.

        It lacks the words that are not for the model (``x-orch-set``).
        """
        return {"type": "function", "function": self._function(_for_model(self.parameters))}

    def _function(self, parameters: JsonObject) -> JsonObject:
        return {"name": self.name, "description": self.description, "parameters": parameters}


def _read_only(data: Mapping[str, Any]) -> bool | None:
    """MCP's hint; what is no hint says nothing."""
    hints = data.get("annotations")
    hint = hints.get("readOnlyHint") if isinstance(hints, Mapping) else None
    return hint if isinstance(hint, bool) else None


def _for_model(schema: Json) -> Json:
    """A schema without ``x-orch-set``, at every depth. An argument may have that name."""
    if isinstance(schema, list):
        return [_for_model(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    shown: JsonObject = {}
    for word, value in schema.items():
        if word in _NAMED and isinstance(value, Mapping):
            shown[word] = {name: _for_model(inside) for name, inside in value.items()}
        elif word != SET_KEYWORD:
            shown[word] = value if word in _DATA else _for_model(value)
    return shown


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call as the model wrote it.

    Attributes:
        name: the tool's name; ``""`` if none could be read.
        arguments: the arguments object; ``{}`` if none could be read.
        error: why the call failed, ``None`` if it ran (or has not run yet). A call that could not
            be parsed carries ``ErrorType.MALFORMED_CALL`` from the start.
    """

    name: str
    arguments: JsonObject = field(default_factory=dict)
    error: ErrorType | None = None

    @property
    def ok(self) -> bool:
        """Whether the call ran without an error."""
        return self.error is None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ToolCall:
        """Read ``{name, arguments, error}``; ``error`` may be missing.

        What a model got wrong is read as it was meant or as a malformed call: arguments as a JSON
        text are parsed, and what is no object at all is a call that could not be read.

        Raises:
            ValueError: ``error`` is none of :class:`ErrorType`; the environment writes it.
        """
        if not isinstance(data, Mapping):
            return cls("", {}, ErrorType.MALFORMED_CALL)
        arguments, error = data.get("arguments"), data.get("error")
        if isinstance(arguments, str):
            arguments = parse_json(arguments)
        elif arguments is None:
            arguments = {}
        known = ErrorType(error) if error is not None else None
        if not isinstance(arguments, Mapping):
            arguments, known = {}, known or ErrorType.MALFORMED_CALL
        return cls(str(data.get("name") or ""), dict(arguments), known)

    def to_dict(self) -> JsonObject:
        """The ``{name, arguments, error}`` form of INTERFACE's episodes."""
        return {
            "name": self.name,
            "arguments": self.arguments,
            "error": self.error.value if self.error is not None else None,
        }


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came back for one call: the exact text, and the error type if it is an error.

    A recorded response is one object for all episodes that show it, and keeps what was derived
    from its text.
    """

    text: str
    error: ErrorType | None = None
    _derived: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def failure(cls, kind: ErrorType, message: str, **details: Json) -> ToolResult:
        """An error observation of the one documented shape, with a message that helps to repair."""
        body = {"error": {"type": kind.value, "message": message, "details": details}}
        return cls(text=json.dumps(body, ensure_ascii=True), error=kind)

    def derived(self, make: Callable[[str], T]) -> T:
        """``make(text)``, made once while this object lives."""
        found = self._derived.get(make)
        if found is None:
            found = self._derived[make] = make(self.text)
        made: T = found
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        # What was derived stays here: copies and other processes derive it again.
        return ToolResult, (self.text, self.error)


SCHEMA_KEYS = (
    "parameters",
    "inputSchema",
    "input_schema",
    "parametersJsonSchema",
    "parameters_json_schema",
)
"""Where tools of different origin have the JSON Schema of their arguments."""

_OF_OBJECTS = _NAMED | {"additionalProperties", "propertyNames", "not", "if", "then", "else"}
_LIKE_SCHEMA = re.compile(r"schema|param|input|argument|\bargs|propert", re.IGNORECASE)
_OF_RESULT = re.compile(r"output|response|return|result", re.IGNORECASE)


def _parameters(data: Mapping[str, Any]) -> JsonObject:
    """The JSON Schema of a tool's arguments.

    Raises:
        OrchError: there are two, it is no schema, or it stands under a key that is not read.
    """
    given = [key for key in SCHEMA_KEYS if data.get(key) is not None]
    if len(given) > 1 and any(data[key] != data[given[0]] for key in given):
        raise OrchError(f"its arguments are given twice, in {' and '.join(map(repr, given))}")
    if not given:
        for key, value in data.items():
            if value and _LIKE_SCHEMA.search(key) and not _OF_RESULT.search(key):
                raise OrchError(
                    f"its arguments seem to stand in {key!r}, which is not read: put their JSON "
                    "Schema into 'parameters'"
                )
        if data.get("type", "function") != "function":
            raise OrchError(f"a tool of type {data['type']!r} without 'parameters' is not read")
        return {"type": "object", "properties": {}}
    schema = value_of(data, given[0], dict, {})
    if set(schema) == {"json"}:  # Bedrock wraps it
        schema = value_of(schema, "json", dict, {})
    value_of(schema, "properties", dict, {})
    named = [k for k, v in schema.items() if isinstance(v, Mapping) and "type" in v]
    if named and len(named) == len(schema) and _OF_OBJECTS.isdisjoint(named):
        raise OrchError(
            f"{given[0]!r} is no JSON Schema but the properties of one: write "
            '{"type": "object", "properties": {...}}'
        )
    if not isinstance(schema.get("required"), bool):  # some dialects mark properties by a bool
        list_of(schema, "required", str)
    return dict(schema) or {"type": "object", "properties": {}}
