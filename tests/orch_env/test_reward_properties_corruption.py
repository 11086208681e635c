"""Properties 2 and 3: every corruption of a required call costs, and more of them cost no less."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import assume
from hypothesis import strategies as st

from orch_env import ToolCall, make_reward
from orch_env.types import ErrorType
from orch_env.types.json import resolve
from tests.orch_env.corruptions import (
    JOINED,
    LEAF_KINDS,
    Damage,
    clashes,
    damages_of,
    is_fair_step,
    leaf_damages,
    spoilt_turns,
)
from tests.orch_env.property_tiers import hold
from tests.orch_env.reward_world import World
from tests.orch_env.reward_worlds import worlds

GRADUATED = make_reward("graduated")

Worlds = st.SearchStrategy[World]


def total(world: World, turns: Sequence[Sequence[ToolCall]]) -> float:
    return GRADUATED(world.task, world.play(turns, world.gold_final())).total


def required(world: World) -> list[int]:
    return [n for n, call in enumerate(world.task.gold_calls) if not call.optional]


def test_2_every_single_corruption_of_a_required_call_costs(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        assume(required(world))
        number = data.draw(st.sampled_from(required(world)), "call")
        damage = data.draw(st.sampled_from(damages_of(world, number)), "damage")
        assert total(world, spoilt_turns(world, [damage])) < 1.0

    hold(examples, body, tasks, st.data())


def test_2_every_failure_costs_whatever_its_kind(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        assume(required(world))
        number = data.draw(st.sampled_from(required(world)), "call")
        error = data.draw(st.sampled_from(list(ErrorType)), "error")
        turns = world.gold_turns()
        turn, index = _places(world)[number]
        call = turns[turn][index]
        turns[turn][index] = ToolCall(call.name, call.arguments, error)
        assert total(world, turns) < 1.0

    hold(examples, body, tasks, st.data())


def test_2_every_repeat_costs_wherever_it_stands(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        turns = world.gold_turns()
        flat = [call for turn in turns for call in turn]
        call = data.draw(st.sampled_from(flat), "call")
        turn = data.draw(st.integers(0, len(turns)), "turn")
        if data.draw(st.booleans(), "alone") or turn == len(turns):
            turns.insert(turn, [call])
        else:
            turns[turn].insert(data.draw(st.integers(0, len(turns[turn])), "index"), call)
        assert total(world, turns) < 1.0

    hold(examples, body, tasks, st.data())


def test_2_a_value_of_another_gold_call_costs_like_any_wrong_one(
    tasks: Worlds, examples: int
) -> None:
    def body(world: World, data: st.DataObject) -> None:
        turns, places = world.gold_turns(), _places(world)
        # Every way there is: drawing blindly would mostly find calls with nothing in common.
        swaps = [
            (number, key, other.arguments[key])
            for number in required(world)
            for mine in [turns[places[number][0]][places[number][1]]]
            for other in world.task.gold_calls
            for key in mine.arguments
            if key in other.arguments and _differ(world, mine, other.arguments, key)
        ]
        assume(swaps)
        number, key, value = data.draw(st.sampled_from(swaps), "swap")
        turn, index = places[number]
        mine = turns[turn][index]
        swapped = {**mine.arguments, key: value}
        turns[turn][index] = ToolCall(mine.name, swapped)
        assert total(world, turns) < 1.0

    hold(examples, body, tasks, st.data())


def test_2_pieces_in_another_order_cost_where_no_set_is_declared(examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        turns, places = world.gold_turns(), _places(world)
        joined = [
            (number, key)
            for number in required(world)
            for key, value in world.task.gold_calls[number].arguments.items()
            if key in ("route", "tags", "ids") and len(set(value.split(","))) > 1
        ]
        assume(joined)
        number, key = data.draw(st.sampled_from(joined), "argument")
        turn, index = places[number]
        mine = turns[turn][index]
        turned = ",".join(reversed(mine.arguments[key].split(",")))
        assume(turned != mine.arguments[key])
        turns[turn][index] = ToolCall(mine.name, {**mine.arguments, key: turned})
        declared = world.schema(mine.name) is not None and key != "route"
        assert (total(world, turns) == 1.0) is declared

    hold(examples, body, worlds(), st.data())


def test_2_another_value_than_the_one_that_gold_leaves_out_costs(examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        turns, places = world.gold_turns(), _places(world)
        calls = world.task.gold_calls
        gaps = [n for n in required(world) if "limit" not in world.stated(calls[n])]
        assume(gaps)
        number = data.draw(st.sampled_from(gaps), "call")
        turn, index = places[number]
        mine = turns[turn][index]
        turns[turn][index] = ToolCall(mine.name, {**mine.arguments, "limit": 11})
        assert total(world, turns) < 1.0

    hold(examples, body, worlds(), st.data())


def test_2_a_consumer_that_could_not_have_seen_its_value_costs(
    tasks: Worlds, examples: int
) -> None:
    def body(world: World, data: st.DataObject) -> None:
        edges = hidden_edges(world)
        assume(edges)
        producer, consumer = data.draw(st.sampled_from(edges), "edge")
        flat = [call for turn in world.gold_turns() for call in turn]
        rest = [call for n, call in enumerate(flat) if n != consumer]
        before = flat[:producer]
        assert flat[producer] is rest[producer]
        alone = data.draw(st.booleans(), "alone")
        if alone:  # just before its producer
            turns = [[c] for c in before] + [[flat[consumer]], *([c] for c in rest[producer:])]
        else:  # in one message with it
            pair = [flat[producer], flat[consumer]]
            turns = [[c] for c in before] + [pair, *([c] for c in rest[producer + 1 :])]
        assert total(world, turns) < 1.0

    hold(examples, body, tasks, st.data())


def test_2_a_call_before_the_state_that_it_needs_costs(examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        calls = world.task.gold_calls
        edges = [(p, n) for n in required(world) for p in calls[n].state_dependencies()]
        assume(edges)
        producer, consumer = data.draw(st.sampled_from(edges), "edge")
        flat = [call for turn in world.gold_turns() for call in turn]
        assume(sum(call == flat[consumer] for call in flat) == 1)
        order = [n for n in range(len(flat)) if n != consumer]
        # Any call equal to the producer makes the state, so the consumer goes before them all.
        order.insert(flat.index(flat[producer]), consumer)
        assert total(world, [[flat[n]] for n in order]) < 1.0

    hold(examples, body, worlds(min_calls=2), st.data())


def test_2_a_wrong_answer_and_a_needless_change_cost(examples: int) -> None:
    def body(world: World, final: str | None, collateral: bool) -> None:
        wrong = world.task.answer is not None
        touched = collateral and world.task.final_state is not None
        assume(wrong or touched)
        closing = final if wrong else world.gold_final()
        episode = world.play(world.gold_turns(), closing, collateral=touched)
        assert GRADUATED(world.task, episode).total < 1.0

    hold(examples, body, worlds(), st.sampled_from([None, "", "nonsense"]), st.booleans())


def test_3_one_corruption_more_never_raises_the_score(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        chosen = draw_damages(world, data)
        scores = [total(world, spoilt_turns(world, chosen[:k])) for k in range(len(chosen) + 1)]
        assert all(later <= earlier for earlier, later in pairwise(scores)), scores

    hold(examples, body, tasks, st.data())


def test_3_k_damaged_arguments_cost_more_than_k_less_one(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        assume(required(world))
        number = data.draw(st.sampled_from(required(world)), "call")
        chosen: list[Damage] = []
        pool = [d for d in leaf_damages(world, number) if d.kind != "unknown"]
        assume(pool)
        for damage in data.draw(st.permutations(pool), "damages"):
            if not clashes(damage, chosen) and is_fair_step(world, chosen, damage):
                chosen.append(damage)
        assume(chosen)
        scores = [total(world, spoilt_turns(world, chosen[:k])) for k in range(len(chosen) + 1)]
        assert all(later < earlier for earlier, later in pairwise(scores)), scores

    hold(examples, body, tasks, st.data())


def draw_damages(world: World, data: st.DataObject, most: int = 6) -> list[Damage]:
    """Corruptions of required calls in the order in which they are added, each fair after those
    before it. (An optional call may be left out: what is wrong with it is no matter of degree.)"""
    chosen: list[Damage] = []
    numbers = required(world)
    assume(numbers)
    for _ in range(data.draw(st.integers(1, most), "how many")):
        if data.draw(st.integers(0, 7), "kind") == 0:
            steps = len(world.task.gold)
            damage = Damage(JOINED, data.draw(st.integers(0, steps - 1), "step"))
        else:
            number = data.draw(st.sampled_from(numbers), "call")
            # Damaged arguments are the rich part: half of the time one of those.
            pool = damages_of(world, number)
            if data.draw(st.booleans(), "argument"):
                pool = [d for d in pool if d.kind in LEAF_KINDS]
            damage = data.draw(st.sampled_from(pool), "damage")
        if not clashes(damage, chosen) and is_fair_step(world, chosen, damage):
            chosen.append(damage)
    assume(chosen)
    return chosen


def hidden_edges(world: World) -> list[tuple[int, int]]:
    """(producer, required consumer) where nothing but the producer's result holds the value.

    A text that holds the value's digits or letters anywhere rules the edge out: surely hidden is
    what counts here.
    """
    calls = world.task.gold_calls
    found: list[tuple[int, int]] = []
    for consumer in required(world):
        for pointer, ref in calls[consumer].provenance.items():
            value = resolve(calls[consumer].arguments, pointer)
            if ref.call is None or str(value) in world.task.query:
                continue
            shown = [n for n, text in enumerate(world.results) if str(value) in text]
            if set(shown) - {consumer} == {ref.call} and calls[consumer] not in calls[:consumer]:
                found.append((ref.call, consumer))
    return found


def _differ(world: World, mine: ToolCall, others: dict[str, object], key: str) -> bool:
    swapped = ToolCall(mine.name, {**mine.arguments, key: others[key]})
    return not world.same(mine, swapped)


def _places(world: World) -> list[tuple[int, int]]:
    return [(t, i) for t, step in enumerate(world.task.gold) for i in range(len(step))]
