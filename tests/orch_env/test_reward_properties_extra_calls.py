"""Properties 7 and 8: what needless calls cost, with gold and where no call is needed."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from orch_env import GoldCall, ToolCall, make_reward
from orch_env.types import ErrorType
from tests.orch_env.property_tiers import hold
from tests.orch_env.reward_world import OTHER_TOOL, World
from tests.orch_env.reward_worlds import abstentions

GRADUATED = make_reward("graduated")
GRAIN = 2.0**-40
"""Totals are multiples of it."""

Worlds = st.SearchStrategy[World]

_ERRORS = st.sampled_from([None, None, *ErrorType])


def required(world: World) -> list[GoldCall]:
    return [call for call in world.task.gold_calls if not call.optional]


def needless(world: World, data: st.DataObject) -> ToolCall:
    """A call that no gold call asks for: another tool, unreadable, or a repeat."""
    gold = data.draw(st.sampled_from(world.task.gold_calls))
    kind = data.draw(st.sampled_from(["other tool", "malformed", "repeat"]))
    if kind == "malformed":
        return ToolCall(gold.name, {}, ErrorType.MALFORMED_CALL)
    if kind == "other tool":
        return ToolCall(OTHER_TOOL, dict(gold.arguments), data.draw(_ERRORS))
    return ToolCall(gold.name, gold.arguments)


def second_guess(world: World, data: st.DataObject) -> ToolCall:
    """A call of a tool that gold uses, with arguments that no gold call has."""
    gold = data.draw(st.sampled_from(required(world)))
    arguments = {**gold.arguments, "key": f"needless {data.draw(st.integers(0, 99))}"}
    error = data.draw(_ERRORS.filter(lambda e: e is not ErrorType.MALFORMED_CALL))
    made = ToolCall(gold.name, arguments, error)
    assert not any(world.same(made, call) for call in world.task.gold_calls)
    return made


def put(world: World, turns: list[list[ToolCall]], call: ToolCall, alone: bool) -> list[Any]:
    """The call after gold: no result of a needless call may tell a value before its time."""
    if alone or len(turns) == len(world.task.gold):
        return [*turns, [call]]
    return [*turns[:-1], [*turns[-1], call]]


def test_7_calls_within_the_budget_cost_little_and_beyond_it_much(
    tasks: Worlds, examples: int
) -> None:
    def body(world: World, data: st.DataObject) -> None:
        n = len(required(world))
        assume(n)
        budget = math.ceil(0.5 * n)
        turns = world.gold_turns()
        scores = [1.0]
        for _ in range(budget + 3):
            turns = put(world, turns, needless(world, data), data.draw(st.booleans()))
            scores.append(GRADUATED(world.task, world.play(turns, world.gold_final())).total)
        assert scores[budget] >= 0.98 - GRAIN
        assert all(later < earlier for earlier, later in pairwise(scores))
        assert scores[budget] - scores[budget + 1] >= 0.03 - GRAIN
        beyond = scores[budget + 1 :]
        assert all(a - b >= 0.5 / (n + budget) - 2 * GRAIN for a, b in pairwise(beyond))

    hold(examples, body, tasks, st.data())


def test_7_a_second_guess_costs_a_quarter_of_a_gold_call_more(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        n = len(required(world))
        assume(n)
        turns, x = world.gold_turns(), 0
        guesses: list[ToolCall] = []
        for _ in range(data.draw(st.integers(1, 4))):
            call = second_guess(world, data)
            if not any(world.same(call, before) for before in guesses):
                guesses.append(call)
            x += 1
            turns = put(world, turns, call, data.draw(st.booleans()))
        b = math.ceil(0.5 * n)
        cost = 0.02 * min(x, b) / b + (0.03 + 0.5 * (x - b) / (n + b) if x > b else 0.0)
        cost += 0.25 * len(guesses) / n
        total = GRADUATED(world.task, world.play(turns, world.gold_final())).total
        assert abs(total - max(0.0, 1 - cost)) <= 2 * GRAIN

    hold(examples, body, tasks, st.data())


def test_7_needless_calls_cost_their_share_of_any_score(tasks: Worlds, examples: int) -> None:
    def body(world: World, data: st.DataObject) -> None:
        kept = data.draw(st.integers(0, len(world.task.gold)), "turns")
        turns = world.gold_turns()[:kept]
        before = GRADUATED(world.task, world.play(turns, None))
        look = ToolCall(OTHER_TOOL, {})
        x = data.draw(st.integers(1, 12), "needless")
        after = GRADUATED(world.task, world.play([*turns, *([look] for _ in range(x))], None))
        n = len(required(world))
        b = math.ceil(0.5 * n)
        if n:
            cost = 0.02 * min(x, b) / b + (0.03 + 0.5 * (x - b) / (n + b) if x > b else 0.0)
        else:
            cost = 1 - 0.5**x
        assert abs(after.total - max(0.0, before.total * (1 - cost))) <= 2 * GRAIN

    hold(examples, body, tasks, st.data())


def test_8_abstention_falls_with_each_call(examples: int) -> None:
    def body(world: World, calls: list[tuple[str, ErrorType | None]], together: bool) -> None:
        made = [ToolCall(name, {"key": "x"}, error) for name, error in calls]
        for count in range(len(made) + 1):
            turns = [made[:count]] if together and count else [[call] for call in made[:count]]
            episode = world.play(turns, world.gold_final())
            assert GRADUATED(world.task, episode).total == 0.5**count

    names = st.sampled_from(["find", OTHER_TOOL, "", "unheard of"])
    hold(
        examples,
        body,
        abstentions(),
        st.lists(st.tuples(names, _ERRORS), max_size=12),
        st.booleans(),
    )
