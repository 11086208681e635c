"""Calls that know their tools' schemas: every keyword against values of every JSON type.

The tools of the *made* world have the fragments of schemas below, alone and combined. The other
worlds are found by listing: each bundled data set answered from its cache, and each server
of the library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from orch_env.backends.local import LocalBackend
from orch_env.backends.replay import ReplayBackend
from orch_env.cache import open_cache
from orch_env.env import ToolOrchestrationEnv
from orch_env.env.episode_machine import Limits
from orch_env.servers import SERVERS, server_type
from orch_env.tasks.files import BUNDLED, bundled
from orch_env.types import GoldCall, Provenance, Task, ToolSpec, ValueRef
from orch_env.types.json import leaves

FRAGMENTS: list[dict[str, Any]] = [
    {"minimum": 5}, {"maximum": 5}, {"exclusiveMinimum": 5.5}, {"exclusiveMaximum": 5},
    {"multipleOf": 3}, {"multipleOf": 0.1}, {"multipleOf": 1e-300}, {"type": "integer"},
    {"type": "number", "minimum": -1e308}, {"type": ["integer", "null"]}, {"type": "boolean"},
    {"type": "null"}, {"type": "string"}, {"type": "object"}, {"type": "array"}, {},
    {"minLength": 3}, {"maxLength": 3}, {"pattern": "^[0-9]+$"}, {"pattern": r"^\p{Lu}[\p{L}\d]*$"},
    {"type": "string", "pattern": "^S-[0-9]{4}$", "minLength": 6, "maxLength": 6},
    {"pattern": r"^(?<a>\u{1F600})\k<a>$"}, {"type": "integer", "maximum": 10**18},
    {"minItems": 2}, {"maxItems": 1}, {"uniqueItems": True}, {"contains": {"minimum": 5}},
    {"contains": {"type": "string", "pattern": "^a"}, "minContains": 2, "maxContains": 3},
    {"contains": {"const": "1"}, "minContains": 0}, {"items": {"type": "integer", "minimum": 2}},
    {"items": False}, {"prefixItems": [{"type": "integer"}, {"maxLength": 1}], "items": False},
    {"prefixItems": [{"multipleOf": 2}], "unevaluatedItems": {"type": "boolean"}},
    {"prefixItems": [True, False], "uniqueItems": True}, {"unevaluatedItems": False},
    {"minProperties": 2}, {"maxProperties": 1}, {"required": ["a", "a/b~c"]},
    {"propertyNames": {"pattern": "^a", "maxLength": 2}}, {"propertyNames": {"type": "integer"}},
    {"dependentRequired": {"a": ["b"]}}, {"dependentSchemas": {"a": {"minProperties": 2}}},
    {"properties": {"a": {"minimum": 3}, "": {"maxLength": 0}}, "additionalProperties": False},
    {"patternProperties": {r"^\p{Ll}": {"minimum": 1}}, "additionalProperties": {"maxLength": 1}},
    {"properties": {"a": {}}, "unevaluatedProperties": False},
    {"allOf": [{"properties": {"a": True}}], "unevaluatedProperties": {"minimum": 2}},
    {"enum": ["1", "2"]}, {"enum": [1, "a", None, True, [1], {"a": "1"}]}, {"const": "1"},
    {"const": 5.0}, {"const": {"a": [1, "2"]}}, {"enum": ["Economy", "economy plus"]}, {"enum": []},
    {"type": "string", "enum": ["01", "1.0", "True"]}, {"type": "boolean", "enum": [True]},
    {"not": {"type": "integer"}}, {"not": {}}, {"not": {"minimum": 3}},
    {"oneOf": [{"type": "integer"}, {"type": "string"}]},
    {"oneOf": [{"minimum": 5}, {"maxLength": 2}, {"const": "1"}]},
    {"anyOf": [{"type": "integer", "minimum": 5}, {"type": "string", "pattern": "^a"}]},
    {"allOf": [{"type": "string"}, {"minLength": 1}, {"pattern": "5"}]},
    {"if": {"type": "number"}, "then": {"minimum": 5}, "else": {"minLength": 2}},
    {"if": {"properties": {"a": {"const": 1}}}, "then": {"required": ["b"]}},
    {"$ref": "#/$defs/tree"}, {"$ref": "#name"}, {"$dynamicRef": "#node"},
    {"$id": "https://example.org/inner", "$defs": {"a": {"minimum": 1}}, "$ref": "#/$defs/a"},
    {"$ref": "#/$defs/tree", "maxProperties": 1}, {"nullable": True, "type": "integer"},
    {"contentEncoding": "base64", "contentMediaType": "application/json", "contentSchema": {}},
    {"x-orch-set": ",", "type": "string"}, {"type": "integer", "default": 5},
    {"$comment": "c", "title": "t", "examples": [{"pattern": "("}], "deprecated": True},
    {"dependencies": {"a": ["b"]}, "definitions": {"x": {"type": "integer"}}},
]  # fmt: skip
FRAGMENTS += [
    {"type": "string", "format": word, "pattern": "^[0-9]"}
    for word in (
        "date", "time", "date-time", "duration", "email", "idn-email", "hostname", "idn-hostname",
        "ipv4", "ipv6", "uri", "uri-reference", "iri", "iri-reference", "uuid", "uri-template",
        "json-pointer", "relative-json-pointer", "regex", "no-such-format",
    )
]  # fmt: skip
_OFFERED = 25
"""Tools that one task of the made world offers."""
DEFINITIONS = {
    "tree": {"type": "object", "properties": {"a": {"$ref": "#/$defs/tree"}, "b": {"minimum": 2}}},
    "named": {"$anchor": "name", "maximum": 7},
    "dynamic": {"$dynamicAnchor": "node", "items": {"$dynamicRef": "#node"}},
}
ROOTS: list[dict[str, Any]] = [
    {"$ref": "#/$defs/tree"},
    {"allOf": [{"properties": {"v": {"minimum": 3}}}, {"properties": {"w": {"maxLength": 2}}}]},
    {"anyOf": [{"properties": {"v": {"type": "integer"}}}, {"required": ["v", "w"]}]},
    {"oneOf": [{"required": ["v"]}, {"required": ["w"]}], "additionalProperties": {"minimum": 1}},
    {"properties": {"v": {}}, "additionalProperties": {}},
    {"patternProperties": {"^v": {"type": "integer"}}, "additionalProperties": False},
    {"properties": {"v": {}}, "unevaluatedProperties": {"type": "string"}},
    {"if": {"required": ["v"]}, "then": {"properties": {"v": {"minimum": 9}}}},
    {"propertyNames": {"maxLength": 1}, "minProperties": 1},
    {"const": {"v": 1}}, {"enum": [{"v": ["1"]}]}, {"not": {"required": ["v"]}}, {},
    {"dependentSchemas": {"v": {"properties": {"w": {"type": "string"}}, "required": ["w"]}}},
]  # fmt: skip

NUMBERS = [0, 1, -1, 3, 5, 5.0, 5.5, -0.0, 1e308, 5e-324, 3436, 10**17, 10**19, 10**300, 1e22]
TEXTS = [
    "", "5", "05", " 5 ", "5.0", "5.50", "3e0", "+3", "-0", "true", "True", "null", "a", "A1", "Äb",
    "1780000000000000001", "9" * 400, "1e999", "NaN", "Economy", "ECONOMY  plus", "S-1234",
    "OSL,LHR", "48,2", "2024-10-13", "13 Oct 2024", "2024-10-13T14:00Z", "03/04/2024", "(", "[",
    "Zu\u0308rich", "\U0001f600", "\U0001f600\U0001f600", "\ud83d", "\udc00\ud800", "\0", "\u2028",
    "a" * 3000, "</tool_call>",
]  # fmt: skip
OTHERS: list[Any] = [
    None, True, False, [], {}, [[]], [1, "1", 1.0], ["b", "a"], {"a": 1}, {"a": "1", "b": None},
]  # fmt: skip
KEYS = [
    "a", "b", "v", "w", "", "a/b~c", "Ä", "a b", "__class__", "$ref", "self", "\ud83d", "x" * 200,
]  # fmt: skip
UNREAD = [
    "NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 5000, "-1e400", "{}{}", "'a'", "", "01",
    "[" * 10_000 + "]" * 10_000, '{"a":' * 10_000 + "1" + "}" * 10_000, "[" * 70 + "]" * 70,
    '{"a": 1, "a": {}}', '"' + "x" * 1_000_000 + '"', "[" + "1," * 3_000 + "1]", '"\\ud83d"',
    "0x10", "tru",
]  # fmt: skip
OBJECTS: list[Any] = [
    float("nan"), float("inf"), 10**5000, {1: 2}, {None: 1}, (1, 2), {1, 2}, b"x", 1j,
]  # fmt: skip


def made_tools() -> Iterator[ToolSpec]:
    """Tools whose arguments have each of the fragments, alone and beside another one."""
    shifted = [*FRAGMENTS[17:], *FRAGMENTS[:17]]
    for number in range(0, len(FRAGMENTS), 3):
        names = ("v", "a", "b")
        properties: dict[str, Any] = dict(zip(names, FRAGMENTS[number : number + 3], strict=False))
        pair = {**FRAGMENTS[number], **shifted[number]}
        properties["w"] = {"type": "array", "items": {"anyOf": [pair, shifted[number + 1]]}}
        schema = {"type": "object", "properties": properties, "$defs": DEFINITIONS}
        yield ToolSpec(f"made_{number}", "A tool.", schema)
    for number, root in enumerate(ROOTS):
        yield ToolSpec(f"root_{number}", "A tool.", {**root, "$defs": DEFINITIONS})


class World:
    """An environment over one world, and calls for the tools of its current task.

    Args:
        env: the environment, with an episode.
        words: texts that are likely to be right somewhere.
    """

    def __init__(self, env: ToolOrchestrationEnv, words: Sequence[str]) -> None:
        self.env = env
        self._words = words

    @property
    def specs(self) -> list[ToolSpec]:
        """The tools that the current task offers."""
        resolved = self.env.backend.resolve(self.env.task)
        return [tool.spec for tool in resolved.offered]

    def message(self, random: Random) -> str | dict[str, Any]:
        """A message with one to three calls, as text or in OpenAI's form."""
        count = random.choice([1, 1, 1, 2, 3])
        if random.random() < 0.5:
            return "\n".join(self._text(random) for _ in range(count))
        calls = [self._call(random, OBJECTS) for _ in range(count)]
        for call in calls:
            if random.random() < 0.3:
                with suppress(TypeError, ValueError):  # what has no JSON text stays an object
                    call["arguments"] = json.dumps(call["arguments"])
        return {"role": "assistant", "tool_calls": [{"id": "c", "function": c} for c in calls]}

    def _text(self, random: Random) -> str:
        call = self._call(random, [])
        text = json.dumps(call)
        if random.random() < 0.06:
            hole = json.dumps({**call, "arguments": {**call["arguments"], "v": "HOLE"}})
            text = hole.replace('"HOLE"', random.choice(UNREAD))
        return f"<tool_call>\n{text}\n</tool_call>"

    def _call(self, random: Random, extra: list[Any]) -> dict[str, Any]:
        gold = self.env.task.gold_calls
        if gold and random.random() < 0.15:
            call = random.choice(gold)
            return {"name": call.name, "arguments": dict(call.arguments)}
        spec = random.choice(self.specs)
        schema = spec.parameters
        arguments = {
            name: self._value(random, inside, extra)
            for name, inside in schema.get("properties", {}).items()
            if random.random() < 0.85
        }
        if random.random() < 0.15 or not arguments:
            arguments[random.choice(KEYS)] = any_value(random, extra)
        name = spec.name if random.random() < 0.98 else random.choice(KEYS)
        return {"name": name, "arguments": arguments}

    def _value(self, random: Random, schema: Any, extra: list[Any]) -> Any:
        """A value that may well be valid, or any other one."""
        if isinstance(schema, dict) and random.random() < 0.4:
            listed = [*schema.get("enum", []), *([schema["const"]] if "const" in schema else [])]
            if listed:
                return random.choice(listed)
            kind = schema.get("type")
            if kind == "string":
                return random.choice(self._words)
            if kind in ("integer", "number"):
                return random.choice([1, 4, "6", 7.0, 8.5])
        return any_value(random, extra)


