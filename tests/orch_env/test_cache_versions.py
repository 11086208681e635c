"""Key versions of caches: each file answers by its own, and `rekey` makes a new file of an old."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orch_env.backends.replay import ReplayBackend
from orch_env.cache import ResponseCache, open_cache
from orch_env.cache.rekey import rekey
from orch_env.cli.main import main
from orch_env.importers.validation import validate_tasks
from orch_env.tasks.files import save_tasks
from orch_env.types import GoldCall, OrchError, Task, ToolCall, ToolSpec

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "q": {"type": "string"},
        "at": {"type": "string"},
        "n": {"type": "integer", "default": 10},
        "f": {"type": "string"},
    },
    "required": ["q"],
}
FIND = ToolSpec("find", "Find it.", SCHEMA, ("Find(It)",))
CALLS: list[tuple[dict[str, Any], str]] = [
    ({"q": "x"}, "first"),
    ({"q": "x", "n": 10}, "tenth"),
    ({"q": "x", "at": "48,2"}, "north"),
    ({"q": "x", "at": "2,48"}, "south"),
    ({"q": "x", "f": "b,a"}, "filtered"),
]
DIGEST_OF_VERSION_1 = "e93af85cf33aa40eb997dfc1d1fe9a50"
"""The content digest that the last release with keys of version 1 gave these calls."""


@contextmanager
def writing_version_1(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """New caches get keys of version 1, as they did before there was another."""
    with monkeypatch.context() as patch:
        patch.setattr("orch_env.cache.reader.KEY_VERSIONS", (1,))
        yield


def recorded(place: object, spec: ToolSpec = FIND) -> ResponseCache:
    with open_cache(str(place), write=True) as cache:
        cache.put_tool(spec)
        for arguments, text in CALLS:
            cache.put("find", arguments, text)
    return open_cache(str(place))


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResponseCache:
    with writing_version_1(monkeypatch):
        return recorded(tmp_path / "old.db")


def texts(cache: ResponseCache, **arguments: Any) -> list[str]:
    return [answer.text for answer in cache.variants("find", arguments)]


def user_version(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[60:64], "big")


def task(cache: ResponseCache, *arguments: dict[str, Any], text: str, **more: Any) -> Task:
    """A task whose gold calls are answered with ``text``."""
    calls = []
    for given in arguments:
        (digest,) = {a.digest for a in cache.variants("find", given) if a.text == text}
        calls.append((GoldCall("find", given, response=digest),))
    asked = ({"role": "user", "content": "x"},)
    return Task(**{"id": text, "messages": asked, "tools": ("find",), "gold": tuple(calls)} | more)


def test_a_new_cache_compares_as_the_catalogue_says(tmp_path: Path) -> None:
    cache = recorded(tmp_path / "new.db")
    assert cache.stats()["key_version"] == cache.key_version == 2
    assert texts(cache, q="x") == texts(cache, q="x", n="10") == ["first", "tenth"]
    assert texts(cache, q="x", at="48,2") == ["north"]
    assert texts(cache, q="x", at="2,48") == ["south"]
    assert texts(cache, q="x", f="a,b") == []
    (found,) = cache.variants("Find(It)", {"q": "x", "f": "b,a"})
    assert found.text == "filtered"
    assert cache.verify() == {"ok": True, "problems": []}


def test_a_release_that_knows_no_version_2_refuses_such_a_file(tmp_path: Path) -> None:
    recorded(tmp_path / "new.db")
    assert user_version(tmp_path / "new.db") == 2  # releases before refuse what is above 1


def test_a_version_1_file_answers_as_it_did_and_stays_one(
    old: ResponseCache, tmp_path: Path
) -> None:
    for _ in range(2):
        assert old.stats()["digest"] == DIGEST_OF_VERSION_1
        assert old.stats()["schema"] == old.stats()["key_version"] == 1
        assert user_version(tmp_path / "old.db") == 1
        assert texts(old, q="x", at="2,48") == texts(old, q="x", at="48,2") == ["north", "south"]
        assert texts(old, q="x", f="a,b") == ["filtered"]
        assert (texts(old, q="x"), texts(old, q="x", n=10)) == (["first"], ["tenth"])
        assert old.verify() == {"ok": True, "problems": []}
        with open_cache(old.path, write=True) as cache:  # again by a writer of today
            cache.put("find", {"q": "x", "f": "b,a"}, "filtered")
        old = open_cache(old.path)


def test_a_version_of_tomorrow_is_refused_with_what_to_do(tmp_path: Path) -> None:
    recorded(tmp_path / "new.db")
    raw = bytearray((tmp_path / "new.db").read_bytes())
    raw[60:64] = (3).to_bytes(4, "big")
    (tmp_path / "new.db").write_bytes(raw)
    with pytest.raises(OrchError, match=r"has schema 3, newer than this version.*upgrade orch-rl"):
        open_cache(tmp_path / "new.db")


def test_another_database_keeps_its_version_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite+pysqlite:///{tmp_path / 'server.db'}"
    with writing_version_1(monkeypatch):
        assert recorded(url).key_version == 1
    with open_cache(url, write=True) as cache:
        cache.put("find", {"q": "y", "f": "d,c"}, "more")
    assert open_cache(url).key_version == 1
    assert texts(open_cache(url), q="y", f="c,d") == ["more"]
    with open_cache(url + "2", write=True) as target:
        rekey(open_cache(url), target)
    assert open_cache(url + "2").key_version == 2
    assert open_cache(url + "2").verify()["ok"]


def test_a_declared_set_is_one_call_in_any_order(tmp_path: Path) -> None:
    properties = {**SCHEMA["properties"], "f": {"type": "string", "x-orch-set": ","}}
    cache = recorded(tmp_path / "c.db", ToolSpec("find", "", {**SCHEMA, "properties": properties}))
    assert texts(cache, q="x", f="a,b") == texts(cache, q="x", f=" b, a") == ["filtered"]
    assert texts(cache, q="x", f="a,b,b") == []


def test_the_key_is_the_catalogues_and_never_a_tasks(tmp_path: Path) -> None:
    cache = recorded(tmp_path / "c.db")
    properties = {"q": {"type": "string"}, "n": {"type": "integer", "default": 99}}
    own = ToolSpec("find", "Another text.", {"type": "object", "properties": properties})
    asked = task(cache, {"q": "x"}, text="first", tools=(own,))
    session = ReplayBackend(cache).open(asked, seed=0)
    same, other = session.answer(
        [ToolCall("find", {"q": "x", "n": 10}), ToolCall("find", {"q": "x", "n": 99})]
    )
    assert same.text == "first"
    assert other.error is not None


def test_a_schema_that_comes_later_keys_the_calls_again_with_their_pins(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    guessed = ToolSpec("find", "", {"properties": {"q": {"type": "string"}, "n": {}}})
    with open_cache(path, write=True) as cache:
        cache.put("Find(It)", {"q": "x"}, "by its other name")
        cache.put("find", {"q": "x"}, "before any schema")
        cache.put_tool(guessed, inferred=True)
        cache.put("find", {"q": "x", "n": 10}, "under a guess")
        cache.pin(task(cache, {"q": "x", "n": 10}, text="under a guess"))
        assert texts(cache, q="x") == ["before any schema"]
        cache.put_tool(FIND)
        cache.put("find", {"q": "x", "n": "10"}, "after it")
    cache = open_cache(path)
    answers = ["before any schema", "by its other name", "under a guess", "after it"]
    assert sorted(texts(cache, q="x", n=10)) == sorted(answers)
    assert sorted(texts(cache, q="x")) == sorted(answers)
    found = cache.get("find", {"q": "x"}, task="under a guess")
    assert found is not None and found.text == "under a guess"
    assert cache.verify() == {"ok": True, "problems": []}


def test_rekeyed_calls_fall_together_and_every_pin_still_resolves(
    old: ResponseCache, tmp_path: Path
) -> None:
    tasks = [
        task(old, {"q": "x"}, text="first"),
        task(old, {"q": "x", "n": 10}, text="tenth"),
        task(old, {"q": "x", "at": "48,2"}, text="north"),
        task(old, {"q": "x", "at": "2,48"}, text="south"),
    ]
    with open_cache(old.path, write=True) as cache:
        for each in tasks:
            cache.pin(each)
    old = open_cache(old.path)
    with open_cache(tmp_path / "new.db", write=True) as target:
        done = rekey(old, target, tasks)
    assert done.to_dict() == {
        "calls": 4,
        "merged": 1,
        "split": 1,
        "restored": 3,
        "order_unknown": 1,  # the filter, which no gold call has
    }
    new = open_cache(tmp_path / "new.db")
    assert sorted(texts(new, q="x")) == ["first", "tenth"]
    assert texts(new, q="x", at="48,2") == ["north"]
    assert texts(new, q="x", at="2,48") == ["south"]
    assert texts(new, q="x", f="a,b") == ["filtered"]
    assert new.verify()["ok"]
    assert validate_tasks(tasks, ReplayBackend(new))["failures"] == []
    for each in tasks:
        found = new.get("find", each.gold_calls[0].arguments, task=each.id)
        assert found is not None and found.text == each.id
    assert old.stats()["key_version"] == 1


def test_without_tasks_the_stored_order_stands_and_pins_follow(
    old: ResponseCache, tmp_path: Path
) -> None:
    with open_cache(old.path, write=True) as cache:
        cache.pin(task(old, {"q": "x", "n": 10}, text="tenth"))
        cache.pin(task(old, {"q": "x", "at": "48,2"}, text="south"))
    with open_cache(tmp_path / "new.db", write=True) as target:
        done = rekey(open_cache(old.path), target)
    assert (done.restored, done.order_unknown, done.merged) == (0, 2, 1)
    new = open_cache(tmp_path / "new.db")
    assert texts(new, q="x", at="2,48") == ["north", "south"]
    assert texts(new, q="x", at="48,2") == []
    for arguments, text in (({"q": "x"}, "tenth"), ({"q": "x", "at": "2,48"}, "south")):
        found = new.get("find", arguments, task=text)
        assert found is not None and found.text == text


def test_the_command_makes_a_new_file_and_says_what_it_does_not_know(
    old: ResponseCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tasks([task(old, {"q": "x", "at": "48,2"}, text="north")], tmp_path / "t.jsonl")
    out = tmp_path / "new.db"
    argv = ["cache", "rekey", old.path, "--out", str(out), "--json"]
    assert main([*argv, "--tasks", str(tmp_path / "t.jsonl")]) == 0
    shown, said = capsys.readouterr()
    result = json.loads(shown)
    assert (result["key_version"], result["restored"], result["order_unknown"]) == (2, 1, 1)
    assert said.startswith("1 calls hold comma-joined strings whose order")
    for wrong, reason in (
        (argv, "exists already: name a new file"),
        (["cache", "rekey", str(out), "--out", f"{out}2"], "has keys of version 2 already"),
        ([*argv[:3], "--out", f"{out}2", "--tasks", "none.jsonl"], "none.jsonl"),
    ):
        before = sorted(path.name for path in tmp_path.iterdir())
        assert main(wrong) == 2
        assert reason in capsys.readouterr().err
        assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_tasks_of_another_cache_are_refused_and_nothing_is_written(
    old: ResponseCache, tmp_path: Path
) -> None:
    foreign = Task(
        "foreign",
        ({"role": "user", "content": "x"},),
        ("find",),
        ((GoldCall("find", {"q": "x"}, response="0" * 32),),),
    )
    out = tmp_path / "new.db"
    with (
        pytest.raises(OrchError, match=r"'foreign' pins response 0{32}, which cache"),
        open_cache(out, write=True) as target,
    ):
        rekey(old, target, [foreign])
    assert not out.exists()
