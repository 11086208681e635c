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
from orch_env.synthesis.checking.splits import deal, deal_linked, split_rows
from orch_env.synthesis.checking.splitting import shares_of, split_by_template_and_entity
from orch_env.synthesis.pipeline.assignment import homes_of
from orch_env.synthesis.pipeline.config import SynthesisConfig
from orch_env.synthesis.templates.template import Edge, Template
from orch_env.types import GoldCall, OrchError, Provenance, ValueRef
from orch_env.types.json import Json, JsonObject

from .shop import shop
from .small import corpus_of, feeds, index_of

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


def test_by_links_what_is_needed_together_stays_together_and_splits_get_their_share() -> None:
    regions = {f"region {n}": [f"town {n}-{m}" for m in range(10)] for n in range(30)}
    pairs = [pair for towns in regions.values() for pair in combinations(towns, 2)]
    alone = [(town,) for towns in regions.values() for town in towns for _ in range(4)]
    needed = [frozenset(groups) for groups in (*pairs, *alone)]
    groups = {town: town for towns in regions.values() for town in towns}
    shares = {"train": 0.7, "validation": 0.15, "test": 0.15}
    for seed in range(5):
        by_chance = deal(cast("Entities", SimpleNamespace(group_of=groups)), shares, seed)
        home = deal_linked(needed, shares, seed)
        assert home == deal_linked(reversed(needed), shares, seed)
        assert set(home) == set(groups)
        cut, cut_by_chance = (
            sum(dealt[one] != dealt[other] for one, other in pairs) for dealt in (home, by_chance)
        )
        assert cut < cut_by_chance / 2
        for name, share in shares.items():
            there = sum(1 / len(gs) for gs in needed for g in gs if home[g] == name)
            assert there == pytest.approx(share * len(needed), rel=0.1)


def test_by_links_no_split_is_without_a_large_group() -> None:
    ports = [f"port {n}" for n in range(4)]
    towns = [f"town {n}" for n in range(200)]
    ferries = [frozenset((town, port)) for town in towns for port in ports[:3]]
    needed = [frozenset((port,)) for port in ports for _ in range(100)] + ferries
    needed += [frozenset(pair) for pair in combinations(ports, 2) for _ in range(20)]
    home = deal_linked(needed, {"train": 0.6, "validation": 0.2, "test": 0.2}, 0)
    assert {home[port] for port in ports} == {"train", "validation", "test"}


def test_by_links_a_call_of_two_places_is_lost_only_if_they_are_apart(tmp_path: Path) -> None:
    towns = [f"Town {chr(65 + n // 10)}{n % 10}" for n in range(120)]
    ids = {town: f"id-{n:03}x" for n, town in enumerate(towns)}
    answers: list[tuple[str, JsonObject, Json]] = [
        ("find", {"query": town}, {"items": [{"id": ids[town]}]}) for town in towns
    ]
    for start in range(0, len(towns), 6):
        answers += [
            ("fly", {"start": ids[one], "end": ids[other]}, {"token": f"{ids[one]}{ids[other]}"})
            for one, other in combinations(towns[start : start + 6], 2)
        ]
    answers += [("seats", {"token": x["token"]}, {"n": 1}) for t, _, x in answers if t == "fly"]
    links = (
        feeds("find", "fly", ("/start", "/items/*/id")),
        feeds("find", "fly", ("/end", "/items/*/id")),
        feeds("fly", "seats", ("/token", "/token")),
    )
    index = index_of(corpus_of(tmp_path / "towns.db", answers), *links)
    entities = Entities(index)
    shares = {"train": 0.7, "test": 0.3}
    usable: dict[str, int] = {}
    for by in ("chance", "links"):
        parts = split_rows(index, entities, shares, 0, by)
        usable[by] = sum(len(part.rows) for part in parts)
        assert not parts[0].rows & parts[1].rows
        for part in parts:
            flights = {r for r in part.rows if index.corpus.rows[r].tool == "fly"}
            held = {
                item["id"]
                for r in part.rows
                if index.corpus.rows[r].tool == "find"
                for item in index.corpus.response(r)["items"]
            }
            for row in index.corpus.rows_of["fly"]:
                both = set(index.corpus.rows[row].arguments.values()) <= held
                assert (row in flights) is both
            seats = {r for r in part.rows if index.corpus.rows[r].tool == "seats"}
            assert len(seats) == len(flights)
    assert usable["links"] > usable["chance"] * 1.15


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
