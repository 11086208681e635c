"""Equalities by chance must not become links."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.synthesis_mining import Planted, planted_links
from orch_env import load_tasks, open_cache
from orch_env.synthesis.corpus import read_corpus
from orch_env.synthesis.mining import mine
from tests.orch_env.synthesis.shop import shop
from tests.orch_env.synthesis.test_mining import HARBOUR


def test_planted_equalities_are_no_links_of_the_shop(tmp_path: Path) -> None:
    corpus = shop(tmp_path)
    assert planted_links(corpus, range(10))["found"] == []


def test_planted_equalities_are_no_links_of_a_bare_cache() -> None:
    whole = read_corpus(open_cache(HARBOUR))
    corpus = whole.only(range(0, len(whole.rows), 4))
    assert mine(corpus).links
    assert planted_links(corpus, range(1))["found"] == []


@pytest.mark.long
@pytest.mark.shared_data
def test_planted_equalities_are_no_links_of_real_tasks(booking_files: tuple[str, str]) -> None:
    tasks, db = booking_files
    corpus = read_corpus(open_cache(db), load_tasks(tasks))
    assert planted_links(corpus, range(10))["found"] == []


def test_what_is_planted_does_equal_later_arguments(tmp_path: Path) -> None:
    planted = Planted(shop(tmp_path), 0, copied=1.0)
    assert any(x.from_path.startswith("/planted") for x in mine(planted).links)
