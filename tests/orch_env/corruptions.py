"""Ways to spoil gold: each takes one thing of the trajectory and makes it worse.

A set of corruptions is applied to gold at once and gives the turns of an episode. What "worse"
asks for (the side conditions of monotonicity) is checked here and nowhere else:

* a wrong value is fresh: it occurs nowhere in gold, the query or the results;
* a wrong tool is one that gold does not use;
* a damaged call does not become equal to another call of gold or of the trajectory (two calls made
  equal by a first damage would be told apart again by a second one), nor take a gold call's keys:
  with every other gold call of the tool it shares no leaf more than before, and it loses none
  that the other lacks;
* an argument that is as good as left out (null, its default) is no leaf of gold: to leave it out is
  no corruption, and another value for it is an unknown argument;
* a repeat follows at once, and is no stand-in for an equal gold call;
* what is done to one call is either one whole-call corruption, or damages to distinct leaves.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orch_env.types import ErrorType, ToolCall
from orch_env.types.json import Json, JsonObject, leaves, resolve, unescape
from tests.orch_env.reward_world import OTHER_TOOL, World

CALL_KINDS = ("dropped", "repeated", "wrong_tool", "malformed", "failed")
LEAF_KINDS = ("wrong_value", "wrong_type", "missing", "unknown")
JOINED = "joined"
"""A step is made in one message with the step after it."""


@dataclass(frozen=True, order=True)
class Damage:
    """One corruption.

    Attributes:
        kind: one of ``CALL_KINDS``, ``LEAF_KINDS`` or ``JOINED``.
        call: number of the gold call (of the step, for ``JOINED``).
        leaf: pointer of the damaged leaf; of the object that gets an unknown key.
    """

    kind: str
    call: int
    leaf: str = ""


def spoilt_turns(world: World, damages: Iterable[Damage]) -> list[list[ToolCall]]:
    """Gold's turns with these corruptions; turns left without a call are dropped."""
    chosen = sorted(damages)
    joined = {d.call for d in chosen if d.kind == JOINED}
    by_call: dict[int, list[Damage]] = {}
    for damage in chosen:
        if damage.kind != JOINED:
            by_call.setdefault(damage.call, []).append(damage)
    turns: list[list[ToolCall]] = []
    number = 0
    for step, calls in enumerate(world.task.gold):
        made: list[ToolCall] = []
        for _ in calls:
            made += spoilt_call(world, number, by_call.get(number, []))
            number += 1
        if step - 1 in joined and turns:
            turns[-1] += made
        else:
            turns.append(made)
    return [calls for calls in turns if calls]


def spoilt_call(world: World, number: int, damages: Sequence[Damage]) -> list[ToolCall]:
    """What the model makes of one gold call."""
    gold = world.task.gold_calls[number]
    arguments = copy.deepcopy(gold.arguments)
    # Keys that go are taken last, so that the other pointers still lead somewhere.
    for damage in sorted(damages, key=lambda d: (d.kind == "missing", d)):
        if damage.kind in LEAF_KINDS:
            _damage(arguments, damage)
    call = ToolCall(gold.name, arguments)
    for damage in damages:
        if damage.kind == "dropped":
            return []
        if damage.kind == "repeated":
            return [call, call]
        if damage.kind == "wrong_tool":
            return [replace(call, name=OTHER_TOOL)]
        if damage.kind == "malformed":
            return [ToolCall("", {}, ErrorType.MALFORMED_CALL)]
        if damage.kind == "failed":
            return [replace(call, error=ErrorType.TOOL_ERROR)]
    return [call]


def _damage(arguments: JsonObject, damage: Damage) -> None:
    if damage.kind == "unknown":
        resolve(arguments, damage.leaf)[f"unheard_of_{damage.call}"] = "anything"
        return
    parent, _, last = damage.leaf.rpartition("/")
    holder = resolve(arguments, parent)
    token: Any = int(last) if isinstance(holder, list) else unescape(last)
    if damage.kind == "missing":
        del holder[token]
    elif damage.kind == "wrong_value":
        holder[token] = fresh_value(holder[token], damage)
    else:
        holder[token] = mistyped_value(holder[token])


