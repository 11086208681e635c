"""The text space, and the environment under Gymnasium's own machinery."""

from __future__ import annotations

import functools
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from orch_env.env.spaces import TextSpace
from orch_env.types import OrchError
from tests.orch_env.recorded_world import BROKEN, WEATHER_7, ZURICH, build

ID = "orch_env:orch_env/ToolOrchestration-v0"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return build(tmp_path_factory.mktemp("world"))


def test_the_space_holds_any_unicode_up_to_its_length() -> None:
    space = TextSpace(4)
    assert all(text in space for text in ("", "é{}\n", "\ud800", "🙂" * 4))
    assert all(thing not in space for thing in ("12345", b"a", 1, None, ["a"]))


def test_samples_are_members_repeat_by_seed_and_sometimes_call_tools() -> None:
    space, twin = TextSpace(200, seed=3), TextSpace(200, seed=3)
    samples = [space.sample() for _ in range(50)]
    assert samples == [twin.sample() for _ in range(50)]
    assert all(s in space for s in samples)
    assert any("<tool_call>" in s for s in samples)
    assert any("<tool_call>" not in s for s in samples)
    assert TextSpace(3, seed=3).sample() in TextSpace(3)


def test_the_space_pickles_compares_and_survives_json() -> None:
    space = TextSpace(9, seed=1)
    twin = pickle.loads(pickle.dumps(space))
    assert twin == space and hash(twin) == hash(space) and twin != TextSpace(8)
    assert twin.sample() == space.sample()
    batch = ["a", "é"]
    assert space.from_jsonable(json.loads(json.dumps(space.to_jsonable(batch)))) == batch


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mode", ["terminal", "dense"])
def test_check_env_passes_without_a_warning(world: dict[str, str], mode: str) -> None:
    check_env(gym.make(ID, **world, reward_mode=mode).unwrapped)


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_check_env_passes_through_the_wrappers(world: dict[str, str]) -> None:
    check_env(gym.make(ID, **world))


def test_check_env_passes_on_the_bundled_world() -> None:
    check_env(gym.make(ID, tasks="harbour").unwrapped)


def test_the_spec_survives_json_and_makes_the_same_environment(world: dict[str, str]) -> None:
    env = gym.make(ID, **world, max_turns=3, reward={"name": "graduated"}, split="heldout")
    assert env.spec is not None
    twin = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert twin.spec == env.spec
    assert twin.reset(seed=5) == env.reset(seed=5)
    assert twin.unwrapped.settings == env.unwrapped.settings


def drive(envs: VectorEnv, rounds: list[tuple[str, ...]]) -> list[Any]:
    """Everything a vector environment returns for these actions, as plain data."""
    out: list[Any] = [envs.reset(seed=11)]
    out += [envs.step(actions) for actions in rounds]
    envs.close()
    return json.loads(json.dumps(out, default=np.ndarray.tolist))  # type: ignore[no-any-return]


ROUNDS = [(ZURICH, BROKEN, "Hello."), (WEATHER_7, "Done.", ZURICH), ("Sun.", ZURICH, "Done.")]


def makers(world: dict[str, str]) -> list[Callable[[], gym.Env[str, str]]]:
    # A partial of gym.make pickles by name: a spawned worker imports nothing of these tests.
    return [functools.partial(gym.make, ID, **world)] * 3


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_batched_form_equals_gymnasiums_own(world: dict[str, str], mode: AutoresetMode) -> None:
    expected = drive(SyncVectorEnv(makers(world), autoreset_mode=mode), ROUNDS)
    batched = gym.make_vec(ID, num_envs=3, autoreset_mode=mode, **world)
    assert type(batched).__name__ == "ToolOrchestrationVectorEnv"
    assert drive(batched, ROUNDS) == expected


def test_spawned_workers_give_the_same_values(world: dict[str, str]) -> None:
    expected = drive(SyncVectorEnv(makers(world)), ROUNDS[:2])
    spawned = AsyncVectorEnv(makers(world), shared_memory=False, context="spawn")
    assert drive(spawned, ROUNDS[:2]) == expected


def test_without_autoreset_finished_episodes_wait_for_a_mask(world: dict[str, str]) -> None:
    envs = gym.make_vec(ID, num_envs=2, autoreset_mode=AutoresetMode.DISABLED, **world)
    envs.reset(seed=[4, 4], options={"task_id": "zurich"})
    _, _, terminated, _, _ = envs.step(("Done.", ZURICH))
    assert terminated.tolist() == [True, False]
    observations, _ = envs.reset(
        options={"task_id": "zurich", "reset_mask": np.array([True, False])}
    )
    assert "Weather in Zürich?" in observations[0] and "tool_response" in observations[1]
    envs.close()


def test_a_group_shares_task_and_seed(world: dict[str, str]) -> None:
    envs = gym.make_vec(ID, num_envs=3, **world)
    envs.reset(seed=[4] * 3, options={"task_id": "zurich"})
    envs.step((ZURICH, ZURICH, BROKEN))
    digests = [episode.digest for episode in envs.get_attr("episode")]
    assert digests[0] == digests[1] != digests[2]
    envs.close()


def test_shared_memory_is_refused_when_the_environment_is_built(world: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="shared_memory=False"):
        AsyncVectorEnv(makers(world)[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"cache": "nowhere.db"}, "nowhere.db"),
        ({"cache": None}, "give a response cache"),
        ({"split": "test"}, "no split 'test'.*heldout, train"),
        ({"reward": "gradated"}, "gradated"),
        ({"reward_mode": "sparse"}, "reward_mode"),
        ({"call_format": "auto"}, "there is no model here; name a format: "),
        ({"call_format": "xml"}, "known formats"),
        ({"max_turns": 0}, "max_turns"),
        ({"max_tool_calls": -1}, "max_tool_calls"),
        ({"max_errors": 1.5}, "max_errors"),
        ({"max_observation_chars": 10}, "max_observation_chars"),
    ],
)
def test_a_wrong_argument_is_one_clear_line(
    world: dict[str, str], change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(OrchError, match=message) as caught:
        gym.make(ID, **{**world, **change})
    assert "\n" not in str(caught.value)
