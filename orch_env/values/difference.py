"""Why two values are not equal: one short phrase about the first thing that differs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from orch_env.types.json import Json
from orch_env.values import dates
from orch_env.values.by_schema import (
    MAX_SPELLING,
    canonical_by_schema,
    canonical_text_by_schema,
    fold,
    listed,
)
from orch_env.values.equality import json_type, types_compatible, values_equal
from orch_env.values.schema_rules import SchemaRules

_SHOWN = 60
"""Characters of a string that are shown."""
_MEMBERS = 4
"""Members of an enum that are shown."""
_LONG_INTEGER = 1 << 200
_ARTICLE = {
    "null": "null",
    "boolean": "a boolean",
    "number": "a number",
    "string": "a string",
    "array": "a list",
    "object": "an object",
}


def difference(
    left: Json, right: Json, schema: Mapping[str, Any] | SchemaRules | None = None
) -> str | None:
    """Why ``left`` is not equal to ``right``, ``None`` if it is.

    Args:
        left: the value that is judged.
        right: the value that is expected.
        schema: JSON Schema of both, ``None`` for the plain rules.

    Returns:
        A phrase such as ``3 is not 2``, ``a list where a string is expected`` or ``item 2
        missing: 'wifi'`` (items count from 0).
    """
    rules = SchemaRules.of(schema)
    return None if values_equal(left, right, rules) else _phrase(left, right, rules)


def shortfall(
    left: Json, right: Json, schema: Mapping[str, Any] | SchemaRules | None = None
) -> str:
    """What is wrong with ``left``, worded to follow its name: ``is 3, gold has 2``.

    Args:
        left: the value that is judged, not equal to ``right``.
        right: gold's value.
        schema: JSON Schema of both, ``None`` for the plain rules.
    """
    rules = SchemaRules.of(schema)
    if not types_compatible(left, right, rules):
        return f"is {_type_phrase(left, right)}"
    return f"is {shown(left)}, gold has {shown(right)}" + _remark(left, right, rules)


def shown(value: Json) -> str:
    """A value for a phrase, cut short."""
    if isinstance(value, str):
        return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}..."
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return f"an object with {len(value)} keys" if value else "an empty object"
    if isinstance(value, int) and abs(value) >= _LONG_INTEGER:
        return f"an integer of {value.bit_length()} bits"
    return (
        json.dumps(value) if value is None or isinstance(value, bool | int | float) else "a value"
    )


def _phrase(left: Json, right: Json, rules: SchemaRules | None) -> str:
    if not types_compatible(left, right, rules):
        return _type_phrase(left, right)
    if isinstance(left, dict) and isinstance(right, dict):
        return _object_phrase(left, right, rules)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        if rules is not None and rules.unordered:
            return _set_phrase(left, right, rules.items())
        return _list_phrase(left, right, rules)
    return f"{shown(left)} is not {_expected(right, rules)}" + _remark(left, right, rules)


def _type_phrase(left: Json, right: Json) -> str:
    return f"{_ARTICLE[json_type(left)]} where {_ARTICLE[json_type(right)]} is expected"


def _object_phrase(left: Json, right: Json, rules: SchemaRules | None) -> str:
    made = {str(key): value for key, value in left.items()}
    gold = {str(key): value for key, value in right.items()}
    for key, value in gold.items():
        if key not in made:
            return f"key {shown(key)} missing"
        inside = rules.member(key) if rules is not None else None
        if not values_equal(made[key], value, inside):
            return f"{shown(key)}: {_phrase(made[key], value, inside)}"
    return f"key {shown(next((k for k in made if k not in gold), ''))} not expected"


def _list_phrase(left: Json, right: Json, rules: SchemaRules | None) -> str:
    for index, value in enumerate(right):
        inside = rules.items(index) if rules is not None else None
        if index >= len(left):
            return f"item {index} missing: {shown(value)}"
        if not values_equal(left[index], value, inside):
            return f"item {index}: {_phrase(left[index], value, inside)}"
    return f"item {len(right)} not expected: {shown(left[len(right)])}"


def _set_phrase(left: Json, right: Json, inside: SchemaRules | None) -> str:
    held = Counter(canonical_text_by_schema(value, inside) for value in left)
    for index, value in enumerate(right):
        text = canonical_text_by_schema(value, inside)
        if not held[text]:
            return f"item {index} missing: {shown(value)}"
        held[text] -= 1
    for index in range(len(left) - 1, -1, -1):
        if held[canonical_text_by_schema(left[index], inside)]:
            return f"item {index} not expected: {shown(left[index])}"
    return "other items"


def _expected(value: Json, rules: SchemaRules | None) -> str:
    """The expected value; where it is a date or a time, it is called so."""
    if rules is not None and _is_short(value):
        for kind in rules.formats:
            spelling = dates.read(fold(value), kind)
            if spelling is not None:
                return f"the {dates.name_of(spelling)} {spelling}"
    return shown(value)


def _is_short(value: Json) -> bool:
    """Whether it is a string that may be another spelling of something."""
    return isinstance(value, str) and len(value) <= MAX_SPELLING


def _remark(left: Json, right: Json, rules: SchemaRules | None) -> str:
    """A hint on how the values differ, in brackets, or nothing."""
    if not _is_short(left):
        return ""
    if rules is not None and rules.formats:
        for text in (left, right):
            if _is_short(text) and dates.is_ambiguous(fold(text)):
                return f" ({shown(text)} may be two dates)"
    members = rules.enums[0] if rules is not None and rules.enums else []
    if _is_short(right) and fold(left) == fold(right):
        what = "letter case" if left.casefold() == right.casefold() else "blanks"
        several = listed(left, members)
        note = f"; the schema lists {' and '.join(map(shown, several))}" if several else ""
        return f" (differs only in {what}{note})"
    if members and canonical_by_schema(left, rules) not in members:
        names = ", ".join(map(shown, members[:_MEMBERS]))
        return f" (the schema lists {names}{', ...' if len(members) > _MEMBERS else ''})"
    return ""
