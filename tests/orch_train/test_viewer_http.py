"""The viewer's server from outside: what it serves, what it refuses, and the command itself."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from orch_env.cli.main import main
from orch_env.types import OrchError
from orch_train.viewer.run_data import RunData
from orch_train.viewer.server import PAGE, SCRIPTS, STYLES, ViewServer
from tests.orch_train.viewer_runs import HOSTILE, HOSTILE_TASK, make_run

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "web", 2)


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[ViewServer]:
    server = ViewServer([RunData(run)])
    server.start()
    yield server
    server.stop()


def _ask(
    server: ViewServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


@pytest.mark.parametrize("path", ["/", "/style.css", "/app.js", "/api/runs", "/missing", "/api/x"])
def test_every_answer_carries_the_strict_policy(server: ViewServer, path: str) -> None:
    _, headers, _ = _ask(server, path)
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/../config.yaml",
        "/..%2fconfig.yaml",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/page/../server.py",
        "/server.py",
        "/style.css/../../server.py",
        "/style.css%00",
        "/api/../style.css",
        "/api/__class__",
        "/config.yaml",
        "/C:\\windows",
    ],
)
def test_no_path_leads_to_a_file(server: ViewServer, path: str) -> None:
    status, _, body = _ask(server, path)
    assert status == 404 and set(json.loads(body)) == {"error"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(server: ViewServer, method: str) -> None:
    assert _ask(server, "/api/runs", method)[0] == 501


def test_a_foreign_name_is_refused(server: ViewServer) -> None:
    port = urlsplit(server.url).port
    for host in ("evil.example", f"evil.example:{port}", "", "127.0.0.1.evil.example", "[::1"):
        assert _ask(server, "/api/runs", Host=host)[0] == 403, host
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert _ask(server, "/api/runs", Host=host)[0] == 200, host


def test_the_other_loopback_address_will_do(run: Path) -> None:
    try:
        server = ViewServer([RunData(run)], host="::1")
    except OrchError as problem:
        pytest.skip(f"no IPv6 on this machine: {problem}")
    server.start()
    assert server.url.startswith("http://[::1]:") and _ask(server, "/api/runs")[0] == 200
    server.stop()


def test_head_answers_without_a_body(server: ViewServer) -> None:
    status, headers, body = _ask(server, "/app.js", "HEAD")
    assert status == 200 and body == b"" and int(headers["Content-Length"]) > 1000


def test_what_a_run_holds_leaves_as_json_only(server: ViewServer) -> None:
    query = f"?step=1&group={quote('1:' + HOSTILE_TASK, safe='')}&member=0"
    status, headers, body = _ask(server, "/api/episode" + query)
    assert status == 200 and headers["Content-Type"] == "application/json"
    found = json.loads(body)
    assert found["episode"]["turns"][0]["results"][0] == HOSTILE
    assert found["task"] == HOSTILE_TASK


def test_wrong_questions_are_answered_with_their_reason(server: ViewServer) -> None:
    for path, status in (("/api/rollouts?sort=x", 400), ("/api/episode?step=1", 400)):
        found, _, body = _ask(server, path)
        assert found == status and json.loads(body)["error"]
    assert _ask(server, "/api/rollouts?" + "&".join(["a=1"] * 99))[0] == 400


def test_the_page_names_nothing_outside_and_makes_no_markup() -> None:
    files = {name: (PAGE / name).read_text() for name in ("index.html", *STYLES, *SCRIPTS)}
    there = {str(p.relative_to(PAGE)) for p in PAGE.rglob("*") if p.is_file()}
    assert {name for name in there if not name.endswith("LICENSE")} == set(files)
    itself = ("www.w3.org/2000/svg", "github.com/leeoniya/uPlot")  # a namespace, a comment
    for name, text in files.items():
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+\S*", text))
        assert not {a for a in addresses if not any(known in a for known in itself)}, name
        for forbidden in (
            "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
            "new Function", "srcdoc", "javascript:", "@import", "url(", "DOMParser", "setHTML",
        ):  # fmt: skip
            assert forbidden not in text, (name, forbidden)


# -- the command -----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["missing", "a file", "an empty folder"])
def test_a_folder_that_is_no_run_is_one_line_and_exit_2(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x"
    if what == "a file":
        path.write_text("x")
    elif what == "an empty folder":
        path.mkdir()
    assert main(["view", str(path), "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and str(path) in said.err


def test_at_most_two_runs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", *[str(run)] * 3]) == 2
    assert "at most two" in capsys.readouterr().err


def test_a_taken_port_that_was_asked_for_is_an_error(
    run: Path, server: ViewServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", str(run), "--port", str(urlsplit(server.url).port)]) == 2
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err


def test_the_command_prints_one_object_serves_and_ends_on_ctrl_c(run: Path) -> None:
    command = [sys.executable, "-m", "orch_env.cli.main", "view", str(run), "--port", "0", "--json"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        # A shell starts its background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    address = urlsplit(told["url"])
    assert address.hostname == "127.0.0.1" and told["runs"] == [str(run)]
    connection = http.client.HTTPConnection(address.netloc, timeout=30)
    connection.request("GET", "/api/runs")
    assert json.loads(connection.getresponse().read())["runs"][0]["step"] == 2
    connection.close()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest, errors) == (130, "", "")


def test_an_export_carries_its_data_as_data(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.html"
    assert main(["view", str(run), "--export", str(out), "--episodes", "7", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["episodes"] == 6 and told["bytes"] == out.stat().st_size  # whole groups only
    page = out.read_text()
    assert "<img src=x" not in page and "alert('xss')</script" not in page
    held = re.search(r'<script type="application/json" id="embedded">(.*?)</script>', page, re.S)
    assert held is not None
    data = json.loads(held[1])
    assert {row["step"] for row in data["runs"][0]["rows"]} == {2}
    assert "unsafe" not in re.findall(r'Content-Security-Policy" content="([^"]*)"', page)[0]


def test_an_export_that_cannot_be_written_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", str(run), "--export", str(tmp_path / "no" / "run.html")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_the_viewer_starts_without_torch() -> None:
    code = (
        "import sys, orch_train.cli.view, orch_train.viewer.export\n"
        "print({'torch', 'ray', 'transformers'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
