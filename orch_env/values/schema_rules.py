"""Which spellings a JSON Schema allows for a value: the keywords that equality looks at.

The hard decision: a schema with several branches (``anyOf``, ``oneOf``, ``allOf``, a list of types,
``$ref``) is read as the *union* of what its branches say. Two values that any branch calls equal
are then equal, and equality stays transitive, which a branch-by-branch comparison would not be.

Schemas come from data files: whatever is not understood says nothing, nothing raises, and the work
is bounded by the value that is looked at, not by the schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orch_env.types.json import resolve
from orch_env.values.dates import FORMATS

MAX_BRANCHES = 256
"""Branches of one schema that are read; further ones say nothing."""

_UNIONS = ("anyOf", "oneOf", "allOf")
_NUMERIC = frozenset({"number", "integer"})


class SchemaRules:
    """What one place of a schema says about the spellings of the value there.

    Making one costs about a microsecond; what lies below is read when it is asked for.

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
            schemas: the schemas that speak of it; what is no mapping says nothing.
            root: the whole document, in which ``$ref`` points.
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
        """The rules of a whole schema; ``None`` for none, and for what is no mapping."""
        if isinstance(schema, cls):
            return schema
        return cls((schema,), schema) if isinstance(schema, Mapping) else None

    def items(self) -> SchemaRules | None:
        """What is said of a list's items, ``None`` for nothing."""
        return self._inside("items")

    def member(self, key: str) -> SchemaRules | None:
        """What is said of an object's value at ``key``, ``None`` for nothing."""
        if self.lists(key):
            return self._inside("properties", key)
        # One entry for all other keys: a model may invent any number of them.
        return self._inside("additionalProperties")

    def at(self, pointer: str) -> SchemaRules | None:
        """What is said of the value at a JSON Pointer, ``None`` for nothing.

        A number in the pointer is an item of a list, unless the schema lists it as a property.
        """
        rules: SchemaRules | None = self
        for raw in pointer.split("/")[1:]:
            token = raw.replace("~1", "/").replace("~0", "~") if "~" in raw else raw
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
    """The schemas and all that they refer to or are made of, each once."""
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
    """What a reference into the document names, ``None`` for nothing."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    try:
        return resolve(root, reference[1:])
    except (KeyError, ValueError):  # ValueError: a list index of thousands of digits
        return None
