"""The recorded calls of a cache as rows, and recorded tasks as traces over them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from orch_env import Task, ToolSpec, load_tasks, open_cache
from orch_env.synthesis.corpus import as_schema_types, read_corpus
from orch_env.types import GoldCall, OrchError
from orch_env.types.json import JsonObject
from orch_env.values import SchemaRules

PLACE = ToolSpec(
    "place",
    "Find a place.",
    {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
)
HOTELS = ToolSpec(
    "hotels",
    "Hotels of a place.",
    {"type": "object", "properties": {"place": {"type": "string"}, "limit": {"type": "integer"}}},
)


def _cache(path: Path, answers: list[tuple[str, JsonObject, str]], errors: int = 0) -> str:
    with open_cache(path, write=True) as cache:
        cache.put_tool(PLACE)
        cache.put_tool(HOTELS)
        for tool, arguments, text in answers:
            cache.put(tool, arguments, text)
        for number in range(errors):
            cache.put("place", {"query": f"nowhere {number}"}, '{"error": "no such place"}')
        cache.commit()
    return str(path)


def test_every_answer_is_a_row_and_errors_are_counted(tmp_path: Path) -> None:
    path = _cache(
        tmp_path / "c.db",
        [
            ("place", {"query": "Oslo"}, '{"id": "17"}'),
            ("place", {"query": "Oslo"}, '{"id": "18"}'),
            ("hotels", {"place": "17"}, '{"hotels": []}'),
        ],
        errors=2,
    )
    corpus = read_corpus(open_cache(path))
    assert [row.tool for row in corpus.rows] == ["hotels", "place", "place"]
    assert corpus.rows[1].key == corpus.rows[2].key  # two recorded answers of one call
    assert [corpus.response(n) for n in corpus.rows_of["place"]] == [{"id": "17"}, {"id": "18"}]
    assert corpus.errors == 2
    assert list(corpus.tools) == ["hotels", "place"]


def test_arguments_have_the_types_that_the_schema_asks_for(tmp_path: Path) -> None:
    path = _cache(tmp_path / "c.db", [("hotels", {"place": "17", "limit": 3}, "{}")])
    assert read_corpus(open_cache(path)).rows[0].arguments == {"place": "17", "limit": 3}
    schema = {
        "properties": {
            "legs": {"items": {"properties": {"to": {"type": "string"}}}},
            "open": {"type": "string"},
        }
    }
    given = {"legs": [{"to": 5, "free": 5}], "open": True, "other": 5}
    assert as_schema_types(given, SchemaRules.of(schema)) == {
        "legs": [{"to": "5", "free": 5}],
        "open": "true",
        "other": 5,
    }


def test_what_a_schema_says_of_an_argument_is_found_behind_references() -> None:
    rules = SchemaRules.of(
        {
            "$defs": {"Leg": {"properties": {"to": {"type": "string", "default": "home"}}}},
            "properties": {
                "legs": {"type": "array", "items": {"$ref": "#/$defs/Leg"}},
                "sort": {
                    "description": "Order.",
                    "anyOf": [{"enum": ["a"], "description": "In it."}],
                },
            },
        }
    )
    assert rules is not None
    assert rules.names == ("legs", "sort")
    assert rules.keywords_at("/legs/3/to") == {"type": "string", "default": "home"}
    said = rules.keywords_at("/sort")
    assert (said["description"], said["enum"]) == ("Order.", ["a"])
    assert rules.keywords_at("/other") == {}


def test_types_are_found_behind_references_and_alternatives() -> None:
    schema = {
        "$defs": {"Name": {"type": "string"}},
        "properties": {
            "name": {"$ref": "#/$defs/Name"},
            "code": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            "plain": {"type": ["string", "null"]},
        },
    }
    given = {"name": 1, "code": 2, "either": 3, "plain": 4}
    assert as_schema_types(given, SchemaRules.of(schema)) == {
        "name": "1",
        "code": "2",
        "either": 3,
        "plain": "4",
    }


@pytest.mark.parametrize(("errors", "said"), [(3, "all of them errors"), (0, "no responses")])
def test_a_cache_without_a_good_answer_is_refused(tmp_path: Path, errors: int, said: str) -> None:
    with pytest.raises(OrchError, match=said):
        read_corpus(open_cache(_cache(tmp_path / "c.db", [], errors)))


def test_a_task_whose_calls_are_recorded_is_a_trace(tmp_path: Path) -> None:
    path = _cache(
        tmp_path / "c.db",
        [("place", {"query": "Oslo"}, '{"id": "17"}'), ("hotels", {"place": "17"}, "[]")],
    )
    told = ({"role": "user", "content": "Hotels in Oslo?"},)
    find, look = GoldCall("place", {"query": "Oslo"}), GoldCall("hotels", {"place": "17"})
    whole = Task("whole", told, ("place", "hotels"), ((find,), (look,)))
    strange = Task("strange", told, ("place",), ((GoldCall("place", {"query": "Rome"}),),))
    corpus = read_corpus(open_cache(path), [whole, strange, Task("empty", told)])
    assert len(corpus.traces) == 1
    assert [corpus.rows[n].tool for n in corpus.trace_rows[0]] == ["place", "hotels"]
    assert corpus.traces[0].query == "Hotels in Oslo?"
    assert corpus.traces[0].steps[0][0].response == {"id": "17"}


def test_part_of_a_corpus_keeps_the_traces_that_are_whole_in_it() -> None:
    tasks = load_tasks("harbour")[:40]
    cache = open_cache(Path(__file__).parents[3] / "orch_env" / "data" / "harbour" / "cache.db")
    corpus = read_corpus(cache, tasks)
    assert len(corpus.traces) == 40
    kept = set(corpus.trace_rows[0]) | set(corpus.trace_rows[7])
    part = corpus.only(kept)
    assert len(part.rows) == len(kept)
    for trace, rows in zip(part.traces, part.trace_rows, strict=True):
        calls = [call for _, call in trace.numbered()]
        assert [part.rows[n].arguments for n in rows] == [call.arguments for call in calls]
        assert [part.response(n) for n in rows] == [call.response for call in calls]
    assert len(part.traces) >= 2
    assert part.only(range(len(part.rows)), traces=[0]).trace_rows == (part.trace_rows[0],)


def test_a_corpus_travels_to_another_process() -> None:
    cache = open_cache(Path(__file__).parents[3] / "orch_env" / "data" / "harbour" / "cache.db")
    corpus = read_corpus(cache, load_tasks("harbour")[:3])
    copy = pickle.loads(pickle.dumps(corpus))
    assert copy.rows == corpus.rows
    assert copy.trace_rows == corpus.trace_rows
    assert copy.response(5) == corpus.response(5)
