"""What a call gets wrong against its tool's declaration: name, parameters, JSON types.

Rewards count these faults; they do not validate against the tool's full schema. The unit is the
*top-level property*. A missing, unknown or wrongly typed one is one fault, however much is nested
in it, and only its JSON type is checked (the environment refuses calls that break ``enum``,
``pattern`` and the like). Types are JSON's, strictly: an integer is a number, ``2.0`` is an
integer, a boolean is neither, and ``"2"`` is a string.

Where a task only *names* a tool there is no schema, and the environment's result decides: a call
refused as ``invalid_arguments`` has one fault of parameters and one of types (the error says that
there is one, not which), any other call has none. Where a task lists no tools at all, a name is a
candidate unless the environment answered ``unknown_tool``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orch_env.rewards.matching.calls import MadeCall
from orch_env.types import ErrorType, Task, ToolSpec
from orch_env.types.json import Json, JsonObject
from orch_env.values import SchemaRules, canonical_text_by_schema, json_type
from orch_env.values.argument_names import ArgumentNames
from orch_env.values.canonical import normal
from orch_env.values.schema_places import target

_HOPS = 16
"""Local references and combinators followed; a deeper schema allows every type."""


@dataclass(frozen=True, slots=True)
class CallFaults:
    """What one call gets wrong.

    Attributes:
        unreadable: it could not be read as a call; nothing else is known then.
        unknown_name: its name is not among the candidate tools; it has no schema then.
        missing: required parameters that it lacks.
        unknown: parameters that the tool does not take.
        mistyped: parameters whose value has a wrong JSON type.
        refused: judged without a schema, and the environment refused the arguments.
    """

    unreadable: bool = False
    unknown_name: bool = False
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    mistyped: tuple[str, ...] = ()
    refused: bool = False

    @property
    def named(self) -> bool:
        """Whether the name is among the candidate tools."""
        return not self.unreadable and not self.unknown_name

    @property
    def callable(self) -> bool:
        """Whether the tool exists and all required parameters are there with compatible types."""
        return self.named and not (self.missing or self.mistyped or self.refused)

    @property
    def parameters(self) -> int:
        """Number of missing and unknown parameters."""
        return len(self.missing) + len(self.unknown) + self.refused

    @property
    def types(self) -> int:
        """Number of parameters with a wrong JSON type."""
        return len(self.mistyped) + self.refused

    def __str__(self) -> str:
        """The faults as a clause for a person; empty where there are none."""
        if self.unreadable:
            return "could not be read as a call"
        if self.unknown_name:
            return "no candidate tool has this name"
        parts = [
            f"{words}: {_names(names)}"
            for words, names in (
                ("missing", self.missing),
                ("unknown", self.unknown),
                ("of a wrong type", self.mistyped),
            )
            if names
        ]
        if self.refused:
            parts.append("the environment refused its arguments")
        return "; ".join(parts)


class Candidates:
    """The tools that a task offers, by every name that reaches them.

    Args:
        task: the task; specs bring schemas and aliases.
    """

    def __init__(self, task: Task) -> None:
        specs = [tool for tool in task.tools if isinstance(tool, ToolSpec)]
        # A name goes before an alias, and the first tool with an alias before others.
        self._specs = {alias: spec for spec in reversed(specs) for alias in spec.aliases}
        self._specs |= {spec.name: spec for spec in specs}
        self._names: dict[str, ArgumentNames] = {}
        self._bare = {tool for tool in task.tools if isinstance(tool, str)}
        self._any = not task.tools

    def resolve(self, name: str) -> str:
        """The tool's own name for one of its aliases; any other name as it is."""
        spec = self._spec(name)
        return name if spec is None else spec.name

    def parameters(self, name: str) -> JsonObject | None:
        """The schema of the tool that a name reaches, ``None`` where the task brings none."""
        spec = self._spec(name)
        return None if spec is None else spec.parameters

    def rules(self, name: str) -> SchemaRules | None:
        """The rules of a tool's arguments, as published: no default stands for an argument."""
        return SchemaRules.of(self.parameters(name), as_written=True)

    def identity(self, name: str, arguments: JsonObject) -> str:
        """Canonical text of a call; equal texts are the same call, by the tool's schema."""
        return f"{self.resolve(name)} {canonical_text_by_schema(arguments, self.rules(name))}"

    def faults(self, call: MadeCall) -> CallFaults:
        """What a call gets wrong."""
        if call.malformed:
            return CallFaults(unreadable=True)
        spec = self._spec(call.name)
        if spec is not None:
            names = self._names.get(spec.name)
            if names is None:
                names = self._names[spec.name] = ArgumentNames(spec.parameters)
            return schema_faults(names, call.arguments)
        known = call.name in self._bare or (self._any and call.error is not ErrorType.UNKNOWN_TOOL)
        if not known:
            return CallFaults(unknown_name=True)
        return CallFaults(refused=call.error is ErrorType.INVALID_ARGUMENTS)

    def _spec(self, name: str) -> ToolSpec | None:
        return None if name in self._bare else self._specs.get(name)


