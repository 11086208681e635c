"""Properties 5 and 6: a value counts by when it could be seen; pairs are one to one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume
from hypothesis import strategies as st

from orch_env import Episode, ToolCall, Turn, make_reward
from orch_env.types.json import Json, resolve
from tests.orch_env.corruptions import damages_of, spoilt_call
from tests.orch_env.property_tiers import hold
from tests.orch_env.reward_world import OTHER_TOOL, World
from tests.orch_env.reward_worlds import worlds

GRADUATED = make_reward("graduated")

Worlds = st.SearchStrategy[World]
Calls = Sequence[Sequence[ToolCall]]


def total(world: World, turns: Calls, shown: dict[str, str] | None = None) -> float:
    return GRADUATED(world.task, world.play(turns, world.gold_final(), shown=shown)).total


def hidden_inputs(world: World, number: int) -> list[Json]:
    """Values that a gold call takes from earlier outputs and that the query does not hold."""
    call = world.task.gold_calls[number]
    values = [resolve(call.arguments, p) for p, ref in call.provenance.items() if ref.producers()]
    pieces = [piece for value in values for piece in _pieces(value)]
    return [piece for piece in pieces if str(piece) not in world.task.query]


def _pieces(value: Json) -> list[Json]:
    return list(value.split(",")) if isinstance(value, str) else [value]


def consumers(world: World) -> list[int]:
    """Required gold calls without an equal one that take a hidden value, and need no state."""
    calls = world.task.gold_calls
    return [
        n
        for n, call in enumerate(calls)
        if not call.optional
        and not call.state_dependencies()
        and hidden_inputs(world, n)
        and sum(other.arguments == call.arguments for other in calls) == 1
    ]


def first_and_rest(world: World, number: int) -> tuple[ToolCall, list[list[ToolCall]]]:
    """A gold call by itself, and gold's turns without it."""
    numbers = iter(range(len(world.task.gold_calls)))
    turns = [[call for call in turn if next(numbers) != number] for turn in world.gold_turns()]
    gold = world.task.gold_calls[number]
    return ToolCall(gold.name, gold.arguments), [turn for turn in turns if turn]


