"""What an episode changed in its servers: on sessions, in the record, stored, verified, shown."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from orch_env.backends.local import LocalBackend
from orch_env.env import ToolOrchestrationEnv
from orch_env.episodes import StoredEpisode, read_episodes, write_episodes
from orch_env.episodes.view import episode_html, episode_text
from orch_env.formats import get_format
from orch_env.replay.verify import Verifier
from orch_env.rewards.outcome.state_diff import diff_states
from orch_env.servers import Server, ServerSession, Table, write
from orch_env.servers.domains.harbour import Harbour
from orch_env.types import Episode, StopReason, Task, ToolCall
from orch_env.types.json import JsonObject
from tests.orch_env.recorded_world import build

HARBOUR = Task("t", ({"role": "user", "content": "?"},), servers=("harbour",), seed=0)
WORLD = ServerSession(Harbour, 0).server
assert isinstance(WORLD, Harbour)
SHIPS = list(WORLD.ships.values())
SHIP, OTHER = SHIPS[:2]
PILOT = next(p for p in WORLD.pilots.values() if p.on_duty)
PERMIT = WORLD.cargoes[SHIP.cargo].permit

BOOK = ToolCall("book_pilot", {"ship": SHIP.id, "pilot": PILOT.id})
RENEW = ToolCall("renew_permit", {"permit": PERMIT})
LOOK = ToolCall("find_ship", {"name": SHIP.name})


def text_of(*calls: ToolCall) -> str:
    return get_format("hermes").render_calls(calls)


@pytest.fixture
def env() -> Iterator[ToolOrchestrationEnv]:
    made = ToolOrchestrationEnv.from_backend([HARBOUR], LocalBackend())
    made.reset(seed=0)
    yield made
    made.close()


def test_a_session_tells_the_whole_records_that_it_changed() -> None:
    session = LocalBackend().open(HARBOUR, seed=0)
    assert session.final_state() == {}
    session.answer([LOOK])[0]
    assert session.final_state() == {}
    booking = json.loads(session.answer([BOOK])[0].text)["booking"]
    session.answer([RENEW])[0]
    assert session.final_state() == {
        "harbour": {
            "permits": {PERMIT: {"id": PERMIT, "until": 2026}},
            "bookings": {
                booking: {
                    "id": booking,
                    "ship": SHIP.id,
                    "pilot": PILOT.id,
                    "confirmed": False,
                }
            },
        }
    }
    # The booking is new; the permit was there before.
    assert session.created() == (f"/harbour/bookings/{booking}",)


def test_a_refused_call_leaves_the_state_alone() -> None:
    session = LocalBackend().open(HARBOUR, seed=0)
    assert session.answer([ToolCall("renew_permit", {"permit": "L-xxxx"})])[0].error is not None
    assert session.answer([replace(BOOK, arguments={"ship": SHIP.id, "pilot": "P-none"})])[0].error
    assert session.final_state() == {}


def test_a_state_once_told_does_not_change_afterwards() -> None:
    session = LocalBackend().open(HARBOUR, seed=0)
    session.answer([BOOK])[0]
    told = session.final_state()
    before = copy.deepcopy(told)
    session.answer([RENEW])[0]
    assert told == before != session.final_state()


def test_a_task_without_servers_holds_no_state() -> None:
    session = LocalBackend().open(Task("t", HARBOUR.messages), seed=0)
    assert session.final_state() is None


@dataclass(frozen=True, slots=True)
class Note:
    id: str
    text: str


class Desk(Server):
    """Two tables of one record type; what is put aside can be undone."""

    name = "desk"
    inbox: Table[Note]
    outbox: Table[Note]

    def populate(self, chance: Random) -> None:
        self.inbox["1"] = Note("1", "hello")

    @write
    def move(self, note: str) -> JsonObject:
        """Move a note to the other box.

        Args:
            note: The note's id.
        """
        here, there = (self.inbox, self.outbox) if note in self.inbox else (self.outbox, self.inbox)
        there[note] = here[note]
        del here[note]
        return {}


def test_tables_of_one_record_type_are_kept_apart_and_undoing_leaves_nothing() -> None:
    session = ServerSession(Desk, 0)
    session.call("move", {"note": "1"})
    moved = {"inbox": {"1": None}, "outbox": {"1": {"id": "1", "text": "hello"}}}
    assert session.changes() == moved
    assert session.created() == (("outbox", "1"),)
    state = json.loads(json.dumps(session.snapshot()))
    session.call("move", {"note": "1"})
    assert session.changes() == {}
    session.restore(state)
    assert session.changes() == moved


def test_an_episode_carries_the_state_so_far(env: ToolOrchestrationEnv) -> None:
    assert env.episode.state == {}
    env.step(text_of(BOOK))
    booked = env.episode.state
    assert list(booked["harbour"]) == ["bookings"]
    env.step(text_of(RENEW))
    assert diff_states(booked, env.episode.state) != ()
    env.step("Done.")
    ended = env.episode
    assert ended.stop_reason is StopReason.ANSWERED
    assert set(ended.state["harbour"]) == {"bookings", "permits"}
    assert Episode.from_dict(json.loads(json.dumps(ended.to_dict()))) == ended


def test_a_state_that_differs_is_another_episode(env: ToolOrchestrationEnv) -> None:
    env.step(text_of(BOOK))
    episode = env.episode
    assert replace(episode, state={}).digest != episode.digest
    assert replace(episode, reward=None).digest == episode.digest


def test_forks_and_restored_episodes_keep_their_own_state(env: ToolOrchestrationEnv) -> None:
    env.step(text_of(BOOK))
    booked = env.episode.state
    saved = json.loads(json.dumps(env.get_state()))
    twin = env.fork()
    twin.step(text_of(RENEW))
    assert env.episode.state == booked != twin.episode.state
    env.step(text_of(ToolCall("renew_permit", {"permit": WORLD.cargoes[OTHER.cargo].permit})))
    env.set_state(saved)
    assert env.episode.state == booked


def test_a_cache_holds_no_state_and_its_records_do_not_speak_of_one(tmp_path: Path) -> None:
    env = ToolOrchestrationEnv(**build(tmp_path))
    env.reset(seed=0, options={"task_index": 0})
    env.step("Done.")
    assert env.episode.state is None
    assert "state" not in env.episode.to_dict()


@pytest.fixture
def stored(env: ToolOrchestrationEnv) -> StoredEpisode:
    env.step(text_of(BOOK))
    env.step("Done.")
    return StoredEpisode(env.episode, env.task, env.settings)


def test_verification_runs_the_state_again(stored: StoredEpisode) -> None:
    verifier = Verifier(LocalBackend())
    assert verifier.check(stored) is None
    claimed: Any = copy.deepcopy(stored.episode.state)
    (booking,) = claimed["harbour"]["bookings"].values()
    booking["confirmed"] = True
    found = verifier.check(replace(stored, episode=replace(stored.episode, state=claimed)))
    assert found is not None
    assert (found.turn, found.task_id) == (None, "t")
    assert '"confirmed": true' in str(found.expected)
    assert '"confirmed": false' in str(found.got)
    # An episode from before states were stored is not asked for its state.
    assert verifier.check(replace(stored, episode=replace(stored.episode, state=None))) is None


def test_a_state_claimed_of_a_cache_is_a_divergence(tmp_path: Path) -> None:
    from orch_env.backends.replay import ReplayBackend
    from orch_env.cache import open_cache

    world = build(tmp_path)
    env = ToolOrchestrationEnv(**world)
    env.reset(seed=0, options={"task_index": 0})
    env.step("Done.")
    with open_cache(world["cache"]) as cache:
        verifier = Verifier(ReplayBackend(cache), cache)
        whole = StoredEpisode(env.episode, env.task, env.settings)
        for honest in (whole, replace(whole, task=None)):
            assert verifier.check(honest) is None
            lied = replace(honest, episode=replace(env.episode, state={"s": {"t": {"1": {}}}}))
            found = verifier.check(lied)
            assert found is not None
            assert '{"s": {"t": {"1": {}}}}' in str(found.expected)


def test_a_file_keeps_the_state(stored: StoredEpisode, tmp_path: Path) -> None:
    write_episodes([stored], tmp_path / "e.jsonl")
    (again,) = read_episodes(tmp_path / "e.jsonl")
    assert again.episode == stored.episode
    assert again.intact


def test_the_views_list_what_was_changed(stored: StoredEpisode) -> None:
    assert stored.task is not None
    (booking,) = stored.episode.state["harbour"]["bookings"]
    text = episode_text(stored.task, stored.episode)
    assert "state: 1 record changed" in text
    assert f'/harbour/bookings/{booking} = {{"id": "{booking}"' in text
    assert f"/harbour/bookings/{booking} = " in episode_html(stored.task, stored.episode)
    idle = replace(stored.episode, state={})
    assert "state: no records changed" in episode_text(stored.task, idle)
    assert "state:" not in episode_text(stored.task, replace(stored.episode, state=None))
    gone = replace(stored.episode, state={"<s>": {"t": {str(n): None for n in range(30)}}})
    page = episode_html(stored.task, gone)
    assert "/&lt;s&gt;/t/0 = deleted" in page
    assert "and 10 more" in page
