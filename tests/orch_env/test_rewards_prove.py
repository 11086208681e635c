"""``prove`` term by term: numbers worked out by hand, the edge cases of each term, its range.

Unless a test says otherwise the weights are the published ones:
total = 0.5 val + 0.5 cov + 0.15 eff + 0.2 name + 0.1 arg.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env import Episode, GoldCall, StopReason, Task, ToolCall, Turn, make_reward
from orch_env.rewards.presets.prove import COMPONENTS
from orch_env.types import ErrorType, OrchError, Provenance, RewardBreakdown, ToolSpec, ValueRef
from orch_env.values import calls_equal
from tests.orch_env.reward_world import OTHER_TOOL, World
from tests.orch_env.reward_worlds import worlds

PROVE = make_reward("prove")
FEW = settings(max_examples=60, deadline=None)

FIND = ToolSpec(
    "find",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}, "stars": {"type": "integer"}},
        "required": ["city"],
    },
    aliases=("search",),
)
BOOK = ToolSpec(
    "book",
    parameters={
        "type": "object",
        "properties": {"hotel": {"type": "string"}, "guests": {"type": "number"}},
        "required": ["hotel", "guests"],
    },
)
PING = ToolSpec("ping")
G_FIND = GoldCall("find", {"city": "Oslo"})
G_BOOK = GoldCall("book", {"hotel": "h7", "guests": 2}, depends_on=(0,))
find = ToolCall("find", {"city": "Oslo"})
book = ToolCall("book", {"hotel": "h7", "guests": 2})
MALFORMED = ToolCall("", {}, ErrorType.MALFORMED_CALL)


def task_of(*gold: GoldCall, tools: Any = (FIND, BOOK, PING)) -> Task:
    return Task("t", ({"role": "user", "content": ""},), tools, tuple((g,) for g in gold))


def episode_of(*turns: list[ToolCall]) -> Episode:
    made = [Turn.of("", tuple(calls), tuple("{}" for _ in calls)) for calls in turns]
    return Episode(
        "t", turns=(*made, Turn.of("done")), final="done", stop_reason=StopReason.ANSWERED
    )


def score(task: Task, *turns: list[ToolCall]) -> RewardBreakdown:
    return PROVE(task, episode_of(*turns))


def near(value: float) -> Any:
    return pytest.approx(value, abs=1e-12)


HOTEL = task_of(G_FIND, G_BOOK)


# -- the sum ---------------------------------------------------------------------------------


def test_gold_earns_one_point_three() -> None:
    # val = cov = name = arg = 1, eff = 0: 0.5 + 0.5 + 0 + 0.2 + 0.1.
    made = score(HOTEL, [find], [book])
    assert made.total == near(1.3)
    assert made.components == {"val": 1.0, "cov": 1.0, "eff": 0.0, "name": 1.0, "arg": 1.0}


def test_half_of_the_calls_keeps_all_but_half_of_the_coverage() -> None:
    # val = 1, cov = 1/2, eff = 0, name = 1, arg = 1 (the mean runs over the one pair):
    # 0.5 + 0.25 + 0.2 + 0.1 = 1.05.
    assert score(HOTEL, [find]).total == near(1.05)


def test_no_calls_on_a_task_with_gold_earn_nothing() -> None:
    made = score(HOTEL)
    assert (made.total, made.base, sum(made.turns or ())) == (0.0, 0.0, 0.0)
    assert set(made.components.values()) == {0.0}


def test_without_gold_silence_earns_one_and_any_call_nothing() -> None:
    nothing = task_of()
    assert score(nothing).total == 1.0
    made = score(nothing, [find], [find, MALFORMED])
    assert made.total == 0.0
    # The base of 1 is taken back, a third by each of the three calls.
    assert made.base == 1.0
    assert [call.credit for call in made.calls] == [near(-1 / 3)] * 3


# -- val -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "level"),
    [
        (find, 3 / 3),
        (ToolCall("search", {"city": "Oslo"}), 3 / 3),  # an alias
        (ToolCall("weather", {}), 1 / 3),  # no candidate, no schema; only that it ran
        (ToolCall("weather", {}, ErrorType.UNKNOWN_TOOL), 0.0),
        (ToolCall("find", {}), 2 / 3),  # a required parameter is missing
        (ToolCall("find", {"city": 5}), 2 / 3),  # of a wrong type
        (ToolCall("find", {"city": "Oslo", "stars": "4"}), 2 / 3),  # an optional one, wrong type
        (ToolCall("find", {"city": "Oslo", "stars": True}), 2 / 3),  # a boolean is no number
        (ToolCall("find", {"city": "Oslo", "stars": 4.0}), 3 / 3),  # 4.0 is an integer
        (ToolCall("find", {"city": "Oslo", "stars": 4.5}), 2 / 3),
        (ToolCall("book", {"hotel": "h7", "guests": 2}), 3 / 3),  # an integer is a number
        (ToolCall("find", {"city": "Oslo", "page": 1}), 3 / 3),  # val asks only for required ones
        (replace(find, error=ErrorType.TOOL_ERROR), 2 / 3),  # it failed
        (ToolCall("find", {}, ErrorType.INVALID_ARGUMENTS), 1 / 3),
        (MALFORMED, 0.0),
        (ToolCall(""), 0.0),  # nameless, and stored without an error
        (ToolCall("find", {}, ErrorType.MALFORMED_CALL), 0.0),  # readable name, unreadable rest
    ],
)
def test_val_has_three_equal_levels(call: ToolCall, level: float) -> None:
    assert score(HOTEL, [call]).components["val"] == near(level)


def test_val_is_the_mean_over_all_calls_the_unreadable_included() -> None:
    # (3/3 + 0 + 2/3) / 3 = 5/9.
    assert score(HOTEL, [find, MALFORMED], [ToolCall("book", {})]).components["val"] == near(5 / 9)


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (None, 3 / 3),
        (ErrorType.NOT_RECORDED, 2 / 3),  # says that the call was valid
        (ErrorType.INVALID_ARGUMENTS, 1 / 3),  # without a schema, the environment's word
    ],
)
def test_val_without_a_schema_asks_what_the_environment_said(
    error: ErrorType | None, level: float
) -> None:
    named = task_of(G_FIND, G_BOOK, tools=("find", "book"))
    assert score(named, [ToolCall("find", {}, error)]).components["val"] == near(level)
    assert score(named, [ToolCall("weather", {}, error)]).components["val"] == near(
        (error is None) / 3
    )


def test_val_on_a_task_that_lists_no_tools_believes_the_environment() -> None:
    bare = task_of(G_FIND, G_BOOK, tools=())
    assert score(bare, [find]).components["val"] == 1.0
    assert score(bare, [replace(find, error=ErrorType.UNKNOWN_TOOL)]).components["val"] == 0.0


# -- cov -------------------------------------------------------------------------------------


def test_cov_counts_a_consumer_only_after_its_producer() -> None:
    # book before find: m = 1 for both, the product of book's edge is 0: cov = 1/2.
    assert score(HOTEL, [book], [find]).components["cov"] == 0.5


def test_cov_counts_a_call_in_the_same_message_as_ordered() -> None:
    # mu is the index in the flat list: 0 < 1, whatever the turns. As published.
    assert score(HOTEL, [find, book]).components["cov"] == 1.0


def test_cov_zeroes_the_product_of_an_unmatched_producer() -> None:
    # find is never called: m(find) = 0; m(book) = 1, but its producer has no position: 0.
    assert score(HOTEL, [book]).components["cov"] == 0.0


def test_cov_without_edges_asks_for_no_order() -> None:
    free = task_of(G_FIND, replace(G_BOOK, depends_on=()))
    assert score(free, [book], [find]).components["cov"] == 1.0
    assert score(free, [book]).components["cov"] == 0.5


def test_cov_takes_edges_from_provenance_too() -> None:
    refs = (
        ValueRef(Provenance.OUTPUT, call=0, path="/id"),
        ValueRef(Provenance.OUTPUT, call=1, path="/id"),
    )
    joined = GoldCall(
        "book",
        {"hotel": "h7,h8", "guests": 2},
        provenance={"/hotel": ValueRef(Provenance.COMPOSITE, parts=refs)},
    )
    task = task_of(G_FIND, GoldCall("ping"), joined)
    made = ToolCall("book", joined.arguments)
    ping = ToolCall("ping")
    assert score(task, [find], [ping], [made]).components["cov"] == 1.0
    # One of the two producers stands after: find 1, ping 1, book 1 * [0 < 1] * [2 < 1] = 0.
    assert score(task, [find], [made], [ping]).components["cov"] == near(2 / 3)


def test_cov_asks_for_the_argument_names_of_gold_not_the_values() -> None:
    wrong = ToolCall("find", {"city": "Rome", "stars": 3})
    assert score(task_of(G_FIND), [wrong]).components["cov"] == 1.0
    assert score(task_of(G_FIND), [ToolCall("find", {"stars": 3})]).components["cov"] == 0.0


def test_cov_gives_each_gold_call_the_earliest_unused_call() -> None:
    two = task_of(G_FIND, GoldCall("find", {"city": "Rome"}))
    made = score(two, [ToolCall("find", {"city": "Rome"})], [find])
    # Gold 0 (Oslo) takes the first call (Rome), gold 1 the second; both values are wrong:
    # cov = 1, arg = 0.
    assert [call.gold for call in made.calls] == [0, 1]
    assert (made.components["cov"], made.components["arg"]) == (1.0, 0.0)
    # One call serves one gold call.
    assert score(two, [find]).components["cov"] == 0.5


def test_cov_passes_over_a_call_that_lacks_a_key() -> None:
    two = task_of(GoldCall("find", {"city": "Oslo", "stars": 3}), G_FIND)
    full = ToolCall("find", {"city": "Oslo", "stars": 3})
    made = score(two, [find], [full])
    assert [call.gold for call in made.calls] == [1, 0]
    assert made.components["cov"] == 1.0


def test_cov_counts_a_failed_call_but_never_an_unreadable_one() -> None:
    failed = replace(find, error=ErrorType.TOOL_ERROR)
    assert score(task_of(G_FIND), [failed]).components["cov"] == 1.0  # as published
    broken = replace(find, error=ErrorType.MALFORMED_CALL)
    assert score(task_of(G_FIND), [broken]).components["cov"] == 0.0


def test_an_alias_stands_for_its_tool() -> None:
    made = score(HOTEL, [ToolCall("search", {"city": "Oslo"})], [book])
    assert made.total == near(1.3)
    recorded = task_of(GoldCall("search", {"city": "Oslo"}), G_BOOK)
    assert score(recorded, [find], [book]).total == near(1.3)


# -- eff -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "eff"),
    [
        # n = 3, B = 3 + ceil(1.5) = 5; eff = -0.5 (N - 5) / 5 beyond it.
        (3, 0.0),
        (5, 0.0),
        (6, -0.1),
        (10, -0.5),
        (25, -2.0),
    ],
)
def test_eff_begins_with_the_first_call_beyond_the_budget(calls: int, eff: float) -> None:
    three = task_of(GoldCall("ping"), GoldCall("ping"), GoldCall("ping"))
    made = score(three, [ToolCall("ping")] * calls)
    assert made.components["eff"] == near(eff)
    # val = cov = name = arg = 1: 1.3 + 0.15 eff.
    assert made.total == near(1.3 + 0.15 * eff)


def test_eff_of_one_gold_call_allows_one_more() -> None:
    # n = 1, B = 1 + ceil(0.5) = 2; at N = 3: -0.5 * 1/2.
    one = task_of(GoldCall("ping"))
    assert score(one, [ToolCall("ping")] * 2).components["eff"] == 0.0
    assert score(one, [ToolCall("ping")] * 3).components["eff"] == near(-0.25)


def test_the_total_has_no_lower_bound() -> None:
    # 300 unreadable calls, n = 2, B = 3: eff = -0.5 * 297/3 = -49.5; the rest is 0: -7.425.
    assert score(HOTEL, [MALFORMED] * 300).total == near(-7.425)


def test_alpha_and_beta_are_options() -> None:
    strict = make_reward({"name": "prove", "alpha": 1, "beta": 0})
    # B = 2 + 0; N = 3: eff = -1 * 1/2; val = name = 1: 1.3 - 0.15/2.
    made = strict(HOTEL, episode_of([find], [book], [ToolCall("find", {"city": "Rome"})]))
    assert made.components["eff"] == near(-0.5)
    assert made.total == near(1.3 - 0.075)


# -- name and arg ----------------------------------------------------------------------------


def test_name_is_the_share_of_calls_whose_tool_gold_uses() -> None:
    # find and find are in gold; ping is not, and what could not be read has no name: 2/4.
    unreadable = replace(find, error=ErrorType.MALFORMED_CALL)
    made = score(HOTEL, [find, find], [ToolCall("ping"), unreadable])
    assert made.components["name"] == 0.5


def test_name_is_paid_for_a_tool_that_is_no_candidate_if_gold_uses_it() -> None:
    task = task_of(G_FIND, tools=(BOOK,))
    made = score(task, [find])
    # val: only "it ran", 1/3; cov = name = arg = 1: 0.5/3 + 0.5 + 0.2 + 0.1.
    assert made.total == near(0.5 / 3 + 0.8)


def test_arg_is_the_mean_share_of_golds_arguments_with_equal_values() -> None:
    # find: 1/1; book: hotel wrong, guests equal: 1/2. Mean 3/4.
    made = score(HOTEL, [find], [ToolCall("book", {"hotel": "h8", "guests": 2})])
    assert made.components["arg"] == 0.75
    assert made.total == near(1.2 + 0.075)
    assert made.calls[1].arguments == {"/hotel": "wrong", "/guests": "equal"}
    assert made.calls[1].why == "Takes the place of gold call 1; /hotel is 'h8', gold has 'h7'."


def test_arg_compares_by_the_one_equality_of_values() -> None:
    made = score(HOTEL, [find], [ToolCall("book", {"hotel": "h7", "guests": "2"})])
    assert made.components["arg"] == 1.0


def test_arg_compares_by_the_tools_schema_where_the_task_brings_it() -> None:
    day = {"type": "string", "format": "date"}
    spec = ToolSpec("stay", parameters={"properties": {"day": day}}, aliases=("visit",))
    gold, spelt = GoldCall("stay", {"day": "2025-03-01"}), {"day": "1 March 2025"}
    for name in ("stay", "visit"):
        assert score(task_of(gold, tools=(spec,)), [ToolCall(name, spelt)]).components["arg"] == 1.0
    assert score(task_of(gold, tools=("stay",)), [ToolCall("stay", spelt)]).components["arg"] == 0.0


def test_the_account_lists_the_first_three_differences() -> None:
    gold = GoldCall("ping", dict.fromkeys("abcde", 1))
    made = score(task_of(gold), [ToolCall("ping", dict.fromkeys("abcdez", 2))])
    assert made.calls[0].why.startswith("Takes the place of gold call 0; /a is 2, gold has 1; /b")
    assert "/c is 2, gold has 1; 2 more differ" in made.calls[0].why


def test_arg_counts_a_nested_argument_as_one() -> None:
    nested = task_of(GoldCall("ping", {"legs": [{"from": "a", "to": "b"}], "seats": 2}))
    # legs differs in one leaf, seats is equal: 1/2. What gold does not have is not counted.
    wrong = ToolCall("ping", {"legs": [{"from": "a", "to": "x"}], "seats": 2, "note": "hi"})
    assert score(nested, [wrong]).components["arg"] == 0.5
    longer = ToolCall("ping", {"legs": [{"from": "a", "to": "b"}, {}], "seats": 2})
    assert score(nested, [longer]).components["arg"] == 0.5


def test_arg_of_a_gold_call_without_arguments_is_one() -> None:
    assert score(task_of(GoldCall("ping")), [ToolCall("ping", {"x": 1})]).components["arg"] == 1.0


def test_arg_without_pairs_is_zero() -> None:
    # A candidate that gold does not use: val = 1, all else 0.
    made = score(HOTEL, [ToolCall("ping")])
    assert made.components["arg"] == 0.0
    assert made.total == near(0.5)


# -- optional gold calls ---------------------------------------------------------------------


def optional_task(first: bool) -> Task:
    extra = GoldCall("find", {"city": "Rome"}, optional=True)
    return task_of(extra, G_FIND) if first else task_of(G_FIND, extra)


@pytest.mark.parametrize("first", [True, False])
def test_optional_gold_calls_cost_nothing_made_or_left_out(first: bool) -> None:
    task, rome = optional_task(first), ToolCall("find", {"city": "Rome"})
    for turns in ([[find]], [[rome], [find]], [[find], [rome]]):
        assert score(task, *turns).total == near(1.3)


def test_an_optional_twin_of_a_required_call_does_not_take_its_place() -> None:
    task = task_of(replace(G_FIND, optional=True), G_FIND)
    assert [call.gold for call in score(task, [find]).calls] == [1]
    assert [call.gold for call in score(task, [find], [find]).calls] == [1, 0]


def test_an_optional_call_may_be_spelt_as_its_schema_allows() -> None:
    day = {"type": "string", "format": "date"}
    spec = ToolSpec("stay", parameters={"properties": {"day": day}}, aliases=("visit",))
    optional = GoldCall("stay", {"day": "2025-03-01"}, optional=True)
    task = task_of(optional, GoldCall("stay", {"day": "2025-03-02"}), tools=(spec,))
    visit = ToolCall("visit", {"day": "1 March 2025"})
    assert score(task, [visit], [ToolCall("stay", {"day": "2025-03-02"})]).total == near(1.3)


def test_optional_gold_calls_widen_the_budget() -> None:
    # n = 2 (one optional), B = 3. Four calls: eff = -0.5 * 1/3.
    task = task_of(GoldCall("ping"), GoldCall("find", {"city": "Rome"}, optional=True))
    assert score(task, [ToolCall("ping")] * 3).components["eff"] == 0.0
    assert score(task, [ToolCall("ping")] * 4).components["eff"] == near(-1 / 6)


def test_an_optional_producer_makes_no_edge() -> None:
    task = task_of(replace(G_FIND, optional=True), G_BOOK)
    assert score(task, [book]).total == near(1.3)


def test_where_everything_is_optional_only_other_calls_cost() -> None:
    task = task_of(replace(G_FIND, optional=True), GoldCall("ping", optional=True))
    assert score(task).total == 1.0
    assert score(task, [find]).total == 1.0
    assert score(task, [ToolCall("ping")], [find]).total == 1.0
    assert score(task, [find], [ToolCall("weather")]).total == 0.0
    assert score(task, [ToolCall("find", {"city": "Rome"})]).total == 0.0
    made = score(task, [find], [find])  # gold holds it once
    assert made.total == 0.0
    assert [call.credit for call in made.calls] == [-1.0, 0.0]
    assert score(task, [replace(find, error=ErrorType.MALFORMED_CALL)]).total == 0.0


# -- attribution and accounts ----------------------------------------------------------------


def test_each_call_is_credited_with_what_it_adds() -> None:
    two = task_of(GoldCall("ping"), G_FIND)
    made = score(two, [ToolCall("ping")], [find, ToolCall("weather"), find])
    # N = 4, n = 2, B = 3: eff = -0.5/3; val = (1 + 1 + 1/3 + 1)/4, name = 3/4, cov = arg = 1.
    # A call's val is 0.5 level / 4, its name 0.2 / 4; a match earns 0.5/2 + 0.1/2.
    paid = 0.5 / 4 + 0.2 / 4
    assert [call.credit for call in made.calls] == [
        near(paid + 0.3),
        near(paid + 0.3),
        near(0.5 / 12),
        near(paid - 0.15 * 0.5 / 3),
    ]
    assert made.total == near(0.5 * (10 / 3) / 4 + 0.5 - 0.025 + 0.15 + 0.1)
    assert made.turns is not None
    assert made.turns[0] == near(paid + 0.3)


def test_the_account_says_why_in_a_sentence() -> None:
    made = score(
        HOTEL,
        [book],
        [find, find],
        [ToolCall("ping"), MALFORMED, ToolCall("weather", {}, ErrorType.UNKNOWN_TOOL)],
        [ToolCall("find", {"stars": "4"})],
    )
    assert [call.why for call in made.calls] == [
        "Takes the place of gold call 1, but does not stand after what it depends on.",
        "Takes the place of gold call 0.",
        "No gold call of this name and with these argument names is left.",
        "Gold does not use ping.",
        "Could not be read as a call; it failed (malformed_call).",
        "Gold does not use weather; no candidate tool has this name; it failed (unknown_tool).",
        "No gold call of this name and with these argument names is left; missing: city; "
        "of a wrong type: stars.",
    ]
    assert [call.gold for call in made.calls] == [1, 0, None, None, None, None, None]


# -- options ---------------------------------------------------------------------------------


def test_the_weights_are_options_and_a_term_left_out_weighs_nothing() -> None:
    only = make_reward({"name": "prove", "weights": {"cov": 2}})
    assert only(HOTEL, episode_of([find])).total == near(1.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": {"coverage": 1}}, "unknown weight 'coverage'"),
        ({"weights": {"cov": -1}}, "at least 0"),
        ({"weights": [1]}, "must be an object"),
        ({"alpha": "0.5"}, "'alpha' must be a finite number"),
        ({"beta": float("inf")}, "'beta' must be a finite number"),
        ({"gamma": 1}, "no option 'gamma'"),
    ],
)
def test_a_wrong_option_is_one_clear_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OrchError) as problem:
        make_reward({"name": "prove", **options})
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)


# -- on every task ---------------------------------------------------------------------------

_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
any_calls = st.lists(
    st.builds(
        ToolCall,
        st.sampled_from(["", "find", "list", "book", "pay", "search", "\udcff"]),
        st.dictionaries(st.sampled_from(["key", "of", "", "/", "~", "legs", "ids"]), _json_values),
        st.none() | st.sampled_from(list(ErrorType)),
    ),
    max_size=12,
)


def in_range(made: RewardBreakdown, low: float, high: float) -> None:
    assert low <= made.total <= high + 1e-12
    bounds = {part.name: (part.low, part.high) for part in COMPONENTS}
    for name, value in made.components.items():
        assert bounds[name][0] <= value <= bounds[name][1] + 1e-12
    assert made.turns is not None
    assert made.base + sum(made.turns) == near(made.total)
    json.dumps(made.to_dict(), allow_nan=False)


@FEW
@given(worlds(), any_calls, st.booleans())
def test_anything_that_a_model_can_write_is_scored_in_range(
    world: World, calls: list[ToolCall], schemas: bool
) -> None:
    task = world.task
    if schemas:
        task = task.with_tools((FIND, BOOK, PING))
    made = PROVE(task, Episode("t", turns=(Turn.of("", tuple(calls)), Turn.of("?"))))
    n = len(task.gold_calls)
    budget = n + -(-n // 2)
    in_range(made, -0.15 * 0.5 * max(0, len(calls) - budget) / budget, 1.3)
    # What the calls are credited with is the whole total: no part belongs to a turn alone.
    # A credit is rounded to a multiple of 2^-40.
    credits = made.base + sum(call.credit for call in made.calls)
    assert credits == pytest.approx(made.total, abs=(len(calls) + 1) * 2**-40)


@FEW
@given(worlds())
def test_gold_earns_the_sum_of_the_weights_on_every_task(world: World) -> None:
    required = any(not call.optional for call in world.task.gold_calls)
    assert PROVE(world.task, world.gold_episode()).total == near(1.3 if required else 1.0)


@FEW
@given(worlds(), st.randoms(use_true_random=False))
def test_leaving_any_gold_call_out_costs_unless_it_is_optional(world: World, rng: Any) -> None:
    gold = world.task.gold_calls
    number = rng.randrange(len(gold))
    calls = [call for turn in world.gold_turns() for call in turn]
    whole = PROVE(world.task, world.play([[call] for call in calls])).total
    del calls[number]
    total = PROVE(world.task, world.play([[call] for call in calls])).total
    assert (total == near(whole)) == gold[number].optional


@FEW
@given(worlds(goals=False), st.data())
def test_where_no_call_is_required_any_calls_earn_one_or_nothing(
    world: World, data: st.DataObject
) -> None:
    gold = tuple(tuple(replace(call, optional=True) for call in step) for step in world.task.gold)
    task = replace(world.task, gold=gold)
    allowed = [call for turn in world.gold_turns() for call in turn]
    # Any of gold's calls, some twice, in any order, and perhaps one that gold does not hold.
    made = data.draw(st.lists(st.sampled_from(allowed), max_size=len(allowed), unique_by=id))
    made += data.draw(st.lists(st.sampled_from(allowed), max_size=1))
    made += data.draw(st.lists(st.just(ToolCall(OTHER_TOOL)), max_size=1))
    free = list(allowed)
    for call in made:
        equal = (
            calls_equal(call.name, call.arguments, other.name, other.arguments) for other in free
        )
        at = next((i for i, found in enumerate(equal) if found), None)
        if at is not None:
            del free[at]
    excused = len(allowed) - len(free)
    weighed = make_reward({"name": "prove", "weights": {"cov": 2}})
    for reward in (PROVE, weighed):
        breakdown = reward(task, episode_of(*[[call] for call in made]))
        assert breakdown.total == float(excused == len(made))
        assert breakdown.components == {"abstained": breakdown.total}


def test_deeply_nested_arguments_are_scored() -> None:
    deep: list[object] = []
    for _ in range(20_000):
        deep = [deep]
    made = score(HOTEL, [find], [ToolCall("book", {"hotel": deep, "guests": 2})])
    assert made.calls[1].gold == 1


@pytest.mark.shared_data
def test_gold_of_the_reference_cases_earns_all(shared_data: Path) -> None:
    import gzip

    path = shared_data / "rewards" / "graduated_reference_cases.jsonl.gz"
    for line in gzip.decompress(path.read_bytes()).splitlines():
        steps = json.loads(line)["task"]["steps"]
        gold = [
            GoldCall(s["name"], s["arguments"], depends_on=tuple(s["depends_on"])) for s in steps
        ]
        task = task_of(*gold, tools=tuple({call.name for call in gold}))
        turns = [[ToolCall(call.name, call.arguments)] for call in gold]
        # Positions are taken by name and keys alone, so a repeated tool may be matched with
        # another call's values; order and coverage hold all the same.
        made = score(task, *turns)
        assert made.components["cov"] == made.components["val"] == 1.0
        assert made.total == near(1.2 + 0.1 * made.components["arg"])
