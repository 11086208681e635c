"""The local backend: tasks that run on servers in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

import pytest

from orch_env import ToolOrchestrationEnv
from orch_env.backends.local import LocalBackend
from orch_env.replay.play import play
from orch_env.replay.policies import make_policy
from orch_env.servers import SERVERS, Server, Table, read, write
from orch_env.servers.domains.harbour import Harbour
from orch_env.types import ErrorType, GoldCall, OrchError, Task, ToolCall, ToolSpec
from orch_env.types.bounded_store import BoundedStore
from orch_env.types.json import JsonObject


@dataclass(frozen=True, slots=True)
class Note:
    """A note in the bank."""

    id: str


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


def test_whether_a_tool_writes_is_the_servers_word_and_not_the_tasks() -> None:
    claimed = ToolSpec("renew_permit", "Mine.", read_only=True)
    task = make_task(tools=("find_ship", claimed))
    assert [spec.read_only for spec in LocalBackend().resolve(task).tools] == [True, False]
    assert all(tool.spec.read_only == (tool.access == "READ") for tool in Harbour.tools.values())


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


class Bank(Server):
    """Money."""

    name = "bank"
    notes: Table[Note]

    def populate(self, random: Random) -> None:
        """A note."""
        self.notes["N-1"] = Note("N-1")

    @write
    def transfer(self, to: str) -> JsonObject:
        """Send money.

        Args:
            to: Who gets it.
        """
        self.notes[to] = Note(to)
        return {"bank": to}

    @read
    def balance(self) -> JsonObject:
        """How much there is."""
        return {"notes": len(self.notes)}


class Bus(Server):
    """Rides."""

    name = "bus"

    def populate(self, random: Random) -> None:
        """Nothing."""

    @read
    def transfer(self, to: str) -> JsonObject:
        """Where to change.

        Args:
            to: The last stop.
        """
        return {"bus": to}


@pytest.fixture
def bank_and_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    here = __name__
    monkeypatch.setitem(SERVERS, "bank", f"{here}:Bank")
    monkeypatch.setitem(SERVERS, "bus", f"{here}:Bus")


@pytest.mark.usefixtures("bank_and_bus")
def test_two_tools_of_one_name_carry_their_server_s_name_where_they_meet() -> None:
    backend = LocalBackend()
    both = make_task(id="both", servers=("bank", "bus"))
    assert backend.resolve(both).tool_names == ("bank__transfer", "balance", "bus__transfer")
    alone = make_task(id="alone", servers=("bank",))
    assert backend.resolve(alone).tool_names == ("transfer", "balance")
    session = backend.open(both, seed=0)
    calls = [ToolCall(name, {"to": "x"}) for name in ("bank__transfer", "bus__transfer")]
    texts = [result.text for result in session.answer([*calls, ToolCall("transfer", {"to": "x"})])]
    assert texts[:2] == ['{"bank": "x"}', '{"bus": "x"}']
    assert "No tool 'transfer'" in texts[2]
    assert session.answer([ToolCall("bank__transfer", {})])[0].error is ErrorType.INVALID_ARGUMENTS


@pytest.mark.usefixtures("bank_and_bus")
def test_gold_under_the_name_that_the_model_sees_replays_to_success() -> None:
    gold = ((GoldCall("bank__transfer", {"to": "x"}),), (GoldCall("bus__transfer", {"to": "y"}),))
    task = make_task(servers=("bank", "bus"), tools=("bank__transfer", "bus__transfer"), gold=gold)
    env = ToolOrchestrationEnv.from_backend([task], LocalBackend())
    info = play(env, make_policy("gold"), task)
    assert info["success"] and info["reward"]["total"] == 1.0
    with pytest.raises(OrchError, match="offers tool 'transfer', which none of its servers has"):
        LocalBackend().resolve(make_task(servers=("bank", "bus"), tools=("transfer",)))


@pytest.mark.usefixtures("bank_and_bus")
def test_each_server_keeps_its_own_worlds_within_its_own_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Bus.world(0)
    monkeypatch.setattr(Bank, "worlds", BoundedStore(3 * 200))
    kept = [Bank.world(seed) for seed in range(50)]
    assert Bank.worlds.cost <= Bank.worlds.most and len(Bank.worlds) < 50
    assert Bank.world(49) is kept[49] and Bus.world(0) is world
    assert Bank.world(0) is not kept[0] and Bank.world(0) == kept[0]
