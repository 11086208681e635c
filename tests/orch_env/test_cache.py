"""The response cache: exact texts, variants, pins, aliases, and writers that disturb nobody."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.cache import ResponseCache, open_cache
from orch_env.types import GoldCall, OrchError, Task, ToolSpec

ANY_TEXT = st.text(st.characters())  # lone surrogates included


def pinned_task(*responses: str, arguments: dict[str, object] | None = None) -> Task:
    calls = tuple((GoldCall("find", arguments or {"q": "x"}, response=r),) for r in responses)
    return Task(id="t", messages=({"role": "user", "content": "x"},), tools=("find",), gold=calls)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "cache.db"
    with open_cache(path, write=True) as cache:
        cache.put_tool(ToolSpec("find", "Find it.", aliases=("Find(It)",)))
        cache.put("find", {"q": "x", "n": 2}, '{"n":  2}')
        cache.put("find", {"q": "x"}, "first")
        cache.put("find", {"q": "x"}, "second")
    return path


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(ANY_TEXT, st.booleans()), max_size=8))
def test_every_text_comes_back_exactly_as_it_was_recorded(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, bool]]
) -> None:
    path = tmp_path_factory.mktemp("cache") / "c.db"
    with open_cache(path, write=True) as cache:
        digests = [
            cache.put("t", {"i": i}, text, is_error=failed, metadata={"i": i})
            for i, (text, failed) in enumerate(texts)
        ]
    cache = open_cache(path)
    for i, (text, failed) in enumerate(texts):
        found = cache.get("t", {"i": i})
        assert found is not None
        assert (found.text, found.is_error, found.digest) == (text, failed, digests[i])
    assert cache.verify() == {"ok": True, "problems": []}
    assert cache.stats()["payloads"] == len(set(texts))


def test_a_digest_is_the_plain_blake2b_of_the_text_and_differs_for_an_error(tmp_path: Path) -> None:
    with open_cache(tmp_path / "c.db", write=True) as cache:
        plain = cache.put("t", {}, "hello")
        failed = cache.put("t", {}, "hello", is_error=True)
    assert plain == "46fb7408d4f285228f4af516ea25851b"  # printf hello | b2sum -l 128
    assert failed != plain


def test_equal_values_are_one_call_and_true_is_not_one(db: Path) -> None:
    cache = open_cache(db)
    found = cache.get("find", {"n": "2", "q": "x"})
    assert found is not None and found.text == '{"n":  2}'
    assert cache.get("find", {"n": 2.0, "q": "x"}) == found
    assert cache.get("find", {"n": True, "q": "x"}) is None
    assert cache.misses == {"find": 1} and cache.hits == 2


def test_the_first_variant_answers_unless_the_task_pins_another(db: Path) -> None:
    cache = open_cache(db)
    first, second = cache.variants("find", {"q": "x"})
    assert (first.text, second.text) == ("first", "second")
    assert cache.get("find", {"q": "x"}) == first
    assert cache.get("find", {"q": "x"}, task=pinned_task(second.digest)) == second
    assert cache.get("find", {"q": "x"}, task=pinned_task()) == first


def test_a_pin_that_the_cache_does_not_hold_is_a_miss_and_not_another_answer(db: Path) -> None:
    assert open_cache(db).get("find", {"q": "x"}, task=pinned_task("0" * 32)) is None
    with pytest.raises(OrchError, match="no digest of 32 hex digits"):
        open_cache(db).get("find", {"q": "x"}, task=pinned_task("nonsense"))


def test_pins_are_found_by_the_id_of_an_imported_task(db: Path) -> None:
    second = open_cache(db).variants("find", {"q": "x"})[1]
    with open_cache(db, write=True) as cache:
        cache.pin(pinned_task(second.digest))
    cache = open_cache(db)
    assert cache.get("find", {"q": "x"}, task="t") == second
    assert cache.is_pinned("find", {"q": "x"}, "t")
    found = cache.get("find", {"q": "x"}, task="another \ud800 task")
    assert found is not None and found.text == "first"


def test_an_alias_finds_what_was_recorded_under_the_name(db: Path) -> None:
    cache = open_cache(db)
    assert cache.get("Find(It)", {"q": "x"}) == cache.get("find", {"q": "x"})
    assert cache.resolve("Find(It)") == "find"


def test_the_same_response_is_stored_once(db: Path) -> None:
    before = open_cache(db).stats()
    with open_cache(db, write=True) as cache:
        cache.put("find", {"q": "x"}, "second")
        cache.put("find", {"q": "y"}, "second")
    after = open_cache(db).stats()
    assert (before["responses"], before["payloads"], before["variants"]) == (3, 3, 1)
    assert (after["responses"], after["payloads"], after["variants"]) == (4, 3, 1)


def test_the_content_digest_depends_on_the_content_alone(tmp_path: Path, db: Path) -> None:
    with open_cache(tmp_path / "other.db", write=True) as cache:
        cache.put("find", {"q": "x"}, "first")
        cache.put("find", {"q": "x"}, "second")
        cache.put("find", {"n": 2, "q": "x"}, '{"n":  2}')
        assert cache.put_tool(ToolSpec("find", "Find it.", aliases=("Find(It)",))) == "find"
    digest = open_cache(db).stats()["digest"]
    assert open_cache(tmp_path / "other.db").stats()["digest"] == digest
    with open_cache(db, write=True) as cache:
        cache.put("find", {"q": "x"}, "third")
    assert open_cache(db).stats()["digest"] != digest


def test_a_writer_does_not_disturb_a_reader(db: Path) -> None:
    reader = open_cache(db)
    assert reader.get("find", {"q": "new"}) is None
    with open_cache(db, write=True) as writer:
        for number in range(200):
            writer.put("find", {"q": f"new {number}"}, "x" * number)
        assert reader.get("find", {"q": "new 5"}) is None
    assert reader.get("find", {"q": "x"}) is not None  # the old file, until it opens again
    found = open_cache(db).get("find", {"q": "new 5"})
    assert found is not None and found.text == "xxxxx"


def test_a_failed_write_leaves_the_cache_and_the_folder_as_they_were(db: Path) -> None:
    before = db.read_bytes()
    with pytest.raises(RuntimeError), open_cache(db, write=True) as cache:
        cache.put("find", {"q": "never"}, "never")
        raise RuntimeError
    assert db.read_bytes() == before
    assert [p.name for p in db.parent.iterdir()] == [db.name]


def test_leftovers_of_a_killed_writer_are_cleared_away(db: Path) -> None:
    (db.parent / f".{db.name}.99999.partial").write_text("half a cache")
    with open_cache(db, write=True) as cache:
        cache.put("find", {"q": "z"}, "z")
    assert [p.name for p in db.parent.iterdir()] == [db.name]


def test_a_second_writer_is_kept_out(db: Path) -> None:
    with (
        open_cache(db, write=True),
        pytest.raises(OrchError, match="being written by another process"),
    ):
        open_cache(db, write=True)
    open_cache(db, write=True).close()


def test_a_reader_refuses_to_write(db: Path) -> None:
    with pytest.raises(OrchError, match=r"open_cache\(path, write=True\)"):
        open_cache(db).put("find", {}, "x")


def _text_of(cache: ResponseCache) -> str | None:
    found = cache.get("find", {"q": "x"})
    return None if found is None else found.text


class Handle(sqlite3.Connection):
    """Notes which process opened it and which processes read with it."""

    used: ClassVar[list[tuple[int, int]]] = []

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.opened_by = os.getpid()

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        self.used.append((self.opened_by, os.getpid()))
        return super().execute(*arguments)


def _report(cache: ResponseCache, queue: multiprocessing.Queue[Any]) -> None:
    Handle.used.clear()
    text = _text_of(cache)
    queue.put((text, os.getpid(), Handle.used))


def test_a_forked_child_reads_with_a_handle_of_its_own(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Handle))
    cache = open_cache(db)
    assert _text_of(cache) == "first"
    assert (os.getpid(), os.getpid()) in Handle.used
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[Any] = context.Queue()  # type: ignore[assignment]
    child = context.Process(target=_report, args=(cache, queue))
    child.start()
    text, pid, used = queue.get(timeout=30)
    assert text == "first" and pid != os.getpid()
    assert used and set(used) == {(pid, pid)}
    child.join(timeout=30)
    assert child.exitcode == 0 and _text_of(cache) == "first"


def test_it_pickles_to_its_path_and_a_writer_does_not_pickle(db: Path) -> None:
    cache = open_cache(db)
    _text_of(cache)
    assert _text_of(pickle.loads(pickle.dumps(cache))) == "first"
    with open_cache(db, write=True) as writer, pytest.raises(OrchError, match="cannot be copied"):
        pickle.dumps(writer)


def test_threads_share_one_cache(db: Path) -> None:
    cache = open_cache(db)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: _text_of(cache), range(400))) == {"first"}


def test_a_closed_cache_opens_again_on_use(db: Path) -> None:
    cache = open_cache(db)
    cache.close()
    cache.close()
    assert _text_of(cache) == "first"


def test_another_database_answers_the_same(tmp_path: Path, db: Path) -> None:
    # The generic SQLAlchemy path, as for PostgreSQL: the driver is named, so it is no plain file.
    url = f"sqlite+pysqlite:///{tmp_path / 'server.db'}"
    with open_cache(url, write=True) as cache:
        cache.put_tool(ToolSpec("find", "Find it.", aliases=("Find(It)",)))
        cache.put("find", {"q": "x", "n": 2}, '{"n":  2}')
        cache.put("find", {"q": "x"}, "first")
        second = cache.put("find", {"q": "x"}, "second")
    cache = open_cache(url)
    assert _text_of(cache) == "first"
    found = cache.get("Find(It)", {"q": "x"}, task=pinned_task(second))
    assert found is not None and found.text == "second"
    assert cache.get("find", {"q": "y"}) is None
    assert cache.verify()["ok"]
    assert cache.stats()["digest"] == open_cache(db).stats()["digest"]
    cache.close()


def test_a_catalogue_entry_that_tasks_may_name_is_kept(db: Path) -> None:
    other = ToolSpec("find", "Another text.", aliases=("seek",))
    with open_cache(db, write=True) as cache:
        assert cache.put_tool(other) == other
        assert cache.put_tool(ToolSpec("find", "Find it.")) == "find"
    cache = open_cache(db)
    assert cache.catalogue["find"].description == "Find it."
    assert cache.resolve("seek") == cache.resolve("Find(It)") == "find"


def test_the_catalogue_learns_whether_a_tool_is_read_only_and_keeps_what_it_learned(
    db: Path,
) -> None:
    reads, writes = (ToolSpec("find", "Find it.", read_only=hint) for hint in (True, False))
    with open_cache(db, write=True) as cache:
        assert cache.put_tool(reads) == "find"
        assert cache.put_tool(ToolSpec("find", "Find it.")) == "find"
        assert cache.put_tool(writes) is writes
    with open_cache(db) as cache:
        assert cache.catalogue["find"] == replace(reads, aliases=("Find(It)",))
        assert cache.catalogue["find"].read_only is True
        assert _text_of(cache) == "first"


def test_a_guessed_tool_gives_way_to_a_real_one(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    with open_cache(path, write=True) as cache:
        assert cache.put_tool(ToolSpec("t", "guess"), inferred=True) == "t"
    with open_cache(path, write=True) as cache:
        assert cache.put_tool(ToolSpec("t", "real")) == "t"
        assert cache.put_tool(ToolSpec("t", "guess again"), inferred=True) == "t"
    assert open_cache(path).catalogue["t"].description == "real"


def test_all_recorded_calls_can_be_listed(db: Path) -> None:
    calls = list(open_cache(db).calls())
    assert [(c.tool, json.dumps(c.arguments), c.variant) for c in calls] == [
        ("find", '{"n": 2, "q": "x"}', 0),
        ("find", '{"q": "x"}', 0),
        ("find", '{"q": "x"}', 1),
    ]
