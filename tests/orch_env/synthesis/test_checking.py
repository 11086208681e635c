"""The checker accepts a request that says what its calls need, and notices each thing missing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orch_env import Task, ToolSpec, open_cache
from orch_env.cache import ResponseCache
from orch_env.provenance.evidence import argument_leaves
from orch_env.synthesis.checking.checker import Problem, check_request
from orch_env.tasks.files import bundled, load_tasks
from orch_env.types import GoldCall, Provenance, ValueRef

HOTELS = [
    {"id": "h_4411", "name": "Grand Sea View", "price": 120.5, "city": {"name": "Porto"}},
    {"id": "h_4412", "name": "Old Mill", "price": 80, "city": {"name": "Porto"}},
    {"id": "h_4413", "name": "Old Mill Annexe", "price": 95, "city": {"name": "Porto"}},
]
RESULTS = [json.dumps({"data": HOTELS}), json.dumps({"rules": []})]
SPECS = {
    "find_hotels": ToolSpec(
        "find_hotels",
        "Find hotels.",
        {
            "type": "object",
            "properties": {
                "place": {"type": "string"},
                "arrival": {"type": "string", "format": "date"},
                "adults": {"type": "integer", "default": 1},
                "sort": {"type": "string", "description": "price_asc: cheapest; rating: stars"},
                "pets": {"type": "boolean", "description": "Whether pets are allowed."},
                "ages": {"type": "string"},
            },
        },
    ),
    "house_rules": ToolSpec(
        "house_rules", "Rules.", {"type": "object", "properties": {"hotel": {"type": "string"}}}
    ),
}
ARGUMENTS = {
    "place": "Porto",
    "arrival": "2024-12-05",
    "adults": 2,
    "sort": "rating",
    "pets": True,
    "ages": "4,6",
}
GOOD = (
    "I need hotels in Porto from Thursday, December 5, for two adults with kids of 4 and 6, by "
    "star rating, where pets may come along. What are the house rules of Old Mill?"
)


def task(text: str, element: int = 1, **arguments: object) -> Task:
    query = ValueRef(Provenance.QUERY)
    sent = {**ARGUMENTS, **arguments}
    source = ValueRef(Provenance.OUTPUT, 0, f"/data/{element}/id")
    return Task(
        "t",
        ({"role": "user", "content": text},),
        tuple(SPECS),
        (
            (GoldCall("find_hotels", sent, provenance={f"/{name}": query for name in sent}),),
            (
                GoldCall(
                    "house_rules",
                    {"hotel": HOTELS[element]["id"]},
                    depends_on=(0,),
                    provenance={"/hotel": source},
                ),
            ),
        ),
        today="2024-11-28",
    )


def problems(text: str, element: int = 1, **arguments: object) -> list[Problem]:
    return check_request(task(text, element, **arguments), RESULTS, SPECS)


def kinds(text: str, element: int = 1, **arguments: object) -> set[str]:
    return {problem.kind for problem in problems(text, element, **arguments)}


def test_a_request_that_says_everything_is_accepted() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("said", "instead", "pointer"),
    [
        ("in Porto ", "", "/place"),
        ("December 5", "December 12", "/arrival"),
        ("two adults", "three adults", "/adults"),
        ("star rating", "name", "/sort"),
        ("where pets may come along", "please", "/pets"),
        ("4 and 6", "4 and 7", "/ages"),
    ],
)
def test_an_independent_argument_that_is_not_said_is_noticed(
    said: str, instead: str, pointer: str
) -> None:
    assert said in GOOD
    found = problems(GOOD.replace(said, instead))
    assert [(p.kind, p.call, p.pointer) for p in found] == [("not_said", 0, pointer)]


def test_a_default_may_stay_unsaid() -> None:
    text = GOOD.replace("for two adults with", "with")
    assert kinds(text, adults=1) == set()
    assert kinds(text, adults=2) == {"not_said"}


def test_a_later_turn_says_nothing_to_an_earlier_call() -> None:
    late = replace(task(GOOD.replace(", for two adults", "")), followups=("For two adults.",))
    assert [p.pointer for p in check_request(late, RESULTS, SPECS)] == ["/adults"]
    moved = replace(late, after_followup=(1, 1))
    assert check_request(moved, RESULTS, SPECS) == []


def test_the_words_of_hints_say_a_value() -> None:
    text = GOOD.replace("by star rating", "the fanciest to begin with")
    assert {p.pointer for p in check_request(task(text), RESULTS, SPECS)} == {"/sort"}
    words = {"sort": {"rating": "good ones | fanciest"}}
    assert check_request(task(text), RESULTS, SPECS, words) == []


def test_an_id_in_the_text_is_a_leak() -> None:
    assert kinds(GOOD + " Its number is h_4412.") == {"leaked"}


@pytest.mark.parametrize(
    ("which", "element", "told"),
    [
        ("Old Mill", 1, True),
        ("Old Mill", 2, False),
        ("Old Mill Annexe", 2, True),
        ("Old Mill Annexe", 1, False),
        ("Grand Sea View", 1, False),
        ("the second hotel", 1, True),
        ("the 2nd hotel", 1, True),
        ("the first hotel", 1, False),
        ("the last hotel", 2, True),
        ("the first three", 2, True),
        ("the cheapest hotel", 1, True),
        ("the cheapest hotel", 0, False),
        ("the most expensive hotel", 0, True),
        ("the hotel with the lowest price", 1, True),
        ("that hotel", 0, False),
    ],
)
def test_a_selection_must_tell_its_element_from_its_siblings(
    which: str, element: int, told: bool
) -> None:
    text = GOOD.replace("Old Mill", which)
    assert kinds(text, element) == (set() if told else {"not_identified"})


def test_where_there_is_nothing_to_choose_nothing_need_be_said() -> None:
    text = GOOD.replace("Old Mill", "that hotel")
    one = [json.dumps({"data": [HOTELS[0]]}), RESULTS[1]]
    same = [json.dumps({"data": [HOTELS[0], dict(HOTELS[0], name="Twin")]}), RESULTS[1]]
    for results in (one, same):
        assert check_request(task(text, 0), results, SPECS) == []


@pytest.mark.parametrize(
    "fault",
    [
        "..",
        " ,",
        "{place}",
        " the the ",
        " a an ",
        " pick_up_place ",
        " the rules and the rules ",
        " None ",
    ],
)
def test_a_slip_of_the_pen_is_noticed(fault: str) -> None:
    assert kinds(GOOD + " Thanks" + fault + " indeed.") == {"form"}


def test_a_doubled_word_of_a_name_is_none() -> None:
    assert kinds(GOOD.replace("Porto", "Bora Bora"), place="Bora Bora") == set()


def test_a_false_weekday_is_noticed() -> None:
    assert kinds(GOOD.replace("Thursday", "Friday")) == {"form"}


def test_the_same_call_twice_is_asked_twice() -> None:
    good = task(GOOD)
    twice = replace(good, gold=(*good.gold, good.gold[1]))
    found = check_request(twice, [*RESULTS, RESULTS[1]], SPECS)
    assert [p.kind for p in found] == ["said_twice"]


def test_harbour_tasks_pass_by_their_own_words() -> None:
    """Template tasks of the bundled cache: nothing leaks, and few arguments are missed."""
    tasks = load_tasks("harbour")[:200]
    cache = open_cache(bundled("harbour", "cache"))
    found = [p for t in tasks for p in check_request(t, _texts(cache, t), cache.catalogue)]
    assert not [p for p in found if p.kind == "leaked"]
    assert len([p for p in found if p.kind == "not_said"]) <= 0.02 * _independent(tasks)


@pytest.mark.shared_data
def test_most_of_what_people_wrote_is_understood(booking_files: tuple[str, str]) -> None:
    tasks_file, cache_file = booking_files
    tasks, cache = load_tasks(tasks_file), open_cache(cache_file)
    found = [p for t in tasks for p in check_request(t, _texts(cache, t), cache.catalogue)]
    missed = sum(p.kind == "not_said" for p in found)
    assert missed <= 0.13 * _independent(tasks)
    assert sum(p.kind == "leaked" for p in found) <= 2


def _texts(cache: ResponseCache, task: Task) -> list[str]:
    answers = [cache.get(c.name, c.arguments, task=task) for c in task.gold_calls]
    return [answer.text if answer is not None else "" for answer in answers]


def _independent(tasks: list[Task]) -> int:
    outputs = (Provenance.OUTPUT, Provenance.COMPOSITE)
    return sum(
        1
        for t in tasks
        for call in t.gold_calls
        for pointer, _ in argument_leaves(call.arguments)
        if (ref := call.provenance.get(pointer)) is None or ref.kind not in outputs
    )
