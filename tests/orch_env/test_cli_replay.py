"""`orch replay`: what it prints, its exit codes, and that --verify sees every change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orch_env.cli.main import main
from orch_env.episodes import StoredEpisode, read_episodes, write_episodes
from orch_env.tasks.files import load_tasks, save_tasks
from orch_env.types import GoldCall, StopReason
from tests.orch_env.recorded_world import BROKEN, WEATHER_11, ZURICH, build

Line = dict[str, Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture
def orch(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(a) for a in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def replayed(orch: Any, world: dict[str, str], *more: object) -> tuple[int, Line, str]:
    code, out, err = orch(
        "replay", "--tasks", world["tasks"], "--cache", world["cache"], "--json", *more
    )
    return code, json.loads(out), err


KEYS = [
    "tasks",
    "success_rate",
    "reward_mean",
    "reward_min",
    "reward_max",
    "stop_reasons",
    "steps_per_s",
    "digest",
]


def test_gold_replays_to_success_twice_with_the_same_digest(orch: Any, world: Any) -> None:
    code, first, err = replayed(orch, world, "--policy", "gold")
    assert (code, err) == (0, "")
    assert list(first) == KEYS
    assert (first["tasks"], first["success_rate"], first["reward_min"]) == (4, 1.0, 1.0)
    assert first["stop_reasons"] == {"answered": 4} and first["steps_per_s"] > 0
    assert replayed(orch, world, "--policy", "gold")[1]["digest"] == first["digest"]


@pytest.mark.parametrize("policy", ["noop", "random"])
def test_other_policies_exit_0_whatever_they_earn(orch: Any, world: Any, policy: str) -> None:
    code, result, _ = replayed(orch, world, "--policy", policy, "--seed", "4")
    assert code == 0 and list(result) == KEYS and result["success_rate"] < 1.0


def test_gold_that_fails_is_named_and_exits_1(orch: Any, world: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    tasks = load_tasks(world["tasks"])
    never = (*tasks[0].gold, (GoldCall("weather", {"city": 8}),))
    save_tasks([replace(tasks[0], gold=never), *tasks[1:]], tmp_path / "t.jsonl")
    code, result, err = replayed(orch, {**world, "tasks": str(tmp_path / "t.jsonl")})
    assert code == 1 and result["success_rate"] == 0.75
    assert "zurich" in err and "talk" not in err


def test_people_get_a_table_and_machines_one_object(orch: Any) -> None:
    code, out, _ = orch("replay", "--tasks", "harbour", "--limit", 5)
    assert code == 0 and "success_rate" in out and not out.startswith("{")


def test_gold_gets_the_turns_it_needs_unless_told(orch: Any, world: Any) -> None:
    code, result, _ = replayed(orch, world, "--max-turns", 1)
    assert code == 1 and result["stop_reasons"] == {"answered": 1, "max_turns": 3}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["replay"], "--tasks"),
        (["replay", "--tasks", "nowhere"], "nowhere"),
        (["replay", "--tasks", "harbour", "--policy", "nowhere.jsonl"], "nowhere.jsonl"),
        (["replay", "--tasks", "harbour", "--reward", "nothing"], "nothing"),
        (["replay", "--tasks", "harbour", "--cache", "nowhere.db"], "nowhere.db"),
        (["replay", "--tasks", "harbour", "--limit", "0"], "--limit"),
        (["replay", "--verify", "nowhere.jsonl", "--cache", "harbour"], "nowhere.jsonl"),
        (["replay", "--verify", "x", "--policy", "gold"], "--policy"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(orch: Any, argv: list[str], message: str) -> None:
    code, out, err = orch(*argv)
    assert code == 2 and out == "" and message in err
    assert err.count("\n") == 1 and "Traceback" not in err


@pytest.fixture(scope="module")
def stored(world: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes of every kind: gold, failing, cut, stopped from outside."""
    from orch_env.env import ToolOrchestrationEnv

    path = tmp_path_factory.mktemp("episodes") / "episodes.jsonl"
    env = ToolOrchestrationEnv(**world, max_observation_chars=64, max_errors=2, max_turns=4)
    scripts: list[tuple[str, list[str], StopReason | None]] = [
        ("zurich", [ZURICH, BROKEN, "Sun \ud800."], None),
        ("talk", [f"{ZURICH}\n{BROKEN}", "Hm?", "Hm?", "Done."], None),
        ("zurich", [BROKEN, BROKEN], None),
        ("chat", [ZURICH], StopReason.CONTEXT_OVERFLOW),
        ("zurich", [ZURICH, ZURICH[:-5]], StopReason.OUTPUT_TRUNCATED),
        ("twice", [WEATHER_11] * 4, None),
    ]
    episodes = []
    for task, actions, reason in scripts:
        env.reset(seed=3, options={"task_id": task})
        unfinished = actions.pop() if reason is StopReason.OUTPUT_TRUNCATED else ""
        for action in actions:
            env.step(action)
        if reason is not None:
            env.stop(reason, unfinished)
        assert env.episode.stop_reason is not None
        episodes.append(StoredEpisode(env.episode, env.task, env.settings))
    write_episodes(episodes, path)
    return path


