"""RLlib and the numeric views: checker, gold by number, bytes there and back, and PPO itself."""

from __future__ import annotations

import re
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.adapters import rllib
from orch_env.adapters.numeric_views import ByteView, IndexedView
from orch_env.types import OrchError
from tests.adapters.conformance import SOURCE, UNKNOWN, check_report, table
from tests.adapters.other_python import output_of, run_with

GOLD = table()[0]


def made(view: str, **more: Any) -> Any:
    return rllib.make_env({"view": view, "tasks": SOURCE.tasks, **more})


@pytest.fixture(scope="module")
def indexed() -> IndexedView:
    env: IndexedView = made("indexed")
    return env


@pytest.fixture(scope="module")
def in_bytes() -> ByteView:
    env: ByteView = made("bytes", max_bytes=512)
    return env


@pytest.mark.adapters
def test_rllib_passes_the_table_and_gymnasium_checks_both_views_on_its_version() -> None:
    found = run_with("adapters", "tests.adapters.rllib_conformance")
    check_report(found, whole=200)
    assert found["checked_on"].startswith("1.2.")
    # Why texts are refused: two texts become pairs of their characters.
    assert found["texts_of_two"] == [["W", "B"], ["h", "a"], ["o", "h"]]


@pytest.mark.adapters
def test_ppo_takes_an_iteration_on_the_indexed_view() -> None:
    said = output_of("adapters", "examples/rllib_indexed.py", "--iterations", "1", "--steps", "256")
    [(mean, episodes, loss)] = re.findall(r"^1 return (.*) episodes (.*) loss (.*)$", said, re.M)
    assert 0 < float(mean) < 1 and int(episodes) > 10 and np.isfinite(float(loss))


@pytest.mark.parametrize("view", ["indexed", "bytes"])
@pytest.mark.filterwarnings("ignore:.*WARN")
def test_gymnasium_checks_a_view(view: str, request: pytest.FixtureRequest) -> None:
    check_env(request.getfixturevalue({"indexed": "indexed", "bytes": "in_bytes"}[view]))


@pytest.mark.parametrize("view", [{}, {"view": "text"}])
def test_texts_are_refused_with_the_reason_and_the_way_out(view: dict[str, str]) -> None:
    with pytest.raises(OrchError, match=r"garbles text.*'indexed' or 'bytes'"):
        rllib.make_env({"tasks": SOURCE.tasks, **view})


def test_the_first_use_without_rllib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.rllib", None)
    with pytest.raises(ImportError, match=r"pip install 'orch-rl\[rllib\]'"):
        rllib.register()


# -- by number -------------------------------------------------------------------------------


def features(seen: Any) -> Any:
    return seen[:-2].reshape(-1, 4)


def test_gold_is_among_the_candidates_and_earns_everything(indexed: IndexedView) -> None:
    places = set()
    for script in table()[:3]:
        _, info = indexed.reset(seed=0, options={"task_id": script.task_id})
        assert len(set(info["candidates"])) == 16
        numbers = [info["candidates"].index(action) for action in script.actions]
        places |= set(numbers)
        *_, last = (indexed.step(np.int64(number)) for number in numbers)
        assert last[1:4] == (1.0, True, False)
    assert max(places) > 8


def test_the_seed_decides_the_order_of_the_candidates(indexed: IndexedView) -> None:
    said = [
        indexed.reset(seed=seed, options={"task_id": GOLD.task_id})[1]["candidates"]
        for seed in (0, 0, 1)
    ]
    assert said[0] == said[1] != said[2]


def test_the_features_say_what_was_read_and_what_was_sent(indexed: IndexedView) -> None:
    seen, info = indexed.reset(seed=0, options={"task_id": GOLD.task_id})
    first, second, *_, answer = (info["candidates"].index(action) for action in GOLD.actions)
    # The first call's argument stands in the question, the second's in the first result.
    assert features(seen)[first].tolist() == [1, 1, 0, 1]
    assert features(seen)[second].tolist() == [1, 1, 0, 0]
    assert features(seen)[answer].tolist() == [1, 0, 0, 1]
    seen, *_ = indexed.step(np.int64(first))
    assert features(seen)[first].tolist() == [1, 1, 1, 1]
    assert features(seen)[second].tolist() == [1, 1, 0, 1]
    assert seen[-2:].tolist() == pytest.approx([1 / SOURCE.max_turns, 0])


def test_the_features_say_that_a_call_failed() -> None:
    env = made("indexed", max_turns=4, candidates=lambda task, seed: [UNKNOWN])
    env.reset(seed=0)
    assert env.step(np.int64(0))[0][-2:].tolist() == [0.25, 1]


def test_candidates_of_ones_own_take_the_place_of_golds() -> None:
    env = made("indexed", num_candidates=3, candidates=lambda task, seed: ["I give up."])
    seen, _ = env.reset(seed=0)
    assert features(seen).tolist() == [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert env.step(np.int64(2))[2]  # a number without a candidate is an empty answer
    too_many = made("indexed", num_candidates=2, candidates=lambda task, seed: ["a", "b", "c"])
    with pytest.raises(OrchError, match="3 messages, more than 2"):
        too_many.reset(seed=0)


@pytest.mark.parametrize("count", [1, 4, "8", None])
def test_too_few_numbers_for_gold_are_refused(count: Any) -> None:
    with pytest.raises(OrchError, match=f"num_candidates must be .*at least 5, got {count!r}"):
        made("indexed", num_candidates=count)


def test_a_wrapped_environment_can_be_viewed() -> None:
    env = IndexedView(gym.make("orch_env/ToolOrchestration-v0", tasks=SOURCE.tasks))
    assert env.reset(seed=3)[0].shape == env.observation_space.shape == (66,)


# -- as bytes --------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=120))
@settings(max_examples=50, deadline=None)
def test_a_text_comes_back_from_its_bytes(in_bytes: ByteView, text: str) -> None:
    array = in_bytes.encode(text)
    assert in_bytes.observation_space.contains(array) and in_bytes.decode(array) == text


@given(st.lists(st.one_of(st.integers(-9, 999), st.floats(width=32)), max_size=40))
@settings(max_examples=50, deadline=None)
def test_any_array_is_a_message(in_bytes: ByteView, numbers: list[float]) -> None:
    in_bytes.reset(seed=0)
    observed, *_, info = in_bytes.step(np.array(numbers))
    assert in_bytes.observation_space.contains(observed) and "messages" in info


def test_numbers_beyond_a_byte_count_as_the_nearest(in_bytes: ByteView) -> None:
    assert in_bytes.decode(np.array([0, 0, 0, 2, 65, -5])) == "A\0"
    assert in_bytes.decode(np.array([300.0, 0, 0, 0, 66, np.nan])) == "B\0"


def test_what_does_not_fit_is_cut_between_characters_and_said(in_bytes: ByteView) -> None:
    assert in_bytes.decode(in_bytes.encode("京" * 300)) == "京" * 169  # of 508 bytes
    seen, info = made("bytes", max_bytes=20).reset(seed=0, options={"task_id": GOLD.task_id})
    question = info["messages"][-1]["content"]
    assert bytes(seen[4:]).decode() == question[:16]
    assert info["cut_bytes"] == len(question) - 16
    assert "cut_bytes" not in in_bytes.reset(seed=0)[1]
    assert in_bytes.decode(in_bytes.encode("a\ud800b")) == "a?b"


def test_too_few_bytes_are_refused() -> None:
    with pytest.raises(OrchError, match="max_bytes must be a whole number, at least 5, got 4"):
        made("bytes", max_bytes=4)