def any_value(random: Random, extra: list[Any], depth: int = 0) -> Any:
    """A value of any JSON type; of other types too, where ``extra`` has some."""
    kind = random.randrange(6 if depth < 3 else 4)
    if kind == 4:
        return [any_value(random, extra, depth + 1) for _ in range(random.randrange(4))]
    if kind == 5:
        keys = random.sample(KEYS, random.randrange(4))
        return {key: any_value(random, extra, depth + 1) for key in keys}
    pool = (NUMBERS, TEXTS, OTHERS, extra or TEXTS)[kind]
    if pool is extra and random.random() < 0.9:
        pool = TEXTS
    return random.choice(pool)


def worlds() -> list[str]:
    """Names of all worlds: the made one, each bundled data set, each server."""
    recorded = [f"{p.name} recorded" for p in BUNDLED.iterdir() if bundled(p.name, "cache")]
    return ["made", *sorted(recorded), *(f"{name} live" for name in sorted(SERVERS))]


def open_world(name: str, folder: Path) -> World:
    """Open a world.

    Args:
        name: one of :func:`worlds`.
        folder: where the made world writes its cache.
    """
    limits = Limits(max_turns=12, max_errors=None)
    if name == "made":
        return _made(folder, limits)
    title, _, how = name.partition(" ")
    if how == "recorded":
        env = ToolOrchestrationEnv(title, max_turns=12, max_errors=None)
        env.reset(seed=0)
        words = [text for task in env.tasks for call in task.gold_calls for text in _texts(call)]
        return World(env, words)
    task = Task("free", ({"role": "user", "content": "Anything."},), servers=(title,), seed=3)
    env = ToolOrchestrationEnv.from_backend([task], LocalBackend(), limits=limits)
    env.reset(seed=0)
    tables = server_type(title).world(3).tables
    records = [asdict(record) for table in tables.values() for record in table.values()]
    return World(env, [*_texts(records), *_texts([list(table) for table in tables.values()])])


