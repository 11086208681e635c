"""Scripted policies: what they play, and that playing them again gives the same bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from orch_env import load_tasks
from orch_env.backends.local import LocalBackend
from orch_env.env import ToolOrchestrationEnv
from orch_env.episodes import digest_of
from orch_env.importers.validation import validate_tasks
from orch_env.replay.play import replay, turns_of_gold
from orch_env.replay.policies import CLOSING, Policy, make_policy
from orch_env.types import Episode, OrchError, Task, ToolCall
from tests.orch_env.recorded_world import WEATHER_7, ZURICH, build


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> ToolOrchestrationEnv:
    return ToolOrchestrationEnv(**build(tmp_path_factory.mktemp("world")))


def played(env: ToolOrchestrationEnv, policy: Policy) -> list[Episode]:
    return [one.stored.episode for one in replay(env, policy, env.tasks)]


def totals(episodes: list[Episode]) -> list[float]:
    return [e.reward.total for e in episodes if e.reward is not None]


def test_gold_earns_one_on_every_task_and_answers_every_user_turn(
    env: ToolOrchestrationEnv,
) -> None:
    episodes = played(env, make_policy("gold"))
    assert totals(episodes) == [1.0] * len(env.tasks)
    assert [len(e.turns) for e in episodes] == [turns_of_gold(t) for t in env.tasks] == [3, 5, 1, 3]
    assert {str(e.stop_reason) for e in episodes} == {"answered"}


def test_gold_of_the_bundled_world_earns_one() -> None:
    harbour = ToolOrchestrationEnv("harbour")
    results = list(replay(harbour, make_policy("gold"), harbour.tasks[::7]))
    assert all(r.success for r in results)
    assert {t for r in results for t in totals([r.stored.episode])} == {1.0}


def test_gold_writes_only_after_the_user_has_agreed() -> None:
    live = ToolOrchestrationEnv.from_backend([agreed_in_a_follow_up()], LocalBackend())
    (episode,) = played(live, make_policy("gold"))
    made = [[call.name for call in turn.calls] for turn in episode.turns]
    assert made == [["find_ship", "find_pilot"], [], ["book_pilot"], []]
    assert episode.followups_heard == (0, 0, 1, 1)
    assert episode.turns[1].observation == "Yes, book that pilot."
    assert episode.reward is not None and episode.reward.total == 1.0
    assert len(episode.turns) == turns_of_gold(live.tasks[0])
    assert validate_tasks(live.tasks, LocalBackend())["failures"] == []


def agreed_in_a_follow_up() -> Task:
    """Two look-ups, and a booking to which the user agrees after them, on the live harbour."""
    (task,) = (t for t in load_tasks("harbour") if t.id == "pilotage-train-000")
    (ship, pilot), _ = task.gold
    told = f"Find {ship.arguments['name']} and {pilot.arguments['name']}, then ask me."
    live = replace(task, servers=("harbour",), seed=0)
    session = LocalBackend().open(live, seed=0)
    results = [session.answer([ToolCall(c.name, c.arguments)])[0] for c in live.gold_calls]
    assert all(result.error is None for result in results)
    return replace(
        live,
        messages=({"role": "user", "content": told},),
        followups=("Yes, book that pilot.",),
        after_followup=(0, 1),
        final_state=session.final_state(),
    )


def test_noop_answers_at_once_and_earns_only_what_asks_for_nothing(
    env: ToolOrchestrationEnv,
) -> None:
    episodes = played(env, make_policy("noop"))
    assert dict(zip([t.id for t in env.tasks], totals(episodes), strict=True)) == {
        "zurich": 0.0,
        "talk": 0.0,
        "chat": 1.0,
        "twice": 0.0,
    }
    assert not any(e.calls for e in episodes)


def test_random_is_its_seeds_and_calls_what_is_offered() -> None:
    harbour = ToolOrchestrationEnv("harbour")
    tasks = harbour.tasks[::2]

    def run(seed: int) -> list[Episode]:
        policy = make_policy("random", seed=seed)
        return [one.stored.episode for one in replay(harbour, policy, tasks)]

    first = run(1)
    assert digest_of(first) == digest_of(run(1)) != digest_of(run(2))
    offered = {name for task in tasks for name in task.tool_names}
    calls = [call for episode in first for call in episode.calls]
    assert {call.name for call in calls} <= offered
    errors = {str(call.error) for call in calls}
    assert "malformed_call" not in errors and "unknown_tool" not in errors
    assert "None" in errors, "some random call should hit a recording"


def test_random_does_not_depend_on_the_order_of_tasks(env: ToolOrchestrationEnv) -> None:
    policy = make_policy("random", seed=5)
    forth = {r.stored.episode.digest for r in replay(env, policy, env.tasks)}
    back = {r.stored.episode.digest for r in replay(env, policy, env.tasks[::-1])}
    assert forth == back


def test_a_file_of_actions_is_played_and_then_answers(
    env: ToolOrchestrationEnv, tmp_path: Path
) -> None:
    path = tmp_path / "actions.jsonl"
    line = {"task_id": "zurich", "actions": [ZURICH, WEATHER_7]}
    path.write_text(json.dumps(line) + "\n\n")
    zurich, _, chat, _ = played(env, make_policy(path))
    assert zurich.final == CLOSING and totals([zurich]) == [1.0]
    assert chat.final == CLOSING and len(chat.turns) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1 is not JSON"),
        ('{"task_id": "a"}', "line 1 must be"),
        ('{"task_id": "a", "actions": "x"}', "line 1 must be"),
        ('{"task_id": "a", "actions": []}\n{"task_id": "a", "actions": []}', "line 2.*earlier"),
        ("[1]", "line 1 must be"),
    ],
)
def test_a_broken_file_of_actions_names_the_line(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "actions.jsonl"
    path.write_text(content)
    with pytest.raises(OrchError, match=message):
        make_policy(path)


def test_neither_a_name_nor_a_file() -> None:
    with pytest.raises(OrchError, match=r"'golden'.*gold, noop, random"):
        make_policy("golden")
