"""A real HTTP server on loopback that speaks the chat protocol, and misbehaves on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[dict[str, Any], int], Any]
"""(request body, number of the request from 0) -> a message, a status, bytes, or ``"hang"``."""


@dataclass
class ChatServer:
    """What it was asked, and how it answers."""

    url: str
    reply: Reply
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    models: tuple[str, ...] = ("m",)
    stop: threading.Event = field(default_factory=threading.Event)


def said(text: str) -> Reply:
    return lambda _body, _number: {"role": "assistant", "content": text}


@contextmanager
def chat_server(reply: Reply) -> Iterator[ChatServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listed = [{"id": name, "object": "model", "owned_by": "us"} for name in server.models]
            self._send(200, {}, json.dumps({"object": "list", "data": listed}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(server.requests)
                server.requests.append(body)
                server.keys.append(self.headers.get("Authorization"))
            answer = server.reply(body, number)
            if answer == "hang":
                server.stop.wait(20)
                return
            status, headers = 200, {}
            if isinstance(answer, tuple):
                status, headers = answer
                data = b'{"error": {"message": "no"}}'
            elif isinstance(answer, bytes):
                data = answer
            else:
                data = json.dumps(completion(answer)).encode()
            self._send(status, headers, data)

        def _send(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    lock = threading.Lock()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = ChatServer(f"http://127.0.0.1:{httpd.server_port}/v1", reply)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def completion(message: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
    }
