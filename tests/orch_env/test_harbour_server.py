"""The harbour server: what its tools promise, checked on every one of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orch_env.servers import Access, ServerSession
from orch_env.servers.domains.harbour import Harbour
from orch_env.types import ErrorType
from orch_env.types.json import JsonObject

TOOLS = sorted(Harbour.tools)


def open_harbour(seed: int = 0) -> ServerSession:
    return ServerSession(Harbour, seed)


def state_of(session: ServerSession) -> Harbour:
    assert isinstance(session.server, Harbour)
    return session.server


def valid_calls(session: ServerSession) -> dict[str, JsonObject]:
    """One call of each tool that succeeds in this session; books a pilot on the way."""
    world = state_of(session)
    ship = next(s for s in world.ships.values() if world.cranes[world.berths[s.berth].crane].works)
    other = next(s for s in world.ships.values() if s != ship)
    on_duty = [p for p in world.pilots.values() if p.on_duty]
    booked = session.call("book_pilot", {"ship": other.id, "pilot": on_duty[1].id})
    return {
        "find_ship": {"name": ship.name},
        "find_pilot": {"name": on_duty[0].name},
        "ship_berth": {"ship": ship.id},
        "ship_cargo": {"ship": ship.id},
        "ship_agent": {"ship": ship.id},
        "berth_crane": {"berth": ship.berth},
        "cargo_permit": {"cargo": ship.cargo},
        "renew_permit": {"permit": world.cargoes[ship.cargo].permit},
        "book_pilot": {"ship": ship.id, "pilot": on_duty[0].id},
        "confirm_booking": {"booking": json.loads(booked.text)["booking"]},
        "unload_cargo": {"cargo": ship.cargo, "crane": world.berths[ship.berth].crane},
        "notify_agent": {"agent": ship.agent, "berth": ship.berth},
    }


@pytest.mark.parametrize("tool", TOOLS)
def test_read_never_changes_the_state_and_write_does(tool: str) -> None:
    session = open_harbour()
    arguments = valid_calls(session)[tool]
    before = session.state_hash()
    result = session.call(tool, arguments)
    assert result.error is None, result.text
    assert isinstance(json.loads(result.text), dict)
    changed = session.state_hash() != before
    assert changed == (Harbour.tools[tool].access is Access.WRITE)


@pytest.mark.parametrize("tool", [t for t in TOOLS if Harbour.tools[t].access is Access.WRITE])
def test_a_change_cannot_be_made_twice(tool: str) -> None:
    session = open_harbour()
    arguments = valid_calls(session)[tool]
    session.call(tool, arguments)
    before = session.state_hash()
    assert session.call(tool, arguments).error is ErrorType.TOOL_ERROR
    assert session.state_hash() == before


@pytest.mark.parametrize("tool", TOOLS)
def test_damaged_arguments_are_typed_errors_and_change_nothing(tool: str) -> None:
    session = open_harbour()
    arguments = valid_calls(session)[tool]
    before = session.state_hash()
    damaged: list[tuple[dict[str, Any], ErrorType]] = [
        ({**arguments, "colour": "red"}, ErrorType.INVALID_ARGUMENTS)
    ]
    for name, value in arguments.items():
        damaged.append(
            ({k: v for k, v in arguments.items() if k != name}, ErrorType.INVALID_ARGUMENTS)
        )
        damaged += [({**arguments, name: v}, ErrorType.INVALID_ARGUMENTS) for v in (7, None, [])]
        if name == "name":
            damaged.append(({name: f"{value}x"}, ErrorType.NOT_FOUND))
        else:
            damaged.append(({**arguments, name: f"X{value[1:]}"}, ErrorType.INVALID_ARGUMENTS))
            damaged.append(({**arguments, name: f"{value}\n"}, ErrorType.INVALID_ARGUMENTS))
            missing = next(
                i
                for n in range(10_000)
                if all((i := f"{value[:2]}{n:04d}") not in t for t in session.server.tables)
            )
            damaged.append(({**arguments, name: missing}, ErrorType.NOT_FOUND))
    for wrong, kind in damaged:
        assert session.call(tool, wrong).error is kind, wrong
    assert session.state_hash() == before


def test_the_world_refuses_what_a_harbour_would() -> None:
    session = open_harbour()
    world = state_of(session)
    ship, other = list(world.ships.values())[:2]
    idle = next(p for p in world.pilots.values() if not p.on_duty)
    broken = next(c for c in world.cranes.values() if not c.works)
    load = next(c for c in world.cargoes.values() if c.berth == broken.berth)
    refused = [
        ("book_pilot", {"ship": ship.id, "pilot": idle.id}, "off duty"),
        ("unload_cargo", {"cargo": load.id, "crane": broken.id}, "out of order"),
        (
            "unload_cargo",
            {"cargo": ship.cargo, "crane": world.berths[other.berth].crane},
            "another berth",
        ),
    ]
    for tool, arguments, reason in refused:
        result = session.call(tool, arguments)
        assert result.error is ErrorType.TOOL_ERROR
        assert reason in json.loads(result.text)["error"]["message"]


def test_ids_of_changes_do_not_depend_on_what_else_was_done() -> None:
    one, other = open_harbour(), open_harbour()
    calls = valid_calls(one)
    valid_calls(other)
    first = one.call("unload_cargo", calls["unload_cargo"]).text
    other.call("notify_agent", calls["notify_agent"])
    other.call("renew_permit", calls["renew_permit"])
    assert other.call("unload_cargo", calls["unload_cargo"]).text == first


def test_names_and_ids_are_unique_over_all_tables() -> None:
    world = state_of(open_harbour())
    names = [s.name for s in world.ships.values()] + [p.name for p in world.pilots.values()]
    ids = [key for table in world.tables for key in table]
    assert len(set(names)) == len(names)
    assert len(set(ids)) == len(ids)
