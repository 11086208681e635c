"""The table itself: sessions pass it, and it finds what an adapter can get wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from orch_env.session import EpisodeSession
from tests.adapters.conformance import SOURCE, Played, Script, check_report, report_of


def play(scripts: Sequence[Script]) -> list[Played]:
    """Plays over sessions by messages, as an adapter would, also after the end."""
    sessions = [SOURCE.session() for _ in scripts]
    results: list[list[str]] = [[] for _ in scripts]
    for session, script in zip(sessions, scripts, strict=True):
        session.reset(script.task_id, seed=script.seed)
    for turn in range(max(len(script.actions) for script in scripts)):
        for session, script, read in zip(sessions, scripts, results, strict=True):
            if turn < len(script.actions):
                said = script.messages()[turn]
                added = session.message(said["content"], said.get("tool_calls", ()))
                read += [m["content"] for m in added if m["role"] == "tool"]
    return [
        _played(session, script, tuple(read))
        for session, script, read in zip(sessions, scripts, results, strict=True)
    ]


def _played(session: EpisodeSession, script: Script, results: tuple[str, ...]) -> Played:
    breakdown = session.finish()
    assert breakdown is not None and session.stop_reason is not None
    return Played(breakdown.total, results, len(script.actions), session.stop_reason.value)


def test_sessions_pass_the_table_and_earn_what_the_environment_pays() -> None:
    check_report(report_of(play, count=20), whole=20)


def paid_twice(scripts: Sequence[Script]) -> list[Played]:
    return [replace(one, reward=(one.reward or 0.0) * 2) for one in play(scripts)]


def gold_for_all(scripts: Sequence[Script]) -> list[Played]:
    return [replace(one, reward=1.0) for one in play(scripts)]


def without_last_result(scripts: Sequence[Script]) -> list[Played]:
    return [replace(one, results=one.results[:-1]) for one in play(scripts)]


def swapped(scripts: Sequence[Script]) -> list[Played]:
    return play(scripts)[::-1]


def never_the_same(scripts: Sequence[Script]) -> list[Played]:
    COUNT.append(0)
    return [replace(one, results=(*one.results, f"{len(COUNT)}")) for one in play(scripts)]


COUNT: list[int] = []


@pytest.mark.parametrize(
    ("wrong", "row"),
    [
        (paid_twice, "gold"),
        (gold_for_all, "no-op"),
        (gold_for_all, "truncation"),
        (without_last_result, "malformed call"),
        (swapped, "two interleaved"),
        (never_the_same, "same seed, same bytes"),
        (never_the_same, "call after the end"),
    ],
)
def test_the_table_finds_an_adapter_that_is_wrong(wrong: Callable[..., Any], row: str) -> None:
    found = report_of(wrong, count=0)
    assert found["rows"][row]
    with pytest.raises(AssertionError):
        check_report(found, whole=0)


def test_an_unequal_reward_among_the_episodes_is_found() -> None:
    found = report_of(gold_for_all, count=20)
    assert found["episodes"]["unequal"]


def test_a_missing_environment_is_a_skip_that_says_what_to_do() -> None:
    from tests.adapters.other_python import run_with

    with pytest.raises(pytest.skip.Exception, match="make adapters"):
        run_with("no-such", "tests.adapters.trl_conformance")
