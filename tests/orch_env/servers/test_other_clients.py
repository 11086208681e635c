"""Our serving before programs of others: MCP's conformance suite and the MCP Inspector.

``make test-mcp`` installs both from the npm registry, in versions that run on Node 20.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orch_env.servers import open_session, server_names, server_type
from orch_env.types.json import JsonObject
from tests.orch_env.servers.served import SERVE, Calls, listening, natural_calls

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = ROOT / ".venv-mcp" / "node" / "node_modules" / ".bin"
pytestmark = [
    pytest.mark.mcp,
    pytest.mark.skipif(
        not (PROGRAMS / "conformance").exists() or shutil.which("node") is None,
        reason="not installed (Node and npm, then make test-mcp)",
    ),
]
PASSED = {
    "dns-rebinding-protection",
    "json-schema-2020-12",
    "ping",
    "server-initialize",
    "server-sse-multiple-streams",
    "tools-call-error",
    "tools-call-simple-text",
    "tools-list",
}


def printed(program: str, *words: str) -> str:
    """What a program of the npm folder prints."""
    command = [str(PROGRAMS / program), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.stdout, done.stderr
    return done.stdout


def scenarios(url: str, *options: str) -> dict[str, tuple[int, int]]:
    """Scenario -> checks that passed and failed."""
    said = printed("conformance", "server", "--url", url, *options)
    found = re.findall(r"^\S+ ([\w-]+): (\d+) passed, (\d+) failed", said, re.M)
    return {name: (int(passed), int(failed)) for name, passed, failed in found}


def test_every_scenario_passes_or_is_listed_as_not_offered() -> None:
    with listening("tests.orch_env.servers.conformance_server:Conformance") as (url, _):
        found = scenarios(url, "--suite", "all")
    assert {name for name, (passed, failed) in found.items() if passed and not failed} == PASSED
    page = (ROOT / "docs" / "servers" / "serving.md").read_text(encoding="utf-8")
    [offered] = re.findall(r"^\| passed \| (.+) \|$", page, re.M)
    assert set(re.findall(r"`([\w-]+)`", offered)) == PASSED
    [missing] = re.findall(r"^\| not offered \| (.+) \|$", page, re.M)
    assert set(re.findall(r"`([\w-]+)`", missing)) == set(found) - PASSED


def test_what_we_serve_passes_initialise_ping_and_tools_list() -> None:
    with listening(*server_names()) as (url, _):
        for scenario in ("server-initialize", "ping", "tools-list", "dns-rebinding-protection"):
            said = printed("conformance", "server", "--url", url, "--scenario", scenario)
            assert re.search(r"Passed: (\d)/\1, 0 failed, 0 warnings", said), said


@pytest.fixture
def url(name: str) -> Iterator[str]:
    """The server on a port of this machine."""
    with listening(name) as (found, _):
        yield found


def inspect(*words: str) -> JsonObject:
    """What the Inspector's command line gets for one request."""
    return dict(json.loads(printed("mcp-inspector", "--cli", *words)))


def call_by_inspector(url: str, name: str, tool: str, arguments: JsonObject) -> None:
    words = [url, "--transport", "http", "--method", "tools/call"]
    words += ["--tool-name", tool]
    for key, value in arguments.items():
        text = value if isinstance(value, str) else json.dumps(value)
        words += ["--tool-arg", f"{key}={text}"]
    result = inspect(*words)
    expected = open_session(name).call(tool, arguments)
    assert [content["text"] for content in result["content"]] == [expected.text], tool
    assert result["isError"] == (expected.error is not None)


def a_call_of_each_tool(name: str) -> Calls:
    """Natural calls; the Inspector's command line cannot give an empty text."""
    found: dict[str, JsonObject] = {}
    for tool, arguments in natural_calls(name):
        if "" not in arguments.values():
            found.setdefault(tool, arguments)
    return list(found.items())


@pytest.mark.parametrize("name", server_names())
def test_the_inspector_lists_the_tools_and_calls_one(name: str, url: str) -> None:
    listed = inspect(*SERVE, name, "--method", "tools/list")["tools"]
    assert [tool["name"] for tool in listed] == list(server_type(name).tools)
    for tool in listed:
        own = server_type(name).tools[tool["name"]]
        assert tool["description"] == own.spec.description
        assert tool["inputSchema"] == own.spec.to_openai()["function"]["parameters"]
    call_by_inspector(url, name, *a_call_of_each_tool(name)[0])


@pytest.mark.long
@pytest.mark.parametrize("name", server_names())
def test_the_inspector_calls_every_tool(name: str, url: str) -> None:
    calls = a_call_of_each_tool(name)
    assert {tool for tool, _ in calls} == set(server_type(name).tools)
    for tool, arguments in calls:
        call_by_inspector(url, name, tool, arguments)