def schema_faults(parameters: JsonObject | ArgumentNames, arguments: JsonObject) -> CallFaults:
    """Check arguments against a tool's JSON Schema.

    Which names the schema knows, requires and allows is up to
    :mod:`orch_env.values.argument_names`.

    Args:
        parameters: JSON Schema of type ``object``, or what was read of it.
        arguments: what the call brings.
    """
    names = parameters if isinstance(parameters, ArgumentNames) else ArgumentNames(parameters)
    given = set(map(normal, arguments))
    return CallFaults(
        missing=tuple(name for name in names.required if normal(name) not in given),
        unknown=tuple(name for name in arguments if not names.allows(name)),
        mistyped=tuple(name for name in arguments if not _fits(names, name, arguments[name])),
    )


def _fits(names: ArgumentNames, name: str, value: Json) -> bool:
    schemas = names.schemas(name)
    return not schemas or any(type_fits(value, schema, names.root) for schema in schemas)


def type_fits(value: Json, schema: Json, root: JsonObject | None = None, hops: int = _HOPS) -> bool:
    """Whether a value has a JSON type that a property's schema allows.

    ``type`` may be a name or a list; ``nullable`` adds null; without a type ``anyOf``, ``oneOf``,
    ``allOf``, a local ``$ref`` and the types of ``enum`` and ``const`` values decide; a schema
    that says nothing of types allows all.

    Args:
        value: any JSON value.
        schema: the property's schema.
        root: the whole schema, for references into it.
        hops: references and combinators that are followed.
    """
    if not isinstance(schema, Mapping) or hops == 0:
        return True
    if value is None and schema.get("nullable") is True:
        return True
    kinds = schema.get("type")
    if isinstance(kinds, str):
        return _is(value, kinds)
    if isinstance(kinds, list | tuple):
        return any(_is(value, kind) for kind in kinds)
    if "$ref" in schema:
        return type_fits(value, target(schema["$ref"], root), root, hops - 1)
    for combinator in ("anyOf", "oneOf"):
        branches = schema.get(combinator)
        if isinstance(branches, list) and branches:
            return any(type_fits(value, branch, root, hops - 1) for branch in branches)
    branches = schema.get("allOf")
    if isinstance(branches, list):
        return all(type_fits(value, branch, root, hops - 1) for branch in branches)
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(allowed, list) and allowed:
        return any(_is(value, _kind(item)) for item in allowed)
    return True


def _is(value: Json, kind: Json) -> bool:
    made = _kind(value)
    if kind == "number":
        return made in ("integer", "number")
    return made == kind or kind not in _KINDS


_KINDS = ("null", "boolean", "integer", "number", "string", "array", "object")


def _kind(value: Json) -> str:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    kind = json_type(value)
    return "integer" if whole and kind == "number" else kind


def _names(names: tuple[str, ...], shown: int = 3) -> str:
    text = ", ".join(name[:40] for name in names[:shown])
    return text if len(names) <= shown else f"{text} and {len(names) - shown} more"
