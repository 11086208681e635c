"""The graduated reward: numbers worked out by hand, and what must hold on every task.

Numbers of properties refer to the list that the reward was designed against: 1 gold is the unique
maximum, 2 any single corruption costs, 4 fairness, 5 data flow, 6 one to one, 7 verbosity,
8 abstention.
"""

from __future__ import annotations

import gzip
import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orch_env import Episode, GoldCall, StopReason, Task, ToolCall, Turn, load_tasks, make_reward
from orch_env.rewards.verbosity import verbosity_cost
from orch_env.types import ErrorType, Provenance, ValueRef
from tests.orch_env.reward_world import (
    KINDS,
    Corruption,
    World,
    corrupt,
    make_world,
    output_of,
    worlds,
)

GRADUATED = make_reward("graduated")
FEW = settings(max_examples=60, deadline=None)


def total(world: World, turns: list[list[ToolCall]], final: str | None = "done") -> float:
    return GRADUATED(world.task, world.play(turns, final)).total


@pytest.fixture
def hotel() -> World:
    """Two steps: find a hotel, then book a room of it; /hotel carries the id that find shows."""
    return make_world(
        [
            [GoldCall("find", {"city": "Oslo"}, provenance={"/city": ValueRef(Provenance.QUERY)})],
            [
                GoldCall(
                    "book",
                    {"hotel": "h77", "guests": 2},
                    depends_on=(0,),
                    provenance={"/hotel": output_of(0, "/data/0/id")},
                )
            ],
        ],
        ['{"data": [{"id": "h77"}]}', '{"ok": true}'],
        "A room in Oslo for 2",
    )


FIND = ToolCall("find", {"city": "Oslo"})
BOOK = ToolCall("book", {"hotel": "h77", "guests": 2})


def near(value: float) -> object:
    """Totals are multiples of 2^-40."""
    return pytest.approx(value, abs=2**-40)


def test_half_of_the_calls_is_half_of_the_score(hotel: World) -> None:
    # find alone: s = 0.5 * 1 + 0.5 * 1 = 1; S = (1 + 0) / 2; no extra calls.
    assert total(hotel, [[FIND]]) == near(0.5)


def test_a_wrong_value_costs_by_the_leaf(hotel: World) -> None:
    # book with guests 3: U = {hotel, guests}, T = 1, V = 1/2, ok = 1, F = 1 (hotel is right).
    # atomic = 0.1 + 0.2 + 0.5 * 0.5 + 0.2 = 0.75; orchestration = 1 * 0.5 * 1 = 0.5;
    # s = 0.625; S = (1 + 0.625) / 2.
    wrong = ToolCall("book", {"hotel": "h77", "guests": 3})
    assert total(hotel, [[FIND], [wrong]]) == near(0.8125)


def test_a_wrong_type_costs_more_than_a_wrong_value(hotel: World) -> None:
    # guests [2]: the union of leaves is {hotel, guests, guests/0}: /guests is missing and
    # /guests/0 unknown. T = V = 1/3; atomic = 0.3 + 0.7/3; orchestration = 1/3.
    listed = ToolCall("book", {"hotel": "h77", "guests": [2]})
    s = 0.5 * (0.3 + 0.7 / 3) + 0.5 / 3
    assert total(hotel, [[FIND], [listed]]) == near((1 + s) / 2)
    # guests "two": both have the leaf; T = V = 1/2.
    worded = ToolCall("book", {"hotel": "h77", "guests": "two"})
    s = 0.5 * (0.3 + 0.7 / 2) + 0.5 / 2
    assert total(hotel, [[FIND], [worded]]) == near((1 + s) / 2)


def test_a_failed_call_keeps_only_its_arguments_worth(hotel: World) -> None:
    # ok = 0: atomic = 0.1 + 0.2 + 0.5 = 0.8, orchestration = 0: s = 0.4.
    failed = ToolCall("book", BOOK.arguments, ErrorType.TOOL_ERROR)
    assert total(hotel, [[FIND], [failed]]) == near((1 + 0.4) / 2)


def test_a_guessed_value_breaks_the_data_edge(hotel: World) -> None:
    # In one message, book cannot have seen find's result: F = 0, s = 0.5 * 1.
    assert total(hotel, [[FIND, BOOK]]) == near((1 + 0.5) / 2)
    assert total(hotel, [[BOOK], [FIND]]) == near((1 + 0.5) / 2)


