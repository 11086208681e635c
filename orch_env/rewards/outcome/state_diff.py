"""How an episode changed its servers' state, compared with gold: a list of readable differences.

Both states are what :meth:`Session.final_state` gives: changes only, complete records,
``{server: {table: {id: record, or null where deleted}}}``. A field that a hand-written gold record
leaves out is not compared.

Ids are part of the state: the records of permit L-1 renewed and permit L-2 renewed have the same
content, so a comparison by content alone would accept the wrong permit. Only ids that a server made
up while gold ran may differ, and only the task can say which those are (``metadata["created"]``,
see :func:`diff_states`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from orch_env.types.json import Json, JsonObject, escape, unescape
from orch_env.types.text import shortened
from orch_env.values import values_equal

MISSING = "missing"
"""Gold changes it, the episode did not."""
WRONG = "wrong"
"""Both changed it, to different values."""
COLLATERAL = "collateral"
"""The episode changed what gold leaves alone."""

DEEPEST = 16
"""Levels inside a record that a path descends to; what differs below is shown from there."""
SHOWN = 80
"""Characters of a value in :func:`describe`."""

Place: TypeAlias = tuple[str, ...]
"""Server, table, id; shorter where a state is not of the documented form."""
Same: TypeAlias = frozenset[tuple[str, str]]
"""Ids of gold's with the episode's that took their place."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """One difference between gold's state and the episode's.

    Attributes:
        path: JSON Pointer: server, table, id, then into the record, such as
            ``/harbour/bookings/K-0007/confirmed``.
        kind: ``missing``, ``wrong`` or ``collateral``.
        gold: gold's value at the path; ``None`` if deleted, and for ``collateral``.
        made: the episode's value there; ``None`` if deleted, and for ``missing``.
    """

    path: str
    kind: str
    gold: Json = None
    made: Json = None

    def to_dict(self) -> JsonObject:
        """Plain data with the same names."""
        return {"path": self.path, "kind": self.kind, "gold": self.gold, "made": self.made}


def diff_states(gold: Json, made: Json, created: Sequence[str] = ()) -> tuple[StateChange, ...]:
    """How the state that an episode left differs from gold's.

    Values are compared by ``values.py``. Gold's own changes come first, in gold's order, then
    collateral ones in the episode's. Never raises: a level that is not an object is compared as
    the value it is.

    Args:
        gold: what gold changes; ``{}`` if nothing.
        made: what the episode changed.
        created: pointers (``/server/table/id``) of the gold records whose ids the server made up.
            Such a record may stand under another id in the episode, where another one was made
            and cancelled before, say: if the record under gold's id is not gold's, the first
            record of that table, by id, with gold's content takes its place, one to one. In the
            content, an id and the one that took its place are the same value, be it the record's
            own or another one that was matched.

    Returns:
        The differences; none if both states are equal.
    """
    wanted, found = records_of(gold), records_of(made)
    partners, same = _partners(wanted, found, created)
    changes: list[StateChange] = []
    for place, record in wanted.items():
        partner = partners.get(place, place)
        if partner is None or partner not in found:
            changes.append(StateChange(_pointer(place), MISSING, gold=record))
        else:
            changes += _record_changes(_pointer(place), record, found[partner], same)
    stray = found.keys() - {partners.get(place, place) for place in wanted}
    changes += (
        StateChange(_pointer(place), COLLATERAL, made=record)
        for place, record in found.items()
        if place in stray
    )
    return tuple(changes)


def records_of(state: Json) -> dict[Place, Json]:
    """The changed records of a state, by (server, table, id); empty if nothing was changed."""
    level: list[tuple[Place, Json]] = [] if state is None else [((), state)]
    for _ in range(3):
        below: list[tuple[Place, Json]] = []
        for place, node in level:
            if isinstance(node, Mapping):
                below += (((*place, str(key)), item) for key, item in node.items())
            else:
                below.append((place, node))
        level = below
    return dict(level)


def describe(changes: Iterable[StateChange]) -> list[str]:
    """One line a change, for people; long values are cut."""
    return [_line(change) for change in changes]


def _line(change: StateChange) -> str:
    path = change.path or "the whole state"
    if change.kind == MISSING:
        return f"missing     {path}: gold has {_short(change.gold)}"
    if change.kind == WRONG:
        return f"wrong       {path}: gold has {_short(change.gold)}, here {_short(change.made)}"
    return f"collateral  {path}: gold leaves it alone, here {_short(change.made)}"


def _short(value: Json) -> str:
    if value is None:
        return "nothing"
    try:
        text = json.dumps(value, sort_keys=True, default=str)
    except (RecursionError, ValueError, TypeError):
        return "a value too odd to show"
    return shortened(text, SHOWN)


def _pointer(place: Place) -> str:
    return "".join(f"/{escape(token)}" for token in place)


def _record_changes(path: str, gold: Json, made: Json, same: Same) -> list[StateChange]:
    """Where two records differ; fields that only the episode's has do not count."""
    if not isinstance(gold, Mapping) or not isinstance(made, Mapping):
        return _value_changes(path, gold, made, same)
    changes: list[StateChange] = []
    for name, value in gold.items():
        at = f"{path}/{escape(str(name))}"
        if name not in made:
            changes.append(StateChange(at, MISSING, gold=value))
        else:
            changes += _value_changes(at, value, made[name], same)
    return changes


