"""Rules for closing answers: what each accepts, what none pays for, and what is an error."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env import Episode, OrchError, Task, ToolOrchestrationEnv, Turn, make_reward
from orch_env.backends.local import LocalBackend
from orch_env.rewards.outcome.answer_text import normalised, numbers_in
from orch_env.rewards.outcome.answers import AnswerRule, Match
from orch_env.types.json import Json, JsonObject


def task_with(answer: Json, query: str = "", metadata: JsonObject | None = None) -> Task:
    return Task("t", ({"role": "user", "content": query},), answer=answer, metadata=metadata or {})


def right(rule: str | JsonObject, gold: Json, final: str | None, query: str = "") -> bool:
    score = AnswerRule.from_dict(rule).score(task_with(gold, query), final)
    assert score in (0.0, 1.0)
    return score == 1.0


@pytest.mark.parametrize(
    ("gold", "final", "accepted_by"),
    [
        # (the columns' order: values, auto, exact, normalised)
        (42, "42", "values auto exact normalised"),
        (42, " 42.0 ", "values auto"),
        (42, "42.", "auto normalised"),
        (42, "43", ""),
        (42, "42 or 43", ""),
        ("42", "42.0", "values auto"),
        ("Oslo", "Oslo", "values auto exact normalised"),
        ("Oslo", " Oslo\n", "values auto exact normalised"),
        ("Oslo", "oslo.", "auto normalised"),
        ("Oslo", "It is Oslo", ""),
        ("The Hague", "Hague", ""),
        ("A", "a", "auto normalised"),
        ("A", "", ""),
        ("New  York", "new york", "auto normalised"),
        ("caf\u00e9", "Cafe\u0301", "auto normalised"),
        ("Wi-Fi", "wi fi", "auto normalised"),
        ("3.5", "35", ""),
        ("-5", "5", ""),
        ("\u22125", "-5", "auto normalised"),
        ("5%", "5", ""),
        ("C", "C++", ""),
        ("!!!", "?", ""),
        (True, "true", "values auto exact normalised"),
        (True, "True.", "auto normalised"),
        (True, "1", ""),
        ([1, 2], "[1, 2.0]", "values auto"),
        ([1, 2], "[1, 2]", "values auto exact normalised"),
        ([1, 2], "[1 2]", "normalised"),
        ({"a": 1}, '{"a": 1}', "values auto exact normalised"),
        ("b,a", "a,b", ""),
        ("Z\u00fcrich", "Zu\u0308rich", "values auto normalised"),
    ],
)
def test_texts_are_compared_as_the_rule_says(gold: Json, final: str, accepted_by: str) -> None:
    for rule in ("values", "auto", "exact", "normalised"):
        assert right(rule, gold, final) is (rule in accepted_by.split()), rule


@pytest.mark.parametrize("rule", [r for r in Match if r is not Match.JUDGE])
def test_no_answer_is_never_right(rule: Match) -> None:
    assert not right(rule.value, 5, None)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("It costs 420 euros.", [420]),
        ("$1,250.50, or 12% off", [1250.5, 12]),
        ("-3 and +4 and \u22125 and 1.5e3", [-3, 4, -5, 1500.0]),
        ("420EUR, 5km", [420, 5]),
        ("(7) [8] =9 price:10", [7, 8, 9, 10]),
        ("Room K-0042 of A5, v2.1", []),
        ("on 2024-10-05 at 10:30, 5-7 nights, 3/4", []),
        ("3,5", []),
        ("1,2,3", []),
        ("12,345,678", [12345678]),
        ("1,2345", []),
        ("end of 2024.", [2024]),
        ("", []),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, numbers: list[float]) -> None:
    assert numbers_in(text) == numbers


@pytest.mark.parametrize(
    ("final", "accepted"),
    [
        ("420", True),
        ("420.004", True),
        ("420.02", False),
        ("The total is 420 euros.", True),
        ("420. Yes, 420.00 in all.", True),
        ("3 nights for 2 guests cost 420", True),  # 3 and 2 are the user's own numbers
        ("420 or 421", False),
        ("419 420 421", False),
        ("1,2,420", False),
        ("four hundred and twenty", False),
        ("", False),
    ],
)
def test_a_number_is_right_within_its_tolerance_and_alone(final: str, accepted: bool) -> None:
    rule = {"match": "numeric", "tolerance": 0.01}
    assert right(rule, 420, final, "3 nights for 2 guests?") is accepted
    assert right(rule, "420 euros", final, "3 nights for 2 guests?") is accepted


def test_naming_the_users_numbers_is_no_way_to_guess_one_of_them() -> None:
    query = "Is it hotel 3, 7 or 9?"
    assert right("numeric", 7, "7", query)
    assert not right("numeric", 7, "3, 7 or 9", query)


def test_tolerances_are_absolute_or_a_share_of_golds_number() -> None:
    assert right({"match": "numeric", "relative": 0.01}, 200, "202")
    assert not right({"match": "numeric", "relative": 0.01}, 200, "202.1")
    assert right({"match": "numeric", "relative": 0.01}, -200, "-198")
    both = {"match": "numeric", "relative": 0.01, "tolerance": 5}
    assert right(both, 200, "205")
    assert not right("numeric", 0.3, "0.30000001")
    assert right("numeric", 10**30, "1" + "0" * 30)
    # Beyond what a double holds nothing is near.
    assert not right({"match": "numeric", "relative": 0.1}, 10**400, "1.5")


def test_a_gold_that_is_no_number_is_an_error_and_not_a_zero() -> None:
    for gold in ("Oslo", "4 or 5", True, [4]):
        with pytest.raises(OrchError, match=r"task 't': its answer .* is no number"):
            right("numeric", gold, "4")


@pytest.mark.parametrize(
    ("gold", "final", "accepted"),
    [
        (["Oslo", "Rome"], "Rome, Oslo", True),
        (["Oslo", "Rome"], "rome and oslo.", True),
        (["Oslo", "Rome"], "- Rome\n- Oslo", True),
        (["Oslo", "Rome"], "1. Rome\n2) Oslo", True),
        (["Oslo", "Rome"], '["Rome", "Oslo"]', True),
        (["Oslo", "Rome"], "Rome; Oslo; Rome", True),
        (["Oslo", "Rome", "Bern"], "Oslo, Rome, and Bern", True),
        (["Oslo", "Rome"], "Rome", False),
        (["Oslo", "Rome"], "Rome, Oslo, Bern", False),
        (["Oslo", "Rome"], "The cities are Rome and Oslo", False),
        (["Oslo"], "Oslo", True),
        (["Trinidad and Tobago", "Cuba"], "Cuba, Trinidad and Tobago", True),
        ("Oslo, Rome", "Rome and Oslo", True),
        ([1, 2], "2, 1", True),
        ([1, 2], "[2.0, 1]", True),
        ([1, 2], "12", False),
        ([{"id": 1}], '[{"id": 1}]', True),
        ([], "[]", True),
        ([], "Oslo", False),
        (7, "7", True),
    ],
)
def test_a_set_is_all_and_only_its_items(gold: Json, final: str, accepted: bool) -> None:
    assert right("set", gold, final) is accepted


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("abc 1.", min_size=1, max_size=4), max_size=4), st.randoms())
def test_a_set_has_no_order_and_no_repeats(items: list[str], rng: Any) -> None:
    shuffled = [*items, *items[:1]]
    rng.shuffle(shuffled)
    assert right("set", items, json.dumps(shuffled))
    assert not right("set", items, json.dumps([*shuffled, "zz"]))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=20))
def test_normalising_is_settled_after_once_and_keeps_something(text: str) -> None:
    words = normalised(text)
    assert normalised(words) == words
    assert bool(words) is bool(text.split())


_gold = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(_gold, st.text(max_size=30) | st.text("0123456789.,-+eE: and", max_size=30))
def test_whatever_a_model_answers_is_scored(gold: Json, final: str) -> None:
    for rule in ("auto", "values", "exact", "normalised", "set"):
        right(rule, gold, final)
    right({"match": "numeric", "relative": 0.1}, 7, final, final)


@pytest.mark.parametrize(
    "final",
    ["[" * 100_000, "9" * 100_000, "1," * 100_000, "-" * 100_000, "1" + ",111" * 50_000, "\udcff"],
)
def test_huge_and_odd_answers_are_scored(final: str) -> None:
    for rule in ("auto", "values", "exact", "normalised", "set", "numeric"):
        assert not right(rule, 7, final)


@pytest.fixture
def judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's with judges in it."""
    name = "judges_of_the_user"
    (tmp_path / f"{name}.py").write_text(
        "def polite(task, answer):\n    return task.id == 't' and 'please' in answer\n"
        "def half(task, answer):\n    return 0.5\n"
        "def loud(task, answer):\n    return 7\n"
        "def silent(task, answer):\n    return None\n"
        "def broken(task, answer):\n    raise KeyError('no key')\n"
        "def nullary():\n    return True\n"
        "def array(task, answer):\n    import numpy\n    return numpy.array(0.5)\n"
        "def numpys(task, answer):\n    import numpy\n    return numpy.bool_(True)\n"
        "def leaves(task, answer):\n    raise SystemExit(1)\n"
        "def huge(task, answer):\n    return 10**400\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def judge(path: str) -> JsonObject:
    return {"match": "judge", "judge": path}


def test_a_judge_of_the_users_decides(judges: str) -> None:
    rule = AnswerRule.from_dict(judge(f"{judges}:polite"))
    assert rule.score(task_with("x"), "yes please") == 1.0
    assert rule.score(task_with("x"), "x") == 0.0
    assert rule.score(task_with("x"), None) == 0.0
    for name, score in (("half", 0.5), ("array", 0.5), ("numpys", 1.0)):
        assert AnswerRule.from_dict(judge(f"{judges}:{name}")).score(task_with("x"), "") == score


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loud", r"returned 7 on task 't'.*\(defined at .*\.py:\d+\)"),
        ("silent", "returned None"),
        ("huge", "returned 1000"),
        ("leaves", r"failed on task 't' \(SystemExit: 1, at "),
        ("broken", r"failed on task 't'.*no key', at .*\.py:\d+"),
    ],
)
def test_a_judge_that_fails_stops_the_run_and_is_no_zero(
    judges: str, name: str, message: str
) -> None:
    rule = AnswerRule.from_dict(judge(f"{judges}:{name}"))
    with pytest.raises(OrchError, match=message):
        rule.score(task_with("x"), "x")


