"""The binary reward: done or not done, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings

from orch_env import Episode, GoldCall, Task, ToolCall, Turn, make_reward
from orch_env.types import ErrorType
from tests.orch_env.reward_world import Corruption, World, corrupt, make_world, worlds

BINARY = make_reward("binary")
A, B = GoldCall("find", {"q": "a"}), GoldCall("find", {"q": "b"})


def done(world: World, turns: list[list[ToolCall]], final: str | None = "done") -> float:
    return BINARY(world.task, world.play(turns, final)).total


def calls(*letters: str) -> list[ToolCall]:
    return [ToolCall("find", {"q": letter}) for letter in letters]


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_gold_is_done_and_a_missing_call_is_not(world: World) -> None:
    assert BINARY(world.task, world.gold_episode()).total == 1.0
    for number, call in enumerate(world.task.gold_calls):
        dropped = done(world, corrupt(world, Corruption("dropped", number)))
        assert dropped == float(call.optional)


def test_extra_calls_order_and_a_missing_answer_do_not_matter() -> None:
    world = make_world([[A], [B]], ["{}", "{}"])
    assert done(world, [calls("b"), calls("x", "x", "a")], None) == 1.0


def test_a_call_counts_once_and_only_if_it_ran() -> None:
    world = make_world([[A], [A]], ["{}", "{}"])
    assert done(world, [calls("a")]) == 0.0
    assert done(world, [calls("a", "a")]) == 1.0
    failed = replace(calls("a")[0], error=ErrorType.NOT_RECORDED)
    assert done(world, [[failed, *calls("a")]]) == 0.0
    assert done(world, [[failed, *calls("a", "a")]]) == 1.0


def test_a_task_without_gold_calls_asks_for_none() -> None:
    world = make_world([], [])
    assert done(world, []) == 1.0
    assert done(world, [calls("a")]) == 0.0


def test_where_there_is_an_answer_it_decides() -> None:
    world = make_world([[A]], ["{}"], answer="42")
    assert done(world, [], "42") == 1.0
    assert done(world, [calls("a")], "41") == 0.0


def test_the_final_state_decides_where_gold_has_one() -> None:
    task = Task(
        "t",
        ({"role": "user", "content": ""},),
        gold=((A,),),
        final_state={"s": {"rooms": {"1": {"free": False}}}},
    )
    turns = (Turn("", tuple(calls("a")), ("{}",)),)
    good = Episode("t", turns=turns, state={"s": {"rooms": {"1": {"free": False}}}})
    bad = Episode("t", turns=turns, state={})
    silent = Episode("t", turns=turns)  # the tools hold no state: then the calls decide
    assert BINARY(task, replace(good, turns=())).total == 1.0
    assert BINARY(task, bad).total == 0.0
    assert BINARY(task, silent).total == 1.0
