"""Which leaves of a gold call tell whether a model call knew what was asked.

The schema, or another gold call of the tool, gives some leaves away: a constant, a default, the
number of guests that all calls of a search share. To get those right says little. The others are
the *telling* leaves.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from orch_env.rewards.matching.arguments import EQUAL, TYPE, WRONG, Comparison
from orch_env.types import Provenance, ValueRef
from orch_env.types.json import Json
from orch_env.values import (
    SchemaRules,
    canonical_by_schema,
    canonical_text,
    canonical_text_by_schema,
    likeness,
    values_equal,
)
from orch_env.values.canonical import normal
from orch_env.values.likeness import SAME_WORDS

RESPELT = 0.8
"""What a leaf with gold's words in another spelling counts where no result tells what it did."""


def distinguishing(gold: Sequence[Mapping[str, Json]], rules: SchemaRules | None) -> frozenset[str]:
    """Pointers at which different gold calls of one tool do not all have the same value.

    Args:
        gold: the leaves of each gold call of the tool, each identity once.
        rules: of the tool's arguments.
    """
    if len(gold) < 2:
        return frozenset()
    texts: dict[str, set[str]] = {}
    count: dict[str, int] = {}
    for leaves in gold:
        for pointer, value in leaves.items():
            inside = rules.at(pointer) if rules is not None else None
            texts.setdefault(pointer, set()).add(canonical_text_by_schema(value, inside))
            count[pointer] = count.get(pointer, 0) + 1
    return frozenset(p for p in texts if len(texts[p]) > 1 or count[p] < len(gold))


def telling_leaves(
    leaves: Mapping[str, Json],
    provenance: Mapping[str, ValueRef],
    rules: SchemaRules | None,
    differing: AbstractSet[str],
) -> frozenset[str]:
    """The pointers of a gold call's telling leaves.

    These are the leaves that are neither constants, nor given by the schema (``default``, a single
    allowed value), nor equal in all gold calls of the tool. Where that leaves none, those are
    telling that differ between the gold calls of the tool, else all leaves.

    Args:
        leaves: of the gold call.
        provenance: of the gold call.
        rules: of the tool's arguments.
        differing: pointers at which gold calls of the tool differ; empty if there is only one.
    """
    own = frozenset(p for p in leaves if p in differing) or frozenset(leaves)
    constants = {normal(p) for p, ref in provenance.items() if ref.kind is Provenance.CONSTANT}
    found = (p for p in own if p not in constants and not _given_away(leaves[p], p, rules))
    return frozenset(found) or own


def _given_away(value: Json, pointer: str, rules: SchemaRules | None) -> bool:
    inside = rules.at(pointer) if rules is not None else None
    if inside is None:
        return False
    listed = {canonical_text(member) for members in inside.enums for member in members}
    return len(listed) == 1 or any(values_equal(value, d, inside) for d in inside.defaults)


class Likeness(NamedTuple):
    """How near a model call comes to a gold call whose values it does not all have.

    Attributes:
        telling: K, share of gold's telling leaves with gold's value; 1 without any.
        alike: share of the union of leaves, a differing text counted by its likeness.
        respelt: share of the union of leaves with gold's value or gold's words.
        respelt_telling: the same of gold's telling leaves.
        same_words: whether every leaf has gold's value or gold's words.
    """

    telling: float
    alike: float
    respelt: float
    respelt_telling: float
    same_words: bool


def compare_telling(comparison: Comparison, telling: AbstractSet[str]) -> Likeness:
    """How near a call comes, from the comparison of its arguments with gold's."""
    count = len(comparison.leaves)
    equal = alike = respelt = 0.0
    right = right_respelt = 0.0
    same = 0
    for pointer, status in comparison.leaves.items():
        tells = pointer in telling
        if status == EQUAL:
            equal += 1
            same += 1
            right += tells
            continue
        if status not in (WRONG, TYPE):
            continue
        made, gold = comparison.made[pointer], comparison.gold[pointer]
        if isinstance(made, str) and isinstance(gold, str):
            near = likeness(made, gold)
            alike += near
            if near >= SAME_WORDS:
                same += 1
                respelt += RESPELT
                right_respelt += RESPELT * tells
    known = len(telling)
    return Likeness(
        right / known if known else 1.0,
        (equal + alike) / count,
        (equal + respelt) / count,
        (right + right_respelt) / known if known else 1.0,
        same == count,
    )


class Projection(NamedTuple):
    """What tells a call from other calls of its tool; equal texts are near copies of one call.

    Attributes:
        text: the values where gold's calls of the tool differ, without letter case, blanks and
            accents; null is none, and what a call has beside does not count.
        whole: whether the call has a value for all of those arguments.
    """

    text: str
    whole: bool


def projection(
    name: str, leaves: Mapping[str, Json], pointers: AbstractSet[str], rules: SchemaRules | None
) -> Projection | None:
    """The projection of a call, ``None`` where gold's calls of the tool do not differ.

    Args:
        name: the tool.
        leaves: of the call.
        pointers: where gold's calls of the tool differ.
        rules: of the tool's arguments.
    """
    if not pointers:
        return None
    parts = [name]
    for pointer in sorted(pointers):
        if leaves.get(pointer) is None:
            parts.append("")
            continue
        inside = rules.at(pointer) if rules is not None else None
        form = canonical_by_schema(leaves[pointer], inside)
        # Once more: what is a number without its blanks is that number.
        parts.append(canonical_text(_folded(form) if isinstance(form, str) else form))
    return Projection("\n".join(parts), "" not in parts)


def _folded(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text)
    letters = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(letters.casefold().split())
