"""Who earned what: shares that sum to the total, for any task and any episode.

Nothing here says what a total should be; the rewards' own tests do.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orch_env import Episode, GoldCall, RewardBreakdown, ToolCall, Turn, make_reward
from orch_env.rewards.credit.attribution import GRAIN, attributed, split
from orch_env.rewards.presets.graduated.scoring import marginal_costs, verbosity_cost
from orch_env.types import CallAccount, ErrorType
from tests.orch_env.any_episode import any_world, episodes_of
from tests.orch_env.reward_world import World, make_world

GRADUATED, PAPER = make_reward("graduated"), make_reward("paper")
SOME = settings(max_examples=120, deadline=None)


def own(breakdown: RewardBreakdown, turn: int) -> float:
    """What a turn has beside its calls."""
    assert breakdown.turns is not None
    return breakdown.turns[turn] - sum(c.credit for c in breakdown.calls if c.turn == turn)


@SOME
@given(st.data())
def test_graduated_shares_sum_to_the_total_exactly(data: st.DataObject) -> None:
    world = data.draw(any_world())
    episode = data.draw(episodes_of(world))
    breakdown = GRADUATED(world.task, episode)
    turns = breakdown.turns
    assert turns is not None
    assert len(turns) == len(episode.turns)
    assert breakdown.base + sum(turns) == breakdown.total
    for share in (*turns, *(c.credit for c in breakdown.calls)):
        assert (share * GRAIN).is_integer()
    # Only the closing turn has anything of its own: the answer, and a state that no call made.
    assert all(own(breakdown, turn) == 0.0 for turn in range(len(turns) - 1))


@SOME
@given(st.data())
def test_paper_shares_sum_to_the_total(data: st.DataObject) -> None:
    world = data.draw(any_world())
    episode = data.draw(episodes_of(world))
    breakdown = PAPER(world.task, episode)
    assert breakdown.turns is not None
    assert breakdown.base == 0.0
    assert sum(breakdown.turns) == pytest.approx(breakdown.total, abs=1e-12)
    credits = [c.credit for c in breakdown.calls]
    assert sum(credits) == pytest.approx(breakdown.total, abs=1e-11)
    assert min(credits, default=0.0) >= 0.0


@SOME
@given(st.data())
def test_a_needless_call_never_has_credit_and_one_that_serves_never_takes(
    data: st.DataObject,
) -> None:
    world = data.draw(any_world())
    breakdown = GRADUATED(world.task, data.draw(episodes_of(world)))
    for account in breakdown.calls:
        if account.gold is None:
            assert account.credit <= 0.0
        elif world.task.gold_calls[account.gold].optional:
            assert account.credit == 0.0
        else:
            assert account.credit >= 0.0


@SOME
@given(any_world())
def test_in_a_perfect_episode_each_call_earns_its_share_of_one(world: World) -> None:
    required = [n for n, call in enumerate(world.task.gold_calls) if not call.optional]
    assume(required)
    breakdown = GRADUATED(world.task, world.gold_episode())
    assert breakdown.total == 1.0
    # n required gold calls weigh n; an answer and a state like one more each, the state being the
    # calls'.
    n = len(required)
    state = "state" in breakdown.components
    weight = n + state + ("answer" in breakdown.components)
    each = (n + state) / weight / len(required)
    credits = [c.credit for c in breakdown.calls if c.gold in required]
    assert credits == pytest.approx([each] * len(required), abs=2 / GRAIN)
    if "answer" not in breakdown.components:
        assert each == pytest.approx(1 / len(required))
        assert sum(credits) == 1.0


@SOME
@given(st.data())
def test_needless_calls_bear_exactly_what_they_cost(
    data: st.DataObject,
) -> None:
    world = data.draw(any_world())
    episode = data.draw(episodes_of(world))
    breakdown = GRADUATED(world.task, episode)
    n = sum(not call.optional for call in world.task.gold_calls)
    extra = int(breakdown.components["extra_calls"])
    guesses = int(breakdown.components["second_guesses"])
    # The whole that needless calls take from, and the part that they take, by the formula.
    taken = -sum(c.credit for c in breakdown.calls if c.gold is None)
    given_out = breakdown.total + taken
    assert taken == pytest.approx(given_out * min(1.0, verbosity_cost(extra, n, guesses)), abs=1e-9)


def test_the_shares_by_hand() -> None:
    # Three gold calls and an answer: weights 3 and 1. The calls: the first is perfect, the second
    # lacks one of two arguments (T = V = K = 1/2: atomic 0.1 + 0.75 * (0.1 + 0.25 + 0.2) = 0.5125,
    # orchestration 0.25, s = 0.38125), the third is missing; one call is needless (b = 2: cost
    # 0.01). S = 1.38125 / 3; the answer counts (1 + S) / 2 = 0.73020833.
    # S' = (1.38125 + 0.73020833) / 4 = 0.52786458; total = 0.99 S' = 0.52258594.
    gold = [[GoldCall("find", {"q": n, "r": n})] for n in range(3)]
    world = make_world(gold, ["{}"] * 3, answer=42)
    turns = [
        [ToolCall("find", {"q": 0, "r": 0}), ToolCall("weather")],
        [ToolCall("find", {"q": 1})],
    ]
    breakdown = GRADUATED(world.task, world.play(turns, "42"))
    assert breakdown.total == pytest.approx(0.52258594, abs=1e-8)
    credits = [c.credit for c in breakdown.calls]
    assert credits == pytest.approx([0.25, -0.0052786458, 0.0953125], abs=1e-9)
    assert breakdown.turns == pytest.approx((0.2447213542, 0.0953125, 0.1825520833), abs=1e-9)
    assert breakdown.base == 0.0


def test_needless_calls_take_no_more_than_there_is() -> None:
    # n = 1: b = 1. Costs 0.02, 0.30, 0.55, 0.80, 1.05: the fifth call takes only the last 0.20.
    assert [verbosity_cost(x, 1) for x in range(1, 6)] == pytest.approx(
        [0.02, 0.3, 0.55, 0.8, 1.05]
    )
    assert marginal_costs([False] * 7, 1) == pytest.approx([0.02, 0.28, 0.25, 0.25, 0.2, 0.0, 0.0])
    world = make_world([[GoldCall("find", {})]], ["{}"])
    turns = [[ToolCall("find", {})], *[[ToolCall("weather", {"n": n})] for n in range(7)]]
    breakdown = GRADUATED(world.task, world.play(turns))
    assert breakdown.total == 0.0
    credits = [c.credit for c in breakdown.calls]
    assert credits == pytest.approx([1, -0.02, -0.28, -0.25, -0.25, -0.2, 0, 0], abs=1e-11)
    assert sum(credits) == 0.0


def test_abstaining_is_the_base_and_each_call_takes_half_of_the_rest() -> None:
    world = make_world([], [])
    assert GRADUATED(world.task, Episode("t")).base == 1.0
    breakdown = GRADUATED(world.task, world.play([[ToolCall("find")], [ToolCall("find")]]))
    assert (breakdown.base, breakdown.turns) == (1.0, (-0.5, -0.25, 0.0))
    assert breakdown.total == 0.25


def test_a_state_belongs_to_the_calls_that_ran_and_collateral_makes_all_smaller() -> None:
    gold = [[GoldCall("book", {"n": 1}), GoldCall("book", {"n": 2})]]
    final = {"shop": {"orders": {"7": {"paid": True}}}}
    world = make_world(gold, ["{}", "{}"])
    world = World(replace(world.task, final_state=final), world.results, {0: final})
    one, two = ToolCall("book", {"n": 1}), ToolCall("book", {"n": 2}, ErrorType.TOOL_ERROR)
    breakdown = GRADUATED(world.task, world.play([[one, two]]))
    # Weights 2 and 1. The first is perfect: 1/3, and the state, 1/3, is its alone. The second
    # failed: s = 0.5 * 0.8 = 0.4, of thirds.
    assert [c.credit for c in breakdown.calls] == pytest.approx([2 / 3, 0.4 / 3], abs=1e-11)
    spoilt = GRADUATED(world.task, world.play([[one, two]], collateral=True))
    assert [c.credit for c in spoilt.calls] == pytest.approx([1.6 / 3, 0.32 / 3], abs=1e-11)
    assert spoilt.total == pytest.approx(0.8 * breakdown.total, abs=1e-11)


def test_a_state_that_no_call_brought_about_is_the_last_turns() -> None:
    final = {"shop": {"orders": {"7": {"paid": True}}}}
    world = make_world([[GoldCall("book", {"n": 1})]], ["{}"])
    task = replace(world.task, final_state=final)
    episode = Episode("t", turns=(Turn.of("done"),), final="done", state=final)
    breakdown = GRADUATED(task, episode)
    assert (breakdown.total, breakdown.turns, breakdown.base) == (0.5, (0.5,), 0.0)


def test_paper_says_which_call_of_which_turn() -> None:
    world = make_world([[GoldCall("find", {"q": 1})], [GoldCall("book", {})]], ["{}", "{}"])
    text = '<tool_call>{broken</tool_call><tool_call>{"name": "find", "arguments": {"q": 1}}'
    turns = (
        Turn.of("I think."),
        Turn.of(
            text + "</tool_call>", (ToolCall(""), ToolCall("find", {"q": 1})), ('{"e": 1}',) * 2
        ),
        Turn.of("", (ToolCall("weather"),), ('{"e": 1}',)),
    )
    breakdown = PAPER(world.task, Episode("t", turns=turns))
    assert [(c.turn, c.index) for c in breakdown.calls] == [(1, 1), (2, 0)]
    # find: (1 + 1) / 2 of two calls, half the weight: 0.25; one of two steps: 0.25. weather: 0.
    assert [c.credit for c in breakdown.calls] == pytest.approx([0.5, 0.0], abs=1e-11)
    assert breakdown.turns == pytest.approx((0.0, 0.5, 0.0), abs=1e-11)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.floats(-2, 2) | st.sampled_from([0.0, 1 / 3, -1 / 3, 1e-13, -1e-13]), max_size=30),
    st.data(),
)
def test_shares_are_near_their_values_keep_their_sign_and_sum_exactly(
    credits: list[float], data: st.DataObject
) -> None:
    turns = data.draw(st.integers(1, 4))
    turn_of = sorted(data.draw(st.lists(st.integers(0, turns - 1), min_size=len(credits),
                                        max_size=len(credits))))  # fmt: skip
    # The total is worked out in another way, and may be rounded to the next grain.
    total = (round(sum(credits) * GRAIN) + data.draw(st.integers(-1, 1))) / GRAIN
    shares = split(total, credits, turn_of, turns=turns)
    assert shares.base + sum(shares.turns) == total
    for credit, share in zip(credits, shares.calls, strict=True):
        assert abs(credit - share) <= 3 / GRAIN
        if abs(credit) > 3 / GRAIN:
            assert credit * share > 0
    if any(abs(credit) > 3 / GRAIN for credit in credits):
        assert sum(shares.calls) == total


def test_what_credits_leave_goes_to_the_last_turn_and_without_turns_to_the_base() -> None:
    account = CallAccount(turn=0, index=0)
    breakdown = attributed(0.75, {}, [account], [0.5], turns=2)
    assert (breakdown.turns, breakdown.base, breakdown.calls[0].credit) == ((0.5, 0.25), 0.0, 0.5)
    assert attributed(0.75, {}, [], [], turns=0).base == 0.75
    # A third is no multiple of 2^-40; its fraction stays with the last turn.
    third = attributed(1 / 3, {}, [account], [1 / 3], turns=1)
    assert third.turns == (1 / 3,)
    assert third.calls[0].credit == round(GRAIN / 3) / GRAIN


def test_shares_survive_the_json_form() -> None:
    world = make_world([[GoldCall("find", {})]], ["{}"])
    breakdown = GRADUATED(world.task, world.gold_episode())
    assert RewardBreakdown.from_dict(json.loads(json.dumps(breakdown.to_dict()))) == breakdown
