"""What the benchmark of sampling computes is what trying everything gives."""

from __future__ import annotations

from math import prod

import pytest

from benchmarks.synthesis_opponents import Values, Ways
from benchmarks.synthesis_sampling import cut, in_order
from orch_env.synthesis.index import Index
from orch_env.synthesis.templates.template import Edge, Equality, Template
from tests.orch_env.synthesis.small import Answers, corpus_of, feeds, fillings, index_of

ID, X = (("/id", "/id"),), (("/x", "/items/*/x"),)
FROM, TO = (("/from", "/id"),), (("/to", "/id"),)
ANSWERS: Answers = [
    *(("place", {"name": f"p{n}"}, {"id": f"I{n}"}) for n in range(3)),
    *(
        ("near", {"id": f"I{n}", "day": f"d{d}"}, {"items": [{"x": f"X{n}{d}"}, {"x": f"X{d}"}]})
        for n in range(2)
        for d in range(2)
    ),
    *(("look", {"x": x, "day": f"d{d}"}, {}) for x in ("X00", "X0", "X1") for d in (0, 1)),
    *(("route", {"from": f"I{a}", "to": f"I{b}"}, {}) for a, b in [(0, 1), (0, 2), (1, 2)]),
]
TEMPLATES = {
    "chain": Template(
        ("place", "near", "look"),
        (Edge(0, 1, ID), Edge(1, 2, X)),
        (Equality((1, "/day"), (2, "/day")),),
    ),
    "two parents": Template(("place", "place", "route"), (Edge(0, 2, FROM), Edge(1, 2, TO))),
    "twins": Template(("place", "near", "near"), (Edge(0, 1, ID), Edge(0, 2, ID))),
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    corpus = corpus_of(tmp_path_factory.mktemp("small") / "small.db", ANSWERS)
    fed = [
        feeds("place", "near", ("/id", "/id")),
        feeds("near", "look", ("/x", "/items/*/x")),
        feeds("place", "route", ("/from", "/id")),
        feeds("place", "route", ("/to", "/id")),
    ]
    return index_of(corpus, *fed)


@pytest.mark.parametrize("name", TEMPLATES)
def test_probabilities_of_valid_fillings_are_those_of_trying_everything(
    index: Index, name: str
) -> None:
    template, values = TEMPLATES[name], Values(index)
    ways, valid = Ways(index, template, values), fillings(index, template)
    assert valid and all(map(ways.is_valid, valid))
    every = prod(len(index.corpus.rows_of[tool]) for tool in template.tools)
    assert ways.exact_rows() == pytest.approx(len(valid) / every)
    by_values = sum(prod(values.weights[row] for row in rows) for rows in valid)
    assert ways.exact_values() == pytest.approx(by_values)
    forward = sum(
        prod(1 / len(ways.fitting(node, rows)) for node in range(len(rows))) for rows in valid
    )
    assert ways.exact_forward() == pytest.approx(forward)


def test_values_that_were_seen_in_every_combination_always_hit(index: Index) -> None:
    hits = Values(index).hits
    assert hits["near"] == pytest.approx(1.0)
    assert hits["route"] == pytest.approx(2 / 3 * 1 / 3 + 2 / 3 * 2 / 3 + 1 / 3 * 2 / 3)


def test_a_chain_is_cut_with_the_links_of_its_first_calls() -> None:
    template = Template(
        ("place", "place", "near", "route"),
        (Edge(0, 2, ID), Edge(0, 3, FROM), Edge(1, 3, TO)),
    )
    ordered = in_order(template)
    assert ordered.id == template.id
    assert cut(ordered, 2) == Template(("place", "near"), (Edge(0, 1, ID),))
    assert cut(ordered, 4) == ordered
