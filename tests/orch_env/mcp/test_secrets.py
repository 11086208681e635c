"""What the file keeps secret is in no result, no error, no log and no description."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from orch_env.backends.mcp import ServerFailure, read_file
from orch_env.types import OrchError
from tests.orch_env.mcp.conftest import MakeBackend, call, raw, task

KEY = 'k-8"4\\711/ß'


def test_a_servers_secrets_are_redacted_in_its_results(backend: MakeBackend) -> None:
    session = backend({"raw": raw(env={"API_KEY": KEY})}).open(task(), seed=0)
    assert json.loads(call(session, "variables").text)["API_KEY"] == "[redacted]"
    assert call(session, "echo", text=f"the key is {KEY}").text == "the key is [redacted]"


def test_they_are_redacted_where_a_server_fails(backend: MakeBackend) -> None:
    made = backend({"raw": raw(env={"API_KEY": "k-84711"})})
    with pytest.raises(ServerFailure, match=r"'debug: counting \[redacted\]'"):
        call(made.open(task(), seed=0), "print_to_stdout")
    with pytest.raises(OrchError, match=r"no licence: \[redacted\]$"):
        backend({"raw": raw("dead", env={"API_KEY": "k-84711"})}).resolve(task())


def test_they_are_redacted_in_what_other_packages_log(
    mcp_file: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    file = read_file(mcp_file({"a": {"url": "https://h/mcp?token=k-84711"}}))
    caplog.set_level(logging.DEBUG)
    for name in ("httpx2", "client", "mcp.client.streamable_http"):
        try:
            raise ValueError("no k-84711")
        except ValueError:
            logging.getLogger(name).exception(
                "HTTP Request: POST %s", "https://h/mcp?token=k-84711"
            )
    text = caplog.text  # the secrets of other backends that are still open are redacted in it too
    assert "k-84711" not in text
    assert (text.count("token=[redacted]"), text.count("no [redacted]")) == (3, 6)
    assert "k-84711" not in repr(file)


@pytest.mark.parametrize(
    ("server", "kept", "shown"),
    [
        ({"command": "x", "env": {"API_KEY": "abc"}}, ["abc"], []),
        ({"command": "x", "env": {"MODE": "production"}}, ["production"], []),
        ({"command": "x", "env": {"MODE": "debug"}}, [], ["debug"]),
        ({"command": "x", "env": {"API_KEY": "ab"}}, [], ["ab"]),
        (
            {"command": "x", "env": {"ZONE": "Asia/Tokyo"}, "orch": {"public": ["ZONE"]}},
            [],
            ["Asia/Tokyo"],
        ),
        ({"command": "x", "env": {"FILE": "{folder}/memory.json"}}, [], ["memory.json"]),
        ({"command": "x", "args": ["--key=${MY_TOKEN}"]}, ["t-12345"], ["--key="]),
        ({"command": "x", "args": ["--api-key", "q-12", "-v"]}, ["q-12"], ["-v", "--api-key"]),
        ({"command": "x", "args": ["--token=q-12", "data"]}, ["q-12"], ["data"]),
        ({"command": "x", "args": ["${PLACE}"]}, [], ["/srv/data"]),
        (
            {
                "url": "http://h",
                "headers": {"Authorization": "Bearer abc-1", "Accept": "text/plain"},
            },
            ["Bearer abc-1", "abc-1"],
            ["Bearer", "text/plain"],
        ),
        ({"url": "http://ann:pa%20ss@h/?key=q-12"}, ["pa ss", "pa%20ss", "ann", "q-12"], ["http"]),
    ],
)
def test_what_is_a_secret(
    mcp_file: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    server: dict[str, object],
    kept: list[str],
    shown: list[str],
) -> None:
    monkeypatch.setenv("MY_TOKEN", "t-12345")
    monkeypatch.setenv("PLACE", "/srv/data")
    secrets = read_file(mcp_file({"a": server})).secrets
    assert [secrets.redact(f"<{text}>") for text in kept] == ["<[redacted]>"] * len(kept)
    assert [secrets.redact(f"<{text}>") for text in shown] == [f"<{text}>" for text in shown]
