"""Workflows: the same graph has the same id, what grows can be executed and makes sense."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from orch_env import load_tasks, open_cache
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.corpus import read_corpus
from orch_env.synthesis.index import Index
from orch_env.synthesis.mining import Agreement, Mined, mine
from orch_env.synthesis.sampling.prepared import Prepared
from orch_env.synthesis.templates.from_traces import templates_of
from orch_env.synthesis.templates.growth import Growth, Limits
from orch_env.synthesis.templates.joining import Joining
from orch_env.synthesis.templates.template import Edge, Equality, Size, Template
from orch_env.types import OrchError
from tests.orch_env.synthesis.small import HARBOUR, corpus_of, feeds

X, Y = (("/x", "/z"),), (("/y", "/z"),)


def _shuffled(template: Template, chance: random.Random) -> Template:
    """The same graph with its calls in another order."""
    left, order = set(range(len(template.tools))), list[int]()
    while left:
        ready = [
            n for n in sorted(left) if not {e.parent for e in template.edges if e.child == n} & left
        ]
        order.append(chance.choice(ready))
        left.discard(order[-1])
    place = {node: at for at, node in enumerate(order)}
    edges = [Edge(place[e.parent], place[e.child], e.pairs, e.composite) for e in template.edges]
    return Template(
        tuple(template.tools[n] for n in order),
        tuple(sorted(edges, key=lambda e: (e.parent, e.child, e.pairs))),
    )


def _drawn(chance: random.Random) -> Template:
    size = chance.randint(2, 8)
    edges = [
        Edge(parent, child, chance.choice([X, Y]))
        for child in range(1, size)
        for parent in chance.sample(range(child), min(child, chance.choice([0, 1, 1, 2])))
    ]
    tools = tuple(chance.choice("abc") for _ in range(size))
    return Template(tools, tuple(sorted(edges, key=lambda e: (e.parent, e.child, e.pairs))))


def test_the_order_of_calls_does_not_change_the_id() -> None:
    chance = random.Random(0)
    for _ in range(150):
        template = _drawn(chance)
        assert _shuffled(template, chance).id == template.id


def test_another_graph_has_another_id() -> None:
    line = Template(("a", "a", "a"), (Edge(0, 1, X), Edge(1, 2, X)))
    others = [
        Template(("a", "a", "a"), (Edge(0, 1, X), Edge(0, 2, X))),
        Template(("a", "a", "a"), (Edge(0, 1, X), Edge(1, 2, Y))),
        Template(("a", "a", "b"), (Edge(0, 1, X), Edge(1, 2, X))),
        Template(("a", "a", "a"), (Edge(0, 1, X), Edge(1, 2, X, True))),
        Template(("a", "a"), (Edge(0, 1, X),)),
    ]
    ids = [line.id, *(other.id for other in others)]
    assert len(set(ids)) == len(ids)


def test_graphs_that_look_alike_call_by_call_have_different_ids() -> None:
    # Two triangles and one hexagon: every call has the same neighbourhood.
    tools = ("a",) * 12

    def ring(nodes: list[int], first: int) -> list[Edge]:
        return [
            edge
            for at, node in enumerate(nodes)
            for edge in (
                Edge(node, first + at, X),
                Edge(nodes[(at + 1) % len(nodes)], first + at, Y),
            )
        ]

    one = Template(tools, tuple(sorted(ring([0, 1, 2, 3, 4, 5], 6), key=_order)))
    two = Template(tools, tuple(sorted(ring([0, 1, 2], 6) + ring([3, 4, 5], 9), key=_order)))
    assert one.id != two.id


def _order(edge: Edge) -> tuple[int, int, tuple[tuple[str, str], ...]]:
    return edge.parent, edge.child, edge.pairs


def test_a_template_survives_its_json() -> None:
    template = Template(
        ("a", "b", "b"),
        (Edge(0, 1, X), Edge(0, 2, Y, True)),
        (Equality((1, "/day"), (2, "/day")),),
    )
    assert Template.from_dict(template.to_dict()) == template


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"tools": []}, "calls no tool"),
        ({"tools": "find"}, "'tools' must be a list"),
        ({"tools": ["a", "b"], "edges": [{"parent": 1, "child": 0, "pairs": [["/x", "/y"]]}]}, "1"),
        ({"tools": ["a", "b"], "edges": [{"parent": 0, "child": 1, "pairs": []}]}, "no value"),
        ({"tools": ["a"], "equalities": [[[0, "/x"], [7, "/y"]]]}, "missing call"),
        ({"tools": ["a"], "equalities": [1]}, "malformed"),
    ],
)
def test_a_malformed_template_is_one_clear_line(data: dict[str, object], said: str) -> None:
    with pytest.raises(OrchError, match=said) as caught:
        Template.from_dict(data)
    assert "\n" not in str(caught.value)


def test_the_size_of_a_diamond() -> None:
    two = (("/p", "/z"), ("/q", "/w"))
    diamond = Template(
        ("a", "b", "b", "c"), (Edge(0, 1, X), Edge(0, 2, X), Edge(1, 3, two), Edge(2, 3, X))
    )
    assert diamond.size({"a": "one", "b": "one", "c": "two"}) == Size(4, 3, 2, 5, 2)


# -- growth and traces ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def harbour() -> Joining:
    corpus = read_corpus(open_cache(HARBOUR), load_tasks("harbour")[::6])
    return Joining(Index(corpus, mine(corpus)))


@pytest.mark.parametrize("calls", [2, 4, 7])
def test_what_grows_can_be_executed_and_is_coherent(harbour: Joining, calls: int) -> None:
    grown = list(Growth(harbour).each(calls, Chance(calls), 60))
    assert grown
    for template, rows in grown:
        assert len(template.tools) == calls
        assert harbour.incoherences(template, rows) == []
        assert max(template.tools.count(tool) for tool in template.tools) <= 3
    for template in {t.id: t for t, _ in grown}.values():
        assert Prepared(harbour.index, template).count >= 1
    assert any(rows in set(Prepared(harbour.index, t).enumerate()) for t, rows in grown[:1])


def test_growth_is_the_same_for_the_same_seed(harbour: Joining) -> None:
    first = list(Growth(harbour).each(4, Chance("s"), 40))
    assert first == list(Growth(harbour).each(4, Chance("s"), 40))
    assert first != list(Growth(harbour).each(4, Chance("t"), 40))


def test_growth_keeps_to_its_rows_and_to_its_bound_of_one_tool(harbour: Joining) -> None:
    rows = frozenset(range(0, len(harbour.index.corpus.rows)))
    some = frozenset(r.number for r in harbour.index.corpus.rows if r.number % 3)
    assert some < rows
    for _, used in Growth(harbour, Limits(per_tool=1, rows=some)).each(4, Chance(1), 60):
        assert set(used) <= some
        tools = [harbour.index.corpus.rows[row].tool for row in used]
        assert len(set(tools)) == len(tools)


def test_the_workflows_of_traces_can_be_filled_by_the_traces(harbour: Joining) -> None:
    found = templates_of(harbour)
    traces = sorted(n for mined in found for n in mined.traces)
    assert traces == list(range(len(harbour.index.corpus.traces)))
    for mined in found:
        assert Prepared(harbour.index, mined.template).count >= len(
            {harbour.index.corpus.trace_rows[n] for n in mined.traces}
        )


def test_a_weak_value_never_joins_two_calls(tmp_path: Path) -> None:
    corpus = corpus_of(
        tmp_path / "c.db",
        [
            ("place", {"name": "Oslo"}, {"kind": "city", "id": "IDOSLO77"}),
            ("place", {"name": "Rome"}, {"kind": "city", "id": "IDROME88"}),
            ("hotels", {"id": "IDOSLO77", "kind": "city"}, {}),
            ("hotels", {"id": "IDROME88", "kind": "city"}, {}),
        ],
    )
    strong = feeds("place", "hotels", ("/id", "/id"))
    weak = feeds("place", "hotels", ("/kind", "/kind"), strong=False)
    opaque = frozenset({("hotels", "/id"), ("hotels", "/kind")})
    joining = Joining(Index(corpus, Mined(attachments=(strong, weak), opaque=opaque)))
    place, hotels = corpus.rows_of["place"], corpus.rows_of["hotels"]
    mixed = Template(
        ("place", "place", "hotels"),
        (Edge(0, 2, strong.pairs), Edge(1, 2, weak.pairs)),
    )
    assert "weak_link" in joining.incoherences(mixed, (place[0], place[1], hotels[0]))


def test_arguments_that_must_agree_do_in_every_filling(tmp_path: Path) -> None:
    days = ["2025-03-01", "2025-03-02"]
    corpus = corpus_of(
        tmp_path / "c.db",
        [
            ("place", {"name": "Oslo"}, {"id": "IDOSLO77"}),
            *(("hotels", {"id": "IDOSLO77", "day": d}, {"hotel": f"H{d}OSLO"}) for d in days),
            *(
                ("rooms", {"hotel": f"H{h}OSLO", "day": d}, {})
                for h in days
                for d in (*days, "2025-02-01")
            ),
        ],
    )
    links = (
        feeds("place", "hotels", ("/id", "/id")),
        feeds("hotels", "rooms", ("/hotel", "/hotel")),
    )
    opaque = frozenset({("hotels", "/id"), ("rooms", "/hotel")})
    agreement = Agreement(("hotels", "/day"), ("rooms", "/day"), 9, 1.0)
    joining = Joining(Index(corpus, Mined((), links, (agreement,), opaque)))
    [template] = {t.id: t for t, _ in Growth(joining).each(3, Chance(0), 200)}.values()
    assert template.equalities == (Equality((1, "/day"), (2, "/day")),)
    fillings = list(Prepared(joining.index, template).enumerate())
    assert len(fillings) == 2
    for rows in fillings:
        assert corpus.rows[rows[1]].arguments["day"] == corpus.rows[rows[2]].arguments["day"]
    plain = Template(template.tools, template.edges)
    early = [r for r in Prepared(joining.index, plain).enumerate() if r not in fillings]
    reasons = {reason for rows in early for reason in joining.incoherences(plain, rows)}
    assert reasons == {"disagreement", "time"}


def test_the_same_thing_is_not_asked_of_one_tool_twice(tmp_path: Path) -> None:
    corpus = corpus_of(
        tmp_path / "c.db",
        [
            ("place", {"name": "Oslo"}, {"id": "IDOSLO77"}),
            ("hotels", {"id": "IDOSLO77", "sort": "price"}, {}),
            ("hotels", {"id": "IDOSLO77", "sort": "stars"}, {}),
        ],
    )
    link = feeds("place", "hotels", ("/id", "/id"))
    index = Index(corpus, Mined((), (link,), (), frozenset({("hotels", "/id")})))
    joining = Joining(index)
    twice = Template(
        ("place", "hotels", "hotels"), (Edge(0, 1, link.pairs), Edge(0, 2, link.pairs))
    )
    rows = (*corpus.rows_of["place"], *corpus.rows_of["hotels"])
    assert joining.incoherences(twice, rows) == ["same_thing"]
