"""A plan holds what a request has to say, and nothing that a person could not say."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from orch_env.synthesis.index import Index
from orch_env.synthesis.writing.plan import Plan
from orch_env.synthesis.writing.planning import Planner, Refusal, dates_of, is_opaque_text
from orch_env.synthesis.writing.selectors import Selectors, is_label, list_pattern
from tests.orch_env.synthesis.museums import draw, museums
from tests.orch_env.synthesis.small import Answers, corpus_of, feeds, index_of

ARLE = ("find_city", {"query": "Arle"}, None)
SEARCH = ("search_museums", {"city_id": "C-Arle", "people": 2}, 0)
OTHER_SEARCH = ("search_museums", {"city_id": "C-Arle", "people": 3}, 0)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return museums(tmp_path)


@pytest.fixture
def planner(index: Index) -> Planner:
    return Planner(index, Selectors(index))


def _plan(planner: Planner, index: Index, *calls: tuple[str, dict, int | None], seed=0) -> Plan:  # type: ignore[no-untyped-def, type-arg]
    found = planner.plan(draw(index, *calls), seed)
    assert isinstance(found, Plan)
    return found


def test_goals_are_the_calls_that_nothing_reads(planner: Planner, index: Index) -> None:
    plan = _plan(
        planner,
        index,
        ARLE,
        SEARCH,
        ("prices", {"museum_id": "M-Arle-1"}, 1),
        ("opening_hours", {"museum_id": "M-Arle-1"}, 1),
    )
    assert [call.goal for call in plan.calls] == [False, False, True, True]


def test_what_an_output_feeds_is_never_an_argument_to_say(planner: Planner, index: Index) -> None:
    plan = _plan(planner, index, ARLE, SEARCH, ("prices", {"museum_id": "M-Arle-1"}, 1))
    said = [{a.path for a in call.arguments} for call in plan.calls]
    assert said == [{"/query"}, {"/first_day", "/last_day", "/people"}, set()]


def test_an_element_is_named_by_its_label_or_by_its_place(planner: Planner, index: Index) -> None:
    calls = (ARLE, SEARCH, ("prices", {"museum_id": "M-Arle-1"}, 1))
    chosen = [_plan(planner, index, *calls, seed=n).calls[2].selections[0] for n in range(40)]
    assert {s.how for s in chosen} == {"label", "position"}
    assert {(s.label_path, s.label, s.position) for s in chosen} == {("/name", "Glass Museum", 1)}


def test_an_element_without_siblings_needs_no_name(planner: Planner, index: Index) -> None:
    plan = _plan(planner, index, ARLE, SEARCH)
    assert plan.calls[1].selections[0].how == "single"


def test_today_is_never_after_a_date_that_is_said(planner: Planner, index: Index) -> None:
    days = [_plan(planner, index, ARLE, SEARCH, seed=n).today for n in range(60)]
    away = {(date(2030, 3, 4) - day).days for day in days if day is not None}
    assert len(days) == 60
    assert min(away) == 0
    assert max(away) <= 30
    assert len(away) > 10


def test_the_same_seed_gives_the_same_plan(planner: Planner, index: Index) -> None:
    assert _plan(planner, index, ARLE, SEARCH, seed=7) == _plan(
        planner, index, ARLE, SEARCH, seed=7
    )


def test_nothing_is_asked_for_twice(planner: Planner, index: Index) -> None:
    twice = draw(
        index,
        ARLE,
        SEARCH,
        ("prices", {"museum_id": "M-Arle-1"}, 1),
        ("prices", {"museum_id": "M-Arle-1"}, 1),
    )
    assert planner.plan(twice, 0) == Refusal("asked_twice")


def test_a_search_for_other_days_is_no_repetition(planner: Planner, index: Index) -> None:
    plan = _plan(planner, index, ARLE, SEARCH, OTHER_SEARCH)
    assert sum(call.goal for call in plan.calls) == 2


def test_a_code_that_no_person_types_refuses_the_draw(tmp_path: Path) -> None:
    answers: Answers = [("open", {"token": "d6a1f4H4sIAAAA12QXW"}, {"x": 1})]
    index = index_of(corpus_of(tmp_path / "c.db", answers))
    planner = Planner(index, Selectors(index))
    assert planner.plan(draw(index, ("open", {}, None)), 0) == Refusal("unsayable_argument")


def test_labels_are_chosen_over_all_lists_not_for_one(tmp_path: Path) -> None:
    """A word of praise tells two things apart once; their names always do."""
    answers: Answers = [
        (
            "find",
            {"q": f"q{n}"},
            {
                "items": [
                    {"id": f"I{n}{m}", "praise": "Good" if n or m else "Superb", "name": f"N{m} of"}
                    for m in range(3)
                ]
            },
        )
        for n in range(4)
    ]
    answers = [*answers, ("open", {"id": "I00"}, {}), ("open", {"id": "I12"}, {})]
    index = index_of(
        corpus_of(tmp_path / "c.db", answers), feeds("find", "open", ("/id", "/items/*/id"))
    )
    assert Selectors(index).label_paths("find", "/items/*") == ("/name",)


def test_a_given_label_path_wins(index: Index) -> None:
    given = Selectors(index, {"search_museums": "/title"})
    assert given.label_paths("search_museums", "/items/*") == ("/title",)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["/data/*/id", "/data/*/name"], "/data/*"),
        (["/key", "/data/*/id"], "/data/*"),
        (["/data/*/legs/*/id", "/data/*/name"], "/data/*"),
        (["/key"], ""),
    ],
)
def test_the_list_of_outputs_is_what_they_share(patterns: list[str], expected: str) -> None:
    assert list_pattern(patterns) == expected


@pytest.mark.parametrize("text", ["Clock Museum", "Kia e-Niro", "Date (newer to older)"])
def test_names_are_labels(text: str) -> None:
    assert is_label(text)
    assert not is_opaque_text(text)


@pytest.mark.parametrize("text", ["https://a.b/c", "2030-01-01", "d6a1f_H4sIAAA", "", "a\nb c"])
def test_codes_dates_and_links_are_no_labels(text: str) -> None:
    assert not is_label(text)


def test_dates_that_do_not_exist_are_none() -> None:
    assert dates_of("from 2030-02-30 to 2030-03-01") == [date(2030, 3, 1)]
