"""The binary reward: done or not done, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env import Episode, GoldCall, Task, ToolCall, ToolSpec, Turn, make_reward
from orch_env.rewards.presets.binary import COMPONENTS
from orch_env.types import ErrorType
from tests.orch_env.corruptions import Damage, spoilt_turns
from tests.orch_env.reward_world import World, make_world
from tests.orch_env.reward_worlds import worlds

BINARY = make_reward("binary")
A, B = GoldCall("find", {"q": "a"}), GoldCall("find", {"q": "b"})


def done(world: World, turns: list[list[ToolCall]], final: str | None = "done") -> float:
    return BINARY(world.task, world.play(turns, final)).total


def calls(*letters: str) -> list[ToolCall]:
    return [ToolCall("find", {"q": letter}) for letter in letters]


@settings(max_examples=40, deadline=None)
@given(worlds(goals=False))
def test_gold_is_done_and_a_missing_call_is_not(world: World) -> None:
    assert BINARY(world.task, world.gold_episode()).total == 1.0
    for number, call in enumerate(world.task.gold_calls):
        dropped = done(world, spoilt_turns(world, [Damage("dropped", number)]))
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


STATE = {"s": {"rooms": {"1": {"free": False}}}}


def stateful(gold: tuple[GoldCall, ...] = (A, B), answer: object = None) -> Task:
    return Task("t", ({"role": "user", "content": ""},), (), (gold,), answer=answer)


def episode(*turns: list[ToolCall], state: object = None, final: str | None = None) -> Episode:
    made = [Turn.of("", tuple(turn), tuple("{}" for _ in turn)) for turn in turns]
    if final is not None:
        made.append(Turn.of(final))
    return Episode("t", turns=tuple(made), final=final, state=state)


def test_the_final_state_decides_where_gold_has_one() -> None:
    task = replace(stateful(), final_state=STATE)
    assert BINARY(task, episode(state=STATE)).total == 1.0
    assert BINARY(task, episode(calls("a", "b"), state={})).total == 0.0
    more = {"s": {"rooms": {**STATE["s"]["rooms"], "2": {"free": False}}}}
    assert BINARY(task, episode(calls("a", "b"), state=more)).total == 0.0


def test_calls_stand_for_a_state_that_the_tools_do_not_hold() -> None:
    task = replace(stateful(), final_state=STATE)
    assert BINARY(task, episode(calls("a", "b"))).total == 1.0
    assert BINARY(task, episode(calls("a"))).total == 0.0
    asked = replace(task, answer=42)
    assert BINARY(asked, episode(final="42")).total == 0.0
    assert BINARY(asked, episode(calls("a", "b"), final="42")).total == 1.0
    assert BINARY(asked, episode(calls("a", "b"), final="41")).total == 0.0


def test_a_task_that_changes_nothing_asks_that_nothing_is_changed() -> None:
    task = replace(stateful(), final_state={})
    assert BINARY(task, episode(calls("a", "b"), state={})).total == 1.0
    assert BINARY(task, episode(state={})).total == 0.0
    assert BINARY(task, episode(calls("a", "b"), state=STATE)).total == 0.0
    # With an answer that alone is right, a harmful call still fails it.
    asked = replace(task, answer=42)
    assert BINARY(asked, episode(state={}, final="42")).total == 1.0
    assert BINARY(asked, episode(calls("x"), state=STATE, final="42")).total == 0.0


def test_the_parts_say_what_decided() -> None:
    task = replace(stateful(answer=42), final_state=STATE)
    parts = BINARY(task, episode(calls("a"), state=STATE, final="41")).components
    assert parts == {"matched": 0.5, "state": 1.0, "collateral": 0.0, "answer": 0.0}
    assert set(parts) == {component.name for component in COMPONENTS}
    assert BINARY(stateful(), episode(calls("a"))).components == {"matched": 0.5}


def credits(task: Task, made: Episode) -> tuple[float, list[float], tuple[float, ...] | None]:
    breakdown = BINARY(task, made)
    return breakdown.base, [call.credit for call in breakdown.calls], breakdown.turns


def test_success_is_credited_to_the_calls_that_gold_asked_for() -> None:
    made = episode(calls("x", "a"), calls("b", "b"), final="done")
    assert credits(stateful(), made) == (0.0, [0.0, 0.5, 0.5, 0.0], (0.5, 0.5, 0.0))
    optional = replace(B, optional=True)
    assert credits(stateful((A, optional)), made) == (0.0, [0, 1, 0, 0], (1.0, 0.0, 0.0))


def test_failure_is_credited_to_nobody() -> None:
    assert credits(stateful(), episode(calls("a"), calls("x"))) == (0.0, [0, 0], (0, 0))


def test_the_answers_share_belongs_to_the_last_turn() -> None:
    made = episode(calls("a", "b"), state=STATE, final="42")
    assert credits(stateful(answer=42), made) == (0.0, [0, 0], (0.0, 1.0))
    # State and answer decide together: half for each, the state's by the two matched calls.
    both = replace(stateful(answer=42), final_state=STATE)
    assert credits(both, made) == (0.0, [0.25, 0.25], (0.5, 0.5))
    # A state reached by other calls than gold's is nobody's in particular.
    other = episode(calls("x"), state=STATE)
    assert credits(replace(stateful(), final_state=STATE), other) == (0.0, [0], (1.0,))


def test_where_nothing_is_asked_the_calls_that_spoil_it_share_the_loss() -> None:
    assert credits(stateful(()), episode(final="no")) == (1.0, [], (0.0,))
    assert credits(stateful(()), episode()) == (1.0, [], ())
    assert credits(stateful(()), episode(calls("a", "b"))) == (1.0, [-0.5, -0.5], (-1.0,))


@settings(max_examples=60, deadline=None)
@given(worlds(), st.lists(st.integers(0, 20), max_size=8), st.booleans())
def test_base_and_shares_sum_to_the_total(world: World, picks: list[int], whole: bool) -> None:
    flat = [call for turn in world.gold_turns() for call in turn]
    turns = world.gold_turns() if whole else []
    turns = [*turns, *([flat[p % len(flat)]] for p in picks if flat)]
    breakdown = BINARY(world.task, world.play(turns, world.gold_final()))
    assert breakdown.turns is not None
    assert breakdown.base + sum(breakdown.turns) == breakdown.total
    last = len(breakdown.turns) - 1
    for number, share in enumerate(breakdown.turns):
        own = sum(call.credit for call in breakdown.calls if call.turn == number)
        assert number == last or share == own


def test_a_value_in_another_spelling_of_its_schema_is_the_same_call() -> None:
    spec = ToolSpec(
        "stay", "", {"type": "object", "properties": {"day": {"type": "string", "format": "date"}}}
    )
    gold = GoldCall("stay", {"day": "2024-10-13"})
    messages = ({"role": "user", "content": "a bed on October 13"},)
    task = Task("t", messages=messages, tools=(spec,), gold=((gold,),))
    made = ToolCall("stay", {"day": "October 13, 2024"})
    episode = Episode("t", turns=(Turn.of("", (made,), ("{}",)),))
    assert make_reward("binary")(task, episode).total == 1.0
    unknown = Task("t", messages=messages, tools=("stay",), gold=((gold,),))
    assert make_reward("binary")(unknown, episode).total == 0.0
