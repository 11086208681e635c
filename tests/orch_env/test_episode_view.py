"""What a person sees of an episode: who earned what."""

from __future__ import annotations

from dataclasses import replace

from orch_env import Episode, GoldCall, Task, ToolCall, Turn, make_reward
from orch_env.episodes.view import episode_html, episode_text

TASK = Task(
    "t",
    messages=({"role": "user", "content": "look up a, then b"},),
    gold=((GoldCall("look", {"up": "a"}), GoldCall("look", {"up": "b"})),),
)


def played() -> Episode:
    """Gold's first call, a needless one, and an answer: 0.5 (1 - 0.02) = 0.49."""
    episode = Episode(
        "t",
        turns=(
            Turn.of("", (ToolCall("look", {"up": "a"}),), ("{}",)),
            Turn.of("", (ToolCall("stare", {}),), ("{}",)),
            Turn.of("done"),
        ),
        final="done",
    )
    return replace(episode, reward=make_reward("graduated")(TASK, episode))


def test_turns_and_calls_say_what_they_earned() -> None:
    # One of two gold calls: S = 1/2, the call's credit. The needless call costs 0.02 of it.
    text, page = episode_text(TASK, played()), episode_html(TASK, played())
    for shown in ("assistant, turn 0: +0.500", "assistant, turn 1: -0.010", "turn 2: +0.000"):
        assert shown in text
        assert shown in page
    assert "-> +0.500 Matches gold call 0" in text
    assert "-> -0.010 Gold does not use stare." in text
    assert "<b>-0.010 </b>" in page


def test_nothing_is_claimed_of_a_reward_that_was_not_attributed() -> None:
    episode = played()
    assert episode.reward is not None
    bare = replace(episode, reward=replace(episode.reward, turns=None))
    assert "[assistant, turn 0]" in episode_text(TASK, bare)
    assert "-> Matches gold call 0" in episode_text(TASK, bare)
    assert "[assistant, turn 0]" in episode_text(TASK, replace(episode, reward=None))
