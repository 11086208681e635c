"""How two states of one server differ: readable paths, with the value before and after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from orch_env.types.json import Json, escape
from orch_env.types.text import shortened

_SHOWN = 80
"""Characters of a value in a line."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two states differ.

    Attributes:
        path: JSON Pointer: table, id, then into the record.
        before: the value there before, ``None`` where there was none.
        after: the value after, ``None`` where there is none.
    """

    path: str
    before: Json
    after: Json

    def __str__(self) -> str:
        return f"{self.path}: {_short(self.before)} -> {_short(self.after)}"


def differences(path: str, before: Json, after: Json) -> Iterator[Difference]:
    """Where two values differ, as deep as both have the same shape."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict) and set(before) == set(after):
        for key in before:
            yield from differences(f"{path}/{escape(key)}", before[key], after[key])
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(f"{path}/{place}", one, other)
    else:
        yield Difference(path, before, after)


def _short(value: Json) -> str:
    return "nothing" if value is None else shortened(json.dumps(value), _SHOWN)
