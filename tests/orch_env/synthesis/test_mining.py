"""What mining finds where the truth is known: in the bundled cache, which has no traces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import orch_env
from orch_env import OrchError, open_cache
from orch_env.synthesis.corpus import Corpus, read_corpus
from orch_env.synthesis.mining import Mined, mine

HARBOUR = Path(orch_env.__file__).parent / "data" / "harbour" / "cache.db"
TRUTH = {
    ("berth_crane", "crane", "unload_cargo"),
    ("book_pilot", "booking", "confirm_booking"),
    ("cargo_permit", "permit", "renew_permit"),
    ("find_pilot", "pilot", "book_pilot"),
    ("find_ship", "ship", "book_pilot"),
    ("find_ship", "ship", "ship_agent"),
    ("find_ship", "ship", "ship_berth"),
    ("find_ship", "ship", "ship_cargo"),
    ("ship_agent", "agent", "notify_agent"),
    ("ship_berth", "berth", "berth_crane"),
    ("ship_berth", "berth", "notify_agent"),
    ("ship_cargo", "cargo", "cargo_permit"),
    ("ship_cargo", "cargo", "unload_cargo"),
}


@pytest.fixture(scope="module")
def harbour() -> Corpus:
    return read_corpus(open_cache(HARBOUR))


@pytest.fixture(scope="module")
def mined(harbour: Corpus) -> Mined:
    return mine(harbour)


def test_the_true_links_are_found_without_a_trace(mined: Mined) -> None:
    assert {(x.from_tool, x.from_path, x.to_tool, x.to_path) for x in mined.links} == {
        (parent, f"/{name}", child, f"/{name}") for parent, name, child in TRUTH
    }
    assert all(link.strong for link in mined.links)


def test_every_link_has_an_attachment_where_no_element_feeds_two_arguments(mined: Mined) -> None:
    assert {(a.from_tool, a.pairs, a.to_tool) for a in mined.attachments} == {
        (parent, ((f"/{name}", f"/{name}"),), child) for parent, name, child in TRUTH
    }


def test_ids_are_opaque_and_names_are_not(mined: Mined) -> None:
    assert mined.opaque == {(child, f"/{name}") for _, name, child in TRUTH}


def test_what_was_mined_can_be_stored(mined: Mined) -> None:
    assert Mined.from_dict(json.loads(json.dumps(mined.to_dict()))) == mined


def test_what_was_not_mined_is_refused() -> None:
    with pytest.raises(OrchError, match="mine again"):
        Mined.from_dict({"links": [{"from_tool": "a"}]})