def test_a_value_may_come_from_any_earlier_result_or_the_query(hotel: World) -> None:
    told = make_world(hotel.task.gold, hotel.results, "Book h77 in Oslo for 2")
    assert total(told, [[BOOK, FIND]]) == 1.0
    other = ToolCall("list", {})
    episode = Episode(
        "t",
        turns=(
            Turn("", (other,), ('["h77"]',)),
            Turn("", (BOOK,), ("{}",)),
            Turn("", (FIND,), ("{}",)),
        ),
    )
    # All three calls are there; one (list) is extra: b = 1, cost = 0.02.
    assert GRADUATED(hotel.task, episode).total == near(0.98)


def test_an_error_that_echoes_a_guess_makes_nothing_visible(hotel: World) -> None:
    echo = Turn(
        "",
        (ToolCall("book", {"hotel": "h77"}, ErrorType.INVALID_ARGUMENTS),),
        ('{"error": {"type": "invalid_arguments", "message": "h77: guests missing"}}',),
    )
    episode = Episode("t", turns=(echo, Turn("", (FIND, BOOK), ("{}", "{}"))))
    why = GRADUATED(hotel.task, episode).calls[2].why
    assert "no earlier turn showed" in why


def test_a_part_of_a_longer_word_or_number_is_not_visible() -> None:
    gold = [
        [GoldCall("find", {})],
        [GoldCall("book", {"n": 5}, depends_on=(0,), provenance={"/n": output_of(0, "/n")})],
    ]
    calls = [[ToolCall("find", {})], [ToolCall("book", {"n": 5})]]
    for result, seen in (
        ('{"n": 5}', True),
        ('{"n": "5"}', True),
        ('{"n": 5.0}', True),
        ('"room 5, floor 3"', True),
        ('{"n": 55}', False),
        ('{"price": "3.5"}', False),
        ('{"date": "2024-10-05"}', False),
        ('"-5 degrees"', False),
        ("not json but 5 rooms", True),
    ):
        world = make_world(gold, [result, "{}"])
        assert (total(world, calls) == 1.0) is seen, result


def test_a_state_edge_needs_a_successful_producer_before() -> None:
    gold = [[GoldCall("list", {"a": 1})], [GoldCall("pay", {"b": 1}, depends_on=(0,))]]
    world = make_world(gold, ["{}", "{}"])
    first, second = ToolCall("list", {"a": 1}), ToolCall("pay", {"b": 1})
    # Calls of one message run in order, so the state is there.
    assert total(world, [[first, second]]) == 1.0
    # pay first: F = 0, s = 0.5.
    assert total(world, [[second, first]]) == near((1 + 0.5) / 2)
    # A producer that failed: s = 0.4 for it, and F = 0 for pay.
    failed = ToolCall("list", {"a": 1}, ErrorType.TOOL_ERROR)
    assert total(world, [[failed], [second]]) == near((0.4 + 0.5) / 2)


def test_identical_calls_are_no_second_chance_at_a_similar_gold_call() -> None:
    gold = [[GoldCall("find", {"q": "a"}), GoldCall("find", {"q": "b"})]]
    world = make_world(gold, ["{}", "{}"])
    a = ToolCall("find", {"q": "a"})
    # Only one of the two may be assigned: S = 1/2, and the other is extra (b = 1): cost 0.02.
    assert total(world, [[a, a]]) == near(0.5 * 0.98)
    # Where gold holds the call twice, both count.
    twice = make_world([[GoldCall("find", {"q": "a"}), GoldCall("find", {"q": "a"})]], ["{}", "{}"])
    assert total(twice, [[a], [a]]) == 1.0


def test_of_identical_calls_the_best_one_counts(hotel: World) -> None:
    # book too early (unseen id), then again after find: the second one carries the score.
    breakdown = GRADUATED(hotel.task, hotel.play([[BOOK], [FIND], [BOOK]]))
    assert breakdown.total == near(0.98)
    assert [c.gold for c in breakdown.calls] == [None, 0, 1]


def test_optional_calls_cost_nothing_made_or_left_out() -> None:
    gold = [[GoldCall("find", {"q": 1}), GoldCall("list", {"q": 1}, optional=True)]]
    world = make_world(gold, ["{}", "{}"])
    need, extra = ToolCall("find", {"q": 1}), ToolCall("list", {"q": 1})
    assert total(world, [[need, extra]]) == total(world, [[need]]) == 1.0
    # A second time it is an ordinary extra call: n = 2, b = 1.
    assert total(world, [[need, extra, extra]]) == near(0.98)


def test_the_closing_answer_counts_like_one_gold_call() -> None:
    world = make_world([[GoldCall("find", {"q": 1})]], ["{}"], answer=42)
    find = [[ToolCall("find", {"q": 1})]]
    assert total(world, find, "42") == total(world, find, " 42.0 ") == 1.0
    assert total(world, find, "43") == near((1 * 1 + 0) / 2)
    assert total(world, find, None) == near(0.5)


