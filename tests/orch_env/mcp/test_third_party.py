"""Episodes on servers of other people, installed by `make test-mcp` in versions of their own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orch_env.backends.mcp import McpSession
from orch_env.types import ToolCall, ToolResult
from tests.orch_env.mcp.conftest import MakeBackend, call, task

INSTALLED = Path(__file__).resolve().parents[3] / ".venv-mcp"
NODE = INSTALLED / "node" / "node_modules" / ".bin"
WHEN = "2025-03-03T09:00:00 +0000"
AUTHOR = {
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_AUTHOR_DATE": WHEN,
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
    "GIT_COMMITTER_DATE": WHEN,
}

SERVERS: dict[str, dict[str, Any]] = {
    "filesystem": {"command": str(NODE / "mcp-server-filesystem"), "args": ["{folder}"]},
    "memory": {
        "command": str(NODE / "mcp-server-memory"),
        "env": {"MEMORY_FILE_PATH": "{folder}/memory.json"},
    },
    "everything": {"command": str(NODE / "mcp-server-everything")},
    "time": {"command": str(INSTALLED / "bin" / "mcp-server-time")},
    "git": {
        "command": str(INSTALLED / "bin" / "mcp-server-git"),
        "env": AUTHOR,
        "orch": {"template": "repository", "public": [*AUTHOR]},
    },
    "sqlite": {
        "command": str(INSTALLED / "sqlite" / "bin" / "mcp-server-sqlite"),
        "args": ["--db-path", "{folder}/notes.db"],
    },
}

REPOSITORY = {"repo_path": "/workspace"}
PERSON = {"name": "Ann", "entityType": "person", "observations": ["sails"]}
SCRIPTS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "filesystem": [
        ("write_file", {"path": "/workspace/plan.txt", "content": "Sail to Oban.\n"}),
        (
            "edit_file",
            {"path": "/workspace/plan.txt", "edits": [{"oldText": "Oban", "newText": "Mull"}]},
        ),
        ("create_directory", {"path": "/workspace/logs"}),
        ("move_file", {"source": "/workspace/plan.txt", "destination": "/workspace/logs/plan.txt"}),
        ("directory_tree", {"path": "/workspace"}),
        ("read_text_file", {"path": "/workspace/logs/plan.txt"}),
        ("search_files", {"path": "/workspace", "pattern": "**/*.txt"}),
        ("read_text_file", {"path": "/etc/hostname"}),
        ("list_allowed_directories", {}),
    ],
    "memory": [
        ("read_graph", {}),
        ("create_entities", {"entities": [PERSON, {**PERSON, "name": "Bo"}]}),
        ("create_relations", {"relations": [{"from": "Ann", "to": "Bo", "relationType": "knows"}]}),
        ("add_observations", {"observations": [{"entityName": "Bo", "contents": ["rows"]}]}),
        ("delete_entities", {"entityNames": ["Ann"]}),
        ("read_graph", {}),
    ],
    "everything": [
        ("echo", {"message": "hello"}),
        ("get-sum", {"a": 2, "b": 3}),
        ("get-tiny-image", {}),
        ("get-resource-links", {"count": 2}),
        ("get-annotated-message", {"messageType": "error", "includeImage": True}),
        ("get-structured-content", {"location": "Chicago"}),
    ],
    "time": [
        (
            "convert_time",
            {"source_timezone": "UTC", "time": "09:30", "target_timezone": "Asia/Tokyo"},
        ),
        ("get_current_time", {"timezone": "Nowhere/Town"}),
    ],
    "git": [
        ("git_status", REPOSITORY),
        ("git_diff_unstaged", REPOSITORY),
        ("git_add", {**REPOSITORY, "files": ["log.txt"]}),
        ("git_commit", {**REPOSITORY, "message": "Write the log"}),
        ("git_log", {**REPOSITORY, "max_count": 2}),
        ("git_create_branch", {**REPOSITORY, "branch_name": "winter"}),
        ("git_checkout", {**REPOSITORY, "branch_name": "winter"}),
        ("git_status", REPOSITORY),
        ("git_checkout", {**REPOSITORY, "branch_name": "nowhere"}),
    ],
    "sqlite": [
        ("create_table", {"query": "CREATE TABLE boats (name TEXT, berths INTEGER)"}),
        ("write_query", {"query": "INSERT INTO boats VALUES ('Kelda', 4), ('Iona', 6)"}),
        ("read_query", {"query": "SELECT name FROM boats WHERE berths > 4"}),
        ("list_tables", {}),
        ("describe_table", {"table_name": "boats"}),
        ("read_query", {"query": "SELECT * FROM ships"}),
    ],
}
SHOWS = {
    "filesystem": ["Sail to Mull.", "Access denied", "/workspace/logs/plan.txt"],
    "memory": ['"relations": []', '"rows"'],
    "everything": ["Echo: hello", "5", "[image: image/png, ", "[resource link: ", "humidity"],
    "time": ["+9.0h", "18:30"],
    "git": ["Write the log", "winter", "Begin"],
    "sqlite": ["Iona", "no such table: ships"],
}
LAST_IS_REFUSED = {"time", "git"}


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-C", folder, *arguments],
        check=True,
        capture_output=True,
        env={**os.environ, **AUTHOR},
    )


@pytest.fixture
def repository(tmp_path: Path) -> None:
    """A template: a repository with one commit and a change that is not staged."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "log.txt").write_text("Left port.\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "Begin")
    (folder / "log.txt").write_text("Left port.\nCame back.\n")


def play(session: McpSession, script: list[tuple[str, dict[str, Any]]]) -> list[ToolResult]:
    results = [call(session, name, **arguments) for name, arguments in script]
    session.close()
    return results


@pytest.mark.mcp
@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    "episodes", [5, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
@pytest.mark.parametrize("name", SERVERS)
def test_the_same_actions_give_the_same_text_in_every_episode(
    backend: MakeBackend, name: str, episodes: int
) -> None:
    if not os.path.exists(SERVERS[name]["command"]):
        pytest.skip(f"{name} is not installed: make test-mcp")
    made = backend({name: SERVERS[name]}, ahead=1)
    first = play(made.open(task(), seed=0), SCRIPTS[name])
    text = json.dumps([result.text for result in first], ensure_ascii=False)
    for shown in SHOWS[name]:
        assert json.dumps(shown)[1:-1] in text
    assert all(result.error is None for result in first[:-1] if "Access denied" not in result.text)
    assert (first[-1].error is not None) == (name in LAST_IS_REFUSED)
    for _ in range(episodes - 1):
        assert play(made.open(task(), seed=0), SCRIPTS[name]) == first


@pytest.mark.mcp
def test_calls_of_one_message_run_in_parallel_on_a_real_server(backend: MakeBackend) -> None:
    if not os.path.exists(SERVERS["filesystem"]["command"]):
        pytest.skip("filesystem is not installed: make test-mcp")
    session = backend({"filesystem": SERVERS["filesystem"]}).open(task(), seed=0)
    written = [{"path": f"/workspace/{n}", "content": str(n)} for n in range(8)]
    session.answer([ToolCall("write_file", arguments) for arguments in written])
    read = [ToolCall("read_text_file", {"path": arguments["path"]}) for arguments in written]
    assert [result.text for result in session.answer(read)] == [str(n) for n in range(8)]
