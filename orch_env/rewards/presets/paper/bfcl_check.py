"""The strict value check of BFCL's simple AST checker, for one call against one gold call.

Written from the published behaviour, because ``paper`` is defined by it, oddities included. The
schema is inferred from gold: each parameter has the type of gold's value, and that value is the
only possible answer. Strings are compared in lower case without spaces and ``,./-_*^``; an int is
taken where a float is expected, not the other way round; lists are compared in order.

Objects inside arguments keep the original's behaviour too. It expects a *list* of possible values
for every key, and iterates over the characters where gold has a plain string. So an object with
gold's own text fails unless the text is one character, and a key may be left out. This is why gold
calls with nested lists fail their own check.
"""

from __future__ import annotations

import re
from typing import Any

from orch_env.types.json import Json, JsonObject

_DROPPED = re.compile(r"[ \,\.\/\-\_\*\^]")


def accepts(made: JsonObject, gold: JsonObject) -> bool:
    """Whether the checker accepts the arguments ``made`` where ``gold`` is the one answer."""
    if any(name not in made for name in gold) or any(name not in gold for name in made):
        return False
    return all(_accepts_value(made[name], gold[name]) for name in gold)


def standardize(text: str) -> str:
    """BFCL's form of a string: lower case, without punctuation that writers vary."""
    return _DROPPED.sub("", text).lower().replace("'", '"')


def _accepts_value(value: Json, gold: Json) -> bool:
    expected = type(gold)
    if expected is float and type(value) is int:
        value = float(value)
    if type(value) is not expected:
        return False
    if expected is str:
        return value == gold or standardize(value) == standardize(gold)
    if expected is dict:
        return _accepts_object(value, gold)
    if expected is list:
        return _accepts_list(value, gold)
    return bool(value == gold)


def _accepts_list(value: list[Any], gold: list[Any]) -> bool:
    # The item type is that of gold's first item, a string's for an empty list; every item of the
    # value must have it.
    items = type(gold[0]) if gold else str
    if any(type(item) is not items for item in value):
        return False
    if items is dict:
        return len(value) == len(gold) and all(
            isinstance(g, dict) and _accepts_object(v, g) for v, g in zip(value, gold, strict=True)
        )
    return [_standard_item(v) for v in value] == [_standard_item(g) for g in gold]


def _standard_item(item: Json) -> Json:
    return standardize(item) if type(item) is str else item


def _accepts_object(value: JsonObject, gold: JsonObject) -> bool:
    for key, inner in value.items():
        # Only something that can be iterated can hold possible values: for a string its
        # characters, for a list its items. A plain number holds none.
        if key not in gold or not isinstance(gold[key], str | list):
            return False
        possible = [_standard_item(item) for item in gold[key]]
        if _standard_item(inner) not in possible:
            return False
    # A key may be left out when "" is among its possible values, which holds for every string.
    return all(
        key in value or isinstance(inner, str) or (isinstance(inner, list) and "" in inner)
        for key, inner in gold.items()
    )
