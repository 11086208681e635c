"""Parts that look up the same name may be one task: of one trip, and about the same place."""

from __future__ import annotations

from pathlib import Path

import pytest

from orch_env import load_tasks
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.checking.separation import is_apart, separation
from orch_env.synthesis.index import Index
from orch_env.synthesis.mining import Agreement, Mined
from orch_env.synthesis.pipeline.config import SynthesisConfig
from orch_env.synthesis.pipeline.run import run_job
from orch_env.synthesis.sampling.prepared import Prepared
from orch_env.synthesis.templates.growth import Growth, Limits
from orch_env.synthesis.templates.joining import Joining
from orch_env.synthesis.templates.template import Edge, Equality, Template
from orch_env.types.json import Json, JsonObject
from tests.orch_env.synthesis import tours
from tests.orch_env.synthesis.small import Answers, corpus_of, feeds, fillings
from tests.orch_env.synthesis.tours import tours_cache, tours_config, town_name

TOWNS = ("Alba", "Brest", "Como")
DAYS = ("2025-03-01", "2025-03-09", "2025-05-20", "2025-02-31")
# Airports and sights are looked up by a town's name, each with ids of its own.
ANSWERS: Answers = [
    *(("airport", {"name": town}, {"id": f"AP-4400{n}"}) for n, town in enumerate(TOWNS)),
    *(("sights", {"query": town}, {"code": f"SI-8800{n}"}) for n, town in enumerate(TOWNS[:2])),
    *(("flights", {"id": f"AP-4400{n}", "day": d}, {"n": 1}) for n in range(3) for d in DAYS),
    *(("tickets", {"code": f"SI-8800{n}", "on": d}, {"n": 2}) for n in range(2) for d in DAYS[:3]),
]
FEEDS = (
    feeds("airport", "flights", ("/id", "/id")),
    feeds("sights", "tickets", ("/code", "/code")),
)
EDGES = (Edge(0, 2, (("/id", "/id"),)), Edge(1, 3, (("/code", "/code"),)))
TOOLS = ("airport", "sights", "flights", "tickets")
SAME = Equality((0, "/name"), (1, "/query"))
AGREED = Agreement(("flights", "/day"), ("tickets", "/on"), 9, 1.0)


def joining_of(folder: Path, *agreed: Agreement) -> Joining:
    opaque = frozenset((a.to_tool, pointer) for a in FEEDS for pointer, _ in a.pairs)
    corpus = corpus_of(folder / "towns.db", ANSWERS)
    return Joining(Index(corpus, Mined((), FEEDS, agreed, opaque)))


@pytest.fixture(scope="module")
def joining(tmp_path_factory: pytest.TempPathFactory) -> Joining:
    return joining_of(tmp_path_factory.mktemp("towns"))


def row(joining: Joining, tool: str, **arguments: str) -> int:
    return next(
        r.number
        for r in joining.index.corpus.rows
        if r.tool == tool and arguments.items() <= r.arguments.items()
    )


def filling(joining: Joining, town: int, other: int, day: str, on: str) -> tuple[int, ...]:
    return (
        row(joining, "airport", name=TOWNS[town]),
        row(joining, "sights", query=TOWNS[other]),
        row(joining, "flights", id=f"AP-4400{town}", day=day),
        row(joining, "tickets", code=f"SI-8800{other}", on=on),
    )


def namesakes_in(joining: Joining) -> dict[int, list[int]]:
    pairs = [
        (row(joining, "airport", name=town), row(joining, "sights", query=town))
        for town in TOWNS[:2]
    ]
    return {one: [other] for a, b in pairs for one, other in ((a, b), (b, a))}


def test_parts_belong_together_where_a_constraint_gives_them_one_name(joining: Joining) -> None:
    free, tied = Template(TOOLS, EDGES), Template(TOOLS, EDGES, (SAME,))
    rows = filling(joining, 0, 0, DAYS[0], DAYS[1])
    assert joining.incoherences(free, rows) == ["weak_link"]
    assert joining.incoherences(tied, rows) == []
    assert joining.incoherences(tied, filling(joining, 0, 1, DAYS[0], DAYS[0])) == ["weak_link"]


def test_parts_of_one_name_are_of_one_trip(joining: Joining) -> None:
    tied = Template(TOOLS, EDGES, (SAME,))
    assert joining.incoherences(tied, filling(joining, 1, 1, DAYS[0], DAYS[2])) == ["far_apart"]
    assert joining.incoherences(tied, filling(joining, 1, 1, DAYS[3], DAYS[2])) == []  # no such day