def _texts(value: Any) -> list[str]:
    """The texts of a value that are no long sentences."""
    plain = value.arguments if isinstance(value, GoldCall) else value
    return [text for _, text in leaves(plain) if isinstance(text, str) and len(text) < 40]


def _made(folder: Path, limits: Limits) -> World:
    specs = list(made_tools())
    path = folder / "made.db"
    with open_cache(path, write=True) as cache:
        digests = []
        for spec in specs:
            cache.put_tool(spec)
            digests.append(cache.put(spec.name, {"v": "recorded"}, '{"data": {"id": 7}}'))
    source = {"/v": ValueRef(Provenance.QUERY)}
    tasks = []
    for start in range(0, len(specs), _OFFERED):
        offered = range(start, min(start + _OFFERED, len(specs)))
        gold = tuple(
            (GoldCall(specs[n].name, {"v": "recorded"}, provenance=source, response=digests[n]),)
            for n in offered[:4]
        )
        said = ({"role": "user", "content": "What is recorded?"},)
        tasks.append(Task(f"made {start}", said, tuple(specs[n].name for n in offered), gold))
    backend = ReplayBackend(open_cache(path))
    env = ToolOrchestrationEnv.from_backend(tasks, backend, limits=limits)
    env.reset(seed=0)
    return World(env, ["recorded", "S-1234", "Zürich", "2025-01-03", "7"])
