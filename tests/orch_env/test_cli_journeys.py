"""Every command's last lines name the next command, and that one runs as it was printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orch_env.cli.main import main
from tests.journeys import next_commands
from tests.orch_env.importer_samples import conversation, lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose name has a blank and a quote, with a recording in it."""
    folder = tmp_path / "my data's"
    folder.mkdir()
    tasks = [conversation(f"Trips-{n}", city) for n, city in enumerate(("Oslo", "Bergen"))]
    (folder / "source.jsonl").write_text(lines(*tasks))
    return folder


def test_the_way_from_a_recording_to_its_rewards_is_printed_step_by_step(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, cache = str(folder / "tasks #1.jsonl"), str(folder / "c.db")
    waiting = [
        ["tasks", "import", str(folder / "source.jsonl"), "--cache", cache, "--out", tasks],
        ["tasks", "split", "harbour/heldout", "--out", str(folder / "split.jsonl")],
        ["cache", "info", cache],
        ["replay", "--tasks", tasks, "--cache", cache, "--out", str(folder / "episodes.jsonl")],
        ["eval", "--tasks", tasks, "--cache", cache, "--policy", "noop"],
        ["doctor"],
    ]
    done: list[str] = []
    while waiting:
        words = waiting.pop(0)
        name = " ".join(word for word in words[:2] if not word.startswith("-"))
        if words in done or done.count(name) == 4:
            continue
        done.append(name)
        assert main(words) == 0, words
        waiting += next_commands(capsys.readouterr().err)
    last = {"cache verify", "reward show", "tasks show"}
    assert last | {"tasks validate", "tasks stats", "reward audit", "reward compare"} <= set(done)
    assert {"replay", "reward attack"} <= set(done)


def test_with_json_there_is_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--tasks", "harbour", "--limit", "2", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["tasks"] == 2
    assert said.err == ""


def test_a_command_that_fails_leads_to_what_failed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, cache = str(folder / "tasks.jsonl"), str(folder / "c.db")
    source = str(folder / "source.jsonl")
    assert main(["tasks", "import", source, "--cache", cache, "--out", tasks]) == 0
    first, *others = Path(tasks).read_text().splitlines()
    record = json.loads(first)
    record["gold"][0][0]["arguments"] = {"query": "nowhere"}
    Path(tasks).write_text("\n".join([json.dumps(record), *others]) + "\n")
    capsys.readouterr()
    assert main(["tasks", "validate", tasks, "--cache", cache]) == 1
    assert next_commands(capsys.readouterr().err) == [["tasks", "show", "Trips-0", tasks]]


@pytest.mark.parametrize("program", ["orch", None])
def test_the_program_is_named_so_that_the_shell_finds_it(
    program: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In an environment that is not activated, `orch` alone would not be found."""
    script = tmp_path / ".venv" / "bin" / "orch"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script.with_name("python")))
    monkeypatch.setenv("PATH", str(script.parent) if program else "/nowhere")
    monkeypatch.chdir(tmp_path)
    assert main(["cache", "info", str(Path(__file__).parent / "no.db")]) == 2
    assert "next:" not in capsys.readouterr().err
    from orch_env.cli.output import next_command

    next_command("view", "runs/my run", why="look")
    wanted = program or ".venv/bin/orch"
    assert capsys.readouterr().err == f"next: {wanted} view 'runs/my run'  # look\n"