def test_the_account_says_what_each_argument_earned(hotel: World) -> None:
    odd = ToolCall("book", {"hotel": "h78", "guests": "many", "note": "x"})
    calls = GRADUATED(hotel.task, hotel.play([[FIND], [odd, FIND]])).calls
    assert [(c.turn, c.index, c.gold) for c in calls] == [(0, 0, 0), (1, 0, 1), (1, 1, None)]
    assert calls[0].arguments == {"/city": "equal"}
    assert calls[0].why == "Matches gold call 0 in every respect."
    assert calls[1].arguments == {"/hotel": "wrong", "/guests": "type", "/note": "unknown"}
    assert "repeats the call of turn 0" in calls[2].why.lower()
    short = GRADUATED(hotel.task, hotel.play([[FIND], [ToolCall("book", {"hotel": "h77"})]]))
    assert short.calls[1].arguments == {"/hotel": "equal", "/guests": "missing"}


@FEW
@given(worlds())
def test_1_gold_scores_exactly_one(world: World) -> None:
    assert GRADUATED(world.task, world.gold_episode()).total == 1.0


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_2_every_single_corruption_of_a_required_call_costs(data: st.DataObject) -> None:
    world = data.draw(worlds())
    required = [n for n, call in enumerate(world.task.gold_calls) if not call.optional]
    assume(required)
    spoiled = corrupt(
        world, Corruption(data.draw(st.sampled_from(KINDS)), data.draw(st.sampled_from(required)))
    )
    assert total(world, spoiled) < 1.0


@FEW
@given(worlds(min_calls=2))
def test_2_a_consumer_before_its_producer_costs(world: World) -> None:
    calls = world.task.gold_calls
    pairs = [
        (ref.call, number)
        for number, call in enumerate(calls)
        for ref in call.provenance.values()
        if ref.call is not None and not call.optional
    ]
    assume(pairs)
    _, consumer = pairs[0]
    flat = [call for turn in world.gold_turns() for call in turn]
    early = [[flat[consumer]], *([c] for n, c in enumerate(flat) if n != consumer)]
    assert total(world, early) < 1.0


@FEW
@given(worlds(), st.randoms(use_true_random=False))
def test_4_any_order_that_respects_the_dependencies_scores_one(world: World, rng: object) -> None:
    calls = world.task.gold_calls
    waiting, order = set(range(len(calls))), []
    while waiting:
        ready = [n for n in waiting if set(calls[n].depends_on).isdisjoint(waiting)]
        picked = rng.choice(sorted(ready))  # type: ignore[attr-defined]
        waiting.remove(picked)
        order.append(picked)
    flat = [call for turn in world.gold_turns() for call in turn]
    assert total(world, [[flat[n]] for n in order]) == 1.0


@FEW
@given(worlds())
def test_4_other_spellings_of_the_same_values_score_one(world: World) -> None:
    def respelt(value: object) -> object:
        if isinstance(value, dict):
            return {k: respelt(value[k]) for k in reversed(list(value))}
        if isinstance(value, list):
            return [respelt(v) for v in value]
        if isinstance(value, str) and "," in value:
            return ",".join(reversed(value.split(",")))
        if isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        return value

    turns = [[ToolCall(c.name, respelt(c.arguments)) for c in t] for t in world.gold_turns()]
    assert total(world, turns) == 1.0


@FEW
@given(worlds())
def test_4_optional_calls_may_be_left_out(world: World) -> None:
    optional = iter([call.optional for call in world.task.gold_calls])
    kept = [[c for c in turn if not next(optional)] for turn in world.gold_turns()]
    assert total(world, [turn for turn in kept if turn]) == 1.0


@FEW
@given(worlds(), st.lists(st.integers(0, 20), max_size=12))
def test_6_pairs_are_one_to_one_and_of_one_tool(world: World, picks: list[int]) -> None:
    flat = [call for turn in world.gold_turns() for call in turn]
    turns = [[flat[p % len(flat)]] for p in picks]
    calls = GRADUATED(world.task, world.play(turns)).calls
    golds = [c.gold for c in calls if c.gold is not None]
    assert len(set(golds)) == len(golds)
    for account in calls:
        if account.gold is not None:
            assert world.task.gold_calls[account.gold].name == turns[account.turn][0].name


