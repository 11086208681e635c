"""The local backend: tasks that run on servers in this process."""

from __future__ import annotations

import json

import pytest

from orch_env.backends.local import LocalBackend
from orch_env.types import ErrorType, OrchError, Task, ToolCall, ToolSpec


def make_task(**changes: object) -> Task:
    fields: dict[str, object] = {
        "id": "t",
        "messages": ({"role": "user", "content": "?"},),
        "servers": ("harbour",),
        "seed": 0,
    }
    return Task(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_task_without_tools_is_offered_all_of_its_servers() -> None:
    names = LocalBackend().resolve(make_task()).tool_names
    assert names[:2] == ("find_ship", "find_pilot")
    assert len(names) == 12


def test_tools_come_in_the_tasks_order_and_may_be_overridden() -> None:
    own = ToolSpec("find_ship", "Mine.")
    specs = LocalBackend().resolve(make_task(tools=("ship_cargo", own))).offered
    assert [tool.spec.name for tool in specs] == ["ship_cargo", "find_ship"]
    assert specs[1].spec == own


def test_an_unknown_server_or_tool_is_a_clear_error() -> None:
    with pytest.raises(OrchError, match="no server 'harbor'"):
        LocalBackend().resolve(make_task(servers=("harbor",)))
    with pytest.raises(OrchError, match="offers tool 'fly', which none of its servers has"):
        LocalBackend().resolve(make_task(tools=("fly",)))


def test_a_tool_that_is_not_offered_is_unknown() -> None:
    session = LocalBackend().open(make_task(tools=("find_ship",)), seed=0)
    result = session.answer([ToolCall("ship_cargo", {"ship": "S-0001"})])[0]
    assert result.error is ErrorType.UNKNOWN_TOOL


def test_the_tasks_seed_makes_the_world_and_the_episodes_seed_where_it_has_none() -> None:
    backend = LocalBackend()
    fixed = [backend.open(make_task(), seed=s).state_hash() for s in (1, 2)]
    free = [backend.open(make_task(seed=None), seed=s).state_hash() for s in (0, 1)]
    assert fixed[0] == fixed[1] == free[0] != free[1]


def test_a_snapshot_brings_back_what_was_written() -> None:
    backend = LocalBackend()
    session = backend.open(make_task(), seed=0)
    start = session.snapshot()
    permit = next(
        f"L-{n:04d}"
        for n in range(10_000)
        if session.answer([ToolCall("renew_permit", {"permit": f"L-{n:04d}"})])[0].error is None
    )
    state = json.loads(json.dumps(session.snapshot()))
    again = ToolCall("renew_permit", {"permit": permit})
    assert session.answer([again])[0].error is ErrorType.TOOL_ERROR
    session.restore(start)
    assert session.answer([again])[0].error is None
    other = backend.open(make_task(), seed=0)
    other.restore(state)
    assert other.answer([again])[0].error is ErrorType.TOOL_ERROR
    assert other.state_hash() == session.state_hash()
