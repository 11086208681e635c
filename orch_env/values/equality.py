"""Whether two values are equal, with or without a schema.

Without a schema the plain canonical form decides, as for the cache's keys; with one,
:mod:`orch_env.values.by_schema` adds spellings. Both are equivalences, and no JSON value makes them
raise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orch_env.types.json import Json
from orch_env.values.by_schema import refine
from orch_env.values.canonical import canonical, text_of
from orch_env.values.schema_rules import SchemaRules


def values_equal(
    left: Json, right: Json, schema: Mapping[str, Any] | SchemaRules | None = None
) -> bool:
    """Whether two JSON values are the same value (never raises, true is not 1).

    Args:
        left: a JSON value.
        right: another one; the order does not matter.
        schema: JSON Schema of both, ``None`` for the plain rules, which hold under every schema.
    """
    if isinstance(left, str) and isinstance(right, str) and left == right:
        return True
    one, other = canonical(left), canonical(right)
    if _same(one, other):
        return True
    rules = SchemaRules.of(schema)
    return rules is not None and _same(refine(one, rules), refine(other, rules))


def _same(one: Json, other: Json) -> bool:
    """Whether two values in canonical form are the same."""
    if isinstance(one, dict | list) or isinstance(other, dict | list):
        return one.__class__ is other.__class__ and text_of(one) == text_of(other)
    if isinstance(one, bool) is not isinstance(other, bool):
        return False
    return bool(one == other or (one != one and other != other))  # NaN is the same value as NaN


def types_compatible(
    left: Json, right: Json, schema: Mapping[str, Any] | SchemaRules | None = None
) -> bool:
    """Whether two JSON values have compatible types: equal values, or the same JSON type.

    Integers and floats are one type; booleans are not numbers. Where the schema asks for a number
    or a boolean, text that spells one has that type.
    """
    if json_type(left) == json_type(right) or values_equal(left, right):
        return True
    rules = SchemaRules.of(schema)
    if rules is None:
        return False
    one, other = refine(canonical(left), rules), refine(canonical(right), rules)
    kind = json_type(one)
    coerced = (rules.numeric and kind == "number") or (rules.boolean and kind == "boolean")
    return (coerced and kind == json_type(other)) or _same(one, other)


def json_type(value: Json) -> str:
    """``null``, ``boolean``, ``number``, ``string``, ``array`` or ``object``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list | tuple) else "object"


def calls_equal(name: str, arguments: dict[str, Any], other: str, others: dict[str, Any]) -> bool:
    """Whether two calls have the same tool and equal arguments."""
    return name == other and values_equal(arguments, others)
