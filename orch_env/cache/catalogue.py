"""The tools that a cache knows, by name and alias.

Of two specs of one tool the first is kept, because earlier tasks name it; a task with another spec
holds that spec itself. Only an entry that was guessed from recorded arguments is replaced.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from orch_env.types import ToolSpec


class Catalogue:
    """Tools by canonical name.

    Args:
        rows: ``(name, spec as JSON text, whether it was inferred)`` as they are stored.

    Attributes:
        specs: canonical name -> spec.
    """

    def __init__(self, rows: Iterable[Any]) -> None:
        self.specs: dict[str, ToolSpec] = {}
        self._inferred: set[str] = set()
        self._names: dict[str, str] = {}
        for _, text, inferred in rows:
            self._enter(ToolSpec.from_dict(json.loads(text)), bool(inferred))

    def resolve(self, name: str) -> str | None:
        """The canonical name of a tool or alias, ``None`` if neither is known."""
        return self._names.get(name)

    def inferred(self, name: str) -> bool:
        """Whether the entry was guessed from recorded arguments."""
        return name in self._inferred

    def add(self, spec: ToolSpec, *, inferred: bool) -> ToolSpec | None:
        """Add a spec. Of a tool that has an entry, only aliases are added unless it was inferred.

        Returns:
            The entry to store, ``None`` if nothing changed.
        """
        present = self.specs.get(spec.name)
        replaces = present is None or (self.inferred(spec.name) and not inferred)
        if present is not None:
            kept, other = (spec, present) if replaces else (present, spec)
            aliases = tuple(dict.fromkeys((*kept.aliases, *other.aliases)))
            if not replaces and aliases == present.aliases:
                return None
            spec, inferred = replace(kept, aliases=aliases), inferred and self.inferred(spec.name)
        self._enter(spec, inferred)
        return spec

    def _enter(self, spec: ToolSpec, inferred: bool) -> None:
        self.specs[spec.name] = spec
        (self._inferred.add if inferred else self._inferred.discard)(spec.name)
        for alias in spec.aliases:
            self._names.setdefault(alias, spec.name)
        self._names[spec.name] = spec.name
