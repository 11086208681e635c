"""Where schemas stand inside a JSON Schema, and what its references name.

The keywords are those of draft 2020-12 with the older ones that hold schemas.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from orch_env.types.json import Json, escape, find

ONE = (
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
"""Keywords whose value is a schema; ``items`` was also a list of them."""
SEVERAL = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
"""Keywords whose value is a list of schemas."""
NAMED = (
    "$defs",
    "definitions",
    "dependencies",
    "dependentSchemas",
    "patternProperties",
    "properties",
)
"""Keywords whose value has schemas by name; ``dependencies`` also has lists of names."""
REFERENCES = ("$ref", "$dynamicRef")
"""Keywords whose value names a schema that judges the value itself."""
SAME_VALUE = ("allOf", "anyOf", "dependentSchemas", "else", "if", "not", "oneOf", "then")
"""Keywords whose schemas judge the value itself and not something inside it."""

MAX_PARTS = 256
"""Schemas that are read of one value; further ones are ignored."""
_PARTS = frozenset({*REFERENCES, *SAME_VALUE, "dependencies"})


def parts(
    schemas: Iterable[Json], root: Json, leave_out: Collection[str] = ("not",)
) -> Iterator[Mapping[str, Any]]:
    """Schemas and all that they refer to or consist of: what speaks of the same value, each once.

    Args:
        schemas: what is no mapping is ignored.
        root: the whole document, into which references point.
        leave_out: keywords that are not followed.
    """
    waiting, seen = list(schemas), set[int]()
    for schema in waiting:  # grows while it is walked
        if len(seen) >= MAX_PARTS:
            return
        if not isinstance(schema, Mapping) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        for word in schema:
            if word not in _PARTS or word in leave_out:
                continue
            said = schema[word]
            if word in REFERENCES:
                waiting.append(target(said, root))
            elif word in NAMED:
                waiting.extend(said.values() if isinstance(said, Mapping) else ())
            else:
                waiting.extend(said[:MAX_PARTS] if isinstance(said, list) else [said])


def subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[str, str, Json]]:
    """Each schema right inside another: its keyword, its JSON Pointer from there, itself."""
    for keyword in ONE:
        if isinstance(schema.get(keyword), Mapping | bool):
            yield keyword, f"/{keyword}", schema[keyword]
    for keyword in SEVERAL:
        if isinstance(schema.get(keyword), list):
            for number, inside in enumerate(schema[keyword]):
                yield keyword, f"/{keyword}/{number}", inside
    for keyword in NAMED:
        if isinstance(schema.get(keyword), Mapping):
            for name, inside in schema[keyword].items():
                if isinstance(inside, Mapping | bool):
                    yield keyword, f"/{keyword}/{escape(str(name))}", inside


def target(reference: Json, root: Json) -> Json:
    """What a reference names in its document, ``None`` if it names nothing there.

    Args:
        reference: a JSON Pointer or the name of an anchor after ``#``, or an ``$id`` as written.
        root: the document.
    """
    if not isinstance(reference, str) or not isinstance(root, Mapping):
        return None
    document, _, fragment = reference.partition("#")
    if document and document != root.get("$id"):
        root = next((s for s in every_schema(root) if s.get("$id") == document), None)
        if root is None:
            return None
    fragment = unquote(fragment)
    if fragment and not fragment.startswith("/"):
        anchors = ("$anchor", "$dynamicAnchor")
        return next((s for s in every_schema(root) if fragment in map(s.get, anchors)), None)
    return find(root, fragment)


def every_schema(root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A schema and all that stand inside it, those that are ``true`` or ``false`` left out."""
    waiting: list[Mapping[str, Any]] = [root]
    while waiting:
        schema = waiting.pop()
        yield schema
        waiting.extend(inside for _, _, inside in subschemas(schema) if isinstance(inside, Mapping))