def test_the_reward_passes_a_judges_error_on(judges: str) -> None:
    reward = make_reward({"name": "graduated", "answer": judge(f"{judges}:broken")})
    episode = Episode("t", turns=(Turn.of("x"),), final="x")
    with pytest.raises(OrchError, match="no key"):
        reward(task_with("x"), episode)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fuzzy", "no rule 'fuzzy'; the rules are auto, values"),
        (5, "must be a rule's name or an object, got 5"),
        ({"match": ["set"]}, "no rule"),
        ({"match": "numeric", "tol": 1}, "takes no 'tol'; it takes match, relative, tolerance"),
        ({"match": "set", "tolerance": 1}, "takes no 'tolerance'"),
        (
            {"match": "numeric", "tolerance": -1},
            "'tolerance' must be a finite number of at",
        ),
        ({"match": "numeric", "relative": float("nan")}, "'relative' must be"),
        ({"match": "numeric", "relative": True}, "'relative' must be"),
        ({"match": "judge"}, "needs 'judge'"),
        ({"judge": "a:b"}, "the rule 'auto' takes no 'judge'"),
        (judge("no_such_module_here:f"), "no module 'no_such_module_here'"),
        (judge("json"), "module:function"),
    ],
)
def test_bad_rules_are_refused_with_a_reason(spec: Any, message: str) -> None:
    with pytest.raises(OrchError, match=message):
        make_reward({"name": "graduated", "answer": spec})


