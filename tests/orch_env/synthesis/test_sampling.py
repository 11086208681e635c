"""Counts equal brute force, and draws are uniform over what can be executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from scipy.stats import chisquare

from orch_env import Task, open_cache
from orch_env.backends.replay import ReplayBackend
from orch_env.importers.validation import validate_tasks
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.corpus import read_corpus
from orch_env.synthesis.index import Index
from orch_env.synthesis.mining import mine
from orch_env.synthesis.sampling.draw import draw_of, gold_of
from orch_env.synthesis.sampling.elimination import Elimination
from orch_env.synthesis.sampling.prepared import ENUMERATED, Prepared
from orch_env.synthesis.sampling.subsets import Subsets
from orch_env.synthesis.templates.template import Edge, Equality, Template
from orch_env.types import OrchError
from orch_env.types.json import JsonObject
from tests.orch_env.synthesis.small import HARBOUR, Answers, corpus_of, feeds, fillings, index_of

# A look-up of places, what is near a place, and what needs one of each.
ANSWERS: Answers = [
    *(("place", {"name": f"p{n}"}, {"id": f"I{n}"}) for n in range(4)),
    ("place", {"name": "p0 again"}, {"id": "I0"}),
    *(
        ("near", {"id": f"I{n}", "day": f"d{d}"}, {"items": [{"x": f"X{n}{d}"}, {"x": f"X{d}"}]})
        for n in range(3)
        for d in range(2)
    ),
    *(("look", {"x": x, "day": f"d{d}"}, {}) for x in ("X00", "X01", "X0", "X1") for d in (0, 1)),
    *(
        ("route", {"from": f"I{a}", "to": f"I{b}"}, {})
        for a, b in [(0, 1), (0, 2), (1, 2), (2, 0), (3, 3), (3, 1)]
    ),
    ("many", {"xs": "X0,X10"}, {}),
    ("many", {"xs": "X0,X1"}, {}),
    ("many", {"xs": "X00,X0"}, {}),
]
FEEDS = [
    feeds("place", "near", ("/id", "/id")),
    feeds("near", "look", ("/x", "/items/*/x")),
    feeds("place", "route", ("/from", "/id")),
    feeds("place", "route", ("/to", "/id")),
    feeds("near", "many", ("/xs", "/items/*/x"), composite=True),
]
ID, X = (("/id", "/id"),), (("/x", "/items/*/x"),)
FROM, TO, XS = (("/from", "/id"),), (("/to", "/id"),), (("/xs", "/items/*/x"),)
TEMPLATES = {
    "chain": Template(("place", "near", "look"), (Edge(0, 1, ID), Edge(1, 2, X))),
    "two parents": Template(("place", "place", "route"), (Edge(0, 2, FROM), Edge(1, 2, TO))),
    "one parent twice": Template(("place", "route"), (Edge(0, 1, FROM), Edge(0, 1, TO))),
    "diamond": Template(
        ("place", "near", "near", "look", "look"),
        (Edge(0, 1, ID), Edge(0, 2, ID), Edge(1, 3, X), Edge(2, 4, X)),
    ),
    "cycle": Template(
        ("place", "place", "near", "route"),
        (Edge(0, 2, ID), Edge(0, 3, FROM), Edge(1, 3, TO)),
    ),
    "equality": Template(
        ("place", "near", "look"),
        (Edge(0, 1, ID), Edge(1, 2, X)),
        (Equality((1, "/day"), (2, "/day")),),
    ),
    "equality far apart": Template(
        ("place", "near", "look", "near"),
        (Edge(0, 1, ID), Edge(1, 2, X), Edge(0, 3, ID)),
        (Equality((2, "/day"), (3, "/day")),),
    ),
    "composite": Template(("place", "near", "many"), (Edge(0, 1, ID), Edge(1, 2, XS, True))),
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    corpus = corpus_of(tmp_path_factory.mktemp("small") / "small.db", ANSWERS)
    return index_of(corpus, *FEEDS)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_filling_is_found_once_and_no_other(index: Index, name: str) -> None:
    template = TEMPLATES[name]
    expected = fillings(index, template)
    found = list(Prepared(index, template).enumerate())
    twins = len(found) < len(expected)
    assert len(found) == len(set(found)) > 0
    if twins:  # interchangeable calls are one set
        expected = list({tuple(sorted(rows)): rows for rows in expected}.values())
        found = [tuple(sorted(rows)) for rows in found]
        expected = [tuple(sorted(rows)) for rows in expected]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("name", TEMPLATES)
def test_draws_are_uniform_over_the_fillings(index: Index, name: str) -> None:
    prepared = Prepared(index, TEMPLATES[name])
    expected = list(prepared.enumerate())
    drawn = Counter(prepared.draws(60 * len(expected), Chance(1)))
    assert set(drawn) == set(expected)
    if len(expected) > 1:
        assert chisquare([drawn[rows] for rows in expected]).pvalue > 1e-4


def test_the_count_is_exact_before_repeated_calls_are_rejected(index: Index) -> None:
    template = TEMPLATES["diamond"]
    prepared = Prepared(index, template)
    prepared.draws(500, Chance(2))
    assert isinstance(prepared.count, int)
    assert prepared.count > len(list(prepared.enumerate()))
    assert prepared.rejected["repeated_call"] == prepared.attempts - prepared.accepted > 0


def test_twins_are_sets_of_different_calls_without_a_rejection(index: Index) -> None:
    template = Template(
        ("place", "near", "near"), (Edge(0, 1, ID), Edge(0, 2, ID))
    )  # two days of one place
    prepared = Prepared(index, template)
    rows = prepared.draws(300, Chance(3))
    assert prepared.count == 4  # one set of two days for each name of the three places
    assert not prepared.rejected
    assert all(second != third for _, second, third in rows)
    assert chisquare(list(Counter(rows).values())).pvalue > 1e-4


def test_of_a_call_with_several_answers_each_is_drawn_by_its_weight() -> None:
    # rows 0 and 1 are answers of one call, so no set has both
    subsets = Subsets([(0, 1.0), (1, 3.0), (2, 2.0), (3, 1.0)], 2, [0, 0, 1, 2])
    expected = {(0, 2): 2.0, (1, 2): 6.0, (0, 3): 1.0, (1, 3): 3.0, (2, 3): 2.0}
    assert set(subsets.each()) == set(expected)
    assert subsets.total == sum(expected.values())
    chance = Chance(21)
    drawn = Counter(subsets.draw(chance) for _ in range(7000))
    shares = [7000 * weight / subsets.total for weight in expected.values()]
    assert chisquare([drawn[rows] for rows in expected], shares).pvalue > 1e-4


def test_weights_decide_how_often_a_row_is_drawn(index: Index) -> None:
    template = TEMPLATES["chain"]
    rows = list(Prepared(index, template).enumerate())
    heavy = rows[0][0]
    weighted = Prepared(index, template, weights={heavy: 3.0})
    expected = [3.0 if r[0] == heavy else 1.0 for r in rows]
    drawn = Counter(weighted.draws(6000, Chance(4)))
    share = [6000 * e / sum(expected) for e in expected]
    assert chisquare([drawn[r] for r in rows], share).pvalue > 1e-4
    assert weighted.count == pytest.approx(sum(expected))


def test_without_replacement_every_filling_comes_once(index: Index) -> None:
    prepared = Prepared(index, TEMPLATES["chain"])
    everything = prepared.draws(10_000, Chance(5), replacement=False)
    assert sorted(everything) == sorted(prepared.enumerate())
    few = prepared.draws(3, Chance(6), replacement=False)
    assert len(set(few)) == 3


def test_without_replacement_each_filling_is_as_likely_to_be_first(index: Index) -> None:
    prepared = Prepared(index, TEMPLATES["two parents"])
    expected = list(prepared.enumerate())
    chance = Chance(7)
    first = Counter(prepared.draws(1, chance, replacement=False)[0] for _ in range(2000))
    assert chisquare([first[rows] for rows in expected]).pvalue > 1e-4


def test_small_weights_decide_without_replacement_too(index: Index) -> None:
    template = TEMPLATES["two parents"]
    expected = list(Prepared(index, template).enumerate())
    weights = {row: 1e-5 for rows in expected for row in rows}
    heavy = expected[0][0]
    weights[heavy] = 3e-5
    prepared = Prepared(index, template, weights=weights)
    chance = Chance(17)
    first = Counter(prepared.draws(1, chance, replacement=False)[0] for _ in range(3000))
    shares = [3.0 ** rows.count(heavy) for rows in expected]
    wanted = [3000 * share / sum(shares) for share in shares]
    assert chisquare([first[rows] for rows in expected], wanted).pvalue > 1e-4


def test_many_fillings_of_small_weight_are_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = 0
    each = Elimination.each

    def counted(self: Elimination) -> Iterator[list[int]]:
        nonlocal listed
        for rows in each(self):
            listed += 1
            yield rows

    monkeypatch.setattr(Elimination, "each", counted)
    answers: Answers = [
        ("top", {"name": "a"}, {"id": "T"}),
        *(("left", {"id": "T", "n": n}, {}) for n in range(200)),
        *(("right", {"id": "T", "n": n}, {}) for n in range(200)),
    ]
    edges = (Edge(0, 1, ID), Edge(0, 2, ID))
    feeding = [feeds("top", tool, ("/id", "/id")) for tool in ("left", "right")]
    found = index_of(corpus_of(tmp_path / "c.db", answers), *feeding)
    weights = {row.number: 1e-6 for row in found.corpus.rows}
    prepared = Prepared(found, Template(("top", "left", "right"), edges), weights=weights)
    assert prepared.count < 1
    drawn = prepared.draws(50, Chance(3), replacement=False)
    assert len(set(drawn)) == 50
    assert prepared.attempts < 100
    assert listed <= ENUMERATED + 1 < 200 * 200


def test_rows_outside_of_a_split_are_never_drawn(index: Index) -> None:
    allowed = {r.number for r in index.corpus.rows if r.arguments.get("name") != "p0"}
    prepared = Prepared(index, TEMPLATES["chain"], rows=allowed)
    assert all(set(rows) <= allowed for rows in prepared.draws(200, Chance(8)))


def test_what_is_not_accepted_is_counted(index: Index) -> None:
    prepared = Prepared(
        index, TEMPLATES["chain"], accept=lambda rows: "odd" if rows[0] % 2 else None
    )
    rows = prepared.draws(50, Chance(9))
    assert all(r[0] % 2 == 0 for r in rows)
    assert prepared.attempts == 50 + prepared.rejected["odd"]


def test_where_most_draws_are_rejected_the_few_accepted_ones_are_listed(index: Index) -> None:
    everything = list(Prepared(index, TEMPLATES["diamond"]).enumerate())
    wanted = set(everything[::9])
    prepared = Prepared(
        index, TEMPLATES["diamond"], accept=lambda rows: None if rows in wanted else "unwanted"
    )
    drawn = Counter(prepared.draws(60 * len(wanted), Chance(10)))
    assert set(drawn) == wanted
    assert chisquare(list(drawn.values())).pvalue > 1e-4
    # tried alone, each of the draws costs about nine
    assert prepared.count <= prepared.attempts - prepared.accepted < 2 * prepared.count + 200
    assert prepared.attempts == prepared.accepted + sum(prepared.rejected.values())


def test_a_template_that_nothing_fills_gives_nothing_and_ends(index: Index) -> None:
    impossible = Template(
        ("place", "near", "look"),
        (Edge(0, 1, ID), Edge(1, 2, X)),
        (Equality((0, "/name"), (2, "/day")),),
    )
    prepared = Prepared(index, impossible)
    assert prepared.count == 0
    assert prepared.draws(5, Chance(0)) == []
    never = Prepared(index, TEMPLATES["chain"], accept=lambda _: "never")
    assert never.draws(5, Chance(0)) == []


def test_a_template_with_an_unknown_tool_is_refused(index: Index) -> None:
    with pytest.raises(OrchError, match="'ferry', which has no recorded call"):
        Prepared(index, Template(("place", "ferry")))


def test_numbers_and_their_texts_are_one_value(tmp_path: Path) -> None:
    corpus = corpus_of(
        tmp_path / "c.db",
        [("find", {"name": "a"}, {"id": 17}), ("open", {"id": "17"}, {}), ("open", {"id": 4}, {})],
    )
    index = index_of(corpus, feeds("find", "open", ("/id", "/id")))
    prepared = Prepared(index, Template(("find", "open"), (Edge(0, 1, ID),)))
    assert prepared.count == 1


def test_values_of_one_attachment_come_from_one_element(tmp_path: Path) -> None:
    spots = [{"lat": 1.5, "lng": 2.5}, {"lat": 3.5, "lng": 4.5}]
    corpus = corpus_of(
        tmp_path / "c.db",
        [
            ("find", {"name": "a"}, {"items": spots}),
            ("near", {"lat": 1.5, "lng": 2.5}, {}),
            ("near", {"lat": 1.5, "lng": 4.5}, {}),
        ],
    )
    pairs = (("/lat", "/items/*/lat"), ("/lng", "/items/*/lng"))
    index = index_of(corpus, feeds("find", "near", *pairs))
    template = Template(("find", "near"), (Edge(0, 1, pairs),))
    [rows] = Prepared(index, template).enumerate()
    assert corpus.rows[rows[1]].arguments == {"lat": 1.5, "lng": 2.5}
    source = draw_of(index, template, rows).sources[1]["/lng"]
    assert source.path == "/items/0/lng"


def test_gold_of_a_draw_replays_to_a_reward_of_one() -> None:
    cache = open_cache(HARBOUR)
    corpus = read_corpus(cache)
    index = Index(corpus, mine(corpus))
    ship, berth = (("/ship", "/ship"),), (("/berth", "/berth"),)
    template = Template(
        ("find_ship", "ship_berth", "ship_agent", "notify_agent"),
        (
            Edge(0, 1, ship),
            Edge(0, 2, ship),
            Edge(1, 3, berth),
            Edge(2, 3, (("/agent", "/agent"),)),
        ),
    )
    chance, tasks = Chance(0), []
    for number in range(5):
        rows = Prepared(index, template).draw(chance)
        assert rows is not None
        steps, after = gold_of(draw_of(index, template, rows), corpus, {})
        assert [len(step) for step in steps] == [1, 2, 1] and after == ()
        said = ({"role": "user", "content": "Tell the agent."},)
        tasks.append(Task(f"t{number}", said, tuple(sorted(template.tools)), steps))
    result = validate_tasks(tasks, ReplayBackend(cache))
    assert result["ok"] == 5, result["failures"]


def _looked_up(
    path: Path, *found: tuple[str, list[str]], beside: JsonObject | None = None
) -> set[tuple[str, str]]:
    """(Name sent, name read) of every filling of a look-up and a call about what it found."""
    names = sorted({name for _, listed in found for name in listed})
    answers: Answers = [
        *(
            (
                "find",
                {"name": sent, **(beside or {})},
                {"items": [{"name": n, "id": f"id of {n}"} for n in listed]},
            )
            for sent, listed in found
        ),
        *(("see", {"id": f"id of {name}"}, {}) for name in names),
    ]
    corpus = corpus_of(path, answers)
    pairs = (("/id", "/items/*/id"),)
    index = index_of(corpus, feeds("find", "see", *pairs))
    template = Template(("find", "see"), (Edge(0, 1, pairs),))
    return {
        (str(corpus.rows[one].arguments["name"]), str(corpus.rows[two].arguments["id"])[6:])
        for one, two in Prepared(index, template).draws(99, Chance("a"), replacement=False)
    }


def test_what_a_look_up_lists_under_another_name_is_not_read(tmp_path: Path) -> None:
    # A search by name puts the best match first; what follows may be another place.
    drawn = _looked_up(
        tmp_path / "cache.db",
        ("Oslo", ["Oslo", "London"]),
        ("york", ["New York", "York", "Leeds"]),
        ("The Big Apple", ["New York"]),
        ("London", ["London"]),
    )
    assert drawn == {
        ("Oslo", "Oslo"),
        ("york", "New York"),
        ("york", "York"),
        ("The Big Apple", "New York"),
        ("London", "London"),
    }


def test_a_list_that_does_not_begin_with_the_name_sent_is_read_whole(tmp_path: Path) -> None:
    # A search whose text is a wish and not a name: some results have it, in no order.
    drawn = _looked_up(
        tmp_path / "cache.db", ("quiet", ["Bar", "Quiet Bar"]), ("warm", ["Warm Room", "Cellar"])
    )
    assert len(drawn) == 4


def test_a_search_with_another_argument_is_read_whole(tmp_path: Path) -> None:
    drawn = _looked_up(tmp_path / "cache.db", ("Oslo", ["Oslo", "London"]), beside={"within": 30})
    assert drawn == {("Oslo", "Oslo"), ("Oslo", "London")}


def test_dates_and_ids_are_no_names(tmp_path: Path) -> None:
    days = ["2024-05-01", "2024-05-02"]
    assert len(_looked_up(tmp_path / "days.db", (days[0], days))) == 2
    # ``berth`` is fed an id, which the first of its cranes repeats.
    answers: Answers = [
        ("ship", {"name": "Dora"}, {"id": "B-81"}),
        ("berth", {"id": "B-81"}, {"items": [{"at": "B-81", "x": "R-1"}, {"at": "", "x": "R-2"}]}),
        ("crane", {"x": "R-1"}, {}),
        ("crane", {"x": "R-2"}, {}),
    ]
    corpus = corpus_of(tmp_path / "ids.db", answers)
    index = index_of(
        corpus, feeds("ship", "berth", ("/id", "/id")), feeds("berth", "crane", ("/x", X[0][1]))
    )
    template = Template(("ship", "berth", "crane"), (Edge(0, 1, ID), Edge(1, 2, X)))
    assert Prepared(index, template).count == 2
