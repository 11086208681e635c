"""ComplexFuncBench's rules, one test each, on the scorer without any I/O.

The benchmark's semantics are pinned here: golden turns, free functions, late parallel calls, format
errors, the order of the pair rules, hallucination, stopping early, and the two quirks of the
published code that ``strict`` turns off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from orch_env import GoldCall, OrchError, Task, ToolCall, ToolSpec
from orch_env.evaluation.complexfuncbench.decisions import Decision, ExactValues
from orch_env.evaluation.complexfuncbench.expectation import Expectation, golden_calls
from orch_env.evaluation.complexfuncbench.scorer import GENERIC_FEEDBACK, EpisodeScorer, FormatError
from orch_env.evaluation.complexfuncbench.similarity import pair_up
from orch_env.evaluation.complexfuncbench.summary import summarise
from orch_env.types import ErrorType, Provenance, ValueRef

LOOKUP = ("Search_Hotel_Destination", {"query": "Oslo"})
LAT_LONG = ("Location_to_Lat_Long", {"query": "Oslo"})
HOTEL = ("Search_Hotels", {"dest_id": 7, "search_type": "hotel"})
CITY = ("Search_Hotels", {"dest_id": 8, "search_type": "city"})
ROOM_1 = ("Get_Room_List", {"hotel_id": 1})
ROOM_2 = ("Get_Room_List", {"hotel_id": 2})
POLICY = ("Get_Hotel_Policies", {"hotel_id": 1})

Named = tuple[str, Mapping[str, Any]]


def call(named: Named, **changes: Any) -> ToolCall:
    return ToolCall(named[0], {**named[1], **changes})


def make_task(*turns: Sequence[Named], optional: Sequence[Named] = ()) -> Task:
    gold = tuple(
        tuple(GoldCall(n, dict(a), optional=(n, a) in optional) for n, a in turn) for turn in turns
    )
    return Task("t", ({"role": "user", "content": "q"},), gold=gold)


def scorer(task: Task, **options: Any) -> EpisodeScorer:
    """A scorer whose format check only knows missing tools, and whose cache is empty."""
    names = {c.name for c in task.gold_calls} | {"Search_Hotels", "Get_Room_List"}

    def check(made: ToolCall) -> tuple[FormatError, str] | None:
        if made.error is not None:
            return FormatError.MALFORMED, "unreadable"
        if made.name not in names:
            return FormatError.UNKNOWN_FUNCTION, f"no tool {made.name}"
        if "bogus" in made.arguments:
            return FormatError.PARAM_UNKNOWN, "bogus is unknown"
        return None

    defaults: dict[str, Any] = {
        "specs": {name: ToolSpec(name) for name in names},
        "golden_responses": [f"gold {n}" for n in range(len(task.gold_calls))],
        "check_format": check,
        "responses": lambda _made: (),
    }
    return EpisodeScorer(task, **{**defaults, **options})


def expected(state: Expectation) -> list[str]:
    return [c.name for c in state.expected]


def expectation(*turns: Sequence[Named], strict: bool = False) -> Expectation:
    return Expectation(golden_calls(make_task(*turns)), strict=strict)


# -- which calls are expected when -----------------------------------------------------------


def test_the_next_turn_is_expected_only_after_a_match() -> None:
    state = expectation([ROOM_1], [POLICY], [ROOM_2])
    assert expected(state) == ["Get_Room_List"]
    state.accept({0})
    assert expected(state) == ["Get_Hotel_Policies"]
    state.accept({1})
    state.accept({2})
    assert state.exhausted and state.done


def test_a_late_parallel_call_stays_expected() -> None:
    state = expectation([ROOM_1, ROOM_2], [POLICY])
    state.accept({0})
    assert [c.number for c in state.expected] == [1, 2]
    assert state.turns_reached == 0
    state.accept({2})
    assert not state.done and state.turns_reached == 0
    state.accept({1})
    assert state.done and state.turns_reached == 2


def test_a_turn_of_free_calls_opens_the_next_one_at_once() -> None:
    state = expectation([LOOKUP], [LOOKUP], [CITY], [POLICY])
    assert [c.number for c in state.expected] == [0, 1, 2]
    state.accept({2})
    assert [c.number for c in state.expected] == [0, 1, 3]


def test_a_free_call_of_a_later_turn_is_removed_where_it_stands() -> None:
    state = expectation([CITY], [LOOKUP], [POLICY])
    state.accept({1})
    # Turn 1 has joined, without its only call.
    assert [c.number for c in state.expected] == [0]
    state.accept({0})
    assert [c.number for c in state.expected] == [2]


def test_free_calls_may_be_left_out_but_count_in_the_totals() -> None:
    state = expectation([LOOKUP, CITY])
    state.accept({1})
    assert state.done and not state.exhausted
    assert (state.made, state.total, state.turns_reached) == (1, 2, 1)


def test_quirk_a_hotel_search_makes_the_whole_expectation_free() -> None:
    literal = expectation([HOTEL, ROOM_1], [POLICY])
    assert [c.number for c in literal.expected] == [0, 1, 2]
    strict = expectation([HOTEL, ROOM_1], [POLICY], strict=True)
    assert [c.number for c in strict.expected] == [0, 1]
    # On its own it is free in both.
    assert len(expectation([HOTEL], [POLICY], strict=True).expected) == 2
    assert len(expectation([CITY], [POLICY]).expected) == 1


def test_quirk_location_to_lat_long_is_not_dropped_at_the_end() -> None:
    literal, strict = expectation([LAT_LONG, CITY]), expectation([LAT_LONG, CITY], strict=True)
    for state in (literal, strict):
        state.accept({1})
    assert (literal.done, strict.done) == (False, True)
    other = expectation([LOOKUP, CITY])
    other.accept({1})
    assert other.done


def test_optional_calls_are_free_ones() -> None:
    state = Expectation(golden_calls(make_task([ROOM_1], [POLICY], optional=[ROOM_1])))
    assert len(state.expected) == 2
    state.accept({1})
    assert state.done


# -- what a message earns -------------------------------------------------------------------


def test_matched_calls_get_the_golden_response_and_others_the_generic_sentence() -> None:
    running = scorer(make_task([ROOM_1], [POLICY]))
    verdicts = running.take_calls([call(ROOM_1), call(ROOM_2)])
    assert [v.feedback for v in verdicts] == ["gold 0", GENERIC_FEEDBACK]
    assert [v.matched for v in verdicts] == [0, None]
    assert running.error is None
    assert running.expectation.made == 1


def test_a_call_ahead_of_its_turn_is_not_matched() -> None:
    running = scorer(make_task([ROOM_1], [POLICY]))
    assert [v.matched for v in running.take_calls([call(POLICY), call(ROOM_1)])] == [None, 0]


def test_a_message_without_a_match_ends_the_episode() -> None:
    wrong_value = scorer(make_task([ROOM_1], [POLICY]))
    wrong_value.take_calls([call(ROOM_2)])
    assert wrong_value.error == "value_error"
    wrong_tool = scorer(make_task([ROOM_1], [POLICY]))
    wrong_tool.take_calls([call(POLICY)])
    assert wrong_tool.error == "func_error"


def test_a_format_error_is_told_and_the_episode_goes_on() -> None:
    running = scorer(make_task([ROOM_1]))
    malformed = ToolCall("", {}, ErrorType.MALFORMED_CALL)
    verdicts = running.take_calls([call(ROOM_1, bogus=1), ToolCall("Nope"), malformed])
    assert [v.feedback for v in verdicts] == ["bogus is unknown", "no tool Nope", "unreadable"]
    assert running.error is None
    assert running.format_errors == {
        "param_unknown": 1,
        "unknown_function": 1,
        "malformed_call": 1,
    }
    # Nothing matched, so nothing new is expected.
    assert [v.matched for v in running.take_calls([call(ROOM_1)])] == [0]


def test_a_golden_call_that_its_schema_refuses_is_accepted() -> None:
    running = scorer(make_task([("Get_Room_List", {"bogus": 1})]))
    assert running.take_calls([ToolCall("Get_Room_List", {"bogus": 1})])[0].matched == 0


def test_a_free_call_is_accepted_whenever_and_counts_once() -> None:
    running = scorer(make_task([CITY], [LOOKUP], [ROOM_1]))
    first = running.take_calls([call(LOOKUP)])
    assert (first[0].decision, first[0].feedback) == (Decision.FREE, "gold 1")
    again = running.take_calls([call(LOOKUP)])
    assert again[0].feedback == "gold 1"
    assert running.error is None
    assert running.expectation.made == 1


def test_two_equal_free_calls_are_made_one_after_the_other() -> None:
    running = scorer(make_task([CITY], [LOOKUP], [LOOKUP, ROOM_1]))
    assert [v.matched for v in running.take_calls([call(LOOKUP), call(LOOKUP)])] == [1, 2]
    slower = scorer(make_task([CITY], [LOOKUP], [LOOKUP, ROOM_1]))
    assert [slower.take_calls([call(LOOKUP)])[0].matched for _ in range(2)] == [1, 2]


def test_calls_after_everything_is_done_are_hallucinated() -> None:
    running = scorer(make_task([ROOM_1]))
    running.take_calls([call(ROOM_1)])
    running.take_calls([call(ROOM_1)])
    assert running.error == "func_hallucination"
    # Also where only free calls were left out.
    left = scorer(make_task([LOOKUP, ROOM_1]))
    left.take_calls([call(ROOM_1)])
    left.take_calls([call(CITY)])
    assert left.error == "func_hallucination"


def test_a_free_call_left_over_may_be_made_after_the_rest() -> None:
    running = scorer(make_task([LOOKUP, ROOM_1]))
    running.take_calls([call(ROOM_1)])
    assert running.take_calls([call(LOOKUP)])[0].matched == 0
    running.take_answer()
    assert running.success


def test_an_answer_before_everything_is_done_stops_early() -> None:
    running = scorer(make_task([LOOKUP], [ROOM_1]))
    running.take_calls([call(LOOKUP)])
    running.take_answer()
    assert (running.success, running.error) == (False, "stop_early")
    score = running.to_dict()
    assert (score["correct_calls"], score["total_calls"]) == (1, 2)
    assert (score["turns_reached"], score["total_turns"]) == (1, 2)


def test_doing_nothing_reaches_no_turn_even_where_the_first_is_free() -> None:
    running = scorer(make_task([LOOKUP], [ROOM_1]))
    running.take_answer()
    assert running.to_dict()["turns_reached"] == 0


# -- the rules of a pair, in their order ------------------------------------------------------


def decided(made: ToolCall, gold: GoldCall, **options: Any) -> tuple[bool, str]:
    task = Task("t", ({"role": "user", "content": "q"},), gold=((gold,),))
    running = scorer(task, specs={gold.name: ToolSpec(gold.name)}, **options)
    verdict = running.take_calls([made])[0]
    return verdict.matched is not None, verdict.decision.value


def test_equal_to_the_letter_is_exact_and_equal_in_value_is_the_rule() -> None:
    gold = GoldCall(*CITY)  # type: ignore[arg-type]
    assert decided(call(CITY), gold) == (True, "exact")
    assert decided(call(CITY, dest_id="8"), gold) == (True, "rule")


def test_categories_filter_is_a_set() -> None:
    gold = GoldCall("Search_Hotels", {"categories_filter": "facility::4,class::5"})
    spaced = ToolCall("Search_Hotels", {"categories_filter": "class::5, facility::4"})
    assert decided(spaced, gold) == (True, "rule")
    other = ToolCall("Search_Hotels", {"categories_filter": "class::5"})
    assert decided(other, gold)[0] is False


def test_an_argument_that_must_be_exact_decides_before_the_responses() -> None:
    gold = GoldCall("Search_Hotels", {"dest_id": 8, "name": "City Centre"})
    table = ExactValues({"Search_Hotels": frozenset({"dest_id", "currency"})})
    same = {"responses": lambda _made: ["gold 0"], "exact_values": table}
    other_name = ToolCall("Search_Hotels", {"dest_id": 8, "name": "the centre"})
    assert decided(other_name, gold, **same) == (True, "responses")
    other_id = ToolCall("Search_Hotels", {"dest_id": 9, "name": "City Centre"})
    assert decided(other_id, gold, **same) == (False, "exact_values")
    # An exact argument that only one of the two has differs as well.
    added = ToolCall("Search_Hotels", {"dest_id": 8, "name": "x", "currency": "NOK"})
    assert decided(added, gold, **same) == (False, "exact_values")
    null = ToolCall("Search_Hotels", {"dest_id": 8, "name": "x", "currency": None})
    assert decided(null, gold, **same) == (False, "exact_values")


def test_equal_responses_are_equal_as_json() -> None:
    gold = GoldCall("Search_Hotels", {"name": "City Centre"})
    made = ToolCall("Search_Hotels", {"name": "Downtown"})
    table = ExactValues({})
    for texts, matched in (
        (["{}", '{"b": [2.0], "a": 1}'], True),
        (['{"a": 1, "b": [3]}'], False),
        ([], False),
        (["broken {"], False),
    ):
        found = decided(
            made,
            gold,
            exact_values=table,
            golden_responses=['{"a": 1, "b": [2]}'],
            responses=lambda _made, texts=texts: texts,
        )
        assert found == (matched, "responses" if matched else "undecided")


def test_the_judge_is_asked_last() -> None:
    gold = GoldCall("Search_Hotels", {"name": "City Centre"})
    made = ToolCall("Search_Hotels", {"name": "Downtown"})
    asked: list[str] = []

    def judge(task: Task, call_made: ToolCall, golden: GoldCall) -> bool:
        asked.append(golden.arguments["name"])
        return True

    assert decided(made, gold, exact_values=ExactValues({}), judge=judge) == (True, "judge")
    assert decided(ToolCall(gold.name, gold.arguments), gold, judge=judge) == (True, "exact")
    assert asked == ["City Centre"]


def test_without_a_table_all_but_free_wording_must_be_exact() -> None:
    gold = GoldCall(
        "Search_Hotels",
        {"name": "City Centre", "room": "Suite 5", "token": "abc", "sort": "price", "n": 2},
        provenance={
            "/name": ValueRef(Provenance.REASONED),
            "/room": ValueRef(Provenance.QUERY),
            "/token": ValueRef(Provenance.OUTPUT, call=0, path="/t"),
            "/sort": ValueRef(Provenance.REASONED),
        },
    )
    schema = {"type": "object", "properties": {"sort": {"enum": ["price", "score"]}}}
    made = ToolCall(gold.name, {**gold.arguments, "extra": 1})
    exact = ExactValues().names(gold, made, ToolSpec(gold.name, parameters=schema))
    assert exact == {"room", "token", "sort", "n", "extra"}


def test_a_table_may_name_a_tool_by_its_alias() -> None:
    gold = GoldCall("Get_Reviews", {"id": 1})
    spec = ToolSpec("Get_Reviews", aliases=("Get_Reviews(Tips)",))
    table = ExactValues({"Get_Reviews(Tips)": frozenset({"id"})})
    assert table.names(gold, ToolCall("Get_Reviews"), spec) == {"id"}
    assert table.names(gold, ToolCall("Get_Reviews"), ToolSpec("Get_Reviews")) == frozenset()


def test_a_model_may_call_a_tool_by_its_alias() -> None:
    spec = ToolSpec("Get_Room_List", aliases=("Rooms",))
    running = scorer(make_task([ROOM_1]), specs={"Get_Room_List": spec, "Rooms": spec})
    assert running.take_calls([ToolCall("Rooms", {"hotel_id": 1})])[0].matched == 0


@pytest.mark.parametrize("content", ["[", "[]", '{"f": "a"}', '{"f": [1]}'])
def test_a_broken_table_is_one_clear_line(tmp_path: Any, content: str) -> None:
    path = tmp_path / "exact.json"
    path.write_text(content)
    with pytest.raises(OrchError, match=r"exact\.json"):
        ExactValues.load(path)


# -- pairing --------------------------------------------------------------------------------


def test_pairs_go_by_resemblance_of_tool_and_values() -> None:
    golden = golden_calls(
        make_task(
            [("find", {"q": "Los Angeles"}), ("find", {"q": "New York City"}), ("pay", {"n": 1})]
        )
    )
    made = [
        ToolCall("find", {"q": "New York"}),
        ToolCall("pay", {"n": 3}),
        ToolCall("find", {"q": "LOS ANGELES airport"}),
    ]
    assert pair_up(made, golden) == {0: 1, 1: 2, 2: 0}
    assert pair_up(made[:1], golden) == {0: 1}
    assert pair_up([], golden) == pair_up(made, []) == {}


def test_no_resemblance_parts_a_pair_that_is_equal_by_rule() -> None:
    def search(filters: str) -> Named:
        return ("Search_Hotels", {"categories_filter": filters})

    golden = golden_calls(make_task([search("aa::1,bb::2"), search("bb::2,aa::12")]))
    made = [call(search("bb::2, aa::1")), call(search("aa::1,bb::22"))]
    assert pair_up(made, golden) == {0: 0, 1: 1}


def test_decisions_are_counted_by_call() -> None:
    running = scorer(make_task([ROOM_1, CITY], [LOOKUP], [POLICY]))
    running.take_calls([call(ROOM_1), call(CITY, dest_id="8"), call(LOOKUP), call(ROOM_2)])
    assert running.to_dict()["decided_by"] == {"exact": 1, "free": 1, "other_tool": 1, "rule": 1}


# -- the summary ----------------------------------------------------------------------------


def test_the_summary_divides_sums_by_sums() -> None:
    def score(success: bool, calls: int, turns: int, error: str | None) -> dict[str, Any]:
        return {
            "success": success,
            "correct_calls": calls,
            "total_calls": 4,
            "turns_reached": turns,
            "total_turns": 2,
            "error": error,
            "decided_by": {"exact": calls},
            "format_errors": {},
        }

    scores = [score(True, 4, 2, None), score(False, 1, 0, "stop_early"), score(False, 0, 1, "x")]
    tasks = [make_task([ROOM_1]).with_metadata(domain=d) for d in ("Cross", "Hotels", None)]
    result = summarise(scores, tasks)
    assert result["success"] == pytest.approx(1 / 3)
    assert result["call_accuracy"] == pytest.approx(5 / 12)
    assert result["turn_accuracy"] == 0.5
    assert list(result["by_domain"]) == ["Hotels", "Cross", "other"]
    assert result["by_domain"]["Hotels"]["call_accuracy"] == 0.25
    assert result["errors"] == {"stop_early": 1, "x": 1}
    assert result["decided_by"] == {"exact": 5}
    assert result["n"] == 3
    assert summarise([], [])["success"] == 0.0
