"""Ids are exact, traces are read, and what grows makes sense: on a world that is known whole."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from orch_env import Task, open_cache
from orch_env.backends.replay import ReplayBackend
from orch_env.importers.validation import validate_tasks
from orch_env.provenance import Trace, graph_size
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.corpus import Corpus, read_corpus
from orch_env.synthesis.index import Index
from orch_env.synthesis.mining import Agreement, Mined
from orch_env.synthesis.sampling.draw import draw_of, gold_of
from orch_env.synthesis.sampling.prepared import Prepared
from orch_env.synthesis.templates.from_traces import templates_of
from orch_env.synthesis.templates.growth import Growth, Limits
from orch_env.synthesis.templates.joining import Joining
from orch_env.synthesis.templates.template import Edge, Equality, Template
from orch_env.types import GoldCall
from tests.orch_env.synthesis.small import HARBOUR, Answers, corpus_of, feeds, holds, index_of

Grown = list[tuple[Template, tuple[int, ...]]]

# Places; hotels near a place; filters of a place, whose keys are the same everywhere; rooms.
DAYS = [f"2025-03-0{n}" for n in (1, 2, 3)]
ANSWERS: Answers = [
    *(("place", {"name": f"Town {n}"}, {"id": f"ID-77000{n}", "type": "city"}) for n in range(3)),
    *(
        (
            "hotels",
            {"id": f"ID-77000{n}", "type": "city", "day": day},
            {"items": [{"hotel": f"H-9900{n}{i}"} for i in range(2)]},
        )
        for n in range(3)
        for day in DAYS
    ),
    *(
        ("filters", {"id": f"ID-77000{n}", "day": day}, {"items": [{"key": "spa"}]})
        for n in range(3)
        for day in DAYS[:2]
    ),
    *(
        ("filtered", {"id": f"ID-77000{n}", "key": "spa", "day": day}, {})
        for n in range(3)
        for day in DAYS[:2]
    ),
    *(
        ("rooms", {"hotel": f"H-9900{n}{i}", "day": day}, {"score": i})
        for n in range(3)
        for i in range(2)
        for day in DAYS
    ),
]
ID = (("/id", "/id"),)
PLACED, KEY = (*ID, ("/type", "/type")), (("/key", "/items/*/key"),)
HOTEL = (("/hotel", "/items/*/hotel"),)
FEEDS = [
    feeds("place", "hotels", *PLACED),
    feeds("place", "filters", *ID),
    feeds("place", "filtered", *ID),
    feeds("filters", "filtered", *KEY, strong=False),
    feeds("hotels", "rooms", *HOTEL),
]
AGREED = Agreement(("filtered", "/day"), ("filters", "/day"), 9, 1.0)


@pytest.fixture(scope="module")
def joining(tmp_path_factory: pytest.TempPathFactory) -> Joining:
    corpus = corpus_of(tmp_path_factory.mktemp("town") / "town.db", ANSWERS)
    opaque = frozenset((a.to_tool, pointer) for a in FEEDS for pointer, _ in a.pairs)
    return Joining(Index(corpus, Mined((), tuple(FEEDS), (AGREED,), opaque)))


def row(joining: Joining, tool: str, **arguments: str) -> int:
    """The row of a call."""
    rows = joining.index.corpus.rows
    return next(
        r.number for r in rows if r.tool == tool and arguments.items() <= r.arguments.items()
    )


def relabelled(template: Template, chance: random.Random) -> Template:
    """The same workflow with its calls in another topological order."""
    order: list[int] = []
    while len(order) < len(template.tools):
        free = [
            node
            for node in range(len(template.tools))
            if node not in order
            and all(e.parent in order for e in template.edges if e.child == node)
        ]
        order.append(chance.choice(free))
    place = {node: at for at, node in enumerate(order)}
    edges = [Edge(place[e.parent], place[e.child], e.pairs, e.composite) for e in template.edges]
    edges.sort(key=lambda e: (e.parent, e.child, e.pairs, e.composite))
    return Template(tuple(template.tools[node] for node in order), tuple(edges))


def least_form(template: Template) -> str:
    """The same text for isomorphic workflows only: the least over every order of the calls."""

    def form(order: tuple[int, ...]) -> str:
        place = {node: at for at, node in enumerate(order)}
        edges = sorted(
            (place[e.parent], place[e.child], e.pairs, e.composite) for e in template.edges
        )
        return str(([template.tools[node] for node in order], edges))

    return min(map(form, permutations(range(len(template.tools)))))


def some_template(chance: random.Random) -> Template:
    calls = chance.randint(1, 5)
    edges = [
        Edge(parent, child, chance.choice([ID, PLACED]), chance.random() < 0.2)
        for child in range(calls)
        for parent in range(child)
        if chance.random() < 0.5
    ]
    edges.sort(key=lambda e: (e.parent, e.child, e.pairs))
    return Template(tuple(chance.choice("ab") for _ in range(calls)), tuple(edges))


# -- the id ------------------------------------------------------------------------------------


def test_two_templates_have_the_same_id_iff_they_are_isomorphic() -> None:
    chance = random.Random(0)
    id_of: dict[str, str] = {}
    for _ in range(250):
        template = some_template(chance)
        assert relabelled(template, chance).id == template.id
        assert id_of.setdefault(least_form(template), template.id) == template.id
    assert len(set(id_of.values())) == len(id_of) > 100


def test_the_id_is_exact_where_colours_tell_nothing() -> None:
    chance = random.Random(1)
    families = [Edge(n // 3, 3 + n, ID) for n in range(9)]
    template = Template(("a",) * 3 + ("b",) * 9, tuple(families))
    assert len({relabelled(template, chance).id for _ in range(5)} | {template.id}) == 1
    ring = [Edge(n, 3 + n, ID) for n in range(3)] + [Edge(n, 3 + (n + 1) % 3, ID) for n in range(3)]
    six = Template(("a",) * 6 + ("b",) * 6, _sorted([*_moved(ring, 0), *_moved(ring, 3)]))
    whole = [Edge(n, 6 + n, ID) for n in range(6)] + [
        Edge(n, 6 + (n + 1) % 6, ID) for n in range(6)
    ]
    one = Template(("a",) * 6 + ("b",) * 6, _sorted(whole))
    assert six.id == relabelled(six, chance).id != one.id == relabelled(one, chance).id


def _moved(ring: list[Edge], by: int) -> Iterator[Edge]:
    for e in ring:
        yield Edge(e.parent + by, e.child + 3 + by, e.pairs)


def _sorted(edges: list[Edge]) -> tuple[Edge, ...]:
    return tuple(sorted(edges, key=lambda e: (e.parent, e.child)))


def test_equalities_do_not_change_the_id() -> None:
    edges = (Edge(0, 1, ID),)
    equal = Template(("a", "b"), edges, (Equality((0, "/x"), (1, "/x")),))
    assert equal.id == Template(("a", "b"), edges).id


def test_kinds_of_edges_do_not_count_repetition() -> None:
    once = Template(("a", "b"), (Edge(0, 1, ID),))
    twice = Template(("a", "b", "b"), (Edge(0, 1, ID), Edge(0, 2, ID)))
    assert once.kinds == twice.kinds == {("a", "b", ID)}


# -- traces ------------------------------------------------------------------------------------


def traced(joining: Joining, *traces: tuple[int, ...]) -> Joining:
    """The same world with recorded traces."""
    corpus = joining.index.corpus
    recorded = [(Trace("", ()), rows) for rows in traces]
    return Joining(Index(Corpus(corpus.cache, corpus.rows, recorded), joining.index.mined))


def trip(joining: Joining, town: int, day: str) -> tuple[int, int, int]:
    """A place, hotels there, and rooms of its first hotel."""
    return (
        row(joining, "place", name=f"Town {town}"),
        row(joining, "hotels", id=f"ID-77000{town}", day=day),
        row(joining, "rooms", hotel=f"H-9900{town}0", day=day),
    )


def test_traces_of_one_workflow_are_merged_whatever_their_order(joining: Joining) -> None:
    one, other = trip(joining, 0, DAYS[0]), trip(joining, 1, DAYS[1])
    mixed = [(*one, other[0], other[1]), (other[0], one[0], other[1], one[1], one[2])]
    found = templates_of(traced(joining, one, mixed[0], other, mixed[1]))
    assert [(len(m.template.tools), m.traces) for m in found] in (
        [(3, (0, 2)), (5, (1, 3))],
        [(5, (1, 3)), (3, (0, 2))],
    )
    short = min((m.template for m in found), key=lambda t: len(t.tools))
    assert short == Template(("place", "hotels", "rooms"), (Edge(0, 1, PLACED), Edge(1, 2, HOTEL)))


def test_a_trace_whose_id_comes_from_no_output_is_counted_and_left_out(joining: Joining) -> None:
    place, hotels, rooms = trip(joining, 0, DAYS[0])
    why: Counter[str] = Counter()
    assert (
        templates_of(traced(joining, (place, rooms), (rooms, hotels, place), (place,)), why) == []
    )
    assert why == {"literal_id": 2, "one_call": 1}


def test_a_trace_shows_its_agreements_and_what_ties_a_weak_link(joining: Joining) -> None:
    town = {"id": "ID-770000", "day": DAYS[0]}
    rows = (
        row(joining, "place", name="Town 0"),
        row(joining, "filters", **town),
        row(joining, "filtered", **town),
    )
    [found] = templates_of(traced(joining, rows))
    assert found.template.edges == (Edge(0, 1, ID), Edge(0, 2, ID), Edge(1, 2, KEY))
    assert Equality((1, "/day"), (2, "/day")) in found.template.equalities
    assert Equality((1, "/id"), (2, "/id")) in found.template.equalities
    for filling in Prepared(joining.index, found.template).enumerate():
        arguments = [joining.index.corpus.rows[r].arguments for r in filling]
        assert arguments[1]["day"] == arguments[2]["day"]
        assert arguments[1]["id"] == arguments[2]["id"]


# -- growth ------------------------------------------------------------------------------------


def grown(joining: Joining, calls: int, seed: int = 0, tries: int = 150, **limits: Any) -> Grown:
    return list(Growth(joining, Limits(**limits)).each(calls, Chance(seed), tries))


@pytest.mark.parametrize("calls", range(2, 7))
def test_what_grows_can_be_executed_and_makes_sense(joining: Joining, calls: int) -> None:
    found = grown(joining, calls)
    assert found
    for template, rows in found:
        assert len(template.tools) == len(rows) == calls
        assert holds(joining.index, template, rows)
        assert len(set(rows)) == calls
        assert senseless(joining, template, rows) == []


def senseless(joining: Joining, template: Template, rows: tuple[int, ...]) -> list[str]:
    """What is wrong with a filling of this world, known by its words."""
    sent = [joining.index.corpus.rows[r].arguments for r in rows]
    wrong = []
    towns: list[set[int]] = [{node} for node in range(len(rows))]
    for e in template.edges:
        if sent[e.child]["day"] < sent[e.parent].get("day", ""):
            wrong.append("earlier than what it reads")
        if e.pairs == KEY and any(sent[e.parent][k] != sent[e.child][k] for k in ("id", "day")):
            wrong.append("filters of something else")
        if e.pairs != KEY:
            joined = [t for t in towns if t & {e.parent, e.child}]
            towns = [t for t in towns if t not in joined] + [set().union(*joined)]
    if len(towns) > 1:
        wrong.append("unconnected")
    return wrong


def test_growth_reaches_every_kind_of_edge(joining: Joining) -> None:
    kinds = frozenset().union(*(t.kinds for n in range(2, 6) for t, _ in grown(joining, n)))
    assert kinds == {(a.from_tool, a.to_tool, a.pairs) for a in FEEDS}


def test_growth_ends_where_nothing_of_the_size_exists(joining: Joining) -> None:
    assert grown(joining, 30, tries=20) == []
    assert grown(joining, 1, tries=5, rows={row(joining, "place", name="Town 0")}) == []


def test_a_weak_value_never_joins_two_calls(tmp_path: Path) -> None:
    answers = [a for a in ANSWERS if a[0] in ("place", "filters")]
    other = [("filtered", {"key": "spa", "name": f"Town {n}"}, {}) for n in range(3)]
    corpus = corpus_of(tmp_path / "c.db", [*answers, *other])
    weak = feeds("filters", "filtered", *KEY, strong=False)
    bound = Joining(index_of(corpus, feeds("place", "filters", *ID), weak))
    free = Joining(
        index_of(corpus, feeds("place", "filters", *ID), feeds("filters", "filtered", *KEY))
    )
    assert all("filtered" not in t.tools for n in (2, 3, 4) for t, _ in grown(bound, n))
    assert any("filtered" in t.tools for t, _ in grown(free, 3))


# -- coherence ---------------------------------------------------------------------------------


def test_each_kind_of_nonsense_is_named(joining: Joining) -> None:
    zero, one = {"id": "ID-770000"}, {"id": "ID-770001"}
    place = row(joining, "place", name="Town 0")
    filtered = Template(
        ("place", "filters", "filtered"), (Edge(0, 1, ID), Edge(0, 2, ID), Edge(1, 2, KEY))
    )
    hotels = Template(("place", "hotels", "rooms"), (Edge(0, 1, PLACED), Edge(1, 2, HOTEL)))
    twice = Template(("place", "hotels", "hotels"), (Edge(0, 1, PLACED), Edge(0, 2, PLACED)))
    early, late = ({**zero, "day": day} for day in DAYS[:2])

    def wrong(template: Template, *rows: int) -> list[str]:
        return joining.incoherences(template, rows)

    filters, narrowed = row(joining, "filters", **early), row(joining, "filtered", **early)
    searched = row(joining, "hotels", **late)
    room = row(joining, "rooms", hotel="H-990000", day=DAYS[0])
    assert wrong(filtered, place, filters, narrowed) == []
    assert wrong(filtered, place, filters, row(joining, "filtered", **late)) == ["disagreement"]
    assert wrong(
        Template(("filters", "filtered"), (Edge(0, 1, KEY),)),
        filters,
        row(joining, "filtered", **one, day=DAYS[0]),
    ) == ["weak_link"]
    assert wrong(hotels, place, searched, room) == ["time"]
    assert wrong(twice, place, searched, searched) == ["repeated_call"]
    assert wrong(twice, place, searched, row(joining, "hotels", **early)) == ["same_thing"]
    apart = Template(("place", "filters", "place"), (Edge(0, 1, ID),))
    other = row(joining, "place", name="Town 1")
    assert wrong(apart, place, filters, other) == ["weak_link", "unused_lookup"]


def test_equalities_leave_no_disagreement_to_refuse(joining: Joining) -> None:
    tested = 0
    for template in {t.id: t for n in (3, 4, 5) for t, _ in grown(joining, n)}.values():
        free = Template(template.tools, template.edges)
        reasons = [
            {
                w
                for rows in Prepared(joining.index, t).enumerate()
                for w in joining.incoherences(t, rows)
            }
            for t in (template, free)
        ]
        assert "disagreement" not in reasons[0]
        tested += "disagreement" in reasons[1]
    assert tested


# -- a real cache ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def harbour() -> Joining:
    corpus = read_corpus(open_cache(HARBOUR))
    ship = (("/ship", "/ship"),)
    return Joining(
        index_of(
            corpus,
            *(
                feeds("find_ship", tool, *ship)
                for tool in ("ship_berth", "ship_cargo", "ship_agent")
            ),
            feeds("ship_cargo", "cargo_permit", ("/cargo", "/cargo")),
            feeds("ship_berth", "notify_agent", ("/berth", "/berth")),
            feeds("ship_agent", "notify_agent", ("/agent", "/agent")),
        )
    )


def gold(
    joining: Joining, template: Template, rows: tuple[int, ...]
) -> tuple[tuple[GoldCall, ...], ...]:
    steps, _ = gold_of(draw_of(joining.index, template, rows), joining.index.corpus, {})
    return steps


def test_the_size_of_a_template_is_that_of_the_gold_calls_of_its_draws(harbour: Joining) -> None:
    sizes = set()
    for calls in (3, 5, 7):
        for template, rows in grown(harbour, calls, tries=60):
            size = template.size({})
            measured = {n: getattr(size, n) for n in ("calls", "depth", "width", "edges")}
            assert graph_size(gold(harbour, template, rows)) == measured
            sizes.add(tuple(measured.values()))
    assert len(sizes) > 3


def test_workflows_that_grow_on_a_real_cache_replay_to_a_reward_of_one(harbour: Joining) -> None:
    said = ({"role": "user", "content": "Tell the agent."},)
    tasks = [
        Task(f"t{number}", said, tuple(sorted(set(template.tools))), gold(harbour, template, rows))
        for number, (template, rows) in enumerate(grown(harbour, 6, tries=20))
    ]
    assert len(tasks) > 5
    result = validate_tasks(tasks, ReplayBackend(harbour.index.corpus.cache))
    assert result["ok"] == len(tasks), result["failures"]
