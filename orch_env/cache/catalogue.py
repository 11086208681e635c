"""The tools that a cache knows, by name and alias, and the keys of their calls.

Of two specs of one tool the first is kept, because earlier tasks name it; a task with another spec
holds that spec itself. Only an entry that was guessed from recorded arguments is replaced. What no
model sees is added to the first: aliases, and whether the tool is read only.

A key depends on the catalogue's schema and never on a task's: one call has one key for all tasks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from orch_env.types import ToolSpec
from orch_env.types.json import JsonObject
from orch_env.values import (
    SchemaRules,
    call_key,
    call_key_v1,
    canonical_text,
    canonical_text_v1,
)


class Catalogue:
    """Tools by canonical name.

    Args:
        rows: ``(name, spec as JSON text, whether it was inferred)`` as they are stored.
        key_version: of the keys.

    Attributes:
        specs: canonical name -> spec.
        key_version: of the keys.
    """

    def __init__(self, rows: Iterable[Any], key_version: int) -> None:
        self.key_version = key_version
        self.specs: dict[str, ToolSpec] = {}
        self._rules: dict[str, SchemaRules | None] = {}
        self._inferred: set[str] = set()
        self._names: dict[str, str] = {}
        for _, text, inferred in rows:
            self._enter(ToolSpec.from_dict(json.loads(text)), bool(inferred))

    def resolve(self, name: str) -> str | None:
        """The canonical name of a tool or alias, ``None`` if neither is known."""
        return self._names.get(name)

    def names_of(self, name: str) -> list[str]:
        """The names that reach a tool, its own first."""
        return [n for n in (name, *self.specs[name].aliases) if self._names.get(n) == name]

    def key(self, name: str, arguments: JsonObject) -> bytes:
        """The 16-byte key of a call.

        Args:
            name: the tool's canonical name.
            arguments: the call's arguments.
        """
        if self.key_version == 1:
            return call_key_v1(name, arguments)
        return call_key(name, arguments, self._rules.get(name))

    def text(self, arguments: JsonObject) -> str:
        """The text of arguments that is stored."""
        return canonical_text_v1(arguments) if self.key_version == 1 else canonical_text(arguments)

    def inferred(self, name: str) -> bool:
        """Whether the entry was guessed from recorded arguments."""
        return name in self._inferred

    def add(self, spec: ToolSpec, *, inferred: bool) -> ToolSpec | None:
        """Add a spec; one of a tool that has an entry only adds to it, unless that was inferred.

        Returns:
            The entry to store, ``None`` if nothing changed.
        """
        present = self.specs.get(spec.name)
        replaces = present is None or (self.inferred(spec.name) and not inferred)
        if present is not None:
            kept, other = (spec, present) if replaces else (present, spec)
            aliases = tuple(dict.fromkeys((*kept.aliases, *other.aliases)))
            read_only = other.read_only if kept.read_only is None else kept.read_only
            if not replaces and (aliases, read_only) == (present.aliases, present.read_only):
                return None
            spec = replace(kept, aliases=aliases, read_only=read_only)
            inferred = inferred and self.inferred(spec.name)
        self._enter(spec, inferred)
        return spec

    def _enter(self, spec: ToolSpec, inferred: bool) -> None:
        self.specs[spec.name] = spec
        self._rules[spec.name] = SchemaRules.of(spec.parameters)
        (self._inferred.add if inferred else self._inferred.discard)(spec.name)
        for alias in spec.aliases:
            self._names.setdefault(alias, spec.name)
        self._names[spec.name] = spec.name
