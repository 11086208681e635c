"""An MCP server on stdio without any SDK, which can misbehave. Started as a script by the tests.

Arguments: ``noisy`` prints a greeting first, ``dead`` ends at once, ``mute`` never answers,
``odd`` has a tool without a name and one with a schema that is unclear, ``wrong`` has one whose
schema is none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

TOOLS = {
    "echo": {"text": {"type": "string"}},
    "add_numbers": {"numbers": {"type": "array", "items": {"type": "number"}}},
    "note": {"text": {"type": "string"}},
    "read_notes": {},
    "variables": {},
    "process_id": {},
    "working_folder": {},
    "meet": {"name": {"type": "string"}},
    "refuse": {},
    "bad_arguments": {},
    "learn": {},
    "ask_the_model": {},
    "start_a_child": {},
    "die": {},
    "hang": {},
    "flood": {},
    "flood_in_small_pieces": {},
    "fill_standard_error": {},
    "print_to_stdout": {},
    "answer_broken_json": {},
    "answer_half_a_line": {},
    "answer_no_result": {},
}
READ_ONLY = ("echo", "add_numbers", "read_notes", "variables", "process_id", "working_folder")


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(to: Any, text: str, *, failed: bool = False) -> None:
    say({"id": to, "result": {"content": [{"type": "text", "text": text}], "isError": failed}})


ODD = {
    "": {"type": "object"},
    "unclear": {"type": "object", "properties": {"text": {"$ref": "#/$defs/nowhere"}}},
}
WRONG = {"wrong": {"type": "object", "properties": []}}


def listed() -> list[dict[str, Any]]:
    more = {**(ODD if "odd" in sys.argv else {}), **(WRONG if "wrong" in sys.argv else {})}
    return [{"name": name, "inputSchema": schema} for name, schema in more.items()] + [
        {
            "name": name,
            "description": f"The tool {name}.",
            "inputSchema": {
                "type": "object",
                "properties": arguments,
                "required": sorted(arguments),
            },
            "annotations": {"readOnlyHint": name in READ_ONLY},
        }
        for name, arguments in TOOLS.items()
    ]


class Server:
    def __init__(self) -> None:
        self.waiting: list[tuple[Any, str]] = []
        self.asked: Any = None

    def take(self, message: dict[str, Any]) -> None:
        method, to = message.get("method"), message.get("id")
        if method == "initialize":
            result = {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {"listChanged": True}},
                "serverInfo": {"name": "raw", "version": "1"},
            }
            say({"id": to, "result": result})
        elif method == "ping":
            say({"id": to, "result": {}})
        elif method == "tools/list":
            say({"id": to, "result": {"tools": listed()}})
        elif method == "tools/call":
            name, arguments = message["params"]["name"], message["params"].get("arguments", {})
            getattr(self, name)(to, **arguments)
        elif method is None and self.asked is not None:  # the client answers our question
            answer(self.asked, json.dumps(message.get("error")))
            self.asked = None

    def echo(self, to: Any, text: str) -> None:
        answer(to, text)

    def unclear(self, to: Any, text: Any) -> None:
        answer(to, f"unclear {text}")

    def add_numbers(self, to: Any, numbers: list[float]) -> None:
        answer(to, str(sum(numbers)))

    def note(self, to: Any, text: str) -> None:
        with open("notes.txt", "a", encoding="utf-8") as notes:
            notes.write(text + "\n")
        answer(to, f"noted in {os.path.abspath('notes.txt')}")

    def read_notes(self, to: Any) -> None:
        try:
            with open("notes.txt", encoding="utf-8") as notes:
                answer(to, notes.read())
        except OSError:
            answer(to, "there are no notes", failed=True)

    def variables(self, to: Any) -> None:
        answer(to, json.dumps(dict(os.environ), sort_keys=True))

    def process_id(self, to: Any) -> None:
        answer(to, str(os.getpid()))

    def working_folder(self, to: Any) -> None:
        answer(to, os.getcwd())

    def meet(self, to: Any, name: str) -> None:
        """Answers nobody until two are there: two calls at the same time, or none at all."""
        self.waiting.append((to, name))
        if len(self.waiting) == 2:
            for waiting, _ in reversed(self.waiting):
                answer(waiting, " and ".join(n for _, n in self.waiting))
            self.waiting = []

    def refuse(self, to: Any) -> None:
        answer(to, "the ledger is closed on Sundays", failed=True)

    def bad_arguments(self, to: Any) -> None:
        say({"id": to, "error": {"code": -32602, "message": "no such account"}})

    def learn(self, to: Any) -> None:
        TOOLS["new_trick"] = {"times": {"type": "integer"}}
        TOOLS.pop("refuse", None)
        say({"method": "notifications/tools/list_changed"})
        answer(to, "learned")

    def new_trick(self, to: Any, times: int) -> None:
        answer(to, "trick " * times)

    def ask_the_model(self, to: Any) -> None:
        self.asked = to
        message = {"role": "user", "content": {"type": "text", "text": "What next?"}}
        params = {"messages": [message], "maxTokens": 10}
        say({"id": "question", "method": "sampling/createMessage", "params": params})

    def start_a_child(self, to: Any) -> None:
        child = subprocess.Popen(
            [sys.executable, "-c", "import signal\nwhile True: signal.pause()"],
            stdin=subprocess.DEVNULL,
        )
        answer(to, str(child.pid))

    def die(self, to: Any) -> None:
        os._exit(3)

    def hang(self, to: Any) -> None:
        time.sleep(600)

    def flood(self, to: Any) -> None:
        while True:
            sys.stdout.write("x" * 65536)

    def flood_in_small_pieces(self, to: Any) -> None:
        data = "x" * 60000
        while True:
            say({"method": "notifications/message", "params": {"level": "info", "data": data}})

    def fill_standard_error(self, to: Any) -> None:
        sys.stderr.write("x" * (1 << 20))
        answer(to, "done")

    def print_to_stdout(self, to: Any) -> None:
        print("debug: counting", os.environ.get("API_KEY", ""), flush=True)
        answer(to, "done")

    def answer_broken_json(self, to: Any) -> None:
        sys.stdout.write(f'{{"jsonrpc": "2.0", "id": {to}, "result": \n')
        sys.stdout.flush()

    def answer_half_a_line(self, to: Any) -> None:
        sys.stdout.write(f'{{"jsonrpc": "2.0", "id": {to}, "res')
        sys.stdout.flush()
        os._exit(0)

    def answer_no_result(self, to: Any) -> None:
        say({"id": to, "result": {"content": [{"type": "smell", "scent": "rose"}]}})


def main() -> None:
    if "dead" in sys.argv:
        print(f"no licence: {os.environ.get('API_KEY')}", file=sys.stderr)
        raise SystemExit(4)
    if "noisy" in sys.argv:
        print("Welcome to the server!", flush=True)
    server = Server()
    for line in sys.stdin:
        if "mute" not in sys.argv:
            server.take(json.loads(line))


if __name__ == "__main__":
    main()
