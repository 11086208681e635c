"""`orch cache` and `orch tasks`: output keys, exit codes, and one line for what is wrong."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orch_env.cache import open_cache
from orch_env.tasks.files import load_tasks, save_tasks
from orch_env.types import GoldCall, Provenance, Task, ValueRef
from tests.orch_env.command_line import bad_line, orch, orch_json
from tests.orch_env.importer_samples import conversation, lines, reference_task

STATS_KEYS = [
    "responses",
    "payloads",
    "tools",
    "variants",
    "bytes",
    "schema",
    "key_version",
    "digest",
]


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Folder with `source.jsonl`, `cache.db` and `tasks.jsonl`."""
    records = [conversation("Trips-0"), conversation("Trips-1", "Oslo", 55512345)]
    (tmp_path / "source.jsonl").write_text(lines(*records, {"id": "bad"}), encoding="utf-8")
    code, result, _ = orch_json(
        capsys, "tasks", "import", tmp_path / "source.jsonl", *outs(tmp_path)
    )
    assert code == 0
    assert result == {
        "tasks": 2,
        "refused": [{"id": "bad", "reason": "'conversations' must be a list of messages"}],
        "calls": 6,
        "tools": 2,
        "responses": 6,
        "variants": 0,
        "provenance": {"output": 4, "query": 2, "composite": 0, "reasoned": 0, "constant": 2},
    }
    return tmp_path


def outs(folder: Path) -> tuple[Any, ...]:
    return "--cache", folder / "cache.db", "--out", folder / "tasks.jsonl"


