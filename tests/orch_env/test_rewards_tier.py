"""``tier`` part by part: numbers worked out by hand, its gates, its range.

With an answer: format, names, parameters, types and execution 0.1 each, answer 0.5. Without one
those five sum to 0.5 and are doubled, 0.2 each.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env import Episode, GoldCall, StopReason, Task, ToolCall, Turn, make_reward
from orch_env.rewards.presets.tier import COMPONENTS
from orch_env.types import ErrorType, OrchError, RewardBreakdown, ToolSpec
from orch_env.types.json import Json
from tests.orch_env.reward_world import World
from tests.orch_env.reward_worlds import worlds

TIER = make_reward("tier")
FEW = settings(max_examples=60, deadline=None)

FIND = ToolSpec(
    "find",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "stars": {"type": "integer"},
            "pets": {"type": "boolean"},
            "price": {"type": "number"},
            "near": {"type": "array"},
        },
        "required": ["city", "stars"],
    },
    aliases=("search",),
)
PING = ToolSpec("ping")
good = ToolCall("find", {"city": "Oslo", "stars": 4})
MALFORMED = ToolCall("", {}, ErrorType.MALFORMED_CALL)


def task_of(answer: Json = None, tools: Any = (FIND, PING), gold: Any = ()) -> Task:
    return Task("t", ({"role": "user", "content": ""},), tools, gold, answer=answer)


def episode_of(*turns: list[ToolCall], final: str | None = "done") -> Episode:
    made = [Turn.of("", tuple(calls), tuple("{}" for _ in calls)) for calls in turns]
    if final is None:
        return Episode("t", turns=tuple(made), stop_reason=StopReason.MAX_TURNS)
    return Episode("t", turns=(*made, Turn.of(final)), final=final, stop_reason=StopReason.ANSWERED)


def score(task: Task, *turns: list[ToolCall], final: str | None = "done") -> RewardBreakdown:
    return TIER(task, episode_of(*turns, final=final))


def near(value: float) -> Any:
    """Totals are multiples of 2^-40."""
    return pytest.approx(value, abs=2**-40)


ASKED = task_of(answer=42)
OPEN = task_of()


def call_with(**arguments: Json) -> ToolCall:
    return ToolCall("find", arguments)


# -- the sum ---------------------------------------------------------------------------------


def test_valid_calls_that_run_and_the_right_answer_earn_one() -> None:
    made = score(ASKED, [good], [ToolCall("ping")], final="42")
    assert made.total == 1.0
    assert made.components == dict.fromkeys(
        ("format", "names", "parameters", "types", "execution", "answer"), 1.0
    )


def test_a_wrong_or_missing_answer_costs_half() -> None:
    # 5 * 0.1 + 0.5 * 0.
    assert score(ASKED, [good], final="41").total == near(0.5)
    assert score(ASKED, [good], final=None).total == near(0.5)


@pytest.mark.parametrize("final", ["42", " 42\n", "42.0", '"42"'])
def test_answers_are_compared_by_the_one_equality_of_values(final: str) -> None:
    assert score(ASKED, [good], final=final).total == 1.0


def test_without_a_gold_answer_the_other_parts_are_doubled() -> None:
    made = score(OPEN, [good], final="anything")
    assert made.total == 1.0
    assert "answer" not in made.components
    # One missing parameter: 0.2 * 4 + 0.2 * 0.75 = 0.95; each part weighs 0.1 / 0.5.
    assert score(OPEN, [call_with(city="Oslo")]).total == near(0.95)


def test_gold_calls_are_not_looked_at() -> None:
    gold = ((GoldCall("ping"),),)
    assert score(task_of(gold=gold), [good]).total == score(OPEN, [good]).total == 1.0


# -- format ----------------------------------------------------------------------------------


def test_one_unreadable_call_zeroes_everything_the_answer_included() -> None:
    made = score(ASKED, [good, MALFORMED], [good], final="42")
    assert made.total == 0.0
    assert set(made.components.values()) == {0.0}
    # A readable name does not help where the rest could not be read.
    assert score(ASKED, [replace(good, error=ErrorType.MALFORMED_CALL)], final="42").total == 0.0


def test_an_episode_without_calls_has_no_format() -> None:
    assert score(ASKED, final="42").total == 0.0
    assert score(OPEN).total == 0.0
    assert TIER(OPEN, Episode("t")).total == 0.0


def test_where_no_tool_is_offered_an_answer_in_words_is_the_format() -> None:
    toolless = task_of(answer=42, tools=())
    assert score(toolless, final="42").total == 1.0
    assert score(toolless, final="41").total == near(0.5)
    assert score(toolless, final=None).total == 0.0


# -- names, parameters, types ----------------------------------------------------------------


def test_an_unknown_name_zeroes_the_names_part_only() -> None:
    # The call ran all the same (a recording may): 1 - 0.1.
    made = score(ASKED, [good], [ToolCall("weather", {"anything": [1]})], final="42")
    assert made.total == near(0.9)
    assert (made.components["parameters"], made.components["types"]) == (1.0, 1.0)
    # Refused by the environment, it has not run either: 1 - 0.1 - 0.1.
    refused = ToolCall("weather", {}, ErrorType.UNKNOWN_TOOL)
    assert score(ASKED, [good], [refused], final="42").total == near(0.8)


def test_an_alias_is_a_valid_name_with_the_tools_schema() -> None:
    assert score(ASKED, [replace(good, name="search")], final="42").total == 1.0
    assert score(ASKED, [ToolCall("search")], final="42").components["parameters"] == 0.5


@pytest.mark.parametrize(
    ("calls", "mismatches", "part"),
    [
        ([good], 0, 0.1),
        ([call_with(city="Oslo")], 1, 0.075),
        ([call_with(city="Oslo", stars=4, page=1)], 1, 0.075),
        ([call_with(city="Oslo", page=1)], 2, 0.05),
        ([call_with(), call_with(city="Oslo")], 3, 0.025),
        ([call_with(), call_with()], 4, 0.0),
        ([call_with(), call_with(), call_with()], 6, 0.0),
        ([call_with(page=1, sort=2, order=3)], 5, 0.0),  # 2 missing, 3 unknown
    ],
)
def test_each_missing_or_unknown_parameter_costs_a_quarter(
    calls: list[ToolCall], mismatches: int, part: float
) -> None:
    made = score(ASKED, calls, final="42")
    # max(0, 0.1 - 0.025 * mismatches), the other parts in full: 0.9.
    assert part == near(max(0.0, 0.1 - 0.025 * mismatches))
    assert made.total == near(0.9 + part)
    assert made.components["parameters"] == near(part * 10)


@pytest.mark.parametrize(
    ("arguments", "mismatches"),
    [
        ({}, 0),
        ({"stars": "4"}, 1),  # a string is no integer
        ({"stars": True}, 1),  # nor is a boolean
        ({"stars": 4.0}, 0),
        ({"stars": 4.5}, 1),
        ({"price": 4}, 0),  # an integer is a number
        ({"price": True}, 1),
        ({"price": None}, 1),
        ({"city": 5, "stars": "4"}, 2),
        ({"city": 5, "stars": "4", "pets": 1}, 3),
        ({"city": 5, "stars": "4", "pets": 1, "price": "9"}, 4),
        ({"city": 5, "stars": "4", "pets": 1, "price": "9", "near": {}}, 5),
        ({"near": [1, "x", {}]}, 0),  # what is nested is not looked at
    ],
)
def test_each_value_of_a_wrong_json_type_costs_a_quarter(
    arguments: dict[str, Json], mismatches: int
) -> None:
    made = score(ASKED, [call_with(**{**good.arguments, **arguments})], final="42")
    assert made.total == near(0.9 + max(0.0, 0.1 - 0.025 * mismatches))
    assert made.components["parameters"] == 1.0


def test_mismatches_are_counted_over_the_whole_trajectory() -> None:
    # Missing: stars, then city and stars; of a wrong type: city. 3 and 1:
    # 0.8 + (0.1 - 0.075) + (0.1 - 0.025) = 0.9.
    made = score(ASKED, [call_with(city=1)], [good], [call_with()], final="42")
    assert made.total == near(0.9)


def test_without_a_schema_each_refusal_of_arguments_is_one_mismatch_of_both_kinds() -> None:
    named = task_of(answer=42, tools=("find",))
    refused = ToolCall("find", {}, ErrorType.INVALID_ARGUMENTS)
    # It did not run: 0.1 + 0.1 + 0.075 + 0.075 + 0 + 0.5.
    assert score(named, [refused], final="42").total == near(0.85)
    # Any other failure says nothing of its arguments: 1 - 0.1.
    failed = ToolCall("find", {}, ErrorType.NOT_RECORDED)
    assert score(named, [failed], final="42").total == near(0.9)
    assert score(named, [ToolCall("find", {"made": "up"})], final="42").total == 1.0


# -- execution and answer --------------------------------------------------------------------


def test_one_failed_call_loses_the_execution_part_and_not_the_answer() -> None:
    failed = replace(good, error=ErrorType.TOOL_ERROR)
    assert score(ASKED, [good], [failed], [good], final="42").total == near(0.9)


def test_a_judged_answer_counts_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    from orch_env.rewards.outcome import Outcome
    from orch_env.rewards.presets import tier

    monkeypatch.setattr(tier, "read_outcome", lambda *_: Outcome(None, 0.6, False))
    assert score(ASKED, [good], final="42").total == near(0.5 + 0.5 * 0.6)


# -- attribution and accounts ----------------------------------------------------------------


def test_what_is_lost_is_taken_from_the_calls_at_fault() -> None:
    failed = replace(good, error=ErrorType.TOOL_ERROR)
    made = score(ASKED, [good], [failed, call_with(city="Oslo")], final="42")
    # Each of the three calls brings 5 * 0.1 / 3. The failed one takes back all of execution,
    # 0.1; the one without stars a quarter of parameters, 0.025. The answer is the last turn's.
    share = 0.5 / 3
    assert [call.credit for call in made.calls] == [
        near(share),
        near(share - 0.1),
        near(share - 0.025),
    ]
    assert made.turns == (near(share), near(2 * share - 0.125), near(0.5))
    assert made.total == near(0.875)


def test_beyond_four_mismatches_the_loss_is_shared_in_proportion() -> None:
    # 2 + 4 mismatches lose all of the part, 0.1: a third and two thirds of it.
    worse = call_with(page=1, sort=2)
    made = score(ASKED, [call_with(), worse], final="42")
    assert [c.credit for c in made.calls] == [near(0.25 - 0.1 / 3), near(0.25 - 0.2 / 3)]


def test_the_account_says_why_in_a_sentence() -> None:
    made = score(
        ASKED,
        [good, call_with(city=3, page=1), ToolCall("weather", {}, ErrorType.UNKNOWN_TOOL)],
        [MALFORMED],
    )
    assert [call.why for call in made.calls] == [
        "Valid, and it ran.",
        "Missing: stars; unknown: page; of a wrong type: city.",
        "No candidate tool has this name; it failed (unknown_tool).",
        "Could not be read as a call; it failed (malformed_call).",
    ]
    assert made.calls[1].arguments == {"/city": "type", "/stars": "missing", "/page": "unknown"}
    assert [call.atomic for call in made.calls] == [1.0, 0.5, 0.5, 0.0]


# -- options ---------------------------------------------------------------------------------


def test_the_weights_are_options_and_are_scaled_to_one() -> None:
    halves = make_reward({"name": "tier", "weights": {"execution": 3, "answer": 1}})
    assert halves(ASKED, episode_of([good], final="41")).total == near(0.75)
    assert halves(OPEN, episode_of([good])).total == 1.0
    # The gate of the format stands although the part weighs nothing.
    assert halves(ASKED, episode_of([good, MALFORMED], final="42")).total == 0.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": {"name": 1}}, "unknown weight 'name'"),
        ({"weights": {"names": -1}}, "at least 0"),
        ({"weights": {"answer": 1}}, "beside 'answer'"),
        ({"weights": {}}, "beside 'answer'"),
        ({"answers": 1}, "no option 'answers'"),
    ],
)
def test_a_wrong_option_is_one_clear_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OrchError) as problem:
        make_reward({"name": "tier", **options})
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)


# -- on every task ---------------------------------------------------------------------------

_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
_calls = st.lists(
    st.builds(
        ToolCall,
        st.sampled_from(["", "find", "book", "search", "\udcff"]),
        st.dictionaries(st.sampled_from(["city", "stars", "", "/", "~", "near"]), _json_values),
        st.none() | st.sampled_from([e for e in ErrorType if e is not ErrorType.MALFORMED_CALL]),
    ),
    max_size=8,
)


@FEW
@given(worlds(), _calls, st.booleans(), st.sampled_from([None, 42, "done", [1, {"a": None}]]))
def test_anything_that_a_model_can_write_is_scored_in_range(
    world: World, calls: list[ToolCall], schemas: bool, answer: Json
) -> None:
    task = replace(world.task, answer=answer)
    if schemas:
        task = task.with_tools((FIND, PING))
    episode = Episode("t", turns=(Turn.of("", tuple(calls)), Turn.of("done")), final="done")
    made = TIER(task, episode)
    assert 0.0 <= made.total <= 1.0
    bounds = {part.name: (part.low, part.high) for part in COMPONENTS}
    for name, value in made.components.items():
        assert bounds[name][0] <= value <= bounds[name][1]
    assert made.turns is not None
    assert made.base + sum(made.turns) == near(made.total)
    # The calls carry all but the answer, up to the rounding of a credit to 2^-40.
    answered = 0.5 * made.components.get("answer", 0.0)
    rest = made.total - answered
    assert sum(c.credit for c in made.calls) == pytest.approx(rest, abs=(len(calls) + 2) * 2**-40)
    json.dumps(made.to_dict(), allow_nan=False)


@FEW
@given(worlds(), st.integers(0, 20))
def test_one_unreadable_call_anywhere_earns_nothing(world: World, place: int) -> None:
    turns = world.gold_turns()
    turns.insert(place % (len(turns) + 1), [MALFORMED])
    assert TIER(world.task, world.play(turns)).total == 0.0


@FEW
@given(worlds())
def test_gold_earns_one_where_the_task_only_names_its_tools(world: World) -> None:
    assert TIER(world.task, world.gold_episode()).total == 1.0
