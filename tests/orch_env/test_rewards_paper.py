"""The published reward: agreement with its reference cases, and each rule on its own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from orch_env import Episode, OrchError, ToolCall, Turn, make_reward
from orch_env.rewards.options import Weights
from orch_env.rewards.presets.paper import PaperReward
from orch_env.rewards.presets.paper.bfcl_check import accepts
from orch_env.rewards.presets.paper.completion import (
    ReferenceCase,
    episode_of_completion,
    read_completion,
)
from orch_env.rewards.presets.paper.reward import matched_steps

SUCCESS = {"status": True, "data": 1}


def case(steps: list[tuple[Any, ...]], completion: str) -> ReferenceCase:
    """Steps are (name, arguments, *producers)."""
    return ReferenceCase.from_dict(
        {
            "id": "c",
            "task": {
                "query": "q",
                "tools": [],
                "steps": [{"name": n, "arguments": a, "depends_on": list(d)} for n, a, *d in steps],
            },
            "completion": completion,
        }
    )


def call(name: Any, arguments: Any) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def response(value: Any) -> str:
    return f"<tool_response>{json.dumps(value)}</tool_response>"


def score(steps: list[tuple[Any, ...]], completion: str) -> dict[str, float]:
    one = case(steps, completion)
    breakdown = PaperReward().score_completion(one.task, one.completion)
    return {**breakdown.components, "score": breakdown.total}


@pytest.mark.shared_data
def test_every_reference_case_agrees_on_every_scalar(shared_data: Path) -> None:
    path = shared_data / "rewards" / "graduated_reference_cases.jsonl.gz"
    with gzip.open(path, "rt") as lines:
        records = [json.loads(line) for line in lines]
    assert len(records) == 300
    for record in records:
        one = ReferenceCase.from_dict(record)
        assert one.weights is not None
        breakdown = PaperReward(one.weights).score_completion(one.task, one.completion)
        got = {**breakdown.components, "score": breakdown.total}
        assert got == pytest.approx(record["expected"], abs=1e-9), one.id


def test_a_perfect_call_by_hand() -> None:
    got = score([("f", {"a": 1})], call("f", {"a": 1}) + response(SUCCESS))
    assert got["R_atomic_validity_ast"] == 0.33 + 0.33 + 0.34
    assert got["score"] == got["R_atomic_validity_rate"] == got["tool_executable_rate"] == 1.0


def test_structure_is_shared_keys_times_compatible_types() -> None:
    # Gold a, b, c; the call has a (int for float), b (wrong type) and z: 0.33 * 2/3 * 1/2.
    gold = {"a": 1.5, "b": "x", "c": 1}
    got = score([("f", gold)], call("f", {"a": 1, "b": 2, "z": 3}) + response(SUCCESS))
    assert got["R_atomic_validity_structure"] == pytest.approx(0.33 * 2 / 3 / 2)
    assert got["R_atomic_validity_values"] == 0.0


def test_a_gold_call_without_arguments_wants_none() -> None:
    none = score([("f", {})], call("f", {}) + response(SUCCESS))
    some = score([("f", {})], call("f", {"a": 1}) + response(SUCCESS))
    assert none["R_atomic_validity_structure"] == 0.33
    assert some["R_atomic_validity_structure"] == some["R_atomic_validity_values"] == 0.0


def test_a_call_is_held_against_the_first_step_of_its_name() -> None:
    steps = [("f", {"a": "one"}), ("f", {"a": "two"})]
    second = score(steps, call("f", {"a": "two"}) + response(SUCCESS))
    assert second["R_atomic_validity_values"] == 0.0
    assert second["R_outcome_orchestration"] == 1.0  # the one call satisfies both steps


@pytest.mark.parametrize(
    ("arguments", "values"),
    [('{"a": 1}', 0.34), ("{not json", 0.0), ("[1]", 0.0), (None, 0.0), ([], 0.0), (7, 0.0)],
)
def test_arguments_as_a_json_string_are_parsed_and_others_count_as_none(
    arguments: Any, values: float
) -> None:
    got = score([("f", {"a": 1})], call("f", arguments) + response(SUCCESS))
    assert got["R_atomic_validity_values"] == values
    assert got["R_atomic_validity_name"] == 0.33


@pytest.mark.parametrize(
    ("body", "semantic", "success"),
    [
        ({"status": True}, 1, 1),
        ([], 1, 1),
        ("text", 1, 1),
        (0, 1, 1),
        ({}, 0, 1),
        ({"error": None}, 0, 0),
        ({"status": False}, 0, 0),
        (None, 0, 0),
    ],
)
def test_what_counts_as_a_good_response(body: Any, semantic: int, success: int) -> None:
    got = score([("f", {})], call("f", {}) + response(body))
    assert got["R_atomic_validity_semantic"] == semantic
    assert got["tool_calling_success_rate"] == success


def test_a_response_that_is_no_json_is_a_response() -> None:
    got = score([("f", {})], call("f", {}) + "<tool_response>oops {</tool_response>")
    assert got["R_atomic_validity_semantic"] == 1.0


def test_each_call_takes_the_next_unused_response_behind_it() -> None:
    text = response("early") + call("a", {}) + call("b", {}) + response("1") + response("2")
    assert [c.response for c in read_completion(text)] == ['"1"', '"2"']
    assert [c.response for c in read_completion(call("a", {}) + call("b", {}) + response(1))] == [
        "1",
        None,
    ]


def test_a_call_that_is_no_json_takes_its_response_with_it() -> None:
    text = "<tool_call>{broken</tool_call>" + response("lost") + call("a", {}) + response("own")
    assert [(c.name, c.response) for c in read_completion(text)] == [("a", '"own"')]
    # Without a response of its own it takes the next call's.
    text = "<tool_call>{broken</tool_call>" + call("a", {}) + response("own")
    assert [c.response for c in read_completion(text)] == [None]


@pytest.mark.parametrize("body", ["[]", "3", '"f"', "null", "{}", '{"name": 5}', '{"name": null}'])
def test_json_that_names_no_tool_is_a_call_that_scores_nothing(body: str) -> None:
    good = call("f", {}) + response(SUCCESS)
    got = score([("f", {})], good + f"<tool_call>{body}</tool_call>" + response(SUCCESS))
    assert got["R_atomic_validity"] == 0.5
    assert got["tool_executable_rate"] == 0.5
    assert got["R_outcome_orchestration"] == 1.0


def test_steps_match_by_name_after_all_they_depend_on() -> None:
    steps = [("a", {}), ("b", {}, 0), ("c", {}, 0, 1)]
    task = case(steps, "").task
    assert matched_steps(task, ["a", "b", "c"]) == [0, 1, 2]
    assert matched_steps(task, ["b", "a", "c", "b"]) == [1, 3, None]
    assert matched_steps(task, ["b", "c"]) == [None, None, None]
    # A step cannot be its producer's own call, but two free steps may share one.
    assert matched_steps(case([("a", {}), ("a", {}, 0)], "").task, ["a"]) == [0, None]
    assert matched_steps(case([("a", {}), ("a", {})], "").task, ["a"]) == [0, 0]


def test_without_calls_everything_is_zero() -> None:
    got = score([("f", {})], "I will not.")
    assert set(got.values()) == {0.0}


def test_a_component_of_weight_zero_has_scalars_zero() -> None:
    one = case([("f", {})], call("f", {}) + response(SUCCESS))
    silent = PaperReward(Weights(0.0, 1.0)).score_completion(one.task, one.completion)
    assert silent.total == silent.components["R_outcome_orchestration"] == 1.0
    assert sum(silent.components.values()) == 1.0
    other = PaperReward(Weights(1.0, 0.0)).score_completion(one.task, one.completion)
    assert other.components["R_outcome_orchestration"] == 0.0
    assert PaperReward(Weights(0, 0)).score_completion(one.task, one.completion).total == 0.0


@pytest.mark.parametrize(
    ("made", "gold", "accepted"),
    [
        ({"a": "New-York, NY"}, {"a": "new york ny"}, True),
        ({"a": "it's"}, {"a": 'it"s'}, True),
        ({"a": "x", "b": 1}, {"a": "x"}, False),
        ({}, {"a": "x"}, False),
        ({"a": 2}, {"a": 2.0}, True),
        ({"a": 2.0}, {"a": 2}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": None}, {"a": None}, True),
        ({"a": ["B c", "d"]}, {"a": ["bc", "D"]}, True),
        ({"a": ["d", "b"]}, {"a": ["b", "d"]}, False),
        ({"a": [1, "b"]}, {"a": [1, "b"]}, False),
        ({"a": []}, {"a": []}, True),
        # Objects: gold's own text fails, one character passes, and a text key may be left out.
        ({"a": [{"id": "NYC"}]}, {"a": [{"id": "NYC"}]}, False),
        ({"a": [{"id": "N"}]}, {"a": [{"id": "NYC"}]}, True),
        ({"a": [{}]}, {"a": [{"id": "NYC"}]}, True),
        ({"a": [{}, {}]}, {"a": [{"id": "NYC"}]}, False),
        ({"a": {"n": 5}}, {"a": {"n": 5}}, False),
        ({"a": {}}, {"a": {"n": 5}}, False),
        ({"a": {"n": 5}}, {"a": {"n": [5, 6]}}, True),
    ],
)
def test_the_strict_value_check(made: dict[str, Any], gold: dict[str, Any], accepted: bool) -> None:
    assert accepts(made, gold) is accepted


def test_an_episode_scores_as_the_text_that_it_amounts_to() -> None:
    one = case([("f", {"a": 1}), ("g", {}, 0)], "")
    text = call("f", {"a": 1})
    written = Episode(
        "c",
        turns=(
            Turn.of(text, (ToolCall("f", {"a": 1}),), (json.dumps(SUCCESS),)),
            Turn.of(call("g", {}), (ToolCall("g"),), ('{"error": "no"}',)),
            Turn.of("the end"),
        ),
    )
    whole = text + response(SUCCESS) + call("g", {}) + response({"error": "no"})
    reward = PaperReward()
    got, wanted = reward(one.task, written), reward.score_completion(one.task, whole)
    assert (got.total, got.components) == (wanted.total, wanted.components)
    # Structured calls carry no markup in their text; they count the same.
    structured = Episode(
        "c", turns=tuple(Turn.of("", turn.calls, turn.results) for turn in written.turns[:2])
    )
    assert reward(one.task, structured).total == reward(one.task, written).total


def test_a_completion_reads_as_an_episode_for_the_other_rewards() -> None:
    text = (
        call("f", {}) + call("g", {}) + response(1) + response({"error": "no"})
        + "<tool_call>{</tool_call>" + response(2) + call("h", {})
    )  # fmt: skip
    episode = episode_of_completion(case([], "").task, text)
    assert [[c.name for c in t.calls] for t in episode.turns] == [["f", "g"], [""], ["h"]]
    assert [[c.error for c in t.calls] for t in episode.turns] == [
        [None, "tool_error"],
        ["malformed_call"],
        ["limit"],
    ]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("papr", ["'papr'", "did you mean 'paper'", "graduated, paper, "]),
        ({"name": "paper", "weigths": {}}, ["no option 'weigths'", "did you mean 'weights'"]),
        ({"weights": {}}, ["'name'"]),
        (7, ["7"]),
        ({"name": "paper", "weights": {"atomics": 1}}, ["unknown weight 'atomics'"]),
        ({"name": "paper", "weights": {"atomic": -1}}, ["at least 0"]),
        ({"name": "paper", "weights": {"atomic": "1"}}, ["must be a finite number"]),
        ({"name": "graduated", "weights": {"atomic": 1, "orchestration": 1}}, ["at most 1"]),
        ({"name": "graduated", "answer_weight": -1}, ["answer_weight"]),
    ],
)
def test_a_wrong_configuration_is_one_clear_line(spec: Any, words: list[str]) -> None:
    with pytest.raises(OrchError) as problem:
        make_reward(spec)
    assert "\n" not in str(problem.value)
    for word in words:
        assert word in str(problem.value)


def test_weights_reach_the_reward() -> None:
    one = case([("f", {"a": 1})], call("f", {"a": 2}) + response(SUCCESS))
    episode = episode_of_completion(one.task, one.completion)
    only_order = make_reward({"name": "paper", "weights": {"orchestration": 1.0}})
    assert only_order(one.task, episode).total == 1.0