def verified(orch: Any, path: Path, *more: object) -> tuple[int, Line]:
    code, out, _ = orch("replay", "--verify", path, "--json", *more)
    return code, json.loads(out)


def test_stored_episodes_verify_from_the_cache_alone(orch: Any, world: Any, stored: Path) -> None:
    untouched = (0, {"episodes": 6, "ok": True, "divergence": None})
    assert verified(orch, stored, "--cache", world["cache"]) == untouched
    assert verified(orch, stored, "--cache", world["cache"], "--tasks", world["tasks"]) == untouched


def test_episodes_without_their_tasks_are_checked_against_the_recordings(
    orch: Any, world: Any, stored: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bare.jsonl"
    lines = [json.loads(line) for line in stored.read_text().splitlines()]
    for line in lines:
        del line["task"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert verified(orch, path, "--cache", world["cache"])[0] == 0
    turn = lines[0]["turns"][0]
    turn["observation"] = turn["observation"].replace("7", "8")
    turn["results"][0] = turn["results"][0].replace("7", "8")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, result = verified(orch, path, "--cache", world["cache"])
    assert code == 1 and result["divergence"]["turn"] == 0
    assert result["divergence"]["expected"] != result["divergence"]["got"]


def tamper(line: Line, where: tuple[Any, ...], change: Callable[[Any], Any]) -> None:
    at: Any = line
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = change(at[where[-1]])


def second_turn(text: str) -> str:
    return text.replace("7", "8") if "7" in text else text + "x"


@pytest.mark.parametrize("with_digest", [True, False])
@pytest.mark.parametrize(
    ("where", "change", "turn"),
    [
        (("turns", 0, "results", 0), second_turn, 0),
        (("turns", 0, "observation"), second_turn, 0),
        (("turns", 0, "action"), lambda a: a.replace("Zürich", "Oslo"), 0),
        (("turns", 0, "calls", 0, "arguments", "query"), lambda _: "Oslo", 0),
        (("turns", 0, "calls", 0, "name"), lambda _: "weather", 0),
        (("turns", 1, "calls", 0, "error"), lambda _: None, 1),
        (("turns", 1, "results"), lambda r: r[:-1], 1),
        (("final",), lambda f: f + "!", 2),
        (("turns",), lambda t: t[:-1], 1),
        (("turns",), lambda t: [*t, t[-1]], 3),
        (("stop_reason",), lambda _: "max_turns", 2),
        (("turns",), lambda _: [], None),
    ],
)
def test_any_change_is_found_at_its_turn(
    orch: Any,
    world: Any,
    stored: Path,
    tmp_path: Path,
    where: tuple[Any, ...],
    change: Callable[[Any], Any],
    turn: int | None,
    with_digest: bool,
) -> None:
    lines = [json.loads(line) for line in stored.read_text().splitlines()]
    tamper(lines[0], where, change)
    if not with_digest:
        del lines[0]["digest"]
    path = tmp_path / "changed.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, result = verified(orch, path, "--cache", world["cache"])
    assert code == 1 and result["ok"] is False
    assert (result["divergence"]["task_id"], result["divergence"]["turn"]) == ("zurich", turn)
    assert result["divergence"]["expected"] != result["divergence"]["got"]


@pytest.mark.parametrize(
    ("where", "change"),
    [
        (("seed",), lambda s: s + 1),
        (("turns", 0, "action"), lambda a: a + " "),
        (("digest",), str.upper),
    ],
)
def test_a_change_that_no_rerun_shows_is_found_by_the_digest(
    orch: Any, world: Any, stored: Path, tmp_path: Path, where: Any, change: Any
) -> None:
    lines = [json.loads(line) for line in stored.read_text().splitlines()]
    tamper(lines[3], where, change)
    path = tmp_path / "changed.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, result = verified(orch, path, "--cache", world["cache"])
    assert code == 1 and result["divergence"]["task_id"] == "chat"


def test_a_changed_cache_is_found(orch: Any, stored: Path, tmp_path: Path) -> None:
    from orch_env.cache import open_cache
    from tests.orch_env import recorded_world

    with open_cache(tmp_path / "other.db", write=True) as cache:
        cache.put_tool(recorded_world.SEARCH)
        cache.put_tool(recorded_world.WEATHER)
        for tool, arguments, text in recorded_world.RECORDINGS:
            cache.put(tool, arguments, text.replace('"id": 7,  ', '"id": 7, '))
    code, result = verified(orch, stored, "--cache", tmp_path / "other.db")
    assert code == 1 and result["divergence"]["turn"] == 0


def test_out_can_be_read_back_gzipped_with_task_and_settings(
    orch: Any, world: Any, tmp_path: Path
) -> None:
    path = tmp_path / "episodes.jsonl.gz"
    replayed(orch, world, "--policy", "random", "--out", path)
    episodes = read_episodes(path)
    assert [e.task for e in episodes] == load_tasks(world["tasks"])
    assert all(e.settings["call_format"] == "hermes" for e in episodes)
    assert verified(orch, path, "--cache", world["cache"])[0] == 0
