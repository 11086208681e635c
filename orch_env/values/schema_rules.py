"""Which spellings a JSON Schema allows for a value: the keywords that equality uses.

A schema with several branches (``anyOf``, ``oneOf``, ``allOf``, ``then``, ``else``,
``dependentSchemas``, a list of types, a reference) is read as the *union* of what its branches say.
Two values that are equal in any branch are then equal, and equality stays transitive, which a
comparison branch by branch would not be.

Schemas come from data files: what is not understood is ignored, nothing raises, and the work is
limited by the value that is compared, not by the schema.

What makes two *absent* things equal asks for more: a member counts as left out only if no branch
requires it, and its default only if all branches that give one agree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from orch_env.types.json import unescape
from orch_env.types.tools import SET_KEYWORD
from orch_env.values.canonical import normal, with_normal_names
from orch_env.values.dates import ANY_TEXT, FORMATS
from orch_env.values.patterns import matches
from orch_env.values.schema_places import MAX_PARTS, REFERENCES, parts, target

_MAX_READ = 100
"""Schemas that are read to say what one place allows; they may nest, and the stack has an end."""

_COMBINED: Mapping[str, Callable[[Iterable[bool]], bool]] = {
    "anyOf": any,
    "oneOf": any,
    "allOf": all,
}
_NUMERIC = frozenset({"number", "integer"})
_NOT_TEXT = ("array", "boolean", "integer", "null", "number", "object")


class SchemaRules:
    """What one place of a schema says about the spellings of the value there.

    Making one costs some microseconds; the schemas inside are read when they are needed.

    Attributes:
        numeric: a number is allowed here.
        boolean: a boolean is allowed here.
        formats: those of ``date``, ``time`` and ``date-time`` that are allowed here; ``any text``
            where ``respelt`` reads a text that has none.
        enums: the lists of allowed values, one per branch that has one.
        unordered: a list here is a set (``uniqueItems`` without ``prefixItems``).
        respells: a string here may be another spelling of something.
        separator: what joins the pieces of a string that is a set (``x-orch-set``), ``None`` where
            no string is one.
        defaults: the values that branches give as ``default``.
        default_texts: what :mod:`~orch_env.values.by_schema` made of them.
        as_written: a member that is left out differs from one with its default, here and below.
        respelt: dates and times are also read in texts that a branch gives no format, list of
            values or separator, here and below, with or without a schema.
    """

    __slots__ = (
        "_below",
        "_branches",
        "_members",
        "_nullable",
        "_optional",
        "_patterns",
        "_prefixed",
        "_properties",
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
        "respelt",
        "separator",
        "unordered",
    )

    def __init__(
        self,
        schemas: Sequence[Any],
        root: Any,
        *,
        as_written: bool = False,
        respelt: bool = False,
    ) -> None:
        """Read the schemas of one place.

        Args:
            schemas: the schemas for this place; what is no mapping is ignored.
            root: the whole document, into which ``$ref`` points.
            as_written: tell a member that is left out from one with its default.
            respelt: read free text for dates and times.
        """
        self._root = root
        self._schemas = schemas
        # A condition (``if``) says when a branch counts, not how a value may be spelt.
        self._branches = list(parts(schemas, root, leave_out=("not", "if")))
        self._properties = [with_normal_names(_named(b, "properties")) for b in self._branches]
        self._patterns = tuple(p for b in self._branches for p in _named(b, "patternProperties"))
        self._prefixed = 0
        self._below: dict[Hashable, SchemaRules | None] = {}
        self._members: dict[str, SchemaRules | None] = {}
        self._optional: frozenset[str] | None = None
        self.as_written = as_written
        self.respelt = respelt
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
            listed = [branch["const"]] if "const" in branch else []
            for members in (branch.get("enum"), listed):
                if isinstance(members, list) and members:
                    self.enums.append(members)
                    # Without a type, what is listed says it.
                    self.numeric |= all(type(m) in (int, float) for m in members)
            # Items with schemas by position are no set.
            self.unordered |= branch.get("uniqueItems") is True and "prefixItems" not in branch
            self._prefixed = max(self._prefixed, len(_prefix(branch)))
            if "default" in branch:
                self.defaults.append(branch["default"])
            joined = branch.get(SET_KEYWORD)
            if isinstance(joined, str) and joined:
                separators.add(joined)
        if respelt and not separators and self._is_free_text():
            formats.add(ANY_TEXT)
        self.separator = separators.pop() if len(separators) == 1 else None
        self.formats = tuple(sorted(formats))
        self.respells = bool(
            self.enums or self.numeric or self.boolean or self.formats or self.separator
        )

    @classmethod
    def of(
        cls,
        schema: Mapping[str, Any] | SchemaRules | None,
        *,
        as_written: bool = False,
        respelt: bool = False,
    ) -> SchemaRules | None:
        """The rules of a whole schema; ``None`` for ``None`` and for what is no mapping.

        With ``respelt`` there are rules without a schema too: those of free text.

        Args:
            schema: a schema; rules are returned as they are.
            as_written: tell a member that is left out from one with its default, as published
                comparisons do.
            respelt: read free text for dates and times, at any depth. Keys are made without it.
        """
        if isinstance(schema, cls):
            return schema
        if not isinstance(schema, Mapping):
            return cls((), {}, as_written=as_written, respelt=True) if respelt else None
        return cls((schema,), schema, as_written=as_written, respelt=respelt)

    def items(self, index: int | None = None) -> SchemaRules | None:
        """The rules of a list's item, ``None`` if there are none.

        Args:
            index: its position; ``None`` for items that have no schema by position.
        """
        at = index if index is not None and index < self._prefixed else None
        if at not in self._below:
            said: list[Any] = []
            for branch in self._branches:
                prefix = _prefix(branch)
                if at is not None and at < len(prefix):
                    said.append(prefix[at])
                elif "items" in branch:
                    said.append(branch["items"])
            self._below[at] = self._rules_of(said, "unevaluatedItems")
        return self._below[at]

    def member(self, key: str) -> SchemaRules | None:
        """The rules of an object's value at ``key``, ``None`` if there are none."""
        if key in self._members:
            return self._members[key]
        name = normal(key)
        patterns = tuple(p for p in self._patterns if matches(p, name))
        if self.lists(name):
            found = self._members[key] = self._rules_of_member(name, patterns)
            return found
        # One entry for all keys alike: a model may invent any number of them.
        if patterns not in self._below:
            self._below[patterns] = self._rules_of_member(name, patterns)
        return self._below[patterns]

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
            # No list is as long as a number of ten digits.
            item = rules.items(int(token[:9])) if index else None
            rules = item if item is not None and item._schemas else rules.member(token)
        return rules

    def keywords_at(self, pointer: str) -> dict[str, Any]:
        """All that the schemas say of the value at a JSON Pointer, ``{}`` if nothing.

        Where references and alternatives say a keyword twice, the first one's value stands.
        """
        rules = self.at(pointer)
        found: dict[str, Any] = {}
        for branch in rules._branches if rules is not None else ():
            found = {**branch, **found}
        return found

    @property
    def types(self) -> frozenset[str]:
        """The types that any branch names, without ``null``."""
        said = [branch.get("type") for branch in self._branches]
        lists = [kinds if isinstance(kinds, list) else [kinds] for kinds in said]
        return frozenset(k for kinds in lists for k in kinds if isinstance(k, str)) - {"null"}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the ``properties`` of all branches, as they are written."""
        return tuple(dict.fromkeys(n for b in self._branches for n in _named(b, "properties")))

    def lists(self, key: str) -> bool:
        """Whether ``key`` is among the ``properties`` of any branch."""
        name = normal(key)
        return any(name in properties for properties in self._properties)

    @property
    def optional(self) -> frozenset[str]:
        """Names of the ``properties`` that no branch requires, also under a condition."""
        if self._optional is None:
            listed = {name for properties in self._properties for name in properties}
            required = {normal(name) for branch in self._branches for name in _required(branch)}
            self._optional = frozenset(listed - required)
        return self._optional

    @property
    def nullable(self) -> bool:
        """Whether every schema of this place allows null."""
        if self._nullable is None:
            seen: dict[int, bool] = {}
            self._nullable = all(_allows_null(s, self._root, seen) for s in self._schemas)
        return self._nullable

    def _is_free_text(self) -> bool:
        """Whether a schema of this place allows any text; so it is where there is none."""
        if not self._schemas:
            return True
        seen: dict[int, bool] = {}
        return any(_allows_text(schema, self._root, seen) for schema in self._schemas)

    def _rules_of_member(self, name: str, patterns: Collection[str]) -> SchemaRules | None:
        """The rules of a member that matches these of the ``patternProperties``."""
        said: list[Any] = []
        for branch, properties in zip(self._branches, self._properties, strict=True):
            named = _named(branch, "patternProperties")
            own = [properties[name]] if name in properties else []
            own += [named[pattern] for pattern in named if pattern in patterns]
            if not own and "additionalProperties" in branch:
                own = [branch["additionalProperties"]]
            said += own
        return self._rules_of(said, "unevaluatedProperties")

    def _rules_of(self, said: list[Any], rest: str) -> SchemaRules | None:
        """The rules of what branches say of one place; if none does, of what ``rest`` says."""
        said = said or [branch.get(rest) for branch in self._branches]
        said = [schema for schema in said if isinstance(schema, Mapping)]
        if said:
            return SchemaRules(said, self._root, as_written=self.as_written, respelt=self.respelt)
        if not self.respelt:
            return None
        # No schema below: the same rules all the way down.
        return (
            SchemaRules((), {}, as_written=self.as_written, respelt=True) if self._schemas else self
        )


def _named(branch: Mapping[str, Any], keyword: str) -> dict[str, Any]:
    found = branch.get(keyword)
    return found if isinstance(found, dict) else {}


def _prefix(branch: Mapping[str, Any]) -> list[Any]:
    found = branch.get("prefixItems")
    return found if isinstance(found, list) else []


def _required(branch: Mapping[str, Any]) -> Iterator[str]:
    """The names that a schema requires, always or under a condition."""
    lists = [branch.get("required")]
    for keyword in ("dependentRequired", "dependencies"):
        lists += _named(branch, keyword).values()
    for names in lists:
        if isinstance(names, list):
            yield from (name for name in names if isinstance(name, str))


def _allows_null(schema: Any, root: Any, seen: dict[int, bool]) -> bool:
    """Whether null is valid under a schema; OpenAPI's ``nullable`` counts."""
    return _allows(schema, root, seen, _names_null, nullable=True)


