"""State and answer in an episode's outcome, and what graduated and binary make of them.

Everything runs on the harbour, with tools that really change its state; gold's final state is what
playing gold left behind.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from orch_env import Episode, GoldCall, Task, ToolCall, ToolOrchestrationEnv, ToolSpec, make_reward
from orch_env.backends.local import LocalBackend
from orch_env.formats import get_format
from orch_env.rewards.outcome import AnswerRule, Outcome, is_read, read_outcome
from orch_env.rewards.outcome.state_diff import COLLATERAL, MISSING, WRONG
from orch_env.servers import ServerSession
from orch_env.servers.domains.harbour import Harbour
from orch_env.types.json import Json

WORLD = ServerSession(Harbour, 0).server
assert isinstance(WORLD, Harbour)
SHIP, OTHER = list(WORLD.ships.values())[:2]
PILOT = next(p for p in WORLD.pilots.values() if p.on_duty)
PERMIT, OTHER_PERMIT = (WORLD.cargoes[s.cargo].permit for s in (SHIP, OTHER))

FIND = ToolCall("find_ship", {"name": SHIP.name})
BOOK = ToolCall("book_pilot", {"ship": SHIP.id, "pilot": PILOT.id})
RENEW = ToolCall("renew_permit", {"permit": PERMIT})
RENEW_OTHER = ToolCall("renew_permit", {"permit": OTHER_PERMIT})

QUERY = f"{SHIP.name} {SHIP.id} {PILOT.id} {PERMIT}"
"""All that gold's arguments take, so that no gold call here depends on another one."""


def state_after(*calls: ToolCall) -> Json:
    session = LocalBackend().open(task_of(), seed=0)
    for call in calls:
        assert session.answer([call])[0].error is None
    return session.final_state()


def task_of(*gold: ToolCall, answer: Json = None, final_state: Json = None) -> Task:
    return Task(
        "t",
        ({"role": "user", "content": QUERY},),
        gold=tuple((GoldCall(call.name, call.arguments),) for call in gold),
        servers=("harbour",),
        seed=0,
        answer=answer,
        final_state=final_state,
    )


def with_state(*gold: ToolCall, answer: Json = None) -> Task:
    return task_of(*gold, answer=answer, final_state=state_after(*gold))


def play(task: Task, calls: Sequence[ToolCall], final: str = "done") -> Episode:
    env = ToolOrchestrationEnv.from_backend([task], LocalBackend())
    env.reset(seed=0)
    for call in calls:
        env.step(get_format("hermes").render_calls([call]))
    env.step(final)
    return env.episode


def outcome(task: Task, calls: Sequence[ToolCall], final: str = "done") -> Outcome:
    return read_outcome(task, play(task, calls, final), AnswerRule())


def total(reward: Any, task: Task, calls: Sequence[ToolCall], final: str = "done") -> float:
    return float(make_reward(reward)(task, play(task, calls, final)).total)


def near(value: float) -> object:
    """Totals are multiples of 2^-40."""
    return pytest.approx(value, abs=2**-40)


def test_playing_gold_leaves_golds_state() -> None:
    found = outcome(with_state(FIND, BOOK, RENEW), [RENEW, BOOK])
    assert found == Outcome(state=1.0, answer=None, collateral=0, changes=())


def test_a_state_is_right_as_a_whole_or_not() -> None:
    task = with_state(BOOK, RENEW)
    found = outcome(task, [BOOK])
    assert (found.state, found.collateral) == (0.0, 0)
    assert [(c.kind, c.path) for c in found.changes] == [(MISSING, f"/harbour/permits/{PERMIT}")]


def test_the_right_change_to_the_wrong_record_is_wrong_and_collateral() -> None:
    found = outcome(with_state(RENEW), [RENEW_OTHER])
    assert (found.state, found.collateral) == (0.0, 1)
    assert [(c.kind, c.path) for c in found.changes] == [
        (MISSING, f"/harbour/permits/{PERMIT}"),
        (COLLATERAL, f"/harbour/permits/{OTHER_PERMIT}"),
    ]


def test_collateral_changes_leave_the_state_right() -> None:
    found = outcome(with_state(RENEW), [RENEW, RENEW_OTHER])
    assert (found.state, found.collateral) == (1.0, 1)


def test_collateral_counts_records_whatever_was_changed_in_them() -> None:
    task = with_state(RENEW)
    made = [RENEW, *(ToolCall("renew_permit", {"permit": p}) for p in list(WORLD.permits)[:5])]
    foreign = len({call.arguments["permit"] for call in made} - {PERMIT})
    found = outcome(task, made)
    assert (found.state, found.collateral) == (1.0, foreign) and foreign >= 4
    scored = make_reward("binary")(task, play(task, made))  # which asks only whether there is any
    assert (scored.total, scored.components["collateral"]) == (0.0, 1.0)


