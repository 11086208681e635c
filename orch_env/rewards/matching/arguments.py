"""One call's arguments against gold's, leaf by leaf.

The denominator is the *union* of both calls' leaves. So a missing and an unknown argument both
cost, and nested values (``legs[0].fromId``) count one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from orch_env.rewards.matching.alignment import aligned_leaves, holds_sets
from orch_env.types.json import Json, JsonObject, escape, leaves
from orch_env.values import SchemaRules, shortfall, stated, types_compatible, values_equal
from orch_env.values.difference import shown

EQUAL = "equal"
"""Same value."""
TYPE = "type"
"""Both have it, but its JSON type is another one (a list for a string)."""
WRONG = "wrong"
"""Of the right type, but another value."""
MISSING = "missing"
"""Gold has it, the call does not."""
UNKNOWN = "unknown"
"""The call has it, gold does not."""

_SCALARS = frozenset({str, int, float, bool, NoneType})
_ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two argument objects compared.

    Attributes:
        types: T, share of the union of leaves present in both with a compatible type.
        values: V, share of the union of leaves with equal value.
        leaves: leaf pointer -> ``equal | type | wrong | missing | unknown``, gold's leaves first.
        made: leaf pointer -> value, of the call; items of sets at the pointers of gold's.
        gold: leaf pointer -> value, of gold.
        rules: of the tool's arguments, ``None`` without a schema.
    """

    types: float
    values: float
    leaves: Mapping[str, str]
    made: Mapping[str, Json] = field(default_factory=dict, repr=False)
    gold: Mapping[str, Json] = field(default_factory=dict, repr=False)
    rules: SchemaRules | None = field(default=None, repr=False)
    _told: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def reasons(self) -> Mapping[str, str]:
        """Leaf pointer -> why it is not equal, worded to follow the pointer.

        ``/guests`` -> ``is 3, gold has 2``. Only leaves that are not equal. Computed on demand:
        most comparisons are never shown.
        """
        if not self._told:
            for pointer, status in self.leaves.items():
                if status != EQUAL:
                    self._told[pointer] = self._reason(pointer, status)
        return self._told

    def _reason(self, pointer: str, status: str) -> str:
        if status == MISSING:
            return f"is missing, gold has {shown(self.gold.get(pointer))}"
        if status == UNKNOWN:
            return "is not an argument of the gold call"
        at = self.rules.at(pointer) if self.rules is not None else None
        return shortfall(self.made.get(pointer), self.gold.get(pointer), at)


def argument_leaves(
    arguments: JsonObject,
    schema: Mapping[str, Any] | SchemaRules | None = None,
    like: JsonObject | None = None,
) -> dict[str, Json]:
    """Leaf pointer -> value; an empty arguments object has no leaves.

    Args:
        arguments: of one call.
        schema: the tool's ``parameters``; needed only with ``like``.
        like: gold's arguments: items of lists that the schema calls sets (``uniqueItems``) then get
            the pointer of the item of ``like`` that they are paired with.
    """
    if like is not None:
        rules = SchemaRules.of(schema)
        if rules is not None and holds_sets(like, rules):
            return aligned_leaves(arguments, like, rules)
    found: dict[str, Json] = {}
    for key, value in arguments.items():
        pointer = f"/{escape(str(key))}"
        if value.__class__ in _SCALARS:
            found[pointer] = value
        else:
            found.update(leaves(value, pointer))
    return found


def compare_calls(
    made: JsonObject,
    gold: JsonObject,
    schema: Mapping[str, Any] | SchemaRules | None = None,
) -> Comparison:
    """Compare the arguments of two calls of one tool.

    An optional argument that is as good as left out is no leaf of its call, unless the rules take
    arguments as they are written.

    Args:
        made: the model call's arguments.
        gold: the gold call's.
        schema: the tool's ``parameters`` (``task.tool_spec(name).parameters``), ``None`` where the
            task has none: then the plain equality of :mod:`orch_env.values` holds.
    """
    rules = SchemaRules.of(schema)
    if rules is not None and not rules.as_written:
        made, gold = stated(made, rules), stated(gold, rules)
    return compare_arguments(argument_leaves(made, rules, gold), argument_leaves(gold), rules)


def compare_arguments(
    made: Mapping[str, Json],
    gold: Mapping[str, Json],
    schema: Mapping[str, Any] | SchemaRules | None = None,
) -> Comparison:
    """Compare two leaf maps (see :func:`argument_leaves`); both empty is a perfect match.

    Args:
        made: leaves of the model call. Where ``holds_sets(gold_arguments, schema)``, take them with
            ``argument_leaves(arguments, schema, like=gold_arguments)``, once per pair of calls.
        gold: leaves of the gold call.
        schema: the tool's ``parameters``, not a leaf's; ``None`` for the plain rules.
    """
    status: dict[str, str] = {}
    rules: SchemaRules | None = None
    equal = typed = 0
    for pointer, right in gold.items():
        left = made.get(pointer, _ABSENT)
        kind = left.__class__
        if kind is right.__class__ and kind in _SCALARS and left == right:
            status[pointer] = EQUAL
            equal += 1
            continue
        if left is _ABSENT:
            status[pointer] = MISSING
            continue
        if rules is None and schema is not None:
            rules = SchemaRules.of(schema)
        status[pointer] = found = leaf_status(left, right, rules.at(pointer) if rules else None)
        equal += found == EQUAL
        typed += found == WRONG
    for pointer in made:
        if pointer not in gold:
            status[pointer] = UNKNOWN
    count = len(status)
    if equal == count:
        return Comparison(1.0, 1.0, status, made, gold, rules)
    return Comparison((equal + typed) / count, equal / count, status, made, gold, rules)


def leaf_status(made: Json, gold: Json, rules: SchemaRules | None = None) -> str:
    """``equal``, ``wrong`` or ``type``, for one leaf that both calls have."""
    if values_equal(made, gold, rules):
        return EQUAL
    return WRONG if types_compatible(made, gold, rules) else TYPE
