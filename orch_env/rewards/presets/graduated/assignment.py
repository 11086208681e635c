"""Assigns model calls to gold calls: one to one, with the largest sum of scores.

Calls of different tools are never paired, so each tool is solved by itself.

Of identical model calls at most as many may be assigned as gold has (at least one), so repeating a
call is never a second chance at a similar gold call. Identical calls differ only in whether they
ran and in what had been seen before them. This orders them from better to worse for *every* gold
call, so the best few can be picked before the assignment. In the second edition near copies of a
call (another letter case, a blank, one argument more) are one group too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from orch_env.rewards.matching.calls import MadeCall

# Ties go to earlier calls, then pairs keep their order, then to earlier gold calls. Far below any
# difference between two scores (shares with small denominators), far above float noise.
_EARLIER, _IN_ORDER, _LOWER = 1e-7, 1e-9, 1e-11
_TIES = _EARLIER + _IN_ORDER + _LOWER


def assign(
    made: Sequence[MadeCall],
    scores: Sequence[Mapping[int, float]],
    copies: Mapping[str, int],
    optional_only: AbstractSet[str] = frozenset(),
    groups: Sequence[str | None] | None = None,
) -> dict[int, int]:
    """Maximise the sum of scores over one-to-one pairs.

    Calls in the group of an optional gold call, and of no required one, are matched last, and only
    to required gold calls still unmatched. Otherwise an optional call could take the place of a
    badly made required one, whose further faults would then cost nothing.

    Args:
        made: the model's calls, M of them.
        scores: per call, number of each required gold call of its tool -> score >= 0; the same
            numbers for every call of one tool.
        copies: identity, or group -> how many gold calls are in it.
        optional_only: groups in which only optional gold calls are.
        groups: for each call, which calls count as one: at most as many of a group are assigned as
            gold has, at least one. By default those of one identity.

    Returns:
        position of a model call -> number of its gold call; only pairs with a score above 0.
    """
    if groups is None:
        groups = [call.key for call in made]
    first = [call for call in made if groups[call.position] not in optional_only]
    assigned = _assign(first, scores, copies, groups)
    if len(first) < len(made):
        taken = set(assigned.values())
        left = [{n: s for n, s in row.items() if n not in taken} for row in scores]
        assigned.update(
            _assign([c for c in made if groups[c.position] in optional_only], left, copies, groups)
        )
    return dict(sorted(assigned.items()))


def _assign(
    made: Sequence[MadeCall],
    scores: Sequence[Mapping[int, float]],
    copies: Mapping[str, int],
    groups: Sequence[str | None],
) -> dict[int, int]:
    by_tool: dict[str, list[MadeCall]] = defaultdict(list)
    for call in made:
        if scores[call.position]:
            by_tool[call.name].append(call)
    assigned: dict[int, int] = {}
    for calls in by_tool.values():
        rows = _eligible(calls, scores, copies, groups)
        numbers = sorted(scores[rows[0]])
        table = [[scores[row][number] for number in numbers] for row in rows]
        for i, k in _best_pairs(table):
            if table[i][k] > 0:
                assigned[rows[i]] = numbers[k]
    return assigned


def _eligible(
    calls: Sequence[MadeCall],
    scores: Sequence[Mapping[int, float]],
    copies: Mapping[str, int],
    groups: Sequence[str | None],
) -> list[int]:
    """Positions of the calls that may be assigned: the best few of each identity and group."""
    rows = [call.position for call in calls]
    keys = {call.position: call.key or "" for call in calls}
    for label in (keys, {p: groups[p] or "" for p in rows}):
        members: dict[str, list[int]] = defaultdict(list)
        for row in rows:
            members[label[row]].append(row)
        if len(members) == len(rows):
            continue
        rows = []
        for name, positions in members.items():
            best_first = sorted(
                positions, key=lambda p: (-max(scores[p].values()), -sum(scores[p].values()), p)
            )
            rows.extend(best_first[: max(1, copies.get(name, 0))])
        rows.sort()
    return rows


def _best_pairs(table: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """The (row, column) pairs with the largest sum; every row or every column is in one."""
    height, width = len(table), len(table[0])
    if height == width == 1:
        return [(0, 0)]
    if height <= width:
        columns = _clear_choices(table)
        if columns is not None:
            return list(enumerate(columns))
    else:
        rows = _clear_choices(list(zip(*table, strict=True)))
        if rows is not None:
            return [(row, column) for column, row in enumerate(rows)]
    from scipy.optimize import linear_sum_assignment

    benefit = [
        [
            score
            - _EARLIER * i / height
            + _IN_ORDER * (i * k) / (height * width)
            - _LOWER * k / width
            for k, score in enumerate(row)
        ]
        for i, row in enumerate(table)
    ]
    picked, columns = linear_sum_assignment(benefit, maximize=True)
    return [(int(i), int(k)) for i, k in zip(picked, columns, strict=True)]


def _clear_choices(table: Sequence[Sequence[float]]) -> list[int] | None:
    """Each line's best place, if no two lines share one and none has a second place near it.

    Then no other choice can be best: it would lose a gap in some line, and all ties together weigh
    less than that.
    """
    choices: list[int] = []
    taken: set[int] = set()
    for line in table:
        best = max(line)
        place = line.index(best)
        gap = _TIES * len(table)
        if place in taken or any(best - s <= gap for k, s in enumerate(line) if k != place):
            return None
        taken.add(place)
        choices.append(place)
    return choices