@FEW
@given(worlds())
def test_7_extra_calls_cost_little_within_the_budget_and_much_beyond(world: World) -> None:
    n = len(world.task.gold_calls)
    budget = math.ceil(n / 2)
    extra = ToolCall("weather", {})
    scores = [
        total(world, [*world.gold_turns(), *([extra] for _ in range(x))]) for x in range(budget + 3)
    ]
    assert all(later < earlier for earlier, later in pairwise(scores))
    assert scores[budget] == near(0.98)
    assert scores[budget] - scores[budget + 1] >= 0.03


def test_7_the_cost_of_extra_calls_by_hand() -> None:
    # n = 3: b = 2, B = 5. One: 0.02 / 2; two: 0.02; three: 0.02 + 0.03 + 0.5 * 1/5.
    assert [verbosity_cost(x, 3) for x in range(4)] == pytest.approx([0, 0.01, 0.02, 0.15])


def test_8_abstention_falls_with_each_call() -> None:
    world = make_world([], [])
    scores = [total(world, [[ToolCall("find", {})]] * x) for x in range(5)]
    assert scores == [1.0, 0.5, 0.25, 0.125, 0.0625]


@FEW
@given(worlds(), st.integers(0, 12))
def test_totals_are_multiples_of_two_to_the_minus_forty(world: World, cut: int) -> None:
    score = total(world, world.gold_turns()[:cut], None)
    assert (score * 2.0**40).is_integer()


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@FEW
@given(
    worlds(),
    st.lists(
        st.builds(
            ToolCall,
            st.sampled_from(["", "find", "book", "\udcff"]),
            st.dictionaries(st.sampled_from(["key", "of", "", "/", "~", "legs"]), _json_values),
            st.none() | st.sampled_from(list(ErrorType)),
        ),
        max_size=6,
    ),
    st.text(max_size=30),
)
def test_anything_that_a_model_can_write_is_scored(
    world: World, calls: list[ToolCall], result: str
) -> None:
    turn = Turn("?", tuple(calls), tuple(result for _ in calls[:-1]))  # one result is missing
    for name in ("graduated", "binary", "paper"):
        breakdown = make_reward(name)(world.task, Episode("t", turns=(turn,)))
        assert 0.0 <= breakdown.total <= 1.0
        json.dumps(breakdown.to_dict(), allow_nan=False)


def test_deeply_nested_arguments_and_results_are_scored(hotel: World) -> None:
    deep: list[object] = []
    for _ in range(50_000):
        deep = [deep]
    call = ToolCall("book", {"hotel": deep})
    text = "[" * 50_000 + "]" * 50_000
    episode = Episode("t", turns=(Turn("", (FIND,), (text,)), Turn("", (call,), (text,))))
    assert 0.5 < GRADUATED(hotel.task, episode).total < 1.0


@pytest.mark.shared_data
def test_gold_of_the_reference_cases_scores_one(shared_data: Path) -> None:
    path = shared_data / "rewards" / "graduated_reference_cases.jsonl.gz"
    for line in gzip.decompress(path.read_bytes()).splitlines():
        steps = json.loads(line)["task"]["steps"]
        gold = [
            [GoldCall(s["name"], s["arguments"], depends_on=tuple(s["depends_on"]))] for s in steps
        ]
        world = make_world(gold, ["{}"] * len(gold))
        assert total(world, world.gold_turns()) == 1.0
        for kind in KINDS:
            if kind in ("wrong_value", "wrong_type", "missing"):
                continue  # these spoil an argument that only generated tasks have
            assert total(world, corrupt(world, Corruption(kind, len(gold) - 1))) < 1.0, kind


def test_gold_of_the_bundled_world_scores_one_in_the_environment() -> None:
    from orch_env import ToolOrchestrationEnv
    from orch_env.policies import make_policy

    tasks = load_tasks("harbour/heldout")[::8]
    env, policy = ToolOrchestrationEnv("harbour", split="heldout"), make_policy("gold")
    for task in tasks:
        observation, info = env.reset(seed=0, options={"task_id": task.id})
        policy.start(task)
        ended = False
        while not ended:
            observation, reward, ended, _, info = env.step(policy.act(observation, info))
        assert (reward, info["success"]) == (1.0, True)
        assert info["stop_reason"] == StopReason.ANSWERED.value
    env.close()


def test_a_task_survives_its_json_form_with_the_same_score(hotel: World) -> None:
    again = Task.from_dict(json.loads(json.dumps(hotel.task.to_dict())))
    episode = hotel.play([[FIND], [BOOK]])
    stored = Episode.from_dict(json.loads(json.dumps(episode.to_dict())))
    assert GRADUATED(again, stored) == GRADUATED(hotel.task, episode)