@pytest.mark.parametrize("gold", [[], [FIND], [FIND, FIND]])
def test_where_gold_only_reads_a_final_state_can_be_inferred(gold: list[ToolCall]) -> None:
    task = LocalBackend().resolve(task_of(*gold))
    spoiled = play(task, [*gold, RENEW, BOOK, RENEW_OTHER])
    found = read_outcome(task, spoiled, AnswerRule(), infer=True)
    assert (found.state, found.collateral, len(found.changes)) == (None, 3, 3)
    assert {change.kind for change in found.changes} == {COLLATERAL}
    assert read_outcome(task, spoiled, AnswerRule()) == Outcome()
    for kept in (play(task, gold), replace(spoiled, state=None)):
        assert read_outcome(task, kept, AnswerRule(), infer=True) == Outcome()


def test_no_final_state_is_inferred_where_gold_may_change_something() -> None:
    optional = task_of(FIND, RENEW)
    optional = replace(
        optional, gold=(optional.gold[0], (replace(optional.gold[1][0], optional=True),))
    )
    resolved = [LocalBackend().resolve(task) for task in (task_of(FIND, RENEW), optional)]
    unknown = task_of(FIND)  # it names its tools and has no specs
    episode = play(task_of(), [RENEW_OTHER])
    assert episode.state
    for task in (*resolved, unknown, unknown.with_tools((ToolSpec("find_ship"),))):
        assert read_outcome(task, episode, AnswerRule(), infer=True) == Outcome()


def test_a_final_state_that_the_task_gives_is_never_inferred() -> None:
    task = LocalBackend().resolve(replace(with_state(RENEW), gold=task_of(FIND).gold))
    found = read_outcome(task, play(task, [RENEW]), AnswerRule(), infer=True)
    assert found == Outcome(state=1.0)


def test_a_call_is_a_read_where_it_is_recorded_or_its_tool_is_known_to_read() -> None:
    live = LocalBackend().resolve(task_of())
    assert [is_read(live, name) for name in ("find_ship", "renew_permit", "fly")] == [
        True,
        False,
        False,
    ]
    assert not is_read(task_of(), "find_ship")  # without its spec it is not known
    recorded = replace(task_of(), servers=(), tools=(ToolSpec("book", read_only=False),))
    assert is_read(recorded, "book") and is_read(recorded, "fly")


def test_where_gold_changes_nothing_an_unchanged_state_is_no_achievement() -> None:
    for nothing in ({}, {"harbour": {}}, {"harbour": {"permits": {}}}):
        task = task_of(FIND, final_state=nothing)
        assert outcome(task, [FIND]) == Outcome()
        spoiled = outcome(task, [FIND, RENEW])
        assert (spoiled.state, spoiled.collateral) == (None, 1)


def test_without_a_final_state_or_without_a_state_nothing_is_judged() -> None:
    assert outcome(task_of(RENEW), [RENEW_OTHER]) == Outcome()
    task = with_state(RENEW)
    silent = replace(play(task, [RENEW_OTHER]), state=None)
    assert read_outcome(task, silent, AnswerRule()) == Outcome()


def test_ids_that_the_server_made_up_may_shift_where_the_task_says_which() -> None:
    (booking,) = state_after(BOOK)["harbour"]["bookings"].values()
    shifted = {"harbour": {"bookings": {"K-none": {**booking, "id": "K-none"}}}}
    task = with_state(BOOK)
    episode = replace(play(task, [BOOK]), state=shifted)
    assert read_outcome(task, episode, AnswerRule()).state == 0.0
    session = LocalBackend().open(task, seed=0)
    session.answer([BOOK])[0]
    task = task.with_metadata(created=list(session.created()))
    assert read_outcome(task, episode, AnswerRule()) == Outcome(state=1.0)
    for odd in (7, "x", [7, None, []], {"a": 1}):
        read_outcome(task.with_metadata(created=odd), episode, AnswerRule())


def test_malformed_states_are_judged_and_do_not_raise() -> None:
    task = with_state(RENEW)
    good = play(task, [RENEW])
    for odd in (7, "x", [], [[]], {"harbour": 3}, {"harbour": {"permits": [PERMIT]}}):
        found = read_outcome(task, replace(good, state=odd), AnswerRule())
        assert found.state == 0.0
        found = read_outcome(replace(task, final_state=odd), good, AnswerRule())
        assert found.state in (0.0, None)
        for name in ("graduated", "binary"):
            assert 0.0 <= make_reward(name)(task, replace(good, state=odd)).total < 1.0
    wrong = replace(good, state={"harbour": {"permits": {PERMIT: {"id": PERMIT, "until": None}}}})
    (change,) = read_outcome(task, wrong, AnswerRule()).changes
    assert (change.kind, change.path) == (WRONG, f"/harbour/permits/{PERMIT}/until")


# graduated: S' = (n S + w_s [state] + w_t [answer]) / (n + w_s + w_t), collateral x 0.8; n counts
# gold calls, b = ceil(n / 2) extra calls cost 0.02 together.


