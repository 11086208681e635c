"""The rollouts of the server for NeMo Gym here; its own classes over HTTP where it is installed."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from orch_env.adapters import nemo_gym
from orch_env.adapters.nemo_gym_rollouts import Reply, Rollouts
from orch_env.types import OrchError
from tests.adapters.conformance import SOURCE, UNKNOWN, check_report, message_of, table
from tests.adapters.other_python import output_of, run_with

GOLD, OTHER = table()[0], table()[1]
T = TypeVar("T")


def row_of(script: Any, **more: Any) -> dict[str, Any]:
    return {"verifier_metadata": {"task_id": script.task_id, "seed": script.seed}, **more}


def calls_of(action: str) -> list[Any]:
    calls = message_of(action).get("tool_calls", ())
    return [SimpleNamespace(call_id=call["id"], **call["function"]) for call in calls]


async def step(rollouts: Rollouts, key: str, action: str, **more: Any) -> Reply:
    text = message_of(action)["content"]
    settings = {"request": None, "cut": False, **more}
    reply: Reply = await rollouts.step(key, text, calls_of(action), **settings)
    return reply


async def play(rollouts: Rollouts, key: str, actions: Sequence[str]) -> list[Reply]:
    return [await step(rollouts, key, action) for action in actions]


def open_sessions(rollouts: Rollouts) -> int:
    return sum(rollout.session is not None for rollout in rollouts.known.values())


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def test_gold_earns_one_at_its_end_and_calls_go_on_by_their_ids() -> None:
    async def played() -> list[Reply]:
        rollouts = Rollouts(SOURCE, 60.0)
        await rollouts.reset("a", row_of(GOLD))
        return await play(rollouts, "a", GOLD.actions)

    *before, last = run(played())
    assert [reply[1] for reply in before] == [0.0] * len(before) and last[1:4] == (1.0, True, False)
    assert last[4]["stop_reason"] == "answered" and last[4]["success"] is True
    for action, reply in zip(GOLD.actions, before, strict=False):
        given = [call.call_id for call in calls_of(action)]
        assert [one["call_id"] for one in reply[4]["tool_outputs"]] == given


def test_a_request_that_comes_twice_is_one_step() -> None:
    async def played() -> tuple[Reply, Reply, Reply, Reply]:
        rollouts = Rollouts(SOURCE, 60.0)
        await rollouts.reset("a", row_of(GOLD))
        first = await step(rollouts, "a", GOLD.actions[0], request="1")
        again = await step(rollouts, "a", GOLD.actions[0], request="1")
        for number, action in enumerate(GOLD.actions[1:], start=2):
            last = await step(rollouts, "a", action, request=f"{number}")
        await rollouts.close("a", keep=True)
        return first, again, last, await step(rollouts, "a", "Done.", request=f"{number}")

    first, again, last, repeated = run(played())
    assert again == first and repeated == last and last[1] == 1.0


def test_a_step_after_the_end_pays_nothing_and_runs_no_call() -> None:
    async def played() -> list[Reply]:
        rollouts = Rollouts(SOURCE, 60.0)
        await rollouts.reset("a", row_of(GOLD))
        await play(rollouts, "a", GOLD.actions)
        running = await step(rollouts, "a", GOLD.actions[0])
        await rollouts.close("a", keep=True)
        return [running, await step(rollouts, "a", GOLD.actions[0])]

    for reply in run(played()):
        assert reply[1] == 0.0 and '"limit"' in reply[4]["tool_outputs"][0]["output"]


def test_a_response_that_was_cut_ends_the_episode_and_its_call_is_not_run() -> None:
    async def played() -> Reply:
        rollouts = Rollouts(SOURCE, 60.0)
        await rollouts.reset("a", row_of(GOLD))
        return await step(rollouts, "a", GOLD.actions[0], cut=True)

    reply = run(played())
    assert reply[3] and reply[4] == {
        "tool_outputs": [],
        "stop_reason": "output_truncated",
        "success": False,
    }


def test_calls_written_as_text_are_run_and_their_results_are_read_as_text() -> None:
    async def played() -> Reply:
        rollouts = Rollouts(SOURCE, 60.0)
        await rollouts.reset("a", row_of(GOLD))
        reply: Reply = await rollouts.step("a", UNKNOWN, [], None, False)
        return reply

    seen, _, terminated, truncated, info = run(played())
    assert "unknown_tool" in str(seen) and not (terminated or truncated)
    assert info == {"tool_outputs": []}


def test_the_agent_s_max_steps_end_the_episode_and_it_is_paid() -> None:
    async def played() -> Reply:
        rollouts = Rollouts(SOURCE, 60.0)
        await rollouts.reset("a", row_of(GOLD, orch_agent={"max_steps": 1}))
        return await step(rollouts, "a", GOLD.actions[0])

    _, reward, terminated, truncated, info = run(played())
    assert truncated and not terminated and info["stop_reason"] == "max_turns" and reward > 0.0


def test_rollouts_that_nobody_steps_are_closed_when_one_is_opened() -> None:
    async def played() -> tuple[int, int, Reply]:
        rollouts = Rollouts(SOURCE, 60.0)
        await rollouts.reset("a", row_of(GOLD))
        await rollouts.reset("b", row_of(GOLD))
        both = open_sessions(rollouts)
        rollouts.known["a"].used -= 61.0
        await rollouts.reset("c", row_of(OTHER))
        return both, open_sessions(rollouts), await step(rollouts, "a", GOLD.actions[0])

    both, after, late = run(played())
    assert (both, after) == (2, 2) and '"limit"' in late[4]["tool_outputs"][0]["output"]


def test_a_cookie_without_an_episode_is_masked_and_never_a_zero() -> None:
    reply = run(step(Rollouts(SOURCE, 60.0), "nobody", GOLD.actions[0]))
    assert reply[4]["mask_sample"] is True and reply[4]["failure_kind"] == "session_lost"


def test_known_ids_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orch_env.adapters.nemo_gym_rollouts.REMEMBERED", 3)

    async def played() -> int:
        rollouts = Rollouts(SOURCE, 60.0)
        for number in range(5):
            await rollouts.close(f"{number}")
        return len(rollouts.known)

    assert run(played()) == 3


@pytest.mark.parametrize("row", [{}, {"verifier_metadata": {"task_id": 3}}, {"task_id": {}}])
def test_a_row_without_a_task_says_how_rows_are_made(row: dict[str, Any]) -> None:
    with pytest.raises(OrchError, match="orch export-rows --for nemo_gym"):
        run(Rollouts(SOURCE, 60.0).reset("a", row))


@pytest.mark.skipif(bool(importlib.util.find_spec("nemo_gym")), reason="NeMo Gym is here")
def test_without_nemo_gym_its_first_use_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"pip install 'orch-rl\[nemo-gym\]'"):
        _ = nemo_gym.OrchServer
    with pytest.raises(AttributeError, match="no attribute 'Server'"):
        _ = nemo_gym.Server


@pytest.mark.adapters
def test_nemo_gym_itself_passes_the_table_and_its_own_check_of_sessions() -> None:
    check_report(run_with("nemo", "tests.adapters.nemo_gym_conformance"), whole=200)


@pytest.mark.adapters
def test_the_example_plays_gold() -> None:
    assert output_of("nemo", "examples/nemo_gym_server.py").count("reward 1.0") == 2
