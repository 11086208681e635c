"""The bundled data set: reproducible, solvable, honest about where values come from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gymnasium as gym
import pytest

from orch_env import Task, load_tasks, open_cache
from orch_env.backends.local import LocalBackend
from orch_env.formats.hermes import HermesFormat
from orch_env.servers.domains.harbour import Harbour
from orch_env.tasks.files import bundled, read_lines
from orch_env.types import ErrorType, Provenance, ToolCall
from orch_env.types.json import resolve
from tools.harbour_world.build import build
from tools.harbour_world.workflows import WORKFLOWS


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return load_tasks("harbour")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("harbour")
    build(0, folder)
    return folder


def shipped(name: str, kind: str) -> Path:
    path = bundled(name, kind)
    assert path is not None
    return path


@pytest.mark.long
def test_the_shipped_files_are_what_the_script_builds(built: Path) -> None:
    for name in ("harbour", "harbour/train", "harbour/heldout"):
        path = shipped(name, "tasks")
        assert read_lines(path) == read_lines(built / path.name)
    with open_cache("harbour") as cache, open_cache(built / "cache.db") as again:
        assert cache.stats()["digest"] == again.stats()["digest"]
        assert cache.verify() == {"ok": True, "problems": []}


@pytest.mark.long
def test_building_again_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    build(0, tmp_path)
    files = sorted(p.name for p in built.iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == files
    for name in files:
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes(), name


def test_another_seed_is_another_world() -> None:
    assert Harbour.world(1).digest != Harbour.world(0).digest


def test_the_data_set_is_small_and_large_enough(tasks: list[Task]) -> None:
    splits = [t.metadata["split"] for t in tasks]
    assert splits.count("train") >= 400
    assert splits.count("heldout") >= 200
    folder = shipped("harbour", "cache").parent
    assert sum(p.stat().st_size for p in folder.iterdir()) < 3_000_000
    assert load_tasks("harbour/train") + load_tasks("harbour/heldout") == tasks


def test_every_kind_and_every_tool_is_asked_for(tasks: list[Task]) -> None:
    for split in ("train", "heldout"):
        chosen = [t for t in tasks if t.metadata["split"] == split]
        templates = {t.metadata["template"] for t in chosen}
        assert templates == {f"{w.name}/{i}" for w in WORKFLOWS for i in range(len(w.phrases))}
        assert {c.name for t in chosen for c in t.gold_calls} == set(Harbour.tools)
    assert {t.metadata["calls"] for t in tasks} == {2, 3, 4, 5}
    assert {t.metadata["width"] for t in tasks} == {1, 2}


def test_gold_replays_to_success_and_full_reward_and_doing_nothing_to_none() -> None:
    env = gym.make("orch_env/ToolOrchestration-v0", tasks="harbour", reward="graduated").unwrapped
    form = HermesFormat()
    for task in load_tasks("harbour"):
        env.reset(seed=0, options={"task_id": task.id})
        for step in task.gold:
            text = form.render_calls([ToolCall(c.name, c.arguments) for c in step])
            _, reward, terminated, truncated, info = env.step(text)
            assert not (terminated or truncated)
        _, reward, terminated, _, info = env.step("Done.")
        assert (terminated, reward, info["success"]) == (True, 1.0, True), task.id
        env.reset(seed=0, options={"task_id": task.id})
        _, reward, _, _, info = env.step("Done.")
        assert (reward, info["success"]) == (0.0, False)
    env.close()


def test_recordings_are_what_the_live_server_answers(tasks: list[Task]) -> None:
    backend = LocalBackend()
    with open_cache("harbour") as cache:
        for task in tasks:
            live = backend.open(dataclasses.replace(task, servers=("harbour",), seed=0), seed=0)
            for call in task.gold_calls:
                recorded = cache.get(call.name, call.arguments, task=task)
                assert recorded is not None
                result = live.answer([ToolCall(call.name, call.arguments)])[0]
                assert (result.text, recorded.digest) == (recorded.text, call.response)


def test_one_call_has_one_answer() -> None:
    with open_cache("harbour") as cache:
        assert cache.stats()["variants"] == 0


def test_provenance_says_where_each_value_stands(tasks: list[Task]) -> None:
    import json

    with open_cache("harbour") as cache:
        for task in tasks:
            calls = task.gold_calls
            answers = [json.loads(cache.get(c.name, c.arguments).text) for c in calls]  # type: ignore[union-attr]
            step_of = [i for i, step in enumerate(task.gold) for _ in step]
            for number, call in enumerate(calls):
                assert set(call.provenance) == {f"/{name}" for name in call.arguments}
                for pointer, source in call.provenance.items():
                    value = resolve(call.arguments, pointer)
                    if source.kind is Provenance.QUERY:
                        assert value in task.query
                        continue
                    assert source.call is not None
                    assert source.path is not None
                    assert step_of[source.call] < step_of[number]
                    assert resolve(answers[source.call], source.path) == value
                    assert value not in task.query


def test_splits_share_no_entity(tasks: list[Task]) -> None:
    values: dict[str, set[str]] = {"train": set(), "heldout": set()}
    for task in tasks:
        for call in task.gold_calls:
            # A booking is made in the episode; its id may come up in both splits by chance.
            named = {v for k, v in call.arguments.items() if k != "booking"}
            values[task.metadata["split"]].update(named)
    assert not values["train"] & values["heldout"]


def test_look_ups_that_gold_does_not_make_are_answered_too(tasks: list[Task]) -> None:
    with open_cache("harbour") as cache:
        for task in tasks:
            for call in task.gold_calls:
                if "ship" in call.arguments and len(call.arguments) == 1:
                    for tool in ("ship_berth", "ship_cargo", "ship_agent"):
                        assert cache.get(tool, call.arguments) is not None
                if call.name == "find_pilot":
                    wrong = cache.get("find_ship", call.arguments)
                    assert wrong is not None
                    assert wrong.is_error
                    assert ErrorType.NOT_FOUND in wrong.text