def _allows_text(schema: Any, root: Any, seen: dict[int, bool]) -> bool:
    """Whether a schema allows text and gives it no format and no list of values."""
    return _allows(schema, root, seen, _names_text)


def _names_null(schema: Mapping[str, Any]) -> bool:
    kinds, listed = schema.get("type", "null"), schema.get("enum")
    named = "null" in (kinds if isinstance(kinds, list) else (kinds,))
    return (
        named and schema.get("const") is None and (not isinstance(listed, list) or None in listed)
    )


def _names_text(schema: Mapping[str, Any]) -> bool:
    kinds = schema.get("type")
    named = any(kind not in _NOT_TEXT for kind in (kinds if isinstance(kinds, list) else [kinds]))
    return named and not any(word in schema for word in ("const", "enum", "format"))


def _allows(
    schema: Any,
    root: Any,
    seen: dict[int, bool],
    own: Callable[[Mapping[str, Any]], bool],
    nullable: bool = False,
) -> bool:
    """Whether a schema allows a kind of value: its own words, and those that it combines.

    Args:
        schema: what stands in the place of a schema.
        root: the whole document.
        seen: answers by identity, so that each schema is read once.
        own: whether a schema's own words allow it.
        nullable: ``nullable: true`` allows it, whatever the rest says.
    """
    if not isinstance(schema, Mapping):
        return schema is not False
    if id(schema) in seen or len(seen) >= _MAX_READ:
        return seen.get(id(schema), False)
    seen[id(schema)] = True  # a schema that refers to itself asks for nothing more
    allowed = own(schema)
    for word in REFERENCES:
        if word in schema:
            allowed &= _allows(target(schema[word], root), root, seen, own, nullable)
    for keyword, holds in _COMBINED.items():
        if isinstance(schema.get(keyword), list):
            branches = schema[keyword][:MAX_PARTS]
            allowed &= holds(_allows(branch, root, seen, own, nullable) for branch in branches)
    seen[id(schema)] = allowed = allowed or (nullable and schema.get("nullable") is True)
    return allowed