def test_what_must_agree_agrees_in_parts_of_one_name(tmp_path: Path) -> None:
    joining = joining_of(tmp_path, AGREED)
    tied = Template(TOOLS, EDGES, (SAME,))
    rows = filling(joining, 0, 0, DAYS[0], DAYS[1])
    assert joining.incoherences(tied, rows) == ["disagreement"]
    agreed = Equality((2, "/day"), (3, "/on"))
    assert list(joining.equalities(TOOLS, EDGES, [(0, 1)])) == [agreed]
    assert list(joining.equalities(TOOLS, EDGES)) == []
    limits = Limits(namesakes=namesakes_in(joining))
    grown = [t for t, _ in Growth(joining, limits).each(4, Chance(0), 200) if len(t.edges) == 2]
    assert grown
    for template in grown:
        held = {(q.left[1], q.right[1]) for q in template.equalities}
        assert len(held & {("/name", "/query"), ("/query", "/name")}) == 1
        assert len(held & {("/day", "/on"), ("/on", "/day")}) == 1


def test_workflows_grow_from_namesakes_and_only_where_that_is_asked_for(joining: Joining) -> None:
    plain = Growth(joining, Limits()).sizes((2, 4), Chance(0), 300)
    assert not [t for t, _ in plain if {"airport", "sights"} <= {*t.tools}]
    limits = Limits(namesakes=namesakes_in(joining))
    found = {t.id: (t, rows) for t, rows in Growth(joining, limits).sizes((2, 4), Chance(0), 300)}
    both = [(t, rows) for t, rows in found.values() if {"airport", "sights"} <= {*t.tools}]
    assert sorted(both[0][0].tools) == sorted(TOOLS)
    for template, rows in both:
        assert joining.incoherences(template, rows) == []
        prepared = Prepared(joining.index, template)
        expected = fillings(joining.index, template)
        assert prepared.count == len(expected) == 2 * len(DAYS) * 3
        assert set(prepared.enumerate()) == set(expected)
        assert rows in expected


def test_a_job_with_namesakes_asks_for_both_and_shares_nothing_between_splits(
    tmp_path: Path,
) -> None:
    recorded: list[tuple[str, JsonObject, Json]] = []
    for n in range(30):
        name, tour, visit = town_name(n), f"R-{70000 + 101 * n}", f"V-{50000 + 101 * n}"
        recorded += [
            ("find_town", {"name": name}, {"town_id": f"T-{4000 + 37 * n}", "name": name}),
            ("list_tours", {"town_id": f"T-{4000 + 37 * n}"}, {"tours": [{"tour_id": tour}]}),
            ("find_museum", {"town": name}, {"museum_id": visit, "town": name}),
            ("museum_hours", {"museum_id": visit}, {"opens": f"{n % 12}:30"}),
        ]
    tools = {
        **tours.TOOLS,
        "find_museum": ("Finds a museum by its town.", "town"),
        "museum_hours": ("Tells when a museum opens.", "museum_id"),
    }
    cache = tours_cache(tmp_path / "tours.db", recorded, tools)
    alone = with_namesakes(tours_config(cache, tmp_path / "alone"), namesakes=False)
    both = with_namesakes(tours_config(cache, tmp_path / "both"), namesakes=True)
    for config in (alone, both):
        run_job(config)
    tasks = [load_tasks(Path(c.out) / "tasks.jsonl") for c in (alone, both)]
    museums = [
        [t for t in ts if {"find_town", "find_museum"} <= {c.name for c in t.gold_calls}]
        for ts in tasks
    ]
    assert not museums[0]
    assert museums[1]
    for task in museums[1]:
        names = {
            v for c in task.gold_calls for k, v in c.arguments.items() if k in ("name", "town")
        }
        assert len(names) == 1
        assert str(names.pop()) in task.query
    report = separation(
        {s: [t for t in tasks[1] if t.metadata["split"] == s] for s in ("train", "test")}
    )
    assert is_apart(report)


def with_namesakes(config: SynthesisConfig, *, namesakes: bool) -> SynthesisConfig:
    shape = config.shape.model_copy(update={"namesakes": namesakes, "calls": (2, 4)})
    return config.model_copy(update={"shape": shape})
