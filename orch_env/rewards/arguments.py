"""One call's arguments against gold's, leaf by leaf.

The hard decision: the denominator is the *union* of both calls' leaves, so a missing and an
unknown argument both cost, and nested values (``legs[0].fromId``) count one by one instead of
failing as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orch_env.types.json import Json, JsonObject, leaves
from orch_env.values import types_compatible, values_equal

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


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcome of comparing two argument objects.

    Attributes:
        types: T, share of the union of leaves present in both with a compatible type.
        values: V, share of the union of leaves with equal value.
        leaves: leaf pointer -> ``equal | type | wrong | missing | unknown``, gold's leaves first.
    """

    types: float
    values: float
    leaves: Mapping[str, str]


def argument_leaves(arguments: JsonObject) -> dict[str, Json]:
    """Leaf pointer -> value; an empty arguments object has no leaves."""
    return dict(leaves(arguments)) if arguments else {}


def compare_arguments(made: Mapping[str, Json], gold: Mapping[str, Json]) -> Comparison:
    """Compare two leaf maps (see :func:`argument_leaves`); both empty is a perfect match."""
    status = {pointer: _leaf_status(pointer, made, gold) for pointer in gold}
    status.update((pointer, UNKNOWN) for pointer in made if pointer not in gold)
    if not status:
        return Comparison(1.0, 1.0, {})
    equal = sum(s == EQUAL for s in status.values())
    typed = equal + sum(s == WRONG for s in status.values())
    return Comparison(typed / len(status), equal / len(status), status)


def _leaf_status(pointer: str, made: Mapping[str, Json], gold: Mapping[str, Json]) -> str:
    if pointer not in made:
        return MISSING
    if values_equal(made[pointer], gold[pointer]):
        return EQUAL
    return WRONG if types_compatible(made[pointer], gold[pointer]) else TYPE
