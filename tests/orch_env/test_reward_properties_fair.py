"""Property 4: what is as good as gold scores exactly 1.0.

Another order of calls that no dependency path orders, another split into messages, other spellings
of equal values, another order of keys, optional calls left out; each by itself and all together.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import assume
from hypothesis import strategies as st

from orch_env import ToolCall, make_reward
from orch_env.types.json import Json
from tests.orch_env.property_tiers import hold
from tests.orch_env.reward_world import World
from tests.orch_env.reward_worlds import worlds

GRADUATED = make_reward("graduated")

Worlds = st.SearchStrategy[World]


def total(world: World, turns: Sequence[Sequence[ToolCall]]) -> float:
    return GRADUATED(world.task, world.play(turns, world.gold_final())).total


def flat_gold(world: World) -> list[ToolCall]:
    return [call for turn in world.gold_turns() for call in turn]


def draw_order(world: World, data: st.DataObject) -> list[int]:
    """Numbers of the gold calls in an order that every dependency path respects.

    Equal calls that are answered differently keep their order, as the answers do.
    """
    calls = world.task.gold_calls
    first = {
        n: {m for m in range(n) if _answered_in_turn(world, m, n)} | set(call.depends_on)
        for n, call in enumerate(calls)
    }
    waiting, order = set(range(len(calls))), []
    while waiting:
        ready = sorted(n for n in waiting if first[n].isdisjoint(waiting))
        order.append(data.draw(st.sampled_from(ready)))
        waiting.remove(order[-1])
    return order


def _answered_in_turn(world: World, one: int, other: int) -> bool:
    a, b = world.task.gold_calls[one], world.task.gold_calls[other]
    return world.same(a, b) and world.results[one] != world.results[other]


def draw_turns(world: World, order: Sequence[int], data: st.DataObject) -> list[list[int]]:
    """The calls in messages: one may join the last message if nothing in it feeds a value to it."""
    turns: list[list[int]] = []
    for number in order:
        needed = set(world.task.gold_calls[number].depends_on)
        if turns and needed.isdisjoint(turns[-1]) and data.draw(st.booleans()):
            turns[-1].append(number)
        else:
            turns.append([number])
    return turns


def respelt(value: Json, data: st.DataObject, schema: Json) -> Json:
    """Another spelling of the same JSON value.

    Numbers with another type or as text, text in another normal form, pieces of declared sets in
    another order, keys in another order. Optional arguments are left out, null or their default
    where that is the same.
    """
    if isinstance(value, dict):
        inner = schema.get("properties", {}) if isinstance(schema, dict) else {}
        value = _with_other_gaps(value, data, inner, schema)
        keys = data.draw(st.permutations(list(value)))
        return {key: respelt(value[key], data, inner.get(key, {})) for key in keys}
    if isinstance(value, list):
        inner = schema.get("items", {}) if isinstance(schema, dict) else {}
        return [respelt(item, data, inner) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    return data.draw(st.sampled_from(_spellings(value, schema)))


def _with_other_gaps(value: Json, data: st.DataObject, inner: Json, schema: Json) -> Json:
    """The object with an optional member left out or filled in now and then."""
    made = dict(value)
    for name, there in inner.items():
        if name in schema.get("required", ()):
            continue
        gaps = [there["default"]] if "default" in there else []
        gaps += [None] if "null" in there.get("type", ()) else []
        if gaps and (name not in made or made[name] in gaps):
            made.pop(name, None)
            if data.draw(st.booleans()):
                made[name] = data.draw(st.sampled_from(gaps))
    return made


_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,14})")


def _spellings(value: str | int | float, schema: Json) -> list[Json]:
    numeric = {"integer", "number"}.intersection(_types(schema))
    if isinstance(value, int):
        spelt = [value, float(value), str(value), *([f"{value}.0"] if numeric else [])]
        return spelt if abs(value) < 2**53 else [value]
    if isinstance(value, float):
        if value.is_integer():
            whole = int(value)
            return [value, whole, str(whole), *([f"{whole}.0", f"+{whole}"] if numeric else [])]
        text = repr(value)
        plain = [text] if re.fullmatch(r"-?[0-9]{1,14}\.[0-9]{1,17}", text) else []
        return [value, *plain, *([f"{text}0" for text in plain] if numeric else [])]
    if _WHOLE.fullmatch(value):
        return [value, int(value), float(value)]
    if isinstance(schema, dict) and "x-orch-set" in schema:
        pieces = value.split(",")
        return [value, ",".join(reversed(pieces)), ", ".join(sorted(pieces))]
    return [value, unicodedata.normalize("NFD", value)]


def _types(schema: Json) -> list[str]:
    kinds = schema.get("type", []) if isinstance(schema, dict) else []
    return kinds if isinstance(kinds, list) else [kinds]


def test_4_calls_that_no_path_orders_may_be_swapped(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        flat = flat_gold(world)
        order = draw_order(world, data)
        assert total(world, [[flat[n]] for n in order]) == 1.0

    hold(examples, body, tasks, st.data())


def test_4_independent_calls_may_share_a_turn_or_not(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        flat = flat_gold(world)
        turns = draw_turns(world, range(len(flat)), data)
        assert total(world, [[flat[n] for n in turn] for turn in turns]) == 1.0

    hold(examples, body, tasks, st.data())


def test_4_other_spellings_of_equal_values_score_one(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        turns = [[_respell(world, call, data) for call in turn] for turn in world.gold_turns()]
        assert total(world, turns) == 1.0

    hold(examples, body, tasks, st.data())


def test_4_optional_calls_may_be_left_out(examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        optional = [n for n, call in enumerate(world.task.gold_calls) if call.optional]
        assume(optional)
        left_out = data.draw(st.sets(st.sampled_from(optional), min_size=1))
        assert total(world, _without(world, left_out)) == 1.0
        # Among others: all of them, and each by itself.
        assert total(world, _without(world, set(optional))) == 1.0

    hold(examples, body, worlds(min_calls=2), st.data())


def test_4_all_of_it_together_scores_one(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        calls = world.task.gold_calls
        optional = [n for n, call in enumerate(calls) if call.optional]
        left_out = data.draw(st.sets(st.sampled_from(optional))) if optional else set()
        order = [n for n in draw_order(world, data) if n not in left_out]
        flat = flat_gold(world)
        turns = draw_turns(world, order, data)
        made = [[_respell(world, flat[n], data) for n in turn] for turn in turns]
        assert total(world, made) == 1.0

    hold(examples, body, tasks, st.data())


def test_4_tasks_without_schemas_are_as_fair(examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        bare = replace(world, task=world.task.with_tools(world.task.tool_names))  # type: ignore[arg-type]
        turns = [[_respell(bare, call, data) for call in turn] for turn in bare.gold_turns()]
        assert total(bare, turns) == 1.0

    hold(examples, body, worlds(), st.data())


def _respell(world: World, call: ToolCall, data: st.DataObject) -> ToolCall:
    spec = world.task.tool_spec(call.name)
    return replace(call, arguments=respelt(call.arguments, data, spec.parameters if spec else {}))


def _without(world: World, left_out: set[int]) -> list[list[ToolCall]]:
    numbers = iter(range(len(world.task.gold_calls)))
    kept = [[call for call in turn if next(numbers) not in left_out] for turn in world.gold_turns()]
    return [turn for turn in kept if turn]
