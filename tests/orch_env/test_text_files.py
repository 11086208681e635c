"""Text files of users: byte order marks, line ends, damage; and what is written is read again."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orch_env.backends.open import make_backend
from orch_env.cache import open_cache
from orch_env.cli.main import main
from orch_env.cli.output import check_out
from orch_env.episodes import read_episodes, write_episodes
from orch_env.evaluation.complexfuncbench.decisions import ExactValues
from orch_env.importers import detect, import_tasks, read_source, read_tools
from orch_env.replay.policies import FilePolicy, make_policy
from orch_env.tasks.files import load_tasks, read_records, save_tasks
from orch_env.tasks.selection import load_split
from orch_env.types import Episode, OrchError, StopReason, Task, ToolCall, Turn
from orch_env.types.text import readable_json
from tests.orch_env.importer_samples import conversation, lines, reference_task

BOM = b"\xef\xbb\xbf"
TASK = {"id": "t", "messages": [{"role": "user", "content": "Wo ist Zürich?"}]}
EPISODE = Episode("t", 0, (Turn.of("Dort."),), "Dort.", StopReason.ANSWERED).to_dict()
CACHE = {"find": [{"arguments": {"q": "x"}, "response": {"id": 1}}]}


def ids_of_source(path: Path) -> list[str]:
    found = read_source(path)
    return [trace.id for trace in found.traces] + [r.id for r in found.refused]


# What a file of a user may be: its text, and what is read of it.
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "tasks": (lines(TASK, {**TASK, "id": "u"}), lambda p: [t.id for t in load_tasks(p)]),
    "episodes": (lines(EPISODE, EPISODE), lambda p: [e.episode.digest for e in read_episodes(p)]),
    "records": (lines({"a": "ü"}, {"b": 2}), lambda p: list(read_records(p))),
    "actions": (
        lines({"task_id": "t", "actions": ["ü"]}, {"task_id": "u", "actions": []}),
        lambda p: FilePolicy(p)._actions,
    ),
    "conversations": (lines(conversation("a"), conversation("b")), ids_of_source),
    "a cache": (json.dumps(CACHE), lambda p: read_source(p).responses),
    "tools, lines": (lines({"name": "a"}, {"name": "b"}), read_tools),
    "tools, a list": (json.dumps([{"name": "a"}], indent=1), read_tools),
    "exact values": (json.dumps({"find": ["q"]}), ExactValues.load),
}


@pytest.mark.parametrize("kind", READERS)
def test_a_byte_order_mark_changes_nothing(kind: str, tmp_path: Path) -> None:
    text, read = READERS[kind]
    path = tmp_path / "file"
    path.write_bytes(text.encode())
    plain = read(path)
    for data in (BOM + text.encode(), gzip.compress(BOM + text.encode())):
        path.write_bytes(data)
        assert read(path) == plain


@pytest.mark.parametrize("kind", READERS)
def test_windows_line_ends_change_nothing(kind: str, tmp_path: Path) -> None:
    text, read = READERS[kind]
    path = tmp_path / "file"
    path.write_bytes(text.encode())
    plain = read(path)
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert read(path) == plain


@pytest.mark.parametrize("kind", READERS)
def test_utf_16_and_other_bytes_are_one_clear_line(kind: str, tmp_path: Path) -> None:
    text, read = READERS[kind]
    path = tmp_path / "file"
    for data in (text.encode("utf-16"), b"\xff" + text.encode(), text.encode()[:-1] + b"\x9f"):
        path.write_bytes(data)
        with pytest.raises(OrchError, match=r"cannot be read|no known format") as caught:
            read(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_an_import_with_a_byte_order_mark_keeps_the_first_task(tmp_path: Path) -> None:
    source = tmp_path / "bom.jsonl"
    source.write_bytes(BOM + lines(conversation("a"), conversation("b")).encode())
    out, db = tmp_path / "o.jsonl", tmp_path / "c.db"
    assert main(["tasks", "import", str(source), "--cache", str(db), "--out", str(out)]) == 0
    assert [task.id for task in load_tasks(out)] == ["a", "b"]


# -- damaged gzip ------------------------------------------------------------------------------


def test_a_pipe_is_read_once_or_refused(tmp_path: Path) -> None:
    def pipe(text: str) -> Path:
        reader, writer = os.pipe()
        with os.fdopen(writer, "w") as file:
            file.write(text)
        return Path(f"/dev/fd/{reader}")

    assert [t.id for t in load_tasks(pipe(lines(TASK)))] == ["t"]
    for read in (read_source, load_split):
        with pytest.raises(OrchError, match="a pipe or a device"):
            read(pipe(lines(TASK)))


def test_a_link_and_a_device_stay_what_they_are(tmp_path: Path) -> None:
    target, link, fifo = tmp_path / "sub" / "t.jsonl", tmp_path / "link", tmp_path / "fifo"
    target.parent.mkdir()
    link.symlink_to(target)
    save_tasks([Task.from_dict(TASK)], link)
    assert link.is_symlink() and load_tasks(target)[0].id == "t"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    save_tasks([Task.from_dict(TASK)], fifo)
    assert fifo.is_fifo() and b"schema" in os.read(reader, 1000)
    os.close(reader)
    with open_cache(tmp_path / "sub" / "c.db", write=True) as cache:
        cache.put("find", {}, "a")
    (tmp_path / "c.db").symlink_to(tmp_path / "sub" / "c.db")
    with open_cache(tmp_path / "c.db", write=True) as cache:
        cache.put("find", {}, "b")
    assert (tmp_path / "c.db").is_symlink()
    assert len(open_cache(tmp_path / "sub" / "c.db").variants("find", {})) == 2
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(
        ["c.db", "c.db", "fifo", "link", "sub", "t.jsonl"]
    )


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_one_line(name: str, tmp_path: Path) -> None:
    path = str(tmp_path / name)
    for use in (
        load_tasks,
        load_split,
        read_episodes,
        open_cache,
        make_policy,
        partial(open_cache, write=True),
        partial(save_tasks, [Task.from_dict(TASK)]),
        partial(make_backend, cache=None, loaded=[]),
    ):
        with pytest.raises(OrchError) as caught:
            use(path)
        assert not any(w in str(caught.value) for w in ("does not exist", "\n", "[Errno"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_told_as_the_system_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for name in ("", f"{tmp_path}/file/x"):
        for load in (load_tasks, load_split):
            with pytest.raises(OrchError, match="does not exist"):
                load(name)
    with pytest.raises(OrchError, match=r"[Dd]irectory"):
        load_split(tmp_path)

    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.replace", refused)
    with pytest.raises(OrchError, match="Operation not permitted"):
        save_tasks([Task.from_dict(TASK)], tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_written_is_found_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OrchError, match="read-only"):
        check_out(tmp_path / "new")
    check_out("/dev/null")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (lines(conversation("ü")).replace("\\u00fc", "ü").encode("latin-1"), "utf-8"),
        (b"{bad\n" + lines(conversation("a")).encode(), "first line is no JSON: Expecting"),
        (b'{"a": 1}\n{bad', r"--format\)$"),
        (b'{"find": ' + b"[" * 9_000 + b"]" * 9_000 + b"}", "nested too deeply"),
    ],
)
def test_a_source_that_no_format_fits_is_told_why(
    source: bytes, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "s").write_bytes(source)
    with pytest.raises(OrchError, match=reason):
        detect(tmp_path / "s")


def test_an_import_refuses_what_no_cache_can_name_and_calls_in_the_closing_answer(
    tmp_path: Path,
) -> None:
    written = conversation("b")
    written["conversations"].append({"role": "assistant", "content": "<tool_call>{}</tool_call>"})
    (tmp_path / "s").write_text(lines(conversation("a\0"), written, conversation("c")))
    with open_cache(tmp_path / "c.db", write=True) as cache:
        result = import_tasks(read_source(tmp_path / "s"), cache)
    assert [task.id for task in result.tasks] == ["c"]
    assert [refusal.id for refusal in result.refused] == ["a\0", "b"]
    assert "writes calls as text" in result.refused[1].reason


@pytest.mark.parametrize("kind", [*READERS, "a pickle", "which format"])
def test_gzip_with_any_byte_flipped_is_read_right_or_refused(kind: str, tmp_path: Path) -> None:
    data, read = b"", ids_of_source
    if kind == "a pickle":
        data = pickle.dumps([reference_task("Trips", "Oslo", 7, {})])
    elif kind == "which format":
        data, read = READERS["conversations"][0].encode(), detect
    elif kind in READERS:
        data, read = READERS[kind][0].encode(), READERS[kind][1]
    path = tmp_path / "file.gz"
    whole = gzip.compress(data, mtime=0)
    path.write_bytes(whole)
    right = read(path)
    refused = 0
    for at in range(len(whole)):
        for mask in (0xFF, 0x01) if len(whole) < 400 else (0xFF,):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
            refused += right_or_refused(partial(read, path), right)
    for end in range(1, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(OrchError):
            read(path)
    assert refused > len(whole) // 2


def right_or_refused(read: Callable[[], Any], right: Any) -> bool:
    try:
        found = read()
    except OrchError as problem:
        assert "\n" not in str(problem)
        return True
    assert found == right
    return False


def test_damaged_gzip_raises_zlib_s_error_in_python() -> None:
    """Else the test above would not meet what it is for."""
    whole = gzip.compress(READERS["tasks"][0].encode(), mtime=0)
    with pytest.raises(zlib.error):
        gzip.decompress(whole[:10] + bytes([whole[10] ^ 0xFF]) + whole[11:])


# -- half characters ---------------------------------------------------------------------------

HALF = "half \ud83d an emoji"


def test_tasks_with_half_a_character_are_written_and_read_again(tmp_path: Path) -> None:
    gold = [[{"name": "find", "arguments": {"q": HALF, HALF: 1}}]]
    data = {**TASK, "tools": ["find"], "gold": gold, "metadata": {HALF: HALF}, "answer": HALF}
    odd = Task.from_dict({**data, "messages": [{"role": "user", "content": HALF}]})
    for name in ("tasks.jsonl", "tasks.jsonl.gz"):
        save_tasks([Task.from_dict({**TASK, "id": "good"}), odd], tmp_path / name)
        assert load_tasks(tmp_path / name)[1] == odd
    assert "Zürich" in (tmp_path / "tasks.jsonl").read_text(encoding="utf-8")


def test_task_files_of_the_first_version_are_read_with_their_half_characters(
    tmp_path: Path,
) -> None:
    text = json.dumps({**TASK, "answer": HALF}, ensure_ascii=False)
    (tmp_path / "old.jsonl").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert load_tasks(tmp_path / "old.jsonl")[0].answer == HALF


def test_an_import_keeps_half_characters_or_refuses_the_task(tmp_path: Path) -> None:
    odd = conversation("odd", city=f"Z{HALF}")
    records = [conversation("good"), odd, conversation(f"id {HALF}")]
    source, db, out = tmp_path / "s.jsonl", tmp_path / "c.db", tmp_path / "o.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    with open_cache(db, write=True) as cache:
        result = import_tasks(read_source(source), cache)
    save_tasks(result.tasks, out)
    assert load_tasks(out) == result.tasks and [t.id for t in result.tasks] == ["good", "odd"]
    (refused,) = result.summary()["refused"]
    assert refused["id"] == f"id {HALF}" and "lone surrogate" in refused["reason"]
    task = result.tasks[1]
    assert HALF in task.query and HALF in task.gold_calls[0].arguments["query"]
    for call in task.gold_calls:
        recorded = open_cache(db).get(call.name, call.arguments, task=task)
        assert recorded is not None and recorded.digest == call.response


@pytest.mark.parametrize("args", [[], ["--json"]])
def test_a_task_with_half_a_character_is_shown(args: list[str], tmp_path: Path) -> None:
    task = Task.from_dict({**TASK, "followups": [HALF], "metadata": {"note": HALF}})
    save_tasks([task], tmp_path / "t.jsonl")
    from orch_env.cli.tasks import show

    shown = CliRunner().invoke(show, ["t", str(tmp_path / "t.jsonl"), *args])
    assert shown.exit_code == 0, shown.output
    assert not args or json.loads(shown.stdout) == task.to_dict()


def test_episodes_with_half_a_character_are_written_and_read_again(tmp_path: Path) -> None:
    turn = Turn.of(HALF, [ToolCall(HALF, {HALF: HALF})], [HALF], HALF)
    episode = Episode("t", 0, (turn,), HALF, state={HALF: {"a": {HALF: None}}})
    write_episodes([episode], tmp_path / "e.jsonl")
    assert read_episodes(tmp_path / "e.jsonl")[0].episode == episode


@pytest.mark.parametrize(
    "data",
    [
        {**TASK, "id": HALF},
        {**TASK, "tools": [{"name": HALF}]},
        {**TASK, "gold": [[{"name": HALF}]]},
    ],
)
def test_a_name_with_half_a_character_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(OrchError, match="lone surrogate"):
        Task.from_dict(data)


def test_readable_json_has_bytes_whatever_it_holds() -> None:
    for value in ("Zürich", HALF, {HALF: [HALF]}):
        assert json.loads(readable_json(value).encode()) == value


# -- repeated keys -----------------------------------------------------------------------------


def repeated(record: dict[str, Any]) -> str:
    """The record as JSON with its last key given twice."""
    key = list(record)[-1]
    return json.dumps(record)[:-1] + f", {json.dumps(key)}: {json.dumps(record[key])}}}"


@pytest.mark.parametrize("read", [load_tasks, read_episodes, read_tools, FilePolicy])
def test_a_key_given_twice_is_refused_and_named(
    read: Callable[[Path], Any], tmp_path: Path
) -> None:
    text = {
        load_tasks: repeated(TASK),
        read_episodes: repeated(EPISODE),
        read_tools: repeated({"name": "a", "parameters": {}}),
        FilePolicy: repeated({"task_id": "t", "actions": []}),
    }[read]
    (tmp_path / "file").write_text(text)
    with pytest.raises(OrchError, match=r"the key '\w+' is given twice"):
        read(tmp_path / "file")


def test_a_function_that_a_cache_lists_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text(repeated(CACHE))
    with pytest.raises(OrchError, match="the key 'find' is given twice"):
        read_source(tmp_path / "cache.json", "reference-cache")


def test_a_record_with_a_repeated_key_is_refused_by_its_id_or_line(tmp_path: Path) -> None:
    source = tmp_path / "s.jsonl"
    source.write_text(lines(conversation("a")) + repeated(conversation("b")) + "\n")
    found = read_source(source)
    assert [trace.id for trace in found.traces] == ["a"]
    (refused,) = found.refused
    assert refused.id == "line 2" and "'functions' is given twice" in refused.reason
