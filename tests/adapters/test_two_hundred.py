"""The 200 episodes that adapters must pay as `orch replay` does, through the core they share."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from orch_env import EpisodeSource
from orch_env.formats import get_format
from tests.adapters.two_hundred import Case, cases

SOURCE = EpisodeSource(tasks="harbour")
STYLE = get_format("hermes")


@pytest.fixture(scope="module")
def episodes() -> list[Case]:
    return cases()


def as_message(action: str) -> tuple[str, list[dict[str, Any]]]:
    """What an API would give for a text: its content, and its calls with ids."""
    parsed = STYLE.parse(action)
    calls = [
        {"id": f"c{n}", "function": {"name": call.name, "arguments": call.arguments}}
        for n, call in enumerate(parsed.calls)
    ]
    return parsed.content, calls


def test_the_episodes_are_of_many_kinds(episodes: list[Case]) -> None:
    assert len(episodes) == 200 and len({(c.policy, c.task_id) for c in episodes}) == 200
    assert len({case.total for case in episodes}) > 40
    assert {case.total for case in episodes if case.policy == "gold"} == {1.0}
    assert len(Counter(case.stop_reason for case in episodes)) >= 2


def test_a_session_pays_each_what_replay_pays(episodes: list[Case]) -> None:
    session = SOURCE.session()
    for case in episodes:
        session.reset(case.task_id, seed=case.seed)
        for action in case.actions:
            assert not session.done
            session.text(action)
        assert (session.reward, session.stop_reason) == (case.total, case.stop_reason), case


def test_messages_and_their_transcript_earn_what_the_texts_earn(episodes: list[Case]) -> None:
    session = SOURCE.session()
    malformed = 0
    for case in episodes:
        session.reset(case.task_id, seed=case.seed)
        said: list[dict[str, Any]] = []
        for action in case.actions:
            content, calls = as_message(action)
            if any(call.error for call in STYLE.parse(action).calls):
                malformed += 1
                content, calls = action, []  # as a framework hands on what it could not read
            message = {"role": "assistant", "content": content, "tool_calls": calls}
            said += [message, *session.message(content, calls)]
        assert (session.reward, session.stop_reason) == (case.total, case.stop_reason), case
        score = SOURCE.score(case.task_id, said)
        assert score is not None and score.total == case.total, case
    assert malformed > 20
