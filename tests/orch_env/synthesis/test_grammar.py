"""The grammar says each thing once, in words that a person would use."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from orch_env import OrchError, open_cache
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.checking.checker import check_request
from orch_env.synthesis.checking.ngrams import masked, ngrams
from orch_env.synthesis.corpus import read_corpus
from orch_env.synthesis.index import Index
from orch_env.synthesis.mining import mine
from orch_env.synthesis.pipeline.assemble import task_of
from orch_env.synthesis.sampling.draw import Draw, draw_of
from orch_env.synthesis.templates.growth import Growth
from orch_env.synthesis.templates.joining import Joining
from orch_env.synthesis.writing.grammar.clauses import mentioned, tidy
from orch_env.synthesis.writing.grammar.spelling import Speller, on
from orch_env.synthesis.writing.grammar.writer import GrammarWriter
from orch_env.synthesis.writing.hints import load_hints
from orch_env.synthesis.writing.plan import Plan, Written
from orch_env.synthesis.writing.planning import Planner
from orch_env.synthesis.writing.selectors import Selectors
from orch_env.types import Task
from tests.orch_env.synthesis.museums import HINTS, draw, museums
from tests.orch_env.synthesis.small import HARBOUR

BOOKING = Path(__file__).parents[3] / "examples" / "synthesis" / "booking.yaml"
ARLE = ("find_city", {"query": "Arle"}, None)
BONT = ("find_city", {"query": "Bont"}, None)
SEARCH = ("search_museums", {"city_id": "C-Arle", "people": 2}, 0)
POOLS = 3


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return museums(tmp_path)


def _written(index: Index, found: Draw, seed: int = 0, pool: int = 0) -> tuple[Task, Written]:
    plan = Planner(index, Selectors(index)).plan(found, seed, pool, POOLS)
    assert isinstance(plan, Plan)
    text = GrammarWriter(HINTS).write([plan])[0]
    assert text.text is not None, text.reason
    offered = sorted(set(found.template.tools))
    return task_of(found, plan, text, index.corpus, name="t", offered=offered, metadata={}), text


def _said(index: Index, *calls: tuple[str, dict, int | None], seed: int = 0, pool: int = 0) -> str:  # type: ignore[type-arg]
    _, text = _written(index, draw(index, *calls), seed, pool)
    return " ".join([text.text or "", *text.followups])


@pytest.mark.parametrize("pool", range(POOLS))
def test_what_is_written_satisfies_the_checker(index: Index, pool: int) -> None:
    found = draw(
        index,
        ARLE,
        SEARCH,
        ("search_museums", {"city_id": "C-Arle", "people": 3}, 0),
        ("prices", {"museum_id": "M-Arle-1"}, 1),
        ("opening_hours", {"museum_id": "M-Arle-2"}, 1),
    )
    for seed in range(30):
        task, text = _written(index, found, seed, pool)
        texts = [index.corpus.text(row) for row in found.rows]
        by_call = {
            (index.corpus.rows[row].tool, str(index.corpus.rows[row].arguments)): said
            for row, said in zip(found.rows, texts, strict=True)
        }
        results = [by_call[c.name, str(c.arguments)] for c in task.gold_calls]
        assert check_request(task, results, index.corpus.tools) == [], text


def test_things_wanted_of_one_element_share_a_sentence(index: Index) -> None:
    said = _said(
        index,
        ARLE,
        SEARCH,
        ("prices", {"museum_id": "M-Arle-1"}, 1),
        ("opening_hours", {"museum_id": "M-Arle-1"}, 1),
        seed=3,
    )
    name = r"(Glass Museum|the second museum( you find)?)"
    assert re.search(rf"the prices and the opening hours of {name}[.?]", said), said


def test_one_thing_wanted_of_two_elements_is_said_once(index: Index) -> None:
    for seed in range(12):
        said = _said(
            index,
            ARLE,
            SEARCH,
            ("prices", {"museum_id": "M-Arle-0"}, 1),
            ("prices", {"museum_id": "M-Arle-1"}, 1),
            seed=seed,
        )
        assert said.count("the prices of") == 1
        assert "Arle" in said


def test_two_places_in_a_list_share_their_noun() -> None:
    names = ["the third car you find", "the first car you find"]
    assert mentioned(names, "and") == "the first and the third car you find"
    assert mentioned(["Rex", "the first car"], "and") == "Rex and the first car"


def test_two_searches_for_the_same_thing_are_told_apart(index: Index) -> None:
    said = _said(
        index,
        ARLE,
        BONT,
        ("search_museums", {"city_id": "C-Arle", "people": 2}, 0),
        ("search_museums", {"city_id": "C-Bont", "people": 2}, 1),
        ("prices", {"museum_id": "M-Bont-0"}, 3),
        seed=next(n for n in range(50) if Chance(n).often(0.25)),
    )
    assert "in Bont" in said
    assert "Clock Museum" in said or "the first museum in Bont" in said


def test_the_same_search_for_other_days_is_one_sentence(index: Index) -> None:
    said = _said(index, ARLE, SEARCH, ("search_museums", {"city_id": "C-Arle", "people": 3}, 0))
    assert said.count("museums in Arle") == 1
    assert ", and again from" in said


def test_days_of_one_call_are_spelt_alike() -> None:
    today = date(2030, 3, 1)
    for seed in range(60):
        speller = Speller(today, Chance(seed))
        shapes = {
            re.sub(r"\d+(st|nd|rd|th)?", r"#\1", speller.said(today + timedelta(days=70 + n)))
            for n in (0, 1, 2, 3)
        }
        assert len({re.sub("st|nd|rd|th", "th", shape) for shape in shapes}) == 1


def test_a_far_date_says_its_year() -> None:
    said = Speller(date(2030, 3, 1), Chance(1)).said(date(2031, 2, 3))
    assert "2031" in said


def test_tomorrow_has_no_preposition() -> None:
    assert on("tomorrow at 8 am") == "tomorrow at 8 am"
    assert on("March 3") == "on March 3"


def test_a_request_ends_with_the_sign_that_its_beginning_asks_for(index: Index) -> None:
    for seed in range(30):
        for sentence in re.split(r"(?<=[.?!]) ", _said(index, ARLE, SEARCH, seed=seed)):
            asks = re.search(r"\b(Can|Could|can|could) you\b", sentence) is not None
            assert sentence.endswith("?") == asks, sentence


def test_signs_are_not_doubled() -> None:
    assert tidy("museums in Arle , until 5 p.m..") == "Museums in Arle, until 5 p.m."
    assert tidy("could you come at 5 p.m.?") == "Could you come at 5 p.m.?"


def test_one_template_reads_differently(index: Index) -> None:
    found = draw(index, ARLE, SEARCH, ("prices", {"museum_id": "M-Arle-1"}, 1))
    texts = {_written(index, found, seed)[1].text for seed in range(100)}
    assert len(texts) >= 95


def test_parts_of_the_pools_share_no_run_of_thirteen_words(index: Index) -> None:
    found = draw(
        index,
        ARLE,
        SEARCH,
        ("prices", {"museum_id": "M-Arle-1"}, 1),
        ("opening_hours", {"museum_id": "M-Arle-2"}, 1),
    )
    runs = []
    for pool in range(POOLS):
        own: set[tuple[str, ...]] = set()
        for seed in range(60):
            own |= ngrams(masked(_written(index, found, seed, pool)[0]), 13)
        runs.append(own)
    assert min(map(len, runs)) > 100
    assert not runs[0] & runs[1]
    assert not runs[0] & runs[2]
    assert not runs[1] & runs[2]


def test_the_bundled_api_is_put_into_words_without_hints() -> None:
    """Every plan of the harbour is written, and the checker accepts it."""
    corpus = read_corpus(open_cache(HARBOUR))
    index = Index(corpus, mine(corpus))
    joining, planner = Joining(index), Planner(index, Selectors(index))
    growth, chance = Growth(joining), Chance(0)
    found = [draw_of(index, t, r) for n in (3, 5, 7) for t, r in growth.each(n, chance, 12)]
    plans = [planner.plan(d, n, n % POOLS, POOLS) for n, d in enumerate(found)]
    assert len(plans) > 15
    key = corpus.cache.key
    row_of = {(row.digest, row.key): row.number for row in corpus.rows}
    for d, plan in zip(found, plans, strict=True):
        assert isinstance(plan, Plan)
        text = GrammarWriter().write([plan])[0]
        assert text.text is not None, text.reason
        offered = sorted(set(d.template.tools))
        task = task_of(d, plan, text, corpus, name="t", offered=offered, metadata={})
        rows = [row_of[c.response or "", key(c.name, c.arguments)] for c in task.gold_calls]
        assert check_request(task, [corpus.text(r) for r in rows], corpus.tools) == [], text
        assert "_" not in text.text


def test_long_requests_become_conversations(index: Index) -> None:
    found = draw(
        index,
        ARLE,
        BONT,
        SEARCH,
        ("search_museums", {"city_id": "C-Bont", "people": 2}, 1),
        ("prices", {"museum_id": "M-Arle-0"}, 2),
        ("opening_hours", {"museum_id": "M-Arle-1"}, 2),
        ("prices", {"museum_id": "M-Bont-2"}, 3),
        ("opening_hours", {"museum_id": "M-Bont-0"}, 3),
    )
    task, text = _written(index, found)
    assert text.followups
    assert len(text.turn_of) == 8
    for edge in found.template.edges:
        assert text.turn_of[edge.parent] <= text.turn_of[edge.child]
    assert task.followups == text.followups


def test_the_example_of_hints_is_short_and_valid() -> None:
    hints = load_hints(BOOKING)
    assert len(hints.tools) == 40
    assert all(tool.domain for tool in hints.tools.values())
    assert len(BOOKING.read_text().splitlines()) <= 100
    for name, tool in hints.tools.items():
        for phrase in (tool.say, tool.same, tool.say_each):
            assert phrase is None or phrase.count("|") == POOLS - 1, name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tools: {a: {sya: x}}", "tools.a.sya"),
        ("tools: [", "no YAML"),
        ("omit: 3", "omit"),
    ],
)
def test_a_wrong_hint_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "hints.yaml"
    path.write_text(text)
    with pytest.raises(OrchError, match=said):
        load_hints(path)


def test_a_missing_hints_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OrchError, match=r"none\.yaml"):
        load_hints(tmp_path / "none.yaml")
