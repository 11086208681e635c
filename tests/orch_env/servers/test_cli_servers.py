"""``orch servers`` in this process; checks find planted faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orch_env.cli.main import main
from orch_env.servers import SERVERS, open_session, server_names, server_type
from orch_env.servers.framework.check import check_server
from tests.journeys import next_commands
from tests.orch_env.servers import faulty_servers
from tests.orch_env.servers.served import SERVE, natural_calls


@pytest.fixture(autouse=True)
def _only_known_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that a test registers is forgotten after it."""
    monkeypatch.setattr("orch_env.servers.SERVERS", dict(SERVERS))


def orch(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(["servers", *argv])
    said = capsys.readouterr()
    return code, said.out, said.err


def orch_json(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = orch(capsys, *argv, "--json")
    return code, json.loads(out)


def test_list_counts_the_tools_of_every_server(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = orch_json(capsys, "list")
    assert code == 0
    assert [entry["name"] for entry in found["servers"]] == list(server_names())
    for entry in found["servers"]:
        assert set(entry) == {"name", "tools", "read", "write", "category"}
        assert entry["tools"] == entry["read"] + entry["write"]
        assert entry["tools"] == len(server_type(entry["name"]).tools)
    assert found["tools"] == sum(entry["tools"] for entry in found["servers"])
    code, out, err = orch(capsys, "list")
    assert code == 0 and all(name in out for name in server_names())
    assert next_commands(err)[0][:2] == ["servers", "describe"]


@pytest.mark.parametrize("name", server_names())
def test_describe_shows_every_tool_with_its_access(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = orch_json(capsys, "describe", name)
    server = server_type(name)
    assert (code, found["name"], found["category"]) == (0, name, server.category)
    shown = {tool["function"]["name"]: tool for tool in found["tools"]}
    assert list(shown) == list(server.tools)
    for tool in server.tools.values():
        described = dict(shown[tool.spec.name])
        assert described.pop("access") == tool.access.value in ("READ", "WRITE")
        assert described.pop("destructive") == tool.destructive
        assert described.pop("idempotent") == tool.idempotent
        assert described == tool.spec.to_openai()
    code, out, err = orch(capsys, "describe", name)
    assert code == 0 and all(tool in out for tool in server.tools)
    for _, command, *arguments in next_commands(err):
        assert orch(capsys, command, *arguments)[0] == 0


def test_call_is_a_call_of_a_fresh_session(capsys: pytest.CaptureFixture[str]) -> None:
    [(tool, arguments), *_] = natural_calls("harbour", 2)
    session = open_session("harbour", 2, "2025-07-01")
    result = session.call(tool, arguments)
    options = ("--seed", "2", "--today", "2025-07-01")
    code, found = orch_json(capsys, "call", "harbour", tool, json.dumps(arguments), *options)
    assert code == 0
    assert found == {"text": result.text, "error": None, "state_hash": session.state_hash()}


def test_call_shows_what_it_changed(capsys: pytest.CaptureFixture[str]) -> None:
    jars = open_session(server_of("Sound"), 0).server.tables[0]
    jar = next(iter(jars.values()))
    code, out, err = orch(capsys, "call", path_of("Sound"), "take", json.dumps({"jar": jar.id}))
    assert (code, json.loads(out)) == (0, {"left": jar.sweets - 1})
    assert err == f"changed: /jars/{jar.id}/sweets: {jar.sweets} -> {jar.sweets - 1}\n"


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (("harbour", "no_such_tool"), "unknown_tool"),
        (("harbour", "find_ship"), "invalid_arguments"),
        (("harbour", "find_ship", '{"name": "Nobody"}'), "not_found"),
    ],
)
def test_an_error_result_is_exit_code_one(
    argv: tuple[str, ...], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = orch_json(capsys, "call", *argv)
    assert (code, found["error"]) == (1, error)
    assert found["state_hash"] == open_session("harbour").state_hash()


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (("call", "nowhere", "x"), "there is no server 'nowhere' (servers: "),
        (("call", "harbour", "find_ship", "{"), "ARGUMENTS_JSON is not JSON"),
        (("call", "harbour", "find_ship", "[]"), "ARGUMENTS_JSON must be a JSON object"),
        (("call", "harbour", "find_ship", "{}", "--today", "soon"), "'soon' is no date"),
        (("describe", "no.such.module:Class"), "no module 'no' on Python's path"),
        (("check", ":Class"), "a server of your own is named module:Class"),
        (("check", "json:Nothing"), "module 'json' has no 'Nothing'"),
        (("check", "broken_server:Shelf"), "importing its module failed (ValueError: no shelf"),
        (("describe", "json:JSONDecoder"), "is no server"),
        (("check", "harbour", "--mcp", "mcp.json"), "not both"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    argv: tuple[str, ...],
    problem: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "broken_server.py").write_text('raise ValueError("no shelf")\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    code, out, err = orch(capsys, *argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert problem in err


# -- check -------------------------------------------------------------------------------------


def test_check_of_an_mcp_file_plays_an_episode_of_what_we_serve_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both directions of MCP at once: our serving, read by our backend."""
    command, *arguments = (*SERVE, "harbour")
    entry = {"command": command, "args": arguments, "env": {"PYTHONPATH": str(Path.cwd())}}
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"harbour": entry}}))
    code, found = orch_json(capsys, "check", "--mcp", str(path))
    assert (code, found) == (0, {"ok": True, "problems": [], "differs": []})


def path_of(name: str) -> str:
    return f"{faulty_servers.__name__}:{name}"


def server_of(name: str) -> str:
    from orch_env.servers import register_server

    return register_server(path_of(name))


@pytest.mark.parametrize("name", server_names())
def test_our_servers_have_no_problem(name: str) -> None:
    assert check_server(server_type(name)) == []


def test_a_sound_server_is_ok(capsys: pytest.CaptureFixture[str]) -> None:
    assert orch_json(capsys, "check", path_of("Sound")) == (0, {"ok": True, "problems": []})


@pytest.mark.parametrize(
    ("fault", "problems"),
    [
        ("Undescribed", ["no docstring", "no category", "Look: a tool's name", "full stop"]),
        ("Random", ["seed 0 gives another world each time"]),
        ("Unordered", ["seed 0 gives another world in another process"]),
        ("Lawless", ["seed 0: the world breaks a law: jar J-0001", "owes sweets"]),
        ("Greedy", ["afterwards a law is broken: jar J-"]),
        ("Insistent", ["add({", "declared idempotent, and the same call changed more"]),
        ("Buggy", ['share({"people": 0}): share of server', "ZeroDivisionError"]),
        ("Sly", ["was written by a tool declared READ"]),
        ("Gossip", ["peek: the same calls give other results in another session"]),
    ],
)
def test_a_planted_fault_is_found_and_nothing_else(
    fault: str, problems: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = orch_json(capsys, "check", path_of(fault))
    assert (code, found["ok"]) == (1, False)
    for problem in problems:
        assert any(problem in line for line in found["problems"]), found["problems"]
    for line in found["problems"]:
        assert any(problem in line for problem in problems), line
