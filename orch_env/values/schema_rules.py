"""Which spellings a JSON Schema allows for a value: the keywords that equality uses.

A schema with several branches (``anyOf``, ``oneOf``, ``allOf``, a list of types, ``$ref``) is read
as the *union* of what its branches say. Two values that are equal in any branch are then equal, and
equality stays transitive, which a comparison branch by branch would not be.

Schemas come from data files: what is not understood is ignored, nothing raises, and the work is
limited by the value that is compared, not by the schema.

What makes two *absent* things equal asks for more: a member counts as left out only if no branch
requires it, and its default only if all branches that give one agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from orch_env.types.json import resolve, unescape
from orch_env.types.tools import SET_KEYWORD
from orch_env.values.dates import FORMATS

MAX_BRANCHES = 256
"""Branches of one schema that are read; further ones are ignored."""

_MAX_NULL = 100
"""Schemas that are read to say whether null is allowed; they may nest, and the stack has an end."""

_COMBINED: Mapping[str, Callable[[Iterable[bool]], bool]] = {
    "anyOf": any,
    "oneOf": any,
    "allOf": all,
}
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
        respells: a string here may be another spelling of something.
        separator: what joins the pieces of a string that is a set (``x-orch-set``), ``None`` where
            no string is one.
        defaults: the values that branches give as ``default``.
        default_texts: what :mod:`~orch_env.values.by_schema` made of them.
        as_written: a member that is left out differs from one with its default, here and below.
    """

    __slots__ = (
        "_below",
        "_branches",
        "_members",
        "_nullable",
        "_optional",
        "_root",
        "_schemas",
        "as_written",
        "boolean",
        "default_texts",
        "defaults",
        "enums",
        "formats",
        "numeric",
        "respells",
        "separator",
        "unordered",
    )

    def __init__(self, schemas: Sequence[Any], root: Any, *, as_written: bool = False) -> None:
        """Read the schemas of one place.

        Args:
            schemas: the schemas for this place; what is no mapping is ignored.
            root: the whole document, into which ``$ref`` points.
            as_written: tell a member that is left out from one with its default.
        """
        self._root = root
        self._schemas = schemas
        self._branches = list(_branches(schemas, root))
        self._below: dict[tuple[str, str], SchemaRules | None] = {}
        self._members: dict[str, SchemaRules | None] = {}
        self._optional: frozenset[str] | None = None
        self.as_written = as_written
        self._nullable: bool | None = None
        self.default_texts: dict[int, str | None] = {}
        self.defaults: list[Any] = []
        separators: set[str] = set()
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
            if "default" in branch:
                self.defaults.append(branch["default"])
            joined = branch.get(SET_KEYWORD)
            if isinstance(joined, str) and joined:
                separators.add(joined)
        self.separator = separators.pop() if len(separators) == 1 else None
        self.formats = tuple(sorted(formats))
        self.respells = bool(
            self.enums or self.numeric or self.boolean or self.formats or self.separator
        )

    @classmethod
    def of(
        cls, schema: Mapping[str, Any] | SchemaRules | None, *, as_written: bool = False
    ) -> SchemaRules | None:
        """The rules of a whole schema; ``None`` for ``None`` and for what is no mapping.

        Args:
            schema: a schema; rules are returned as they are.
            as_written: tell a member that is left out from one with its default, as published
                comparisons do.
        """
        if isinstance(schema, cls):
            return schema
        if not isinstance(schema, Mapping):
            return None
        return cls((schema,), schema, as_written=as_written)

    def items(self) -> SchemaRules | None:
        """The rules of a list's items, ``None`` if there are none."""
        return self._inside("items")

    def member(self, key: str) -> SchemaRules | None:
        """The rules of an object's value at ``key``, ``None`` if there are none."""
        if key in self._members:
            return self._members[key]
        if self.lists(key):
            self._members[key] = self._inside("properties", key)
            return self._members[key]
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

    @property
    def optional(self) -> frozenset[str]:
        """Names of the ``properties`` that no branch requires, also under a condition."""
        if self._optional is None:
            listed: set[str] = set()
            required: set[str] = set()
            for branch in self._branches:
                if isinstance(branch.get("properties"), Mapping):
                    listed.update(branch["properties"])
                required.update(_required(branch))
            self._optional = frozenset(listed - required)
        return self._optional

    @property
    def nullable(self) -> bool:
        """Whether every schema of this place allows null."""
        if self._nullable is None:
            seen: dict[int, bool] = {}
            self._nullable = all(_allows_null(s, self._root, seen) for s in self._schemas)
        return self._nullable

    def _inside(self, keyword: str, key: str = "") -> SchemaRules | None:
        place = (keyword, key)
        if place not in self._below:
            said = [_schema_in(branch, keyword, key) for branch in self._branches]
            said = [schema for schema in said if isinstance(schema, Mapping)]
            self._below[place] = (
                SchemaRules(said, self._root, as_written=self.as_written) if said else None
            )
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
        for keyword in _COMBINED:
            if isinstance(schema.get(keyword), list):
                waiting.extend(schema[keyword][:MAX_BRANCHES])


def _required(branch: Mapping[str, Any]) -> Iterator[str]:
    """The names that a schema requires, always or under a condition."""
    conditional = branch.get("dependentRequired")
    parts = [branch.get(word) for word in ("then", "else")]
    lists = [branch.get("required")]
    lists += [part.get("required") for part in parts if isinstance(part, Mapping)]
    lists += conditional.values() if isinstance(conditional, Mapping) else ()
    for names in lists:
        if isinstance(names, list):
            yield from (name for name in names if isinstance(name, str))


def _allows_null(schema: Any, root: Any, seen: dict[int, bool]) -> bool:
    """Whether null is valid under a schema; OpenAPI's ``nullable`` counts.

    Args:
        schema: what stands in the place of a schema.
        root: the whole document.
        seen: answers by identity, so that each schema is read once.
    """
    if not isinstance(schema, Mapping):
        return schema is not False
    if id(schema) in seen or len(seen) >= _MAX_NULL:
        return seen.get(id(schema), False)
    seen[id(schema)] = True  # a schema that refers to itself asks for nothing more
    kinds, listed = schema.get("type", "null"), schema.get("enum")
    allowed = "null" in (kinds if isinstance(kinds, list) else (kinds,))
    allowed &= schema.get("const") is None and (not isinstance(listed, list) or None in listed)
    if "$ref" in schema:
        allowed &= _allows_null(_target(schema["$ref"], root), root, seen)
    for keyword, holds in _COMBINED.items():
        if isinstance(schema.get(keyword), list):
            branches = schema[keyword][:MAX_BRANCHES]
            allowed &= holds(_allows_null(branch, root, seen) for branch in branches)
    seen[id(schema)] = allowed = allowed or schema.get("nullable") is True
    return allowed


def _target(reference: Any, root: Any) -> Any:
    """What a reference into the document names, ``None`` if it names nothing."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    try:
        return resolve(root, reference[1:])
    except (KeyError, ValueError):  # ValueError: a list index of thousands of digits
        return None