def fresh_value(value: Json, damage: Damage) -> Json:
    """A value of the same JSON type that occurs nowhere (booleans turn over)."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return type(value)(830_000_000 + 1000 * damage.call + len(damage.leaf))
    if value is None or isinstance(value, list | dict):
        return f"invented {damage.call}{damage.leaf}"
    if _is_date(value):
        return f"2087-03-{damage.call + 1:02d}"
    return f"invented {damage.call}{damage.leaf}"


def _is_date(text: str) -> bool:
    parts = text.split("-")
    return [len(p) for p in parts] == [4, 2, 2] and all(p.isdigit() for p in parts)


def mistyped_value(value: Json) -> Json:
    """A value of another JSON type, in which no schema would read the same value."""
    return [value] if isinstance(value, str) else f"odd {json.dumps(value)[:20]}"


def leaf_damages(world: World, number: int) -> list[Damage]:
    """Every way to damage one leaf of a gold call."""
    arguments = world.task.gold_calls[number].arguments
    found = [Damage("unknown", number)]
    if not arguments:
        return found
    stated = {pointer for pointer, _ in leaves(world.stated(world.task.gold_calls[number]))}
    for pointer, value in leaves(arguments):
        if pointer not in stated:
            continue
        found += [Damage("wrong_value", number, pointer), Damage("wrong_type", number, pointer)]
        parent = pointer.rpartition("/")[0]
        if isinstance(resolve(arguments, parent), dict):
            found.append(Damage("missing", number, pointer))
            if parent:
                found.append(Damage("unknown", number, parent))
        if isinstance(value, dict):
            found.append(Damage("unknown", number, pointer))
    return sorted(set(found))


def damages_of(world: World, number: int) -> list[Damage]:
    """Every single corruption of one gold call."""
    return [Damage(kind, number) for kind in CALL_KINDS] + leaf_damages(world, number)


def clashes(damage: Damage, others: Iterable[Damage]) -> bool:
    """Whether a corruption touches what another one has already spoilt."""
    for other in others:
        if JOINED in (damage.kind, other.kind):
            if damage == other:
                return True
        elif damage.call == other.call:
            if damage.kind in CALL_KINDS or other.kind in CALL_KINDS:
                return True
            if damage.leaf == other.leaf and damage.kind != "unknown" != other.kind:
                return True
            if damage == other or _inside_unknown(damage, other):
                return True
    return False


def _inside_unknown(damage: Damage, other: Damage) -> bool:
    """Whether an unknown key goes into an object that the other damage replaces."""
    kinds = {damage.kind, other.kind}
    return "unknown" in kinds and len(kinds) > 1 and damage.leaf == other.leaf


def is_fair_step(world: World, before: Sequence[Damage], damage: Damage) -> bool:
    """Whether adding ``damage`` only makes things worse (the side conditions of the module)."""
    if damage.kind == JOINED:
        return damage.call + 1 < len(world.task.gold)
    if damage.kind == "repeated":
        return not _has_twin(world, damage.call)
    if damage.kind not in LEAF_KINDS:
        return True
    gold = world.task.gold_calls
    own = [d for d in before if d.call == damage.call and d.kind in LEAF_KINDS]
    (was,) = spoilt_call(world, damage.call, own)
    (now,) = spoilt_call(world, damage.call, [*own, damage])
    if damage.kind == "wrong_value" and not _is_fresh(world, damage):
        return False
    if _made_equal(world, before, damage.call, now):
        return False
    old, new = _pointers(world.stated(was)), _pointers(world.stated(now))
    for other in gold:
        if other.name != now.name or world.same(other, gold[damage.call]):
            continue
        keys = _pointers(world.stated(other))
        if world.same(now, other):
            return False
        if len(new | keys) < len(old | keys) or not new & keys <= old & keys:
            return False
    return True


def _made_equal(world: World, before: Sequence[Damage], number: int, now: ToolCall) -> bool:
    """Whether a damaged call equals what the model makes of another gold call."""
    return any(
        world.same(other, now)
        for n in range(len(world.task.gold_calls))
        if n != number
        for other in spoilt_call(world, n, [d for d in before if d.call == n and d.kind != JOINED])
    )


def _is_fresh(world: World, damage: Damage) -> bool:
    value = resolve(world.task.gold_calls[damage.call].arguments, damage.leaf)
    if isinstance(value, bool):
        return False  # there are but two
    text = str(fresh_value(value, damage))
    gold = json.dumps([call.arguments for call in world.task.gold_calls], ensure_ascii=False)
    return not any(text in where for where in (gold, world.task.query, *world.results))


def _has_twin(world: World, number: int) -> bool:
    calls = world.task.gold_calls
    mine = calls[number]
    return any(world.same(mine, other) for n, other in enumerate(calls) if n != number)


def _pointers(arguments: JsonObject) -> set[str]:
    return {pointer for pointer, _ in leaves(arguments)} if arguments else set()
