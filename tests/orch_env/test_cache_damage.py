"""What is no cache, or no longer one, is told in one clear line, and no damage goes unnoticed."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.cache import open_cache
from orch_env.types import OrchError, ToolSpec


def small_cache(path: Path) -> Path:
    noise = random.Random(0)
    with open_cache(path, write=True) as cache:
        cache.put_tool(ToolSpec("t"))
        for number in range(12):
            cache.put("t", {"n": number}, "".join(map(chr, noise.choices(range(32, 900), k=900))))
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_cache(tmp_path_factory.mktemp("good") / "good.db")


def test_a_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(OrchError, match=r"does not exist .*orch cache import"):
        open_cache(tmp_path / "none.db")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"task_id,answer\n1,2\n", "not a SQLite file"),
        (b"SQLite format 3\x00 and then nothing", "truncated"),
    ],
)
def test_what_is_no_cache_is_told_apart(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(content)
    for write in (False, True):
        with pytest.raises(OrchError, match=what):
            open_cache(path, write=write)
    assert path.read_bytes() == content


def test_a_folder_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(OrchError, match="cannot be read"):
        open_cache(tmp_path)


def test_a_database_of_another_application_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    with pytest.raises(OrchError, match="another application"):
        open_cache(path)


def test_a_newer_schema_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = small_cache(tmp_path / "x.db")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(OrchError, match=r"schema 99, newer .*upgrade"):
        open_cache(path)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, good: Path, keep: float) -> None:
    path = tmp_path / "x.db"
    data = good.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(OrchError, match="truncated"):
        open_cache(path)


def test_bytes_after_the_end_are_noticed(tmp_path: Path, good: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(good.read_bytes() + b"x")
    with pytest.raises(OrchError, match="bytes after its end"):
        open_cache(path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory, good: Path, data: st.DataObject
) -> None:
    content = bytearray(good.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("flip") / "x.db"
    path.write_bytes(bytes(content))
    try:
        found = open_cache(path).verify()
    except OrchError:
        return
    assert not found["ok"] and found["problems"], f"byte {at}"


def test_a_damaged_payload_is_a_clear_error_and_never_another_text(
    tmp_path: Path, good: Path
) -> None:
    path = tmp_path / "x.db"
    right = open_cache(good).get("t", {"n": 3})
    assert right is not None
    with sqlite3.connect(good) as connection:
        (blob,) = connection.execute(
            "SELECT data FROM payloads WHERE digest = ?", (bytes.fromhex(right.digest),)
        ).fetchone()
    content = bytearray(good.read_bytes())
    content[content.find(blob[40:80]) + 10] ^= 0x40
    path.write_bytes(bytes(content))
    with pytest.raises(OrchError, match=r"damaged.*orch cache verify"):
        open_cache(path).get("t", {"n": 3})


def test_verify_names_rows_that_were_changed_behind_its_back(tmp_path: Path) -> None:
    path = small_cache(tmp_path / "x.db")
    connection = sqlite3.connect(path)
    connection.execute(
        "UPDATE responses SET arguments = '{\"n\":77}' WHERE arguments = '{\"n\":7}'"
    )
    connection.execute("DELETE FROM payloads WHERE id = 3")
    connection.commit()
    connection.close()
    problems = "\n".join(open_cache(path).verify()["problems"])
    assert 'variant 0 of t with {"n":77} has a key of another call' in problems
    assert "refers to a missing row of 'payloads'" in problems
    assert "content digest" in problems and "seal is broken" in problems
