"""Whether a tool's schema can judge arguments. Asked when a tool is opened or imported.

Everything that would fail only when a model's call is answered is refused here: what is no JSON
Schema, a reference that leads nowhere or only back to itself, a pattern that is no regular
expression.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from orch_env.backends.dialects import standard_schema
from orch_env.types import OrchError, ToolSpec
from orch_env.types.json import Json, JsonObject, escape
from orch_env.types.tools import SET_KEYWORD
from orch_env.values.patterns import compiled
from orch_env.values.schema_places import REFERENCES, SAME_VALUE, every_schema, subschemas

if TYPE_CHECKING:
    from jsonschema import FormatChecker
    from referencing._core import Resolver

_SHOWN_CHANGES = 3


def usable_schema(spec: ToolSpec) -> JsonObject:
    """The schema of a tool's arguments as a validator for draft 2020-12 reads it.

    Raises:
        OrchError: it cannot be used; the message has the tool, the place and what to do.
    """
    from jsonschema import Draft202012Validator, SchemaError

    try:
        try:
            Draft202012Validator.check_schema(spec.parameters, format_checker=_none_checked())
        except SchemaError as problem:
            raise OrchError(_no_schema(spec.parameters, problem)) from problem
        schema = standard_schema(copy.deepcopy(spec.parameters))
        kinds = schema.get("type", "object")
        if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
            raise OrchError(
                f"its 'parameters' have the type {kinds!r}: a call's arguments are an object, so "
                "describe one, with the value below 'properties'"
            )
        places = _Places(schema)
        places.check()
        places.adapt()
    except OrchError as problem:
        raise OrchError(f"tool {spec.name!r}: {problem}") from problem
    except RecursionError:
        raise OrchError(f"tool {spec.name!r}: its 'parameters' are nested too deeply") from None
    return schema


def _no_schema(parameters: JsonObject, problem: Any) -> str:
    place = "".join(f"/{escape(str(token))}" for token in problem.absolute_path)
    text = f"its 'parameters' are no JSON Schema of draft 2020-12, at {place or '/'}: "
    changes: list[str] = []
    try:
        standard_schema(parameters, changes)
    except OrchError as other:
        return text + str(other)
    remedy = "; ".join(changes[:_SHOWN_CHANGES])
    more = f"; {remedy} (an import does that by itself)" if remedy else ""
    return f"{text}{problem.message[:300]}{more}"


def _none_checked() -> FormatChecker:
    """Of the format ``regex``, `jsonschema` knows Python's alone."""
    from jsonschema import FormatChecker

    return FormatChecker(formats=())


class _Places:
    """All schemas of a document, those that only references reach included."""

    def __init__(self, root: JsonObject) -> None:
        from referencing import Registry
        from referencing.jsonschema import DRAFT202012

        self._draft = DRAFT202012
        self._root = root
        empty: Registry[Json] = Registry()
        start = empty.resolver_with_root(DRAFT202012.create_resource(root))
        self._waiting: list[tuple[str, Json, Resolver[Json]]] = [("", root, start)]
        self._same_value: dict[int, list[tuple[str, int]]] = {}
        # A reference may lead to a place where the draft looks for no schema.
        self._checked = {id(schema) for schema in every_schema(root)}

    def check(self) -> None:
        """Refuse the first thing that cannot be used.

        Raises:
            OrchError: there is one.
        """
        for place, schema, resolver in self._waiting:  # grows while it is walked
            if not isinstance(schema, Mapping) or id(schema) in self._same_value:
                continue
            edges = self._same_value[id(schema)] = []
            if schema is not self._root:
                resolver = resolver.in_subresource(self._draft.create_resource(schema))
            for keyword, pointer, inside in subschemas(schema):
                self._waiting.append((place + pointer, inside, resolver))
                if keyword in SAME_VALUE:
                    edges.append((place + pointer, id(inside)))
            for keyword in REFERENCES:
                if keyword in schema:
                    where = f"{place}/{keyword}"
                    found, there = self._lookup(where, schema[keyword], resolver)
                    self._waiting.append((where, found, there))
                    edges.append((where, id(found)))
            joined = schema.get(SET_KEYWORD, ",")
            if not isinstance(joined, str) or not joined:
                raise OrchError(
                    f"{SET_KEYWORD!r} at {place or '/'} must be the text that joins the pieces, "
                    f"such as ',', got {joined!r:.60}"
                )
            for where, pattern in _patterns(schema):
                try:
                    compiled(pattern)
                except ValueError as problem:
                    raise OrchError(f"pattern {pattern!r} at {place}{where} {problem}") from None
        self._check_progress()

    def adapt(self) -> None:
        """Write patterns that are keys as Python does, and name no other draft."""
        for _, schema, _ in self._waiting:
            if isinstance(schema, dict):
                schema.pop("$schema", None)
                named = schema.get("patternProperties")
                if isinstance(named, dict):
                    schema["patternProperties"] = {compiled(p).pattern: named[p] for p in named}

    def _lookup(
        self, where: str, reference: str, resolver: Resolver[Json]
    ) -> tuple[Json, Resolver[Json]]:
        from jsonschema import Draft202012Validator, SchemaError
        from referencing.exceptions import Unresolvable

        try:
            found = resolver.lookup(reference)
            if not isinstance(found.contents, Mapping | bool):
                raise OrchError(
                    f"its schema refers to {reference!r} at {where}, which is no schema"
                )
            if id(found.contents) not in self._checked:
                Draft202012Validator.check_schema(found.contents, format_checker=_none_checked())
        except Unresolvable:
            inside = reference.startswith("#")
            what = "which it does not define" if inside else "outside itself"
            raise OrchError(
                f"its schema refers to {reference!r} at {where}, {what}: "
                "put the definition into the tool's own '$defs'"
            ) from None
        except SchemaError as problem:
            raise OrchError(
                f"its schema refers to {reference!r} at {where}, which is no JSON Schema "
                f"({problem.message[:300]})"
            ) from None
        return found.contents, found.resolver

    def _check_progress(self) -> None:
        """Refuse references that come back to their schema without looking inside the value."""
        done: set[int] = set()
        for start in self._same_value:
            path: list[tuple[int, Iterator[tuple[str, int]]]] = []
            above: set[int] = set()
            if start not in done:
                path.append((start, iter(self._same_value[start])))
                above.add(start)
            while path:
                node, edges = path[-1]
                where, inside = next(edges, ("", node))
                if not where:
                    path.pop()
                    above.discard(node)
                    done.add(node)
                elif inside in above:
                    raise OrchError(
                        f"its schema refers to itself at {where} without an end: a reference must "
                        "stand below 'properties', 'items' or another keyword that goes on inside "
                        "the value"
                    )
                elif inside in self._same_value and inside not in done:
                    path.append((inside, iter(self._same_value[inside])))
                    above.add(inside)


def _patterns(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(schema.get("pattern"), str):
        yield "/pattern", schema["pattern"]
    named = schema.get("patternProperties")
    for pattern in named if isinstance(named, Mapping) else ():
        yield f"/patternProperties/{escape(pattern)}", pattern
