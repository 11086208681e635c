"""The graduated reward: numbers worked out by hand.

What must hold on every task stands in ``test_reward_properties_*.py``.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env import Episode, GoldCall, StopReason, Task, ToolCall, Turn, load_tasks, make_reward
from orch_env.rewards.presets.graduated.scoring import verbosity_cost
from orch_env.types import ErrorType, Provenance, ValueRef
from tests.orch_env.corruptions import damages_of, spoilt_turns
from tests.orch_env.reward_world import World, make_world, output_of
from tests.orch_env.reward_worlds import worlds

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
    # book with guests 3: U = {hotel, guests}, T = 1, V = K = 1/2, ok = 1, F = 1 (hotel is right).
    # atomic = 0.1 + 0.75 * (0.2 + 0.5 * 0.5 + 0.2) = 0.5875; orchestration = 0.5 * 0.5 = 0.25;
    # s = 0.41875; S = (1 + 0.41875) / 2.
    wrong = ToolCall("book", {"hotel": "h77", "guests": 3})
    assert total(hotel, [[FIND], [wrong]]) == near(0.709375)


def test_a_wrong_type_costs_more_than_a_wrong_value(hotel: World) -> None:
    # guests [2]: the union of leaves is {hotel, guests, guests/0}: /guests is missing and
    # /guests/0 unknown. T = V = 1/3, K = 1/2: atomic = 0.1 + 0.75 * (0.7/3 + 0.2);
    # orchestration = 1/6.
    listed = ToolCall("book", {"hotel": "h77", "guests": [2]})
    s = 0.5 * (0.1 + 0.75 * (0.7 / 3 + 0.2)) + 0.5 / 6
    assert total(hotel, [[FIND], [listed]]) == near((1 + s) / 2)
    # guests "two": both have the leaf; T = V = K = 1/2.
    worded = ToolCall("book", {"hotel": "h77", "guests": "two"})
    s = 0.5 * (0.1 + 0.75 * (0.7 / 2 + 0.2)) + 0.5 / 4
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
            Turn.of("", (other,), ('["h77"]',)),
            Turn.of("", (BOOK,), ("{}",)),
            Turn.of("", (FIND,), ("{}",)),
        ),
    )
    # All three calls are there; one (list) is extra: b = 1, cost = 0.02.
    assert GRADUATED(hotel.task, episode).total == near(0.98)


def test_a_value_may_be_seen_in_the_spelling_of_the_call_or_of_gold() -> None:
    rooms = {"/n": output_of(0, "/n")}
    gold = [[GoldCall("find", {})], [GoldCall("book", {"n": 5.0}, False, (0,), rooms)]]
    # Words are found as they are spelt: the result shows 5.0, the query 5.
    world = make_world(gold, ['{"n": 5.0}', "{}"], "for 5 people")
    assert total(world, [[ToolCall("find")], [ToolCall("book", {"n": "5"})]]) == 1.0
    assert total(world, [[ToolCall("book", {"n": 5})]]) == near(0.5)
    # Without the query the value is a guess: s = 0.5 for book.
    unseen = make_world(gold, ['{"n": 5.0}', "{}"])
    assert total(unseen, [[ToolCall("book", {"n": 5})]]) == near(0.25)


def test_an_error_that_echoes_a_guess_makes_nothing_visible(hotel: World) -> None:
    echo = Turn.of(
        "",
        (ToolCall("book", {"hotel": "h77"}, ErrorType.INVALID_ARGUMENTS),),
        ('{"error": {"type": "invalid_arguments", "message": "h77: guests missing"}}',),
    )
    episode = Episode("t", turns=(echo, Turn.of("", (FIND, BOOK), ("{}", "{}"))))
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


def test_an_optional_call_that_failed_or_guessed_is_an_extra_one() -> None:
    gold = [
        [GoldCall("find", {"q": 1})],
        [GoldCall("list", {"of": "h7"}, True, (0,), {"/of": output_of(0)})],
    ]
    world = make_world(gold, ['{"id": "h7"}', "{}"])
    find, look = ToolCall("find", {"q": 1}), ToolCall("list", {"of": "h7"})
    failed = ToolCall("list", {"of": "h7"}, ErrorType.TOOL_ERROR)
    assert total(world, [[find], [look]]) == 1.0
    # n = 2, b = 1: one extra call costs 0.02.
    for turns in ([[find, look]], [[look], [find]], [[find], [failed]]):
        assert total(world, turns) == near(0.98)
    (_, account) = GRADUATED(world.task, world.play([[find, look]])).calls
    assert account.why == (
        "An optional call of gold, but of no use here; /of has a value that no earlier turn showed."
    )


def test_an_optional_call_takes_no_place_from_a_worse_required_one() -> None:
    # gold: find a=1 b=1 c=1, and optionally find a=1 b=2 c=2, both of one tool.
    gold = [
        [
            GoldCall("find", {"a": 1, "b": 1, "c": 1}),
            GoldCall("find", {"a": 1, "b": 2, "c": 2}, optional=True),
        ]
    ]
    world = make_world(gold, ["{}", "{}"])
    extra = ToolCall("find", {"a": 1, "b": 2, "c": 2})
    bad = ToolCall("find", {"a": 9, "b": 9, "c": 9})
    # bad: V = K = 0, T = 1: atomic 0.1 + 0.4/2, orchestration 0: s = 0.15. The optional call would
    # have V = 1/3, and K = 0, as a is no telling leaf: s = 0.5 * (0.1 + (0.4 + 0.5/3) / 2); it
    # stands in only where nothing else does.
    assert total(world, [[bad, extra]]) == near(0.15)
    assert total(world, [[extra]]) == near(0.05 + (0.4 + 0.5 / 3) / 4)


def test_any_of_two_equal_calls_makes_the_state_that_a_third_needs() -> None:
    # Equal calls are one and the same, and no path orders the other one and pay.
    again = GoldCall("list", {"a": 1})
    world = make_world([[again], [again], [GoldCall("pay", {"b": 1}, depends_on=(1,))]], ["{}"] * 3)
    look, pay = ToolCall("list", {"a": 1}), ToolCall("pay", {"b": 1})
    assert total(world, [[look], [look], [pay]]) == total(world, [[look], [pay], [look]]) == 1.0
    # pay before both: F = 0, s = 0.5.
    assert total(world, [[pay], [look], [look]]) == near((1 + 1 + 0.5) / 3)


def test_values_without_a_leaf_of_their_own_and_pieces_seen_apart_are_visible() -> None:
    find = [GoldCall("find", {"q": 1}), GoldCall("find", {"q": 2})]
    parts = ValueRef(Provenance.COMPOSITE, parts=(output_of(0), output_of(1)))
    pair = GoldCall("list", {"ids": "h1,h2"}, depends_on=(0, 1), provenance={"/ids": parts})
    # The last result repeats the whole text, which the model had put together from its pieces.
    echoed = make_world([find, [pair]], ['{"id": "h1"}', '{"id": "h2"}', '{"asked": "h1,h2"}'])
    assert GRADUATED(echoed.task, echoed.gold_episode()).total == 1.0
    none = GoldCall("list", {"of": []}, depends_on=(0,), provenance={"/of": output_of(0)})
    empty = make_world([find[:1], [none]], ['{"id": []}', "{}"])
    assert GRADUATED(empty.task, empty.gold_episode()).total == 1.0


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


def test_deeply_nested_arguments_and_results_are_scored(hotel: World) -> None:
    deep: list[object] = []
    for _ in range(50_000):
        deep = [deep]
    call = ToolCall("book", {"hotel": deep})
    text = "[" * 50_000 + "]" * 50_000
    episode = Episode("t", turns=(Turn.of("", (FIND,), (text,)), Turn.of("", (call,), (text,))))
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
        for damage in damages_of(world, len(gold) - 1):
            assert total(world, spoilt_turns(world, [damage])) < 1.0, damage


def test_gold_of_the_bundled_world_scores_one_in_the_environment() -> None:
    from orch_env import ToolOrchestrationEnv
    from orch_env.replay.policies import make_policy

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
