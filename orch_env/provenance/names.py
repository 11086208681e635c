"""What names and descriptions say about where an argument's value comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from orch_env.provenance.information import folded, occurs_in
from orch_env.types import ToolSpec
from orch_env.types.json import Json, unescape
from orch_env.values import values_equal

_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LETTERS = re.compile(r"[^a-z0-9]+")
_QUOTED = re.compile(r"`([^`]+)`")


def with_wildcards(pointer: str) -> str:
    """A pointer with ``*`` for list indices: the same place in every item."""
    return "/".join("*" if token.isdigit() else token for token in pointer.split("/"))


@lru_cache(maxsize=65536)
def key_parts(pointer: str) -> tuple[str, ...]:
    """The lower-case words of the last named key of a pointer (``fromId`` -> ``from``, ``id``)."""
    named = [
        token for token in pointer.split("/") if token and not token.isdigit() and token != "*"
    ]
    return tuple(p.lower() for p in _PART.findall(unescape(named[-1]))) if named else ()


def name_match(slot: str, path: str) -> int:
    """How alike two names are: 3 equal, 2 one ends with the other, 1 a shared word, else 0."""
    left, right = key_parts(slot), key_parts(path)
    if not left or not right:
        return 0
    if left == right:
        return 3
    short, long = sorted((left, right), key=len)
    if long[-len(short) :] == short:
        return 2
    return 1 if set(left) & set(right) else 0


class ParameterHints:
    """What one tool's schema says about one argument leaf.

    Attributes:
        tools: names of the tools that the description mentions.
        keys: words that the description quotes in backticks.
    """

    def __init__(self, spec: ToolSpec | None, slot: str, known: Mapping[str, ToolSpec]) -> None:
        schemas = _schemas(spec.parameters, slot) if spec is not None else []
        described = " ".join(str(s.get("description") or "") for s in schemas)
        squeezed = _LETTERS.sub(" ", described.lower())
        self.tools = frozenset(_mentioned(f" {squeezed} ", known))
        self.keys = frozenset(_QUOTED.findall(described))
        leaf = schemas[-1] if schemas else {}
        self._leaf = leaf
        self._default = leaf.get("default")
        self._has_default = "default" in leaf
        enum = leaf.get("enum")
        self._enum = enum if isinstance(enum, list) else []
        self._text = folded(described)

    def names_value(self, value: Json) -> bool:
        """Whether the schema itself holds the value, so that no output is needed for it."""
        return (
            any(values_equal(value, m) for m in self._enum)
            or self.is_default(value)
            or occurs_in(value, self._text)
        )

    def is_default(self, value: Json) -> bool:
        """Whether the value is the parameter's default."""
        return self._has_default and values_equal(value, self._default, self._leaf)


def _mentioned(text: str, names: Iterable[str]) -> Iterator[str]:
    """The names that a text mentions; a name inside of a longer one is not mentioned."""
    spelt = {name: f" {_LETTERS.sub(' ', name.lower()).strip()} " for name in names}
    for name in sorted(spelt, key=lambda name: (-len(spelt[name]), name)):
        if spelt[name] in text:
            yield name
            text = text.replace(spelt[name], "  ")


def _schemas(parameters: Json, slot: str) -> list[dict[str, Json]]:
    """The schemas along an argument pointer, outermost first, as far as there are any."""
    found: list[dict[str, Json]] = []
    node = parameters
    for token in slot.split("/")[1:]:
        if not isinstance(node, dict):
            break
        node = (
            node.get("items")
            if token == "*"
            else (node.get("properties") or {}).get(unescape(token))
        )
        if isinstance(node, dict):
            found.append(node)
    return found