def test_a_judge_of_other_arguments_is_refused_at_once(judges: str) -> None:
    with pytest.raises(OrchError, match="cannot be called"):
        AnswerRule.from_dict(judge(f"{judges}:nullary"))


def test_a_task_names_the_rule_for_its_own_answer() -> None:
    cities = task_with(["Oslo", "Rome"], metadata={"answer_match": "set"})
    assert AnswerRule().score(cities, "Rome, Oslo") == 1.0
    assert AnswerRule(Match.EXACT).score(cities, "Rome, Oslo") == 1.0
    near = task_with(5, metadata={"answer_match": {"match": "numeric", "tolerance": 1}})
    assert AnswerRule().score(near, "about 6") == 1.0


def test_a_task_cannot_name_a_judge_and_does_not_go_before_one(judges: str) -> None:
    for spec in ("judge", judge(f"{judges}:half")):
        sneaky = task_with("x", metadata={"answer_match": spec})
        with pytest.raises(OrchError, match=r"task 't'.*names a judge"):
            AnswerRule().score(sneaky, "x")
    own = task_with("x", metadata={"answer_match": "exact"})
    assert AnswerRule.from_dict(judge(f"{judges}:half")).score(own, "y") == 0.5
    odd = task_with("x", metadata={"answer_match": ["set"]})
    with pytest.raises(OrchError, match="task 't': metadata 'answer_match' must be"):
        AnswerRule().score(odd, "x")


def test_success_asks_the_same_rule_as_the_reward() -> None:
    task = Task("t", ({"role": "user", "content": "?"},), servers=("harbour",), answer=420)

    def success(reward: Any) -> bool:
        env = ToolOrchestrationEnv.from_backend([task], LocalBackend(), reward=reward)
        env.reset(seed=0)
        *_, info = env.step("It costs 420 euros.")
        return bool(info["success"])

    assert success({"name": "graduated", "answer": "numeric"})
    assert not success("graduated")
