"""The contract of SERVERS: what holds for every tool of every server.

Valid calls come from the natural chains in ``tools/server_tasks``.
"""

from __future__ import annotations

import importlib.util
import json
import re
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from orch_env.servers import Access, ServerSession, open_session, server_names, server_type
from orch_env.servers.framework.session import MAX_RESULT
from orch_env.types import ErrorType, ToolResult
from orch_env.types.json import JsonObject
from tools.server_tasks.chains import Chain, Maker, fitting, run_chain, templates_of

SERVERS = [n for n in server_names() if importlib.util.find_spec(f"tools.server_tasks.{n}")]
"""Servers whose chains are written; the harbour's tasks have a builder of their own."""
TOOLS = [(name, tool) for name in SERVERS for tool in server_type(name).tools]
WRONG: dict[str, list[Any]] = {
    "string": [7, True, None, ["a"], {}],
    "integer": ["7", 1.5, True, None, [], float("nan"), 2**60],
    "number": ["7", True, None, [], float("nan"), float("inf"), 1e300],
    "boolean": ["true", 1, None, []],
    "array": ["a", {}, None, 7],
}


@pytest.fixture(autouse=True)
def _a_bug_in_a_server_fails_the_test() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*the model got a tool_error.*")
        yield


def made_of(maker: Maker, name: str, seed: int) -> tuple[Chain, ServerSession]:
    """A chain of a maker with a fresh session that it fits."""
    found = fitting(maker, name, seed)
    assert found is not None, f"{maker.__name__} of {name!r} fits no draw in world {seed}"
    return found


class Valid:
    """A call that succeeds, with the session just before it."""

    def __init__(self, state: JsonObject, arguments: JsonObject, result: ToolResult) -> None:
        self.state, self.arguments, self.result = state, arguments, result

    def session(self, name: str) -> ServerSession:
        session = open_session(name)
        session.restore(self.state)
        return session


@cache
def valid_calls(name: str) -> dict[str, Valid]:
    """For each tool one valid call out of a natural chain."""
    found: dict[str, Valid] = {}
    for maker in templates_of(name).chains.values():
        made, session = made_of(maker, name, 0)
        for gold in (call for step in run_chain(made, session.fork()).gold for call in step):
            before = session.snapshot()
            result = session.call(gold.name, gold.arguments)
            found.setdefault(gold.name, Valid(before, gold.arguments, result))
    return found


def error_of(result: ToolResult) -> dict[str, Any]:
    body = json.loads(result.text)["error"]
    assert body["type"] == result.error
    assert body["message"].strip()
    return dict(body)


# -- every tool --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "tool"), TOOLS)
def test_a_tool_is_described_and_reached_by_a_natural_chain(name: str, tool: str) -> None:
    spec = server_type(name).tools[tool].spec
    assert re.fullmatch(r"[a-z][a-z0-9_]*", tool)
    assert len(spec.description) >= 15
    assert spec.description.endswith(".")
    for argument, schema in spec.parameters["properties"].items():
        assert len(schema["description"]) >= 8, argument
    valid = valid_calls(name).get(tool)
    assert valid is not None, f"no natural chain calls {tool}"
    assert valid.result.error is None, valid.result.text
    assert len(valid.result.text) <= MAX_RESULT


@pytest.mark.parametrize(("name", "tool"), TOOLS)
def test_read_leaves_the_hash_and_write_changes_it(name: str, tool: str) -> None:
    valid = valid_calls(name)[tool]
    session = valid.session(name)
    before = session.state_hash()
    assert session.call(tool, valid.arguments) == valid.result
    made = server_type(name).tools[tool]
    assert (session.state_hash() != before) == (made.access is Access.WRITE)
    assert list(session.server.invariants()) == []
    if made.idempotent and made.access is Access.WRITE:
        changed = session.state_hash()
        session.call(tool, valid.arguments)
        assert session.state_hash() == changed


@pytest.mark.parametrize(("name", "tool"), TOOLS)
def test_damaged_arguments_are_typed_errors_and_change_nothing(name: str, tool: str) -> None:
    valid = valid_calls(name)[tool]
    session = valid.session(name)
    before = session.state_hash()
    schema = server_type(name).tools[tool].spec.parameters
    damaged: list[Any] = [{**valid.arguments, "no_such_argument": "red"}, [], None, "x"]
    for argument in schema["required"]:
        damaged.append({k: v for k, v in valid.arguments.items() if k != argument})
    for argument, inner in schema["properties"].items():
        wrong = list(WRONG[inner["type"]])
        wrong += ["no such value"] if "enum" in inner else []
        if inner["type"] == "array":
            wrong += [[value] for value in WRONG[inner["items"]["type"]]]
        if inner["type"] == "string":
            wrong += ["x" * 1_000_000, "\ud800"]
        damaged += [{**valid.arguments, argument: value} for value in wrong]
    for arguments in damaged:
        result = session.call(tool, arguments)
        assert result.error is ErrorType.INVALID_ARGUMENTS, arguments
        assert len(result.text) < 2_000
        error_of(result)
    assert session.state_hash() == before


