"""Which argument names a tool's schema knows, which it requires, and whether others are allowed.

What a reference leads to, and the branches of ``allOf``, ``anyOf``, ``oneOf``, ``then``, ``else``
and ``dependentSchemas``, speak of the same object; a name that any of them lists is known. JSON
Schema allows all other names by default. Here they are unknown unless a schema allows them in so
many words, by ``additionalProperties``, ``unevaluatedProperties`` or a matching
``patternProperties``: a model that invents an argument should be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from orch_env.types.json import Json
from orch_env.values.canonical import normal
from orch_env.values.patterns import matches
from orch_env.values.schema_places import MAX_PARTS, REFERENCES, parts, target

_MORE = ("additionalProperties", "unevaluatedProperties")


class ArgumentNames:
    """The names of one schema's object. A broken schema knows no names; nothing raises.

    Args:
        schema: a tool's ``parameters``.
        root: the document that it stands in, if it is not the whole.

    Attributes:
        root: the document.
        parts: the schemas that speak of the same object.
        known: the names that the schema lists, in its order.
    """

    def __init__(self, schema: Json, root: Json = None) -> None:
        self.root = schema if root is None else root
        self.parts = list(parts((schema,), self.root))
        self._schema = schema
        self.known: tuple[str, ...] = tuple(
            dict.fromkeys(name for part in self.parts for name in _object(part, "properties"))
        )
        self._known = frozenset(map(normal, self.known))
        self._patterns = [p for part in self.parts for p in _object(part, "patternProperties")]
        self._others = [part[word] for part in self.parts for word in _MORE if word in part]
        self._any = any(said is True or isinstance(said, Mapping) for said in self._others)

    def allows(self, name: str) -> bool:
        """Whether a name is known, or the schema allows it in so many words."""
        name = normal(name)
        return name in self._known or self._any or any(matches(p, name) for p in self._patterns)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The names that every valid object has, whatever branch it takes."""
        return tuple(_required(self._schema, self.root, frozenset()))

    def schemas(self, name: str) -> list[Json]:
        """What the schema says of an argument's value; the value may follow any of them."""
        name = normal(name)
        said = [
            inside
            for part in self.parts
            for listed, inside in _object(part, "properties").items()
            if normal(listed) == name
        ]
        said += [
            inside
            for part in self.parts
            for pattern, inside in _object(part, "patternProperties").items()
            if matches(pattern, name)
        ]
        return said or [said for said in self._others if said is not False]


def _object(part: Mapping[str, Any], keyword: str) -> Mapping[str, Json]:
    found = part.get(keyword)
    return found if isinstance(found, Mapping) else {}


def _required(part: Json, root: Json, above: frozenset[int]) -> dict[str, None]:
    if not isinstance(part, Mapping) or id(part) in above or len(above) >= MAX_PARTS:
        return {}
    above |= {id(part)}
    own = part.get("required")
    names = dict.fromkeys(str(n) for n in own) if isinstance(own, list | tuple) else {}
    for keyword in REFERENCES:
        if keyword in part:
            names |= _required(target(part[keyword], root), root, above)
    for keyword in ("allOf", "anyOf", "oneOf"):
        branches = part.get(keyword)
        if not isinstance(branches, list) or not branches:
            continue
        each = [_required(branch, root, above) for branch in branches[:MAX_PARTS]]
        if keyword == "allOf":
            names |= {name: None for inside in each for name in inside}
        else:
            names |= {n: None for n in each[0] if all(n in other for other in each)}
    return names