def test_import_info_and_verify_tell_the_documented_facts(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, info, _ = orch_json(capsys, "cache", "info", imported / "cache.db")
    assert code == 0 and list(info) == STATS_KEYS
    again = orch_json(
        capsys, "cache", "import", imported / "source.jsonl", "--out", imported / "other.db"
    )[1]
    assert (again["responses"], again["tools"]) == (info["responses"], info["tools"])
    assert orch_json(capsys, "cache", "verify", imported / "cache.db")[:2] == (
        0,
        {"ok": True, "problems": []},
    )


def test_verify_exits_with_one_when_a_byte_changed(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray((imported / "cache.db").read_bytes())
    data[len(data) // 2] ^= 1
    (imported / "cache.db").write_bytes(bytes(data))
    code, result, _ = orch_json(capsys, "cache", "verify", imported / "cache.db")
    assert code == 1 and not result["ok"] and result["problems"]


def test_get_prints_the_recorded_bytes_and_nothing_else(imported: Path) -> None:
    place = json.dumps({"place_id": 81927364, "guests": 2})
    argv = [sys.executable, "-m", "orch_env.cli.main", "cache", "get", str(imported / "cache.db")]
    for extra in ([], ["--task", "Trips-0"]):
        done = subprocess.run(
            [*argv, "Get_Reviews(Tips)", place, *extra], capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == '{"data": ["schön", 1.0]}'.encode()
    miss = subprocess.run([*argv, "Find_Place", "{}"], capture_output=True, check=False)
    assert (miss.returncode, miss.stdout) == (1, b"") and miss.stderr.count(b"\n") == 1


def test_get_says_so_when_the_task_pins_nothing(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ("cache", "get", imported / "cache.db", "Find_Place", '{"query": "Oslo"}')
    assert orch(capsys, *call, "--task", "Trips-1")[2] == ""
    code, out, err = orch(capsys, *call, "--task", "Trips-9")
    assert code == 0 and out and "pins no variant" in err


def test_validate_replays_gold_and_stats_counts(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = (imported / "tasks.jsonl", "--cache", imported / "cache.db")
    code, result, _ = orch_json(capsys, "tasks", "validate", *argv)
    assert (code, result) == (0, {"tasks": 2, "ok": 2, "failures": []})
    stats = orch_json(capsys, "tasks", "stats", imported / "tasks.jsonl")[1]
    assert (stats["tasks"], stats["calls"], stats["edges"]) == (2, 6, 4)


def spoil(task: Task, number: int, **changes: Any) -> Task:
    """The task with one gold call changed."""
    calls = list(task.gold_calls)
    calls[number] = replace(calls[number], **changes)
    sizes, gold = [len(step) for step in task.gold], []
    for size in sizes:
        gold.append(tuple(calls[:size]))
        del calls[:size]
    return replace(task, gold=tuple(gold))


def output(path: str, call: int = 0) -> dict[str, ValueRef]:
    return {"/place_id": ValueRef(Provenance.OUTPUT, call=call, path=path)}


@pytest.mark.parametrize(
    ("number", "changes", "reason"),
    [
        (1, {"provenance": output("/data/9/id")}, "has nothing at /data/9/id"),
        (1, {"provenance": output("/data/0/count")}, "has 2 at /data/0/count"),
        (1, {"provenance": output("/data/0/id"), "depends_on": ()}, "depends_on lacks call 0"),
        (2, {"depends_on": (1,), "provenance": {}}, "depends on call 1 of its own step"),
        (1, {"response": "ab" * 16}, "not among the 1 recorded ones"),
        (1, {"name": "Other_Tool"}, "does not offer this tool"),
        (1, {"arguments": {"place_id": "1"}, "response": None}, "answered by an error"),
        (0, {"optional": True}, "but call 1 (Get_Reviews_Tips) takes /place_id"),
        (1, {"provenance": {"/nothing": ValueRef(Provenance.QUERY)}}, "no such argument"),
    ],
)  # fmt: skip
def test_validate_names_what_is_wrong_with_a_task(
    imported: Path,
    capsys: pytest.CaptureFixture[str],
    number: int,
    changes: dict[str, Any],
    reason: str,
) -> None:
    first, second = load_tasks(imported / "tasks.jsonl")
    save_tasks([spoil(first, number, **changes), second], imported / "spoilt.jsonl")
    argv = (imported / "spoilt.jsonl", "--cache", imported / "cache.db")
    code, result, _ = orch_json(capsys, "tasks", "validate", *argv)
    assert (code, result["ok"]) == (1, 1)
    (failure,) = result["failures"]
    assert failure["id"] == first.id and reason in failure["reason"]


def test_an_optional_call_whose_output_nothing_needs_is_valid(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = load_tasks(imported / "tasks.jsonl")
    save_tasks([spoil(first, 2, optional=True), second], imported / "t.jsonl")
    argv = (imported / "t.jsonl", "--cache", imported / "cache.db")
    assert orch(capsys, "tasks", "validate", *argv)[0] == 0


def test_validate_reports_gold_values_that_a_cut_would_hide(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = 44455566
    far = json.dumps({"data": ["filler"] * 40 + [{"id": place}]})
    task = load_tasks(imported / "tasks.jsonl")[0]
    with open_cache(imported / "cache.db", write=True) as cache:
        digest = cache.put("Find_Place", {"query": "far"}, far)
        use = cache.put("Get_Reviews_Tips", {"place_id": place}, "{}")
    gold = (
        (GoldCall("Find_Place", {"query": "far"}, response=digest),),
        (
            GoldCall(
                "Get_Reviews_Tips",
                {"place_id": place},
                depends_on=(0,),
                provenance=output("/data/40/id"),
                response=use,
            ),
        ),
    )
    save_tasks([replace(task, gold=gold)], imported / "far.jsonl")
    argv = ("tasks", "validate", imported / "far.jsonl", "--cache", imported / "cache.db")
    for limit, hidden in (
        (200, [{"id": "Trips-0", "call": 1, "pointer": "/place_id"}]),
        (5000, []),
    ):
        code, result, _ = orch_json(capsys, *argv, "--max-observation-chars", limit)
        assert (code, result["hidden"]) == (0, hidden)


def test_show_takes_id_and_file_in_either_order(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = imported / "tasks.jsonl"
    wanted = load_tasks(file)[1].to_dict()
    for argv in (("Trips-1", file), (file, "Trips-1"), ("Trips-1", "--tasks", file)):
        assert orch_json(capsys, "tasks", "show", *argv)[1] == wanted
    readable = orch(capsys, "tasks", "show", "Trips-1", file)[1]
    assert "from call 0 /data/0/id" in readable
    assert "nearest: Trips-" in bad_line(capsys, "tasks", "show", "Trip-1", file)


def test_show_says_which_step_waits_for_which_follow_up(
    imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = replace(
        load_tasks(imported / "tasks.jsonl")[0], followups=("Go on.",), after_followup=(0, 1)
    )
    save_tasks([task], tmp_path / "talk.jsonl")
    lines = orch(capsys, "tasks", "show", task.id, tmp_path / "talk.jsonl")[1].splitlines()
    assert {"follow-up 1: Go on.", "step 0", "step 1  (after follow-up 1)"} <= set(lines)


def test_wrong_input_is_one_line_and_exit_code_two(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db, text = imported / "cache.db", imported / "source.jsonl"
    assert "does not exist" in bad_line(capsys, "cache", "info", imported / "none.db")
    assert "not a SQLite file" in bad_line(capsys, "cache", "verify", text)
    assert "not JSON" in bad_line(capsys, "cache", "get", db, "Find_Place", "{query: 1}")
    assert "JSON object" in bad_line(capsys, "cache", "get", db, "Find_Place", "[1]")
    assert "does not exist" in bad_line(
        capsys, "tasks", "import", imported / "none", *outs(imported)
    )
    assert "its folder does not exist" in bad_line(
        capsys, "tasks", "import", text, "--cache", db, "--out", imported / "no" / "t.jsonl"
    )
    (imported / "r.json").write_text('{"f": [{"arguments": {}, "response": 1}]}')
    assert "no tasks" in bad_line(capsys, "tasks", "import", imported / "r.json", *outs(imported))
    assert "cannot be written" in bad_line(
        capsys, "cache", "import", text, "--out", imported / "no" / "c.db"
    )
    assert "No such option" in bad_line(capsys, "cache", "info", db, "--jsn")
    assert open_cache(db).verify()["ok"]


def test_no_command_replaces_one_of_its_own_files(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db, tasks, source = (imported / n for n in ("cache.db", "tasks.jsonl", "source.jsonl"))
    before = {path: path.read_bytes() for path in (db, tasks, source)}
    (imported / "link").symlink_to(tasks)
    data = ("--tasks", tasks, "--cache", db)
    for argv in (
        ("tasks", "import", source, "--cache", imported / "new.db", "--out", source),
        ("tasks", "import", source, "--cache", imported / "new", "--out", imported / "new"),
        ("replay", *data, "--out", db),
        ("replay", *data, "--out", imported / "link"),
        ("replay", *data, "--policy", source, "--out", source),
        ("eval", *data, "--policy", "gold", "--out", tasks),
        ("reward", "attack", *data, "--reward", "binary", "--out", tasks),
    ):
        assert "this command needs that file itself" in bad_line(capsys, *argv)
    for argv in (
        ("tasks", "import", source, "--cache", imported / "new.db", "--out", imported),
        ("tasks", "split", tasks, "--out", ""),
    ):
        assert "it is a folder" in bad_line(capsys, *argv)
    assert {path: path.read_bytes() for path in before} == before
    assert not list(imported.glob("new*"))


def test_a_miss_is_one_object_too_and_names_are_shown_with_escapes(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result, err = orch_json(
        capsys, "cache", "get", imported / "cache.db", "no\udcff", '{"a": 1}'
    )
    assert code == 1 and set(result.values()) == {None} and "no\\udcff: no such tool" in err
    twice = ("cache", "get", imported / "cache.db", "f", '{"a": 1, "a": 2}')
    assert "'a' is given twice" in bad_line(capsys, *twice)


def test_an_empty_file_and_a_full_disk_are_one_line(
    imported: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    db, empty = imported / "cache.db", imported / "empty"
    empty.write_text("\n")
    data = ("--tasks", imported / "tasks.jsonl", "--cache", db)
    assert "holds no tasks" in bad_line(capsys, "tasks", "validate", empty, "--cache", db)
    assert "holds no episodes" in bad_line(capsys, "replay", "--verify", empty, "--cache", db)
    assert "holds no actions" in bad_line(capsys, "replay", *data, "--policy", empty)
    assert "'--seed'" in bad_line(capsys, "replay", *data, "--seed", "-1")
    assert "'--seed'" in bad_line(capsys, "eval", *data, "--policy", "noop", "--seed", "-1")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("orch_env.cli.cache.emit", full)
    assert "No space left" in bad_line(capsys, "cache", "info", db)


def test_a_source_without_an_importable_task_exits_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = reference_task("w", "Oslo", 4711471, "")
    (tmp_path / "t.pkl").write_bytes(pickle.dumps([record]))
    code, result, err = orch_json(capsys, "tasks", "import", tmp_path / "t.pkl", *outs(tmp_path))
    assert (code, result["tasks"], len(result["refused"])) == (1, 0, 1)
    assert "no task" in err


def test_an_interrupted_import_leaves_the_cache_as_it_was(imported: Path) -> None:
    # The child interrupts itself in the middle of storing responses.
    script = (
        "import os, signal, sys\n"
        "from orch_env.cache.writer import CacheWriter\n"
        "put = CacheWriter.put\n"
        "def stop(*given):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return put(*given)\n"
        "CacheWriter.put = stop\n"
        "from orch_env.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    source = imported / "more.jsonl"
    source.write_text(lines(conversation("Trips-5", "Rome", 77712345)), encoding="utf-8")
    before = (imported / "cache.db").read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", script, "cache", "import", source, "--out", imported / "cache.db"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stderr.strip()) == (130, b"orch: interrupted")
    assert (imported / "cache.db").read_bytes() == before
    assert not list(imported.glob(".cache.db*"))


@pytest.mark.parametrize("argv", [("cache",), ("tasks",), ("cache", "get"), ("tasks", "import")])
def test_help_teaches(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = orch(capsys, *argv, "--help")
    assert code == 0 and "Usage: orch" in out
    if len(argv) == 2:
        assert "Example: orch" in out
