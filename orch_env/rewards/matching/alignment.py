"""Lists that a schema calls sets: which item of the call is compared with which of gold's.

Arguments are compared leaf by leaf, by pointer, but an item of a set has no fixed pointer. So each
item of the call's list gets the position of the item of gold's that it is paired with: equal items
first, then those that share most leaves. As many leaves as possible are right that way, so one more
fault in a list never raises a call's score, wherever it is. Of two equal items the later one counts
as too many; this changes no right value, only which spelling of it is left over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain, count

from orch_env.types.json import Json, JsonObject, escape, leaves
from orch_env.values import (
    MAX_DEPTH,
    SchemaRules,
    canonical_text_by_schema,
    json_type,
    types_compatible,
    values_equal,
)

MAX_WORK = 1024
"""Leaves compared at most to pair the differing items of one list; beyond, order decides."""

MAX_LEVELS = 2
"""Sets within sets that are paired so; each level multiplies the work. Deeper, order decides."""

# Right leaves count most, then leaves that both have (fewer in the union), then those of a right
# type, then the place. There are at most MAX_WORK of each, so a lower one never outweighs a higher.
_RIGHT, _SHARED, _TYPED = 2**33, 2**22, 2**11
_ABSENT = object()


def aligned_leaves(made: JsonObject, gold: JsonObject, rules: SchemaRules) -> dict[str, Json]:
    """The leaves of a call's arguments, with items of sets where gold has theirs.

    Args:
        made: the call's arguments.
        gold: gold's arguments.
        rules: of the tool's ``parameters``.

    Returns:
        Leaf pointer -> value. Items paired with none of gold's come after gold's last.
    """
    return dict(_aligned("", made, gold, rules, MAX_DEPTH, MAX_LEVELS)) if made else {}


def holds_sets(gold: Json, rules: SchemaRules | None, depth: int = MAX_DEPTH) -> bool:
    """Whether a list in ``gold`` is a set by its schema, so that alignment matters at all."""
    if rules is None or depth == 0 or not isinstance(gold, dict | list):
        return False
    if isinstance(gold, dict):
        return any(
            holds_sets(value, rules.member(str(key)), depth - 1)
            for key, value in gold.items()
            if isinstance(value, dict | list)
        )
    return rules.unordered or any(
        holds_sets(item, rules.items(number), depth - 1) for number, item in enumerate(gold)
    )


def _aligned(
    at: str, made: Json, gold: Json, rules: SchemaRules | None, depth: int, levels: int
) -> Iterator[tuple[str, Json]]:
    if rules is not None and depth and made and gold:
        if isinstance(made, dict) and isinstance(gold, dict):
            for key, value in made.items():
                below = f"{at}/{escape(str(key))}"
                inside, there = rules.member(str(key)), gold.get(key, _ABSENT)
                yield from _aligned(below, value, there, inside, depth - 1, levels)
            return
        if isinstance(made, list) and isinstance(gold, list):
            places = list(range(len(made)))
            if rules.unordered:
                places = _places(made, gold, rules.items(), depth - 1, levels)
                levels -= 1
            for place, item in zip(places, made, strict=True):
                there = gold[place] if place < len(gold) else _ABSENT
                inside = rules.items(place)
                yield from _aligned(f"{at}/{place}", item, there, inside, depth - 1, levels)
            return
    yield from leaves(made, at)


def _places(
    made: list[Json], gold: list[Json], rules: SchemaRules | None, depth: int, levels: int
) -> list[int]:
    """The position in gold's list that each item of ``made`` gets."""
    waiting: dict[str, list[int]] = defaultdict(list)
    for index in reversed(range(len(gold))):
        waiting[canonical_text_by_schema(gold[index], rules)].append(index)
    places: dict[int, int] = {}
    for index, item in enumerate(made):
        equal = waiting.get(canonical_text_by_schema(item, rules))
        if equal:
            places[index] = equal.pop()
    left = {index: item for index, item in enumerate(made) if index not in places}
    free = {index: gold[index] for index in sorted(i for same in waiting.values() for i in same)}
    places.update(_pairs(left, free, rules, depth, levels))
    taken = set(places.values())
    spare = chain((index for index in free if index not in taken), count(len(gold)))
    for index in left:
        if index not in places:
            places[index] = next(spare)
    return [places[index] for index in range(len(made))]


def _pairs(
    made: Mapping[int, Json],
    gold: Mapping[int, Json],
    rules: SchemaRules | None,
    depth: int,
    levels: int,
) -> dict[int, int]:
    """Pair items that have no equal: index in the call's list -> index in gold's."""
    if not made or not gold:
        return {}
    kinds = {json_type(item) for items in (made, gold) for item in items.values()}
    alike = len(kinds) == 1 and not kinds & {"array", "object"}
    if not alike and levels > 0 and _work(made, gold) <= MAX_WORK:
        return _best_pairs(made, gold, rules, depth, levels)
    return _pairs_by_type(made, gold)


def _work(made: Mapping[int, Json], gold: Mapping[int, Json]) -> int:
    """How many leaves are compared if each item of one list is compared with each of the other."""
    ours = sum(1 for item in made.values() for _ in leaves(item))
    golds = sum(1 for item in gold.values() for _ in leaves(item))
    return len(gold) * ours + len(made) * golds


def _best_pairs(
    made: Mapping[int, Json],
    gold: Mapping[int, Json],
    rules: SchemaRules | None,
    depth: int,
    levels: int,
) -> dict[int, int]:
    from scipy.optimize import linear_sum_assignment

    shared = [
        [_shared(item, other, rules, depth, levels - 1) + (i == j) for j, other in gold.items()]
        for i, item in made.items()
    ]
    rows, columns = linear_sum_assignment(shared, maximize=True)
    ours, golds = list(made), list(gold)
    return {ours[int(i)]: golds[int(j)] for i, j in zip(rows, columns, strict=True)}


def _shared(made: Json, gold: Json, rules: SchemaRules | None, depth: int, levels: int) -> int:
    """How much of gold's item is there, where the two are not equal."""
    if not isinstance(made, dict | list) and not isinstance(gold, dict | list):
        return _SHARED + _TYPED * types_compatible(made, gold, rules)
    there = dict(_aligned("", made, gold, rules, depth, levels))
    score = 0
    for pointer, value in leaves(gold):
        if pointer in there:
            at = rules.at(pointer) if rules is not None else None
            score += _SHARED
            if values_equal(there[pointer], value, at):
                score += _RIGHT + _TYPED
            elif types_compatible(there[pointer], value, at):
                score += _TYPED
    return score


def _pairs_by_type(made: Mapping[int, Json], gold: Mapping[int, Json]) -> dict[int, int]:
    waiting: dict[str, list[int]] = defaultdict(list)
    for index in reversed(list(gold)):
        waiting[json_type(gold[index])].append(index)
    pairs: dict[int, int] = {}
    for index, item in made.items():
        same = waiting.get(json_type(item))
        if same:
            pairs[index] = same.pop()
    return pairs
