"""Whether a server keeps its promises, found by using it; no test tools are needed.

Arguments are drawn from the tools' schemas and from the texts of the world, so that many calls
reach the tools' own code. Tests of a domain's rules belong to the server's author.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from orch_env.servers import SERVERS
from orch_env.servers.framework.chance import Chance
from orch_env.servers.framework.records import to_json
from orch_env.servers.framework.server import Access, Server, World
from orch_env.servers.framework.session import ServerSession
from orch_env.types import ToolResult
from orch_env.types.bounded_store import BoundedStore
from orch_env.types.json import Json, JsonObject, leaves
from orch_env.types.text import shortened

CALLS_PER_TOOL = 30
"""Calls of each tool, with different arguments."""
_SEEDS = (0, 1, 2)
_FORMATS = {"date": "2025-03-03", "time": "09:30", "date-time": "2025-03-03T09:30"}
_WORLD = (
    "import sys; from orch_env.servers import register_server, server_type; "
    "print(server_type(register_server(sys.argv[1])).world(0).digest)"
)


def check_server(server: type[Server]) -> list[str]:
    """What is wrong with a server, one sentence each; empty if nothing was found."""
    return list(dict.fromkeys((*_of_descriptions(server), *_of_worlds(server), *_of_calls(server))))


def _of_descriptions(server: type[Server]) -> Iterator[str]:
    from jsonschema import Draft202012Validator, SchemaError

    if not (server.__doc__ or "").strip():
        yield "the class has no docstring: its first line is what people and models read of it"
    if not server.category:
        yield 'the class has no category, such as category = "Finance"'
    if not server.tools:
        yield "it has no tools: mark methods with @read or @write"
    for name, tool in server.tools.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
            yield f"{name}: a tool's name has lower-case letters, digits and _, 64 at most"
        if not tool.spec.description.endswith("."):
            yield f"{name}: its description is no sentence with a full stop"
        try:
            Draft202012Validator.check_schema(tool.spec.parameters)
        except SchemaError as problem:
            yield f"{name}: its schema is no JSON Schema: {problem.message}"


def _of_worlds(server: type[Server]) -> Iterator[str]:
    for seed in _SEEDS:
        for problem in ServerSession(server, seed).server.invariants():
            yield f"seed {seed}: the world breaks a law: {problem}"
            break
    digest = server.world(0).digest
    server.worlds = BoundedStore[int, World](server.worlds.most)  # made anew
    if server.world(0).digest != digest:
        yield "seed 0 gives another world each time: populate() must draw from its chance alone"
        return
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    for hash_seed in ("1", "2"):
        path = SERVERS.get(server.name, f"{server.__module__}:{server.__qualname__}")
        done = subprocess.run(
            [sys.executable, "-c", _WORLD, path],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            why = done.stderr.strip().rpartition("\n")[2]
            yield f"the world of seed 0 cannot be made in another process: {why}"
            return
        if done.stdout.strip() != digest:
            yield (
                "seed 0 gives another world in another process: the order of a set, hash() or the "
                "machine got into it"
            )
            return


def _of_calls(server: type[Server]) -> Iterator[str]:
    chance = Chance(f"check/{server.name}")
    session, untouched = ServerSession(server, 0), ServerSession(server, 0)
    start = untouched.state_hash()
    texts = _texts(session)
    calls: list[tuple[str, JsonObject]] = []
    results: list[ToolResult] = []
    told: set[tuple[str, str]] = set()
    for name in chance.shuffled([*server.tools] * CALLS_PER_TOOL):
        before = session.state_hash()
        arguments = _drawn(server.tools[name].spec.parameters, texts, chance)
        with warnings.catch_warnings(record=True) as bugs:
            warnings.simplefilter("always")
            result = session.call(name, arguments)
        calls.append((name, arguments))
        results.append(result)
        changed = session.state_hash() != before
        found = {"bug": str(bugs[0].message) if bugs else None}
        if changed and result.error is not None:
            found["refused"] = "it failed and changed the state"
        elif changed and server.tools[name].access is Access.READ:
            found["read"] = "it is declared @read and changed the state"
        if server.tools[name].idempotent and result.error is None:
            again = session.fork()
            again.clock.set(session.clock.calls - 1)  # nothing else falls due in between
            again.call(name, arguments)
            if again.state_hash() != session.state_hash():
                found["idempotent"] = "it is declared idempotent, and the same call changed more"
        if changed and (broken := next(session.server.invariants(), None)):
            found["law"] = f"afterwards a law is broken: {broken}"
        for kind, problem in found.items():
            if problem is not None and (name, kind) not in told:
                told.add((name, kind))
                yield f"{name}({shortened(json.dumps(arguments), 200)}): {problem}"
    if untouched.state_hash() != start:
        yield "what one session does is seen by another: state belongs into tables"
    repeating = ServerSession(server, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = [repeating.call(*called) for called in calls]
    for (name, _), result, repeated in zip(calls, results, other, strict=True):
        if result != repeated:
            yield f"{name}: the same calls give other results in another session"
    saved = json.loads(json.dumps(session.snapshot()))
    restored = ServerSession(server, 0)
    restored.restore(saved)
    if restored.state_hash() != session.state_hash():
        yield "a snapshot that went through JSON restores another state"


def _texts(session: ServerSession) -> tuple[str, ...]:
    """Ids and texts of the world, sorted."""
    found: set[str] = set()
    for table in session.server.tables:
        for key in table:
            found.add(key)
            values = (value for _, value in leaves(to_json(table[key])))
            found.update(value for value in values if isinstance(value, str) and value)
    return tuple(sorted(found))


def _drawn(schema: Mapping[str, Any], texts: tuple[str, ...], chance: Chance) -> JsonObject:
    return {
        name: _value(inner, texts, chance)
        for name, inner in schema["properties"].items()
        if name in schema["required"] or chance.often(0.5)
    }


def _value(schema: Mapping[str, Any], texts: tuple[str, ...], chance: Chance) -> Json:
    kind = schema["type"]
    if "enum" in schema:
        return chance.pick(schema["enum"])
    if kind == "boolean":
        return chance.often(0.5)
    if kind == "array":
        low = schema.get("minItems", 0)
        count = chance.between(low, min(schema.get("maxItems", low + 3), low + 3))
        return [_value(schema["items"], texts, chance) for _ in range(count)]
    if kind in ("integer", "number"):
        low = int(schema.get("minimum", -1))
        high = int(min(schema.get("maximum", low + 50), low + 50))
        return chance.pick((low, min(low + 1, high), high, chance.between(low, high)))
    return _text(schema, texts, chance)


def _text(schema: Mapping[str, Any], texts: tuple[str, ...], chance: Chance) -> str:
    if "pattern" in schema:
        fitting = _fitting(schema["pattern"], texts)
        return chance.pick(fitting) if fitting else "x"
    if "format" in schema:
        return _FORMATS[schema["format"]]
    low, high = schema.get("minLength", 0), schema.get("maxLength", 20_000)
    text = chance.pick(texts) if texts and chance.often(0.8) else "x"
    return text[:high].ljust(low, "x")


@lru_cache(maxsize=64)
def _fitting(pattern: str, texts: tuple[str, ...]) -> list[str]:
    return [text for text in texts if re.search(pattern, text, re.ASCII)]
