"""Hostile and odd calls: nothing raises, no other session changes, nothing reaches the host."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from orch_env.servers import ServerSession, open_session, server_names, server_type
from orch_env.servers.framework.records import to_json
from orch_env.servers.framework.session import MAX_RESULT
from orch_env.types.json import leaves

DEEP: Any = "x"
for _ in range(5_000):
    DEEP = [DEEP]
ODD: list[Any] = [
    None, True, -1, 0, 2**53, -(2**80), 1e308, float("nan"), float("-inf"), "", " ", "\0", "\ud800",
    "../../etc/passwd", "/proc/self/environ", "~root", "file:///etc/passwd", "${HOME}", "$(id)",
    "%s%n{0.__class__}", "a" * 1_000_000, "\u202e\u0000\U0001f600", "(a+)+$", "(((((a*)*)*)*)*)b",
    "[" * 500, "*" * 300, "2025-02-30", "0000-01-01", "9999-12-31", "9999-12-31T23:59", "24:00",
    [], {}, DEEP, [[]] * 2_000, ["a"] * 1_001, {"a": DEEP}, b"bytes", object(),
]  # fmt: skip


class Fuzzer:
    """Calls of one server: some that could succeed, and some with odd values; by a seed."""

    def __init__(self, session: ServerSession, seed: int) -> None:
        self.random = Random(seed)
        self.tools = session.tools
        self.of_field: dict[str, list[str]] = {}
        for table in session.server.tables:
            named = self.of_field.setdefault(table.name, [])
            named += [str(key) for key in list(table)[:40]]
            for record in list(table.values())[:40]:
                for pointer, value in leaves(to_json(record)):
                    if isinstance(value, str):
                        self.of_field.setdefault(pointer.split("/")[1], []).append(value)
        self.words = sorted({word for words in self.of_field.values() for word in words})

    def call(self) -> tuple[str, Any]:
        """A tool and its arguments."""
        random, name = self.random, self.random.choice(list(self.tools))
        schema = self.tools[name].spec.parameters
        if random.random() < 0.02:
            return random.choice(["", "no_such_tool", "__init__", "populate", "settle"]), {}
        if random.random() < 0.02:
            return name, random.choice(ODD)
        arguments: dict[str, Any] = {
            argument: random.choice(ODD) if random.random() < 0.06 else self.value(inner, argument)
            for argument, inner in schema["properties"].items()
            if argument in schema["required"] or random.random() < 0.3
        }
        if random.random() < 0.02:
            arguments[random.choice(["self", "__class__", "x" * 500])] = 1
        return name, arguments

    def value(self, schema: Mapping[str, Any], argument: str) -> Any:
        """A value of the schema, often one that the world knows."""
        random = self.random
        if "enum" in schema:
            return random.choice(schema["enum"])
        match schema["type"]:
            case "boolean":
                return random.random() < 0.5
            case "array":
                return [self.value(schema["items"], argument) for _ in range(random.randrange(4))]
            case "integer" | "number":
                low, high = schema.get("minimum", -5), schema.get("maximum", 1_000)
                edge = random.choice([low, high, (low + high) // 2, random.uniform(low, high)])
                return int(edge) if schema["type"] == "integer" else round(edge, 2)
        if "format" in schema:
            day = f"2025-{random.randint(1, 12):02d}-{random.randint(1, 28):02d}"
            hour = f"{random.randint(0, 23):02d}:{random.choice((0, 30)):02d}"
            return {"date": day, "time": hour, "date-time": f"{day}T{hour}"}[schema["format"]]
        if "pattern" in schema:
            matching = [word for word in self.words if re.fullmatch(schema["pattern"], word)]
            return random.choice(matching or self.words)
        return random.choice(self.of_field.get(argument, self.words))


_watching: list[str] = []


def _note_what_leaves_the_process(event: str, _: Any) -> None:
    leaves_it = event in ("open", "import", "ctypes.dlopen") or event.startswith(
        ("socket.", "subprocess.", "os.", "shutil.", "urllib.", "pty.", "tempfile.")
    )
    if _watching and leaves_it:
        _watching.append(event)


sys.addaudithook(_note_what_leaves_the_process)


@contextmanager
def nothing_leaves_the_process() -> Iterator[None]:
    _watching.append("on")
    try:
        yield
        assert _watching == ["on"]
    finally:
        _watching.clear()


def test_the_watch_sees_a_file_that_is_opened() -> None:
    with pytest.raises(AssertionError), nothing_leaves_the_process():
        Path(__file__).stat()
        open(__file__).close()


@pytest.mark.parametrize(
    "calls", [500, pytest.param(20_000, marks=[pytest.mark.long, pytest.mark.timeout(1_200)])]
)
@pytest.mark.parametrize("name", server_names())
def test_fuzzed_calls_neither_raise_nor_reach_anything(name: str, calls: int) -> None:
    bystander = open_session(name, 1)
    session = open_session(name, 1)
    fuzzer = Fuzzer(session, seed=calls)
    before = bystander.state_hash()
    succeeded, slowest = 0, 0.0
    warm = session.fork()
    for tool in session.tools:  # whatever a server imports or reads on first use
        warm.call(tool, {})
    for number in range(calls):
        tool, arguments = fuzzer.call()
        began = time.thread_time()
        with warnings.catch_warnings(), nothing_leaves_the_process():
            warnings.simplefilter("error")
            result = session.call(tool, arguments)
        slowest = max(slowest, time.thread_time() - began)
        assert len(result.text) <= MAX_RESULT
        json.loads(result.text)
        succeeded += result.error is None
        if number % 100 == 99:
            assert list(session.server.invariants()) == []
            assert bystander.state_hash() == before
            session = open_session(name, 1) if number % 300 == 299 else session
    assert succeeded > calls // 50, "the calls are too odd to test anything"
    assert slowest < 0.5


def _modules_of(name: str) -> list[Path]:
    module = importlib.import_module(server_type(name).__module__)
    assert module.__file__ is not None
    path = Path(module.__file__)
    parts = server_type(name).__module__.split(".")
    domain = parts[parts.index("domains") + 1]
    if (folder := path.parents[len(parts) - 1 - parts.index("domains") - 1]).name == domain:
        return sorted(folder.glob("**/*.py"))
    return [path]


@pytest.mark.parametrize("name", server_names())
def test_a_server_imports_nothing_that_knows_the_host(name: str) -> None:
    harmless = {
        "__future__", "base64", "bisect", "calendar", "collections", "dataclasses", "datetime",
        "decimal", "difflib", "enum", "fnmatch", "fractions", "functools", "hashlib", "heapq",
        "itertools", "json", "math", "operator", "re", "string", "struct", "textwrap", "typing",
        "zlib",
    }  # fmt: skip
    for path in _modules_of(name):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            for imported in names:
                top = imported.split(".")[0]
                own = imported.startswith(("orch_env.servers", "orch_env.types"))
                drawn = name == "harbour" and top == "random"  # its world is older than Chance
                assert own or top in harmless or drawn, f"{path.name} imports {imported}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                clock = (node.value.id, node.attr)
                forbidden = {("datetime", "now"), ("datetime", "today"), ("date", "today")}
                assert clock not in forbidden, f"{path.name}:{node.lineno} reads the clock"