# -- every server ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVERS)
def test_a_seed_gives_the_same_world_and_a_snapshot_the_same_future(name: str) -> None:
    server_type(name).worlds = type(server_type(name).worlds)(64 << 20)  # made anew
    one, other = open_session(name, 3), open_session(name, 4)
    server_type(name).worlds = type(server_type(name).worlds)(64 << 20)
    assert open_session(name, 3).state_hash() == one.state_hash() != other.state_hash()
    assert list(one.server.invariants()) == []
    for maker in list(templates_of(name).chains.values())[:8]:
        made, session = made_of(maker, name, 1)
        state = json.loads(json.dumps(session.snapshot()))
        first = run_chain(made, session)
        end, diff = session.state_hash(), session.diff(state)
        session.restore(state)
        assert session.diff(state) == []
        assert run_chain(made, session) == first
        assert (session.state_hash(), session.diff(state)) == (end, diff)


@pytest.mark.parametrize(
    "worlds", [range(25), pytest.param(range(2_000), marks=pytest.mark.long)], ids=["25", "2000"]
)
@pytest.mark.parametrize("name", SERVERS)
def test_every_seed_makes_a_world_that_keeps_its_laws(name: str, worlds: range) -> None:
    for seed in worlds:
        assert list(open_session(name, seed).server.invariants()) == [], seed


WORLDS = {
    "banking": "a817681d24b64eb5bab7d8e877da55d3",
    "calendar": "b2067625231f4df1c27b2ff409fec3dd",
    "filesystem": "6ecc8570c8e07aea04fae7c24e6fbc16",
    "shopping": "b6132afc5f5d3b2513546ff4708cebdd",
    "vehicle": "b1cbc58a2f8b368ef599b47bb2a19ccd",
}
"""What seed 0 gives. Tasks name ids of a world: whoever changes one writes its digest anew."""


@pytest.mark.parametrize("name", SERVERS)
def test_a_seed_gives_the_world_that_it_gave_on_any_other_machine(name: str) -> None:
    assert server_type(name).world(0).digest == WORLDS[name]


@pytest.mark.parametrize("name", SERVERS)
def test_interleaved_sessions_do_not_see_each_other(name: str) -> None:
    runs = []
    for maker in templates_of(name).chains.values():
        made, session = made_of(maker, name, 0)
        trace = run_chain(made, session.fork())
        calls = [(g.name, g.arguments) for step in trace.gold for g in step]
        runs.append((session, calls, [r.text for r in trace.results], list[str]()))
    for turn in range(max(len(calls) for _, calls, _, _ in runs)):
        for session, calls, _, got in runs:
            if turn < len(calls):
                got.append(session.call(*calls[turn]).text)
    for _, _, expected, got in runs:
        assert got == expected


CHAINS = [(name, chain) for name in SERVERS for chain in templates_of(name).chains]


@pytest.mark.parametrize(("name", "chain"), CHAINS)
def test_a_natural_chain_replays_in_many_worlds(name: str, chain: str) -> None:
    maker = templates_of(name).chains[chain]
    for seed in range(3):
        made, session = made_of(maker, name, seed)
        trace = run_chain(made, session)
        assert trace.succeeded, trace.results[-1].text
        assert made.query.strip()
        for said in (v for c in made.calls for v in c.arguments.values()):
            if isinstance(said, str) and any(said in t for t in session.server.tables):
                assert said in made.query, "an id that the request does not tell"


@pytest.mark.parametrize("name", SERVERS)
def test_chains_and_refusals_are_many_and_natural(name: str) -> None:
    templates = templates_of(name)
    sizes = [len(made_of(maker, name, 0)[0].calls) for maker in templates.chains.values()]
    assert sum(2 <= size <= 5 for size in sizes) >= 8
    assert len(templates.refusals) >= 5


REFUSALS = [(name, reason) for name in SERVERS for reason in templates_of(name).refusals]


@pytest.mark.parametrize(("name", "reason"), REFUSALS)
def test_a_documented_refusal_is_reached_and_changes_nothing(name: str, reason: str) -> None:
    made, session = made_of(templates_of(name).refusals[reason], name, 0)
    rehearsal = session.fork()
    trace = run_chain(made, rehearsal)
    *before, refused = trace.results
    assert all(result.error is None for result in before), before
    assert refused.error is not None
    error = error_of(refused)
    assert error["details"].get("reason") == reason, refused.text
    for gold in [g for step in trace.gold for g in step][:-1]:
        session.call(gold.name, gold.arguments)
    assert session.state_hash() == rehearsal.state_hash()
