"""Mining where every flow of data is known: a shop, with its recorded tasks and without."""

from __future__ import annotations

import pytest

from orch_env.synthesis.corpus import Corpus
from orch_env.synthesis.mining import Link, LinkKind, Mined, mine
from tests.orch_env.synthesis.shop import TRACES, shop

TRUTH = {
    ("find_items", "/items/*/sku", "item", "/sku"),
    ("find_items", "/items/*/sku", "reviews", "/sku"),
    ("find_items", "/items/*/sku", "compare", "/skus"),
    ("find_items", "/items/*/sku", "order", "/lines/*/sku"),
    ("facets", "/groups/*/options/*/key", "find_items", "/facet"),
    ("find_place", "/*/lat", "stores", "/lat"),
    ("find_place", "/*/lon", "stores", "/lon"),
    ("stores", "/stores/*/store_number", "slots", "/store"),
    ("stores", "/stores/*/store_number", "order", "/store"),
    ("order", "/order/code", "track", "/order_code"),
}
UNTRIED = {("order", "/order/code", "cancel", "/order_code")}
"""A tool that was never called, with an argument of the same name."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def mined(corpus: Corpus) -> Mined:
    return mine(corpus)


def _link(mined: Mined, to_tool: str, to_path: str) -> Link:
    (link,) = [x for x in mined.links if (x.to_tool, x.to_path) == (to_tool, to_path)]
    return link


def test_all_flows_of_data_are_found_and_nothing_else(mined: Mined) -> None:
    found = {(x.from_tool, x.from_path, x.to_tool, x.to_path) for x in mined.links}
    assert found - {("compare", "/better", "order", "/lines/*/sku")} == TRUTH | UNTRIED


def test_a_bare_cache_shows_the_same_flows_as_far_as_names_or_values_tell(corpus: Corpus) -> None:
    bare = mine(corpus.only(range(len(corpus.rows)), ()))
    found = {(x.from_tool, x.from_path, x.to_tool, x.to_path) for x in bare.links}
    echoes_of_an_earlier_sku = {
        ("compare", "/better", tool, path) for _, _, tool, path in TRUTH if "sku" in path
    }
    assert found >= TRUTH - {
        ("facets", "/groups/*/options/*/key", "find_items", "/facet"),  # in every response
        ("find_items", "/items/*/sku", "compare", "/skus"),  # only pieces of it are values
    }
    assert found <= TRUTH | UNTRIED | echoes_of_an_earlier_sku


def test_a_number_and_its_text_are_one_value_of_two_types(mined: Mined) -> None:
    assert _link(mined, "slots", "/store").kind is LinkKind.TYPED
    assert _link(mined, "item", "/sku").kind is LinkKind.VALUE


def test_a_text_of_several_ids_is_a_composite(mined: Mined) -> None:
    assert _link(mined, "compare", "/skus").kind is LinkKind.COMPOSITE
    (attachment,) = [a for a in mined.attachments if a.to_tool == "compare"]
    assert attachment.kind is LinkKind.COMPOSITE


def test_what_a_call_only_repeats_is_no_source(mined: Mined) -> None:
    assert not [x for x in mined.links if x.from_path in ("/sku", "/order/lines/*/sku")]


def test_equal_dates_are_no_links_but_agree(mined: Mined) -> None:
    assert not [x for x in mined.links if "day" in x.to_path or "day" in x.from_path]
    assert [(a.left, a.right, a.chances, a.share) for a in mined.agreements] == [
        (("facets", "/query"), ("find_items", "/query"), TRACES, 1.0),
        (("order", "/day"), ("slots", "/day"), TRACES, 1.0),
    ]


def test_latitude_and_longitude_come_from_one_element(mined: Mined) -> None:
    (attachment,) = [a for a in mined.attachments if a.to_tool == "stores"]
    assert attachment.pairs == (("/lat", "/*/lat"), ("/lon", "/*/lon"))
    assert attachment.support == TRACES


def test_a_value_in_every_response_makes_a_weak_link(mined: Mined) -> None:
    assert not _link(mined, "find_items", "/facet").strong
    assert all(x.strong for x in mined.links if x.to_path != "/facet" and x.values)
    assert [a.to_tool for a in mined.attachments if not a.strong] == ["find_items"]


def test_arguments_of_an_attachment_have_their_places_in_lists(mined: Mined) -> None:
    lines = {a.pairs for a in mined.attachments if a.to_tool == "order" and a.support}
    assert (("/lines/0/sku", "/items/*/sku"),) in lines
    assert (("/lines/1/sku", "/items/*/sku"),) in lines


def test_ids_are_opaque_and_words_and_days_are_not(mined: Mined) -> None:
    assert {slot for slot in mined.opaque if slot[0] != "cancel"} == {
        (tool, path) for _, _, tool, path in TRUTH
    }


def test_the_same_corpus_gives_the_same_bytes(corpus: Corpus, mined: Mined) -> None:
    again = mine(corpus.only(range(len(corpus.rows))))
    assert again.to_dict() == mined.to_dict()