def _value_changes(
    path: str, gold: Json, made: Json, same: Same, depth: int = DEEPEST
) -> list[StateChange]:
    """Where two values differ, as deep as both have the same shape."""
    if _equal(gold, made, same):
        return []
    parts = _parts(path, gold, made) if depth else []
    if not parts:
        return [StateChange(path, WRONG, gold=gold, made=made)]
    return [change for p, a, b in parts for change in _value_changes(p, a, b, same, depth - 1)]


def _parts(path: str, one: Json, other: Json) -> list[tuple[str, Json, Json]]:
    """Both values' members side by side, if they have the same ones."""
    if isinstance(one, dict) and isinstance(other, dict) and set(one) == set(other):
        return [(f"{path}/{escape(str(key))}", one[key], other[key]) for key in one]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [(f"{path}/{i}", a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    return []


def _equal(gold: Json, made: Json, same: Same) -> bool:
    if isinstance(gold, str) and isinstance(made, str) and (gold, made) in same:
        return True
    try:
        return values_equal(gold, made)
    except (RecursionError, ValueError, TypeError, OverflowError):
        return False  # no JSON value: whatever it is, it is not gold's


def _partners(
    wanted: Mapping[Place, Json], found: Mapping[Place, Json], created: Sequence[str]
) -> tuple[dict[Place, Place | None], Same]:
    """Created gold record -> the episode's record in its place, and the pairs of ids that makes.

    Records that stand under gold's id with gold's content are settled first, so that no other
    record takes theirs. ``None``: nothing is in its place, and what stands under its id stands in
    for another one.
    """
    pointers = (tuple(unescape(t) for t in str(path).split("/")[1:]) for path in created)
    places = [p for p in dict.fromkeys(pointers) if len(p) == 3 and p in wanted]
    partners: dict[Place, Place | None] = {}
    for place in places:
        if place in found and not _record_changes("", wanted[place], found[place], frozenset()):
            partners[place] = place
    same: Same = frozenset()
    used = set(partners) | (wanted.keys() - set(places))
    waiting = [p for p in places if p not in partners]
    # A record may name another created one, whose partner is found only later: go round again.
    settled = -1
    while waiting and settled != len(partners):
        settled = len(partners)
        for place in waiting:
            for candidate in sorted(p for p in found if p[:-1] == place[:-1] and p not in used):
                trial = same | {(place[-1], candidate[-1])}
                if not _record_changes("", wanted[place], found[candidate], trial):
                    partners[place], same = candidate, trial
                    used.add(candidate)
                    break
        waiting = [p for p in waiting if p not in partners]
    partners.update((p, None) for p in places if p not in partners and p in used)
    return partners, same
