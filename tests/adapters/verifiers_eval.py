"""`vf-validate` and `vf-eval` over the taskset; a model behind a real endpoint plays gold.

It prints what they say, as one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from orch_env.env import ToolOrchestrationEnv
from orch_env.types.json import JsonObject
from tests.adapters.conformance import message_of
from tests.adapters.two_hundred import cases

BIN = Path(sys.executable).parent
ASKED: list[JsonObject] = []


def gold_by_prompt() -> dict[str, tuple[str, ...]]:
    """The messages of gold, by the request of their task."""
    env = ToolOrchestrationEnv("harbour")
    return {
        env.named(case.task_id).messages[0]["content"]: case.actions
        for case in cases()
        if case.policy == "gold"
    }


class Endpoint(BaseHTTPRequestHandler):
    """OpenAI's chat completions, streamed; the model says what gold says next."""

    protocol_version = "HTTP/1.1"
    gold: dict[str, tuple[str, ...]]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ASKED.append(asked)
        said = [m for m in asked["messages"] if m["role"] == "assistant"]
        request = next(m["content"] for m in asked["messages"] if m["role"] == "user")
        message = message_of(self.gold[request][len(said)], len(said))
        calls = [{**call, "index": n} for n, call in enumerate(message.get("tool_calls", ()))]
        delta = {"role": "assistant", "content": message["content"], "tool_calls": calls or None}
        last = "tool_calls" if calls else "stop"
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        chunks: list[JsonObject] = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": last}]},
            {"choices": [], "usage": usage},
        ]
        head = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "gold"}
        lines = [f"data: {json.dumps({**head, **chunk})}\n\n" for chunk in chunks]
        body = "".join([*lines, "data: [DONE]\n\n"]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        body = b'{"object": "list", "data": []}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def run(*command: str) -> None:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"  # the harness calls `uv`
    env = {**os.environ, "PATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        sys.exit(f"{command[0]}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def main(count: str = "2") -> None:
    Endpoint.gold = gold_by_prompt()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ids = [case.task_id for case in cases() if case.policy == "gold"][: int(count)]
    chosen = ["--select.include.ids", json.dumps(ids)]
    with tempfile.TemporaryDirectory() as folder:
        validate = Path(folder) / "validate"
        run(
            *(str(BIN / "vf-validate"), "orch-env-vf", *chosen, "--runtime.type", "subprocess"),
            *("--output-dir", str(validate), "--rich", "False"),
        )
        summary = json.loads(next(validate.rglob("summary.json")).read_text())
        run(
            *(str(BIN / "vf-eval"), "orch-env-vf", *chosen, "--no-rich", "--push", "False"),
            *("--env.agent.runtime.type", "subprocess", "--env.agent.harness.id", "null"),
            *("--model", "gold", "--client.base-url", f"http://127.0.0.1:{server.server_port}/v1"),
            *("--client.api-key-var", "HOME", "--output-dir", str(Path(folder) / "eval")),
        )
        [found] = list(Path(folder).rglob("traces.jsonl"))
        traces = [json.loads(line)["traces"][0] for line in found.read_text().splitlines()]
    kept = ("rewards", "metrics", "stop_condition", "errors")
    rollouts = [{key: trace[key] for key in kept} for trace in traces]
    print(json.dumps({"checks": summary["checks"], "rollouts": rollouts, "asked": ASKED[0]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
