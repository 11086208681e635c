"""Which spellings a JSON Schema allows for a value: the keywords that equality uses.

A schema with several branches (``anyOf``, ``oneOf``, ``allOf``, a list of types, ``$ref``) is read
as the *union* of what its branches say. Two values that are equal in any branch are then equal, and
equality stays transitive, which a comparison branch by branch would not be.

Schemas come from data files: what is not understood is ignored, nothing raises, and the work is
limited by the value that is compared, not by the schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orch_env.types.json import resolve, unescape
from orch_env.values.dates import FORMATS

MAX_BRANCHES = 256
"""Branches of one schema that are read; further ones are ignored."""

_UNIONS = ("anyOf", "oneOf", "allOf")
_NUMERIC = frozenset({"number", "integer"})


class SchemaRules:
    """What one place of a schema says about the spellings of the value there.

    Making one costs about a microsecond; the schemas inside are read when they are needed.

    Attributes:
        numeric: a number is allowed here.
        boolean: a boolean is allowed here.
        formats: those of ``date``, ``time`` and ``date-time`` that are allowed here.
        enums: the lists of allowed values, one per branch that has one.
        unordered: a list here is a set (``uniqueItems``).
    """

    __slots__ = (
        "_below",
        "_branches",
        "_root",
        "boolean",
        "enums",
        "formats",
        "numeric",
        "unordered",
    )

    def __init__(self, schemas: Sequence[Any], root: Any) -> None:
        """Read the schemas of one place.

        Args:
            schemas: the schemas for this place; what is no mapping is ignored.
            root: the whole document, into which ``$ref`` points.
        """
        self._root = root
        self._branches = list(_branches(schemas, root))
        self._below: dict[tuple[str, str], SchemaRules | None] = {}
        self.numeric = self.boolean = self.unordered = False
        formats: set[str] = set()
        self.enums: list[list[Any]] = []
        for branch in self._branches:
            kinds = branch.get("type")
            for kind in kinds if isinstance(kinds, list) else (kinds,):
                if isinstance(kind, str):
                    self.numeric |= kind in _NUMERIC
                    self.boolean |= kind == "boolean"
            form = branch.get("format")
            if isinstance(form, str) and form in FORMATS:
                formats.add(form)
            if isinstance(branch.get("enum"), list):
                self.enums.append(branch["enum"])
            if "const" in branch:
                self.enums.append([branch["const"]])
            self.unordered |= branch.get("uniqueItems") is True
        self.formats = tuple(sorted(formats))

    @classmethod
    def of(cls, schema: Mapping[str, Any] | SchemaRules | None) -> SchemaRules | None:
        """The rules of a whole schema; ``None`` for ``None`` and for what is no mapping."""
        if isinstance(schema, cls):
            return schema
        return cls((schema,), schema) if isinstance(schema, Mapping) else None

    def items(self) -> SchemaRules | None:
        """The rules of a list's items, ``None`` if there are none."""
        return self._inside("items")

    def member(self, key: str) -> SchemaRules | None:
        """The rules of an object's value at ``key``, ``None`` if there are none."""
        if self.lists(key):
            return self._inside("properties", key)
        # One entry for all other keys: a model may invent any number of them.
        return self._inside("additionalProperties")

    def at(self, pointer: str) -> SchemaRules | None:
        """The rules of the value at a JSON Pointer, ``None`` if there are none.

        A number in the pointer is an item of a list, unless the schema lists it as a property.
        """
        rules: SchemaRules | None = self
        for raw in pointer.split("/")[1:]:
            token = unescape(raw)
            if rules is None:
                return None
            index = token.isdecimal() and not rules.lists(token)
            rules = (rules.items() if index else None) or rules.member(token)
        return rules

    def lists(self, key: str) -> bool:
        """Whether ``key`` is among the ``properties`` of any branch."""
        for branch in self._branches:
            properties = branch.get("properties")
            if isinstance(properties, Mapping) and key in properties:
                return True
        return False

    def _inside(self, keyword: str, key: str = "") -> SchemaRules | None:
        place = (keyword, key)
        if place not in self._below:
            said = [_schema_in(branch, keyword, key) for branch in self._branches]
            said = [schema for schema in said if isinstance(schema, Mapping)]
            self._below[place] = SchemaRules(said, self._root) if said else None
        return self._below[place]


def _schema_in(branch: Mapping[str, Any], keyword: str, key: str) -> Any:
    if keyword == "properties":
        properties = branch.get("properties")
        if isinstance(properties, Mapping) and key in properties:
            return properties[key]
        return branch.get("additionalProperties")
    return branch.get(keyword)


def _branches(schemas: Sequence[Any], root: Any) -> Iterator[Mapping[str, Any]]:
    """The schemas and all that they refer to or consist of, each once."""
    waiting = list(schemas)
    seen: set[int] = set()
    for schema in waiting:  # grows while it is walked
        if len(seen) >= MAX_BRANCHES:
            return
        if not isinstance(schema, Mapping) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        if "$ref" in schema:
            waiting.append(_target(schema["$ref"], root))
        for keyword in _UNIONS:
            if isinstance(schema.get(keyword), list):
                waiting.extend(schema[keyword][:MAX_BRANCHES])


def _target(reference: Any, root: Any) -> Any:
    """What a reference into the document names, ``None`` if it names nothing."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    try:
        return resolve(root, reference[1:])
    except (KeyError, ValueError):  # ValueError: a list index of thousands of digits
        return None
