"""The viewer's HTTP server: a handful of fixed files and the answers of `ViewerApi`.

No path of a request ever reaches the file system: files are looked up by name in a table that is
filled at the start, so there is nothing to traverse. Beyond that: GET and HEAD
only, a strict Content-Security-Policy, and a check of the Host header, so that a web page
elsewhere cannot read a run through a name that it points at this machine (DNS rebinding).
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from orch_env.types import OrchError
from orch_train.run.metrics_file import plain
from orch_train.viewer.api import NotFound, ViewerApi
from orch_train.viewer.run_data import RunData
from orch_train.viewer.run_list import RunList

PAGE = Path(__file__).parent / "page"
_UPLOT = "vendor/uplot-1.6.32"
STYLES = (f"{_UPLOT}/uPlot.min.css", "style.css")
SCRIPTS = (
    "dom.js",
    "source.js",
    f"{_UPLOT}/uPlot.iife.min.js",
    "charts.js",
    "overview.js",
    "runs.js",
    "transcript.js",
    "episode.js",
    "list.js",
    "compare.js",
    "app.js",
)
"""In loading order; plain scripts that share one scope, so that an export can join them."""

_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_LOCAL = ("127.0.0.1", "localhost", "::1")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


class ViewServer:
    """Serves the page for some runs until it is stopped.

    Args:
        runs: one or two runs, or all runs of a folder.
        host: address to listen on.
        port: port; 0 takes a free one.

    Raises:
        OrchError: the address cannot be listened on.
    """

    def __init__(
        self, runs: Sequence[RunData] | RunList, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        files = {name: (PAGE / name).read_bytes() for name in ("index.html", *STYLES, *SCRIPTS)}

        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), _Handler)
        except (OSError, OverflowError) as problem:
            raise OrchError(f"cannot listen on {host}:{port}: {problem}") from problem
        self._server.api, self._server.files = ViewerApi(runs), files
        # With an outside address (--host) any name may lead here.
        self._server.hosts = frozenset(_LOCAL) if host in _LOCAL else None
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_address[1]}/"
        self._thread: threading.Thread | None = None

    def serve_forever(self) -> None:
        """Answer requests until `stop` or Ctrl-C."""
        self._server.serve_forever()

    def start(self) -> None:
        """Answer requests on a thread of its own."""
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; only after `start`, or once `serve_forever` has ended."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    api: ViewerApi
    files: Mapping[str, bytes]
    hosts: frozenset[str] | None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a browser may close its connection."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "orch-view", ""
    server: _Server

    def log_message(self, *_: object) -> None:
        """Requests are not logged."""

    def _answer(self) -> None:
        if not self._host_is_ours():
            self._send_json(HTTPStatus.FORBIDDEN, {"error": "this name is not served here"})
            return
        address = urlsplit(self.path)
        path = unquote(address.path)
        if path.startswith("/api/"):
            self._answer_question(path.removeprefix("/api/"), address.query)
            return
        name = "index.html" if path == "/" else path.removeprefix("/")
        if name not in self.server.files:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": "there is no such page"})
            return
        kind = _TYPES[Path(name).suffix]
        self._send(HTTPStatus.OK, self.server.files[name], f"{kind}; charset=utf-8")

    do_GET = do_HEAD = _answer

    def _answer_question(self, name: str, query: str) -> None:
        try:
            asked = dict(parse_qsl(query, errors="surrogateescape", max_num_fields=50))
            self._send_json(HTTPStatus.OK, self.server.api.answer(name, asked))
        except NotFound as problem:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": str(problem)})
        except (OrchError, ValueError) as problem:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(problem)})
        except Exception as problem:  # shown on the page, as a lost connection would not be
            text = f"{type(problem).__name__}: {problem}"
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": text})

    def _host_is_ours(self) -> bool:
        if self.server.hosts is None:
            return True
        try:
            return urlsplit(f"//{self.headers.get('Host', '')}").hostname in self.server.hosts
        except ValueError:
            return False

    def _send_json(self, status: HTTPStatus, answer: Any) -> None:
        # ASCII: a lone surrogate, which models do write, survives as its escape.
        body = json.dumps(plain(answer), ensure_ascii=True, allow_nan=False).encode("ascii")
        self._send(status, body, "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
