"""The dependency graph as data, as domains and as a picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from orch_env import OrchError
from orch_env.synthesis.corpus import Corpus
from orch_env.synthesis.mining import (
    Link,
    Mined,
    dependency_graph,
    domains,
    draw_graph,
    edges_json,
    mine,
)
from orch_env.synthesis.mining.graph import layers
from tests.orch_env.synthesis.shop import shop


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def mined(corpus: Corpus) -> Mined:
    return mine(corpus)


def test_the_graph_has_every_recorded_tool_and_an_edge_a_link(corpus: Corpus, mined: Mined) -> None:
    graph = dependency_graph(mined, corpus)
    assert sorted(graph) == sorted(corpus.tools)
    recorded = [x for x in mined.links if x.to_tool in corpus.tools]
    assert graph.number_of_edges() == len(recorded)
    assert graph.nodes["order"] == {"rows": len(corpus.rows_of["order"])}
    ((_, _, edge),) = graph.out_edges("order", data=True)
    assert (edge["from_path"], edge["to_path"]) == ("/order/code", "/order_code")


def test_edges_are_told_as_the_links_are(mined: Mined) -> None:
    told = [(e["from_tool"], e["from_path"], e["to_tool"], e["to_path"]) for e in edges_json(mined)]
    assert told == [(x.from_tool, x.from_path, x.to_tool, x.to_path) for x in mined.links]
    assert {"kind", "support", "values", "rate", "strong"} <= edges_json(mined)[0].keys()


def test_a_tool_stands_in_a_layer_after_those_that_it_reads_ids_from(
    corpus: Corpus, mined: Mined
) -> None:
    depth = {tool: at for at, row in enumerate(layers(mined, corpus.tools)) for tool in row}
    assert sorted(depth) == sorted(corpus.tools)
    strong = [x for x in mined.links if x.strong and x.to_tool in depth]
    assert strong
    assert all(depth[x.from_tool] < depth[x.to_tool] for x in strong)


def test_links_in_a_circle_still_give_layers() -> None:
    circle = [Link(a, "/id", b, "/id", values=n) for n, (a, b) in enumerate(["ab", "bc", "ca"], 1)]
    mined = Mined(tuple(circle), opaque=frozenset((tool, "/id") for tool in "abc"))
    assert layers(mined, "abc") == [["b"], ["c"], ["a"]]  # the link of the fewest values is cut


def test_tools_that_share_ids_are_one_domain() -> None:
    links = [Link("find", "/id", tool, "/id", values=5) for tool in ("open", "close")]
    links += [Link("search", "/no", tool, "/no", values=5) for tool in ("buy", "sell", "rate")]
    mined = Mined(tuple(links), opaque=frozenset((x.to_tool, x.to_path) for x in links))
    tools = ["alone", "buy", "close", "find", "open", "rate", "search", "sell"]
    assert domains(mined, tools) == {
        "alone": "alone",
        **dict.fromkeys(("close", "find", "open"), "find"),
        **dict.fromkeys(("buy", "rate", "search", "sell"), "search"),
    }
    named = domains(mined, tools, {"buy": "shopping", "alone": "misc"})
    assert {named[tool] for tool in ("buy", "rate", "search", "sell")} == {"shopping"}
    assert (named["alone"], named["open"]) == ("misc", "find")


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_picture_is_the_same_bytes_each_time(
    mined: Mined, corpus: Corpus, tmp_path: Path, ending: str
) -> None:
    first, second = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    draw_graph(mined, corpus.tools, first)
    draw_graph(mined, corpus.tools, second)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size > 5_000


def test_a_picture_in_an_unknown_format_is_refused(mined: Mined, tmp_path: Path) -> None:
    with pytest.raises(OrchError, match=r"must end with \.svg or \.png"):
        draw_graph(mined, ["order"], tmp_path / "graph.gif")