def test_5_a_value_that_an_unrelated_result_shows_counts(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        assume(consumers(world))
        number = data.draw(st.sampled_from(consumers(world)), "consumer")
        consumer, rest = first_and_rest(world, number)
        look = ToolCall(OTHER_TOOL, {"about": "everything"})
        values = hidden_inputs(world, number)
        shown = {OTHER_TOOL: data.draw(st.sampled_from(_showing(values)), "result")}
        # One needless call costs the same in each of these, so only what was seen differs.
        gold_and_look = total(world, [[look], *world.gold_turns()])
        assert total(world, [[look], [consumer], *rest], shown) == gold_and_look
        assert total(world, [[look], [consumer], *rest]) < gold_and_look
        # Shown in the same message, it comes too late.
        assert total(world, [[look, consumer], *rest], shown) < gold_and_look

    hold(examples, body, tasks, st.data())


def _showing(values: list[Json]) -> list[str]:
    """Results that show these values, in several shapes."""
    return [
        json.dumps({"seen": values}),
        json.dumps([{"deep": {"er": [{"value": v}]}} for v in values], ensure_ascii=False),
        json.dumps({"text": "known: " + " ".join(map(str, values)) + " ."}),
        "not json, but: " + " ; ".join(map(str, values)),
        json.dumps({str(v): 1 for v in values}),
    ]


def test_5_a_value_in_the_query_counts_from_the_start(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        assume(consumers(world))
        number = data.draw(st.sampled_from(consumers(world)), "consumer")
        consumer, rest = first_and_rest(world, number)
        assert total(world, [[consumer], *rest]) < 1.0
        between = data.draw(st.sampled_from([" ", "\n", "; ", " and "]), "between")
        values = data.draw(st.permutations(hidden_inputs(world, number)), "values")
        told = between.join([world.task.query, *map(str, values)])
        messages = ({"role": "user", "content": told},)
        knowing = replace(world, task=replace(world.task, messages=messages))
        assert total(knowing, [[consumer], *rest]) == 1.0
        later = replace(world, task=replace(world.task, followups=(told,)))
        assert total(later, [[consumer], *rest, []]) < 1.0  # the user says it only afterwards
        assert total(later, [[], [consumer], *rest]) == 1.0

    hold(examples, body, tasks, st.data())


def test_5_what_was_hidden_until_the_same_turn_does_not_count(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        assume(consumers(world))
        calls = [call for turn in world.gold_turns() for call in turn]
        assert total(world, [data.draw(st.permutations(calls), "message")]) < 1.0

    hold(examples, body, tasks, st.data())


def test_5_the_full_result_counts_and_not_what_a_limit_left_of_it(
    tasks: Worlds, examples: int
) -> None:
    def body(world: World, kept: int) -> None:
        whole = world.gold_episode()
        turns = tuple(replace(turn, observation=turn.observation[:kept]) for turn in whole.turns)
        assert GRADUATED(world.task, replace(whole, turns=turns)).total == 1.0

    hold(examples, body, tasks, st.integers(0, 60))


def test_5_a_failed_call_shows_nothing(examples: int) -> None:
    from orch_env.types import ErrorType

    def body(world: World, data: st.DataObject) -> None:
        assume(consumers(world))
        number = data.draw(st.sampled_from(consumers(world)), "consumer")
        consumer, rest = first_and_rest(world, number)
        guess = ToolCall(OTHER_TOOL, {"guess": 1}, ErrorType.INVALID_ARGUMENTS)
        echo = "no such argument: " + " ".join(map(str, hidden_inputs(world, number)))
        episode = world.play([[guess], [consumer], *rest], world.gold_final())
        told = Turn.of("", episode.turns[0].calls, [json.dumps({"error": {"message": echo}})])
        echoed = Episode(episode.task_id, turns=(told, *episode.turns[1:]), final=episode.final)
        echoed = replace(echoed, state=episode.state)
        assert GRADUATED(world.task, echoed).total == GRADUATED(world.task, episode).total

    hold(examples, body, worlds(min_calls=2), st.data())


def test_6_no_call_stands_for_two_and_none_for_another_tool(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        turns = draw_mess(world, data)
        accounts = GRADUATED(world.task, world.play(turns)).calls
        paired = [account.gold for account in accounts if account.gold is not None]
        assert len(set(paired)) == len(paired)
        assert len(accounts) == sum(map(len, turns))
        for account in accounts:
            if account.gold is not None:
                gold = world.task.gold_calls[account.gold]
                assert gold.name == turns[account.turn][account.index].name

    hold(examples, body, tasks, st.data())


def test_6_m_calls_earn_no_more_than_m_gold_calls(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        task = replace(world.task, answer=None, final_state=None)
        bare = replace(world, task=task, writes={})
        needed = sum(not call.optional for call in task.gold_calls)
        assume(needed)
        turns = draw_mess(bare, data)
        made = sum(map(len, turns))
        assert total(bare, turns) <= min(made, needed) / needed + 2.0**-40

    hold(examples, body, tasks, st.data())


def test_6_one_call_made_often_earns_no_more_than_made_once(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject, times: int) -> None:
        number = data.draw(st.integers(0, len(world.task.gold_calls) - 1), "call")
        damage = data.draw(st.sampled_from([None, *damages_of(world, number)]), "damage")
        made = spoilt_call(world, number, [damage] if damage else [])[:1]
        assume(made)
        equal = [call for call in world.task.gold_calls if world.same(call, made[0])]
        held = max(1, len(equal))
        # In one message: later, a call might have seen its value in what it returned itself.
        once, often = total(world, [made * held]), total(world, [made * (held + times)])
        # An optional call may stand in for a required one, and for itself when it comes again.
        spare = any(call.optional for call in equal)
        assert often < once or once == often == 0.0 or (spare and often == once)

    hold(examples, body, tasks, st.data(), st.integers(1, 5))


def draw_mess(world: World, data: st.DataObject) -> list[list[ToolCall]]:
    """Gold calls, whole or damaged, any number of times in any order."""
    numbers = st.integers(0, len(world.task.gold_calls) - 1)
    flat: list[ToolCall] = []
    for number in data.draw(st.lists(numbers, min_size=1, max_size=10), "calls"):
        damage = data.draw(st.sampled_from([None, None, *damages_of(world, number)]))
        flat += spoilt_call(world, number, [damage] if damage else [])
    turns: list[list[ToolCall]] = []
    for call in flat:
        if turns and data.draw(st.booleans()):
            turns[-1].append(call)
        else:
            turns.append([call])
    return turns


@pytest.mark.parametrize("half", [1, 0])
def test_6_two_like_gold_calls_need_two_calls(half: int) -> None:
    # gold: find a and find b; one call equal to neither is worth one pair and not two.
    from orch_env.types import GoldCall
    from tests.orch_env.reward_world import make_world

    gold = [[GoldCall("find", {"q": "a", "n": 1}), GoldCall("find", {"q": "b", "n": 1})]]
    world = make_world(gold, ["{}", "{}"])
    # U = {q, n}, T = 1; V = 1/2 where n is 1, 0 where it is 0; K = 0, for only q tells.
    v = 0.5 * half
    s = 0.5 * (0.1 + 0.5 * (0.2 + 0.5 * v + 0.2))
    made = [[ToolCall("find", {"q": "c", "n": half})]]
    assert total(world, made) == pytest.approx(s / 2, abs=2**-40)
