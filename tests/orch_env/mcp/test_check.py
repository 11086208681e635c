"""`check_servers`: what differs from episode to episode, and what does not work."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orch_env.backends.mcp import check_servers
from orch_env.backends.mcp.check import _arguments, _only_reads, calls_that_read
from orch_env.types import OrchError, ToolSpec
from tests.orch_env.mcp.conftest import children, raw


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of these servers tells the time."""
    monkeypatch.setattr("orch_env.backends.mcp.check._APART_S", 0.0)


def test_a_check_plays_twice_and_tells_what_differed(mcp_file: Callable[..., Path]) -> None:
    path = mcp_file({"raw": raw(orch={"folder": True}), "dead": raw("dead")}, orch={"ahead": 0})
    found = check_servers(path)
    assert found.keys() == {"ok", "problems", "differs"} and found["ok"] is False
    (differs,) = json.loads(json.dumps(found["differs"]))
    assert differs["tool"] == "process_id" and differs["arguments"] == {}
    assert int(differs["first"]) != int(differs["second"])
    (problem,) = found["problems"]
    assert "MCP server 'dead' ended by itself" in problem
    assert children() == []


def test_a_check_calls_what_looks_as_if_it_only_reads() -> None:
    tools = {name: spec(name) for name in ("get_x", "write_x", "delete_x", "hinted")}
    tools["get_x"] = replace(tools["get_x"], read_only=False)
    tools["hinted"] = replace(tools["hinted"], read_only=True)
    assert [call.name for call in calls_that_read({**tools, "list_y": spec("list_y")})] == [
        "hinted",
        "list_y",
    ]


def test_a_check_goes_on_after_a_tool_that_breaks_its_server(
    mcp_file: Callable[..., Path], tmp_path: Path
) -> None:
    server = tmp_path / "server.py"
    source = Path(raw()["args"][2]).read_text()
    server.write_text(source.replace('READ_ONLY = ("echo",', 'READ_ONLY = ("die", "echo",'))
    path = mcp_file({"raw": {"command": sys.executable, "args": ["-I", "-S", str(server)]}})
    found = check_servers(path)
    assert found["problems"] == ["die: MCP server 'raw' ended by itself with exit code 3"]
    assert [one["tool"] for one in found["differs"]] == ["process_id"]


def test_a_tool_that_is_left_out_is_a_problem(mcp_file: Callable[..., Path]) -> None:
    (problem,) = check_servers(mcp_file({"raw": raw("odd")}))["problems"]
    assert "a tool is left out: a tool needs" in problem


def test_a_check_of_a_broken_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OrchError, match="cannot be read"):
        check_servers(tmp_path / "none.json")


def spec(name: str, properties: dict[str, Any] | None = None, **more: Any) -> ToolSpec:
    properties = properties or {}
    schema = {"type": "object", "properties": properties, "required": [*properties], **more}
    return ToolSpec(name, "", schema)


@pytest.mark.parametrize("name", ["get_x", "listFiles", "read-file", "git_status", "search"])
def test_a_tool_without_a_hint_is_judged_by_its_name(name: str) -> None:
    assert _only_reads(spec(name))


@pytest.mark.parametrize("name", ["write_file", "getaway", "forget", "git_commit"])
def test_other_tools_are_not_called(name: str) -> None:
    assert not _only_reads(spec(name))


def test_arguments_are_made_from_the_schema() -> None:
    made = _arguments(
        spec(
            "t",
            {
                "path": {"type": "string"},
                "timezone": {"type": "string"},
                "day": {"type": "string", "format": "date"},
                "word": {"type": "string", "minLength": 3},
                "kind": {"enum": ["b", "c"]},
                "count": {"type": "integer", "minimum": 4},
                "deep": {"type": "array", "items": {"$ref": "#/$defs/item"}},
                "either": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
                "given": {"type": "string", "default": "d"},
            },
            **{
                "$defs": {
                    "item": {
                        "type": "object",
                        "properties": {"n": {"type": "number"}},
                        "required": ["n"],
                    }
                }
            },
        )
    )
    assert made == {
        "path": "/workspace",
        "timezone": "UTC",
        "day": "2025-01-15",
        "word": "aaa",
        "kind": "b",
        "count": 4,
        "deep": [{"n": 1}],
        "either": False,
        "given": "d",
    }