def test_graduated_averages_the_state_in_like_one_gold_call() -> None:
    task = with_state(FIND, RENEW)
    assert total("graduated", task, [FIND, RENEW]) == 1.0
    # find alone: S = 1/2, state 0: (2 * 1/2 + 0) / 3.
    assert total("graduated", task, [FIND]) == near(1 / 3)
    # nothing: S = 0, state 0.
    assert total("graduated", task, []) == 0.0
    # renew alone: S = 1/2, state 1: (2 * 1/2 + 1) / 3.
    assert total("graduated", task, [RENEW]) == near(2 / 3)


def test_graduated_with_state_and_answer_and_weights() -> None:
    task = with_state(FIND, RENEW, answer="2026")
    assert total("graduated", task, [FIND, RENEW], "2026") == 1.0
    # (2 * 1 + 1 + 0) / 4
    assert total("graduated", task, [FIND, RENEW], "2025") == near(3 / 4)
    # (2 * 1/2 + 0 + (1 + 1/2) / 2) / 4: an answer without all of the work counts less.
    assert total("graduated", task, [FIND], "2026") == near(1.75 / 4)
    heavy = {"name": "graduated", "state_weight": 3, "answer_weight": 0.5}
    # (2 * 1/2 + 3 * 0 + 0.5 * 0.75) / (2 + 3 + 0.5)
    assert total(heavy, task, [FIND], "2026") == near(1.375 / 5.5)
    # (2 * 1 + 3 * 1 + 0.5 * 0) / 5.5
    assert total(heavy, task, [FIND, RENEW], "2025") == near(5 / 5.5)


def test_graduated_takes_a_fifth_for_a_collateral_change() -> None:
    task = with_state(FIND, RENEW)
    # (2 * 1 + 1) / 3 = 1, one extra call within b = 1 that is a second guess: cost 0.02 + 0.25 / 2;
    # collateral: a fifth.
    assert total("graduated", task, [FIND, RENEW, RENEW_OTHER]) == near(0.8 * 0.855)
    # The same extra call where nothing says what may change costs nothing more.
    assert total("graduated", task_of(FIND, RENEW), [FIND, RENEW, RENEW_OTHER]) == near(0.855)


def test_graduated_pays_nothing_for_leaving_a_read_only_task_alone() -> None:
    task = task_of(FIND, final_state={})
    assert total("graduated", task, []) == 0.0
    assert total("graduated", task, [FIND]) == 1.0
    # n = 1, b = 1: one extra call costs 0.02, and its change a fifth.
    assert total("graduated", task, [FIND, RENEW]) == near(0.8 * 0.98)
    # The only call, and harmful: no call of gold's is made.
    assert total("graduated", task, [RENEW]) == 0.0


def test_graduated_takes_a_fifth_of_an_abstention_that_changes_things() -> None:
    task = task_of(final_state={})
    assert total("graduated", task, []) == 1.0
    assert total("graduated", task, [FIND]) == near(0.5)
    assert total("graduated", task, [RENEW]) == near(0.5 * 0.8)


def test_a_reward_paid_densely_follows_the_state_step_by_step() -> None:
    task = with_state(FIND, RENEW)
    env = ToolOrchestrationEnv.from_backend([task], LocalBackend(), reward_mode="dense")
    env.reset(seed=0)
    render = get_format("hermes").render_calls
    # find: (2 * 1/2 + 0) / 3; renew: to 1.
    assert env.step(render([FIND]))[1] == near(1 / 3)
    twin = env.fork()
    assert env.step(render([RENEW]))[1] == near(2 / 3)
    # The fork goes another way: the wrong permit, n = 2, b = 1. It is no gold call, but of gold's
    # name, K = 0: atomic 0.1 + (0.2 + 0 + 0.2) / 2 = 0.3, orchestration 0, s = 0.15; S = 1.15 / 2,
    # state 0, collateral: 0.8 * (2 * 0.575 + 0) / 3, no extra call (it is assigned).
    assert twin.step(render([RENEW_OTHER]))[1] == near(0.8 * 1.15 / 3 - 1 / 3)
    assert twin.step("done")[1] == 0.0
    assert json.dumps(twin.episode.to_dict(), allow_nan=False)


def test_binary_asks_for_the_state_and_for_nothing_else_to_change() -> None:
    task = with_state(FIND, RENEW)
    assert total("binary", task, [RENEW]) == 1.0
    assert total("binary", task, [FIND]) == 0.0
    assert total("binary", task, [FIND, RENEW, BOOK]) == 0.0
    read_only = task_of(FIND, final_state={})
    assert total("binary", read_only, [FIND]) == 1.0
    assert total("binary", read_only, []) == 0.0
    assert total("binary", read_only, [FIND, BOOK]) == 0.0
    both = with_state(RENEW, answer=2026)
    assert total("binary", both, [RENEW], "2026") == 1.0
    assert total("binary", both, [RENEW], "2025") == 0.0
    assert total("binary", both, [], "2026") == 0.0
