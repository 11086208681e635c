"""Property 1: gold scores exactly 1.0, and nothing else does but what is as good as gold."""

from __future__ import annotations

from hypothesis import strategies as st

from orch_env import ToolCall, make_reward
from orch_env.types import ErrorType
from tests.orch_env.corruptions import JOINED, Damage, clashes, damages_of, spoilt_call
from tests.orch_env.equal_to_gold import equals_gold
from tests.orch_env.property_tiers import hold
from tests.orch_env.reward_world import World
from tests.orch_env.reward_worlds import worlds

GRADUATED = make_reward("graduated")


def test_1_gold_scores_exactly_one(tasks: st.SearchStrategy[World], examples: int) -> None:
    def body(world: World, closing: str) -> None:
        assert GRADUATED(world.task, world.gold_episode()).total == 1.0
        if world.task.answer is None:
            assert GRADUATED(world.task, world.play(world.gold_turns(), closing)).total == 1.0

    hold(examples, body, tasks, st.text(max_size=10))


def test_1_every_real_task_pays_its_gold_exactly_one(booking: list[World]) -> None:
    totals = {w.task.id: GRADUATED(w.task, w.gold_episode()).total for w in booking}
    assert len(totals) == 533
    assert {task: total for task, total in totals.items() if total != 1.0} == {}


@st.composite
def near_gold(draw: st.DrawFn) -> tuple[World, list[list[ToolCall]], str | None, bool]:
    """A world and a trajectory close to gold: calls in another order and grouping, some optional
    ones left out, at most two corruptions, perhaps another answer or a needless change of state."""
    world = draw(worlds(most_calls=6))
    calls = world.task.gold_calls
    damages: list[Damage] = []
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        number = draw(st.integers(0, len(calls) - 1))
        damage = draw(st.sampled_from(damages_of(world, number)))
        if not clashes(damage, damages):
            damages.append(damage)
    order = list(range(len(calls)))
    for _ in range(draw(st.sampled_from([0, 1, 2, 4]))):
        moved = order.pop(draw(st.integers(0, len(order) - 1)))
        order.insert(draw(st.integers(0, len(order))), moved)
    flat: list[ToolCall] = []
    for number in order:
        if calls[number].optional and draw(st.booleans()):
            continue
        own = [d for d in damages if d.call == number and d.kind != JOINED]
        flat += spoilt_call(world, number, own)
    turns: list[list[ToolCall]] = []
    for call in flat:
        if turns and draw(st.integers(0, 3)) == 0:
            turns[-1].append(call)
        else:
            turns.append([call])
    final = draw(st.sampled_from([world.gold_final()] * 6 + ["something else", None]))
    return world, turns, final, draw(st.integers(0, 9)) == 0


def test_1_what_is_not_as_good_as_gold_scores_less(examples: int) -> None:
    def body(case: tuple[World, list[list[ToolCall]], str | None, bool]) -> None:
        world, turns, final, collateral = case
        episode = world.play(turns, final, collateral=collateral)
        total = GRADUATED(world.task, episode).total
        assert 0.0 <= total <= 1.0
        assert (total == 1.0) is equals_gold(world, episode)

    hold(examples, body, near_gold())


def test_1_no_trajectory_of_any_calls_beats_gold(examples: int) -> None:
    errors = st.sampled_from([None, None, None, *ErrorType])
    picks = st.lists(st.lists(st.tuples(st.integers(0, 40), errors), max_size=3), max_size=6)

    def body(world: World, turns: list[list[tuple[int, ErrorType | None]]]) -> None:
        pool = [call for n in range(len(world.task.gold_calls)) for call in _variants(world, n)]
        made = [[_with(pool[p % len(pool)], error) for p, error in turn] for turn in turns]
        episode = world.play(made, world.gold_final())
        total = GRADUATED(world.task, episode).total
        assert 0.0 <= total <= 1.0
        assert (total == 1.0) is equals_gold(world, episode)

    hold(examples, body, worlds(most_calls=5), picks)


def _variants(world: World, number: int) -> list[ToolCall]:
    kinds = [[], *([d] for d in damages_of(world, number)[-3:])]
    return [call for damages in kinds for call in spoilt_call(world, number, damages)[:1]]


def _with(call: ToolCall, error: ErrorType | None) -> ToolCall:
    return ToolCall(call.name, call.arguments, call.error or error)
