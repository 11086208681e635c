"""Splits share no workflow, entity or wording; a benchmark can be left out."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from orch_env import Task
from orch_env.synthesis.checking.benchmark import without_benchmark
from orch_env.synthesis.checking.entities import Entities
from orch_env.synthesis.checking.ngrams import masked
from orch_env.synthesis.checking.separation import against_benchmark, is_apart, separation
from orch_env.synthesis.checking.splits import deal
from orch_env.synthesis.checking.splitting import shares_of, split_by_template_and_entity
from orch_env.synthesis.pipeline.assignment import homes_of
from orch_env.synthesis.pipeline.config import SynthesisConfig
from orch_env.synthesis.templates.template import Edge, Template
from orch_env.types import GoldCall, OrchError, Provenance, ValueRef

from .shop import shop

QUERY = ValueRef(Provenance.QUERY)


def task(name: str, place: str, template: str, text: str = "Show me things to see in {}.") -> Task:
    call = GoldCall("find", {"query": place}, provenance={"/query": QUERY})
    return Task(
        name,
        ({"role": "user", "content": text.format(place)},),
        ("find",),
        ((call,),),
        metadata={"template": template, "entities": [place.casefold()]},
    )


def many() -> list[Task]:
    return [
        task(f"t{place}-{template}", f"Town {place}", f"w{template}")
        for place in range(60)
        for template in range(10)
    ]


def test_tasks_are_split_so_that_no_workflow_and_no_entity_is_in_two() -> None:
    tasks = many()
    kept, lost = split_by_template_and_entity(tasks, shares_of("train=0.6,test=0.4"))
    assert len(kept) + lost == len(tasks)
    found = {name: [t for t in kept if t.metadata["split"] == name] for name in ("train", "test")}
    assert all(found.values())
    shared = separation(found)["train / test"]
    assert (shared["templates"], shared["entities"], shared["calls"]) == (0, 0, 0)
    assert kept == split_by_template_and_entity(tasks, shares_of("train=0.6,test=0.4"))[0]


def test_no_split_is_without_a_large_group() -> None:
    sizes = {"giant": 40, "port": 12, "harbour": 11, **{f"town {n}": 1 for n in range(137)}}
    groups = {f"{name} {n}": name for name, size in sizes.items() for n in range(size)}
    shares = {"validation": 0.2, "train": 0.6, "test": 0.2}
    entities = cast("Entities", SimpleNamespace(group_of=groups))
    for seed in range(5):
        home = deal(entities, shares, seed)
        assert home["giant"] == "train"
        assert {home["port"], home["harbour"]} == {"validation", "test"}
        for name, share in shares.items():
            there = sum(sizes[group] for group in home if home[group] == name)
            assert there == pytest.approx(200 * share, abs=2)


def test_a_small_split_takes_what_it_can_fill_up_to_half_of_what_the_largest_has() -> None:
    pairs = combinations("abcdef", 2)
    edges = tuple(Edge(0, child, (("/id", "/id"),)) for child in (1, 2))
    templates = {t.id: t for one, other in pairs for t in [Template(("find", one, other), edges)]}
    config = SynthesisConfig.model_validate(
        {"source": {"cache": "none"}, "splits": {"train": 800, "test": 100}}
    )
    for fillable in (5, 15):
        fillings = {
            t: {"train": 10.0, **({"test": 10.0} if n < fillable else {})}
            for n, t in enumerate(sorted(templates))
        }
        home = homes_of(templates, fillings, config)
        taken = Counter(home.values())
        assert taken["test"] == min(fillable, len(templates) // 2)
        assert taken["train"] == len(templates) - taken["test"]
        left = {kind for t in templates if home[t] == "train" for kind in templates[t].kinds}
        assert len(left) == 6


def test_an_overlap_of_any_kind_is_counted() -> None:
    one = task("a", "Rome", "w1")
    long = "Could you please find me everything that a family can do on one day near {}?"
    overlaps = {
        "templates": ([one], [task("b", "Oslo", "w1", "What is in {}?")]),
        "entities": ([one], [task("b", "Rome", "w2", "What is in {}?")]),
        "texts": ([one], [task("b", "Rome", "w2")]),
        "ngrams": ([task("a", "Rome", "w1", long)], [task("b", "Oslo", "w2", long)]),
    }
    for kind, (left, right) in overlaps.items():
        report = separation({"train": left, "test": right})
        assert report["train / test"][kind], kind
        assert not is_apart(report)
    assert is_apart(separation({"train": [one], "test": [task("b", "Oslo", "w2", "What of {}?")]}))


def test_places_dates_times_and_numbers_are_masked() -> None:
    text = "I need 2 rooms in {} from Dec 5 at 8 am."
    other = "I need three rooms in {} from Friday, January 17 at 19:30."
    assert masked(task("a", "Rome", "w", text)) == masked(task("b", "New York", "w", other))


def test_what_a_benchmark_shares_is_counted() -> None:
    ours, theirs = [task("a", "Rome", "w1"), task("b", "Oslo", "w1")], [task("c", "Rome", "w2")]
    report = against_benchmark(ours, theirs)
    assert (report["calls"], report["calls_shared"], report["entities_shared"]) == (2, 1, 1)


def test_a_benchmark_can_be_left_out(tmp_path: Path) -> None:
    corpus = shop(tmp_path)
    rows, trace = corpus.rows, corpus.trace_rows[0]
    calls = tuple((GoldCall(rows[n].tool, rows[n].arguments),) for n in trace)
    held = Task("b", ({"role": "user", "content": "x"},), (), calls)
    left = without_benchmark(corpus, [held])
    gone = {rows[n].key for n in trace}
    assert 0 < len(left.rows) == len([row for row in rows if row.key not in gone])
    assert not gone & {row.key for row in left.rows}
    assert len(left.traces) < len(corpus.traces)


def test_a_benchmark_that_holds_the_whole_cache_cannot_be_left_out(tmp_path: Path) -> None:
    corpus = shop(tmp_path)
    calls = tuple((GoldCall(row.tool, row.arguments),) for row in corpus.rows)
    whole = Task("b", ({"role": "user", "content": "x"},), (), calls)
    with pytest.raises(OrchError, match="too few to make tasks of"):
        without_benchmark(corpus, [whole])
