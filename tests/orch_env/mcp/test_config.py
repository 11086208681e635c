"""The file of servers: what is read, what is left out, and what each mistake is told as."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orch_env.backends.mcp import read_file
from orch_env.types import OrchError

Write = Callable[..., Path]


def test_the_forms_that_people_have_are_read(
    mcp_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHO", "ann")
    monkeypatch.delenv("UNSET", raising=False)
    path = mcp_file(
        {
            "local": {
                "type": "stdio",
                "command": "run",
                "args": ["--who", "${WHO}", "${env:WHO}", "${UNSET:-nobody}", "${workspaceFolder}"],
                "env": {"PORT": 8080, "AT": "${UNSET:-}"},
                "cwd": ".",
            },
            "remote": {"url": "https://example.org/mcp", "headers": {"X-Key": "${WHO}"}},
            "old": {"type": "sse", "url": "http://localhost:1/sse"},
            "typed": {"transport": "streamable-http", "serverUrl": "http://[::1]:8/mcp"},
            "off": {"command": "x", "disabled": True},
        },
        orch={"ahead": 3},
    )
    file = read_file(path)
    assert list(file.servers) == ["local", "remote", "old", "typed"] and file.ahead == 3
    local = file.servers["local"]
    assert local.args == ("--who", "ann", "ann", "nobody", "{folder}") and local.folder
    assert local.env == {"PORT": "8080", "AT": ""} and local.cwd == str(tmp_path)
    assert file.servers["remote"].headers == {"X-Key": "ann"}
    assert file.servers["old"].sse and not file.servers["typed"].sse


def test_vs_codes_key_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"servers": {"a": {"command": "x"}}}))
    assert list(read_file(path).servers) == ["a"]


def test_keys_of_other_programs_are_left_out_with_one_warning(mcp_file: Write) -> None:
    servers = {"a": {"command": "x", "autoApprove": ["y"], "timeout": 5}}
    with pytest.warns(UserWarning) as told:
        file = read_file(mcp_file(servers, globalShortcut="F1"))
    assert [str(warning.message).split(": ", 1)[1] for warning in told] == [
        "keys that are not read: globalShortcut, mcpServers/a/autoApprove, mcpServers/a/timeout"
    ]
    assert file.servers["a"].timeout_s == 30.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON"),
        ("[]", "must be a JSON object, got list"),
        ("{}", 'must have one key "mcpServers"'),
        ('{"mcpServers": []}', "mcpServers: must be a JSON object"),
        ('{"mcpServers": {}}', "mcpServers: has no server that is switched on"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mcp.json"
    path.write_text(text)
    with pytest.raises(OrchError) as problem:
        read_file(path)
    assert str(problem.value).startswith(f"{path}: {told}") and "\n" not in str(problem.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OrchError, match=r"none\.json: cannot be read \(No such file"):
        read_file(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ([], "mcpServers/a: must be a JSON object, got list"),
        ({}, 'mcpServers/a: needs "command" .* or "url"'),
        ({"command": "x", "url": "http://h"}, 'mcpServers/a: needs "command" .* not both'),
        ({"type": "http", "command": "x"}, 'mcpServers/a: needs "command" .* or "url"'),
        ({"type": "pigeon", "command": "x"}, "mcpServers/a/type: is 'pigeon'; known: stdio"),
        ({"command": ["x"]}, "mcpServers/a/command: must be a text"),
        ({"command": "x", "args": "y"}, "mcpServers/a/args: must be a list of texts"),
        ({"command": "x", "args": [1]}, "mcpServers/a/args/0: must be a text, got 1"),
        ({"command": "x", "env": ["y"]}, "mcpServers/a/env: must be a JSON object"),
        ({"command": "x", "env": {"K": None}}, "mcpServers/a/env/K: must be a text"),
        ({"command": "x", "cwd": "nowhere"}, "mcpServers/a/cwd: is no folder"),
        ({"command": "x", "args": ["${NOT_SET_1}"]}, r"args/0: the variable NOT_SET_1 is not set"),
        ({"command": "x", "args": ["${input:key}"]}, r"args/0: \$\{input:key\} is no variable"),
        ({"url": "ftp://h"}, "mcpServers/a/url: must be an http:// or https:// address"),
        ({"url": "http://["}, "mcpServers/a/url: must be an http:// or https:// address"),
        ({"url": "http://h", "orch": {"folder": True}}, "orch/folder: a remote server has no"),
        ({"command": "x", "orch": {"folders": True}}, "orch/folders: is no setting; known: folder"),
        ({"command": "x", "orch": {"timeout": "1"}}, "orch/timeout: is '1': a wrong type"),
        ({"command": "x", "orch": {"timeout": True}}, "orch/timeout: is True: a wrong type"),
        ({"command": "x", "orch": {"timeout": 0}}, "orch/timeout: must be seconds above 0"),
        ({"command": "x", "orch": {"template": "nowhere"}}, "orch/template: is no folder"),
        (
            {"command": "x", "args": ["{folder}"], "orch": {"folder": False}},
            "orch/folder: is false, but the server uses the folder",
        ),
        (
            {"command": "x", "orch": {"folder": True, "stateless": True}},
            "orch/stateless: a stateless server answers all episodes",
        ),
    ],
)
def test_a_wrong_entry_is_one_line_with_its_place(mcp_file: Write, server: Any, told: str) -> None:
    with warnings.catch_warnings(), pytest.raises(OrchError, match=told) as problem:
        warnings.simplefilter("ignore")
        read_file(mcp_file({"a": server}))
    assert "\n" not in str(problem.value)


def test_a_wrong_setting_of_the_file_is_one_line(mcp_file: Write) -> None:
    with pytest.raises(OrchError, match=r"orch/ahead: must be at least 0, got -1"):
        read_file(mcp_file({"a": {"command": "x"}}, orch={"ahead": -1}))
    with pytest.raises(OrchError, match="must not be empty or hold '__'"):
        read_file(mcp_file({"a__b": {"command": "x"}}))
