"""Sampling ahead of the learner: fresh enough, complete, and stopped or resumed without a loss."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orch_env.types import OrchError
from orch_train import GRPO, GRPOConfig
from orch_train.algorithms.checkpoint import read_untrained
from orch_train.run.display import PlainDisplay
from orch_train.run.training_run import TrainingRun
from orch_train.runners.runner_group import SamplingStopped
from orch_train.sampling.observer import SilentObserver
from orch_train.trajectory.requests import SampleReply
from orch_train.trajectory.sample import Group
from orch_train.trajectory.store import RolloutStore
from tests.orch_train.replies import groups_of, stored_samples

LETTERS = "abcdefghijkl"


@pytest.fixture
def streamed(toy_config: GRPOConfig) -> GRPOConfig:
    """Twelve tasks, two groups a batch: six steps train each of them once."""
    return toy_config.environment(env_config={"tasks": LETTERS}).training(max_staleness=1)


def _ids(algo: GRPO) -> list[str]:
    return [group.id for group in groups_of(algo)]


def _versions(algo: GRPO) -> list[int]:
    return [t.oldest_version for group in groups_of(algo) for t in group.samples]


@pytest.mark.parametrize("ahead", [1, 3])
def test_every_task_is_trained_once_and_no_token_is_too_old(
    streamed: GRPOConfig, ahead: int
) -> None:
    seen: Counter[str] = Counter()
    with streamed.training(max_staleness=ahead).build_algo() as algo:
        for step in range(6):
            result = algo.train()
            seen.update(_ids(algo))
            assert len(_ids(algo)) == 2
            assert all(step - ahead <= version <= step for version in _versions(algo))
            assert result["staleness"]["max"] == step - min(_versions(algo)) <= ahead
    assert set(seen.values()) == {1} and len(seen) == len(LETTERS)


def test_stragglers_may_come_as_many_steps_later_as_configured(streamed: GRPOConfig) -> None:
    with streamed.training(straggler_steps=2).build_algo() as algo:
        algo.train()
        _, untrained = algo.sampling.frontier()
        assert untrained is not None
        admitted = untrained.admission["groups"]
        # Admitted in step 0 or 1, one batch ahead of the learner, and two more to come late.
        assert admitted and {group["deadline"] for group in admitted} <= {0 + 1 + 2, 1 + 1 + 2}


def test_groups_are_sampled_while_the_learner_learns(streamed: GRPOConfig) -> None:
    sampled = threading.Event()

    class Watcher(SilentObserver):
        def learned(self, done: int, total: int) -> None:
            # The learner stands still until the groups of the next batch are back.
            while len(algo.sampling.frontier()[1].finished) < 2:  # type: ignore[union-attr]
                if algo.iteration:
                    return  # the last step: there is no next batch
                assert not sampled.wait(0.01)

    with GRPO(streamed.training(iterations=2), observer=Watcher()) as algo:
        algo.train()
        result = algo.train()
        assert set(_versions(algo)) == {0} and result["staleness"]["max"] == 1
        assert result["learner_queue"]["wait_s_mean"] > 0
        assert result["timers"]["idle_learner"] >= 0 and "sample" not in result["timers"]


def test_a_run_has_the_documented_metrics(streamed: GRPOConfig) -> None:
    with streamed.build_algo() as algo:
        results = [algo.train() for _ in range(6)]
    last = results[-1]
    assert set(last["staleness"]) == {"mean", "max", "spans_mean", "spans_max"}
    assert last["staleness"]["spans_mean"] >= 1
    assert last["learner_queue"]["size"] == last["learner_queue"]["num_groups_in_flight"] == 0
    # Everything that was sampled was trained: the two distributions are the same.
    assert set(last["sampling_bias"].values()) == {0.0}
    assert last["num_episodes_lifetime"] == 48
    assert last["env_runners"]["tokens_per_s"] > 0


def test_evaluation_goes_through_the_same_thread_on_the_current_weights(
    streamed: GRPOConfig,
) -> None:
    config = streamed.evaluation(tasks="xyz", evaluation_interval=2)
    told: list[str] = []

    class Watcher(SilentObserver):
        def sampled(self, group: Group) -> None:
            told.append(group.id)

    with GRPO(config, observer=Watcher()) as algo:
        before = algo.evaluate()
        assert before["n"] == 3
        results = [algo.train() for _ in range(2)]
    assert "evaluation" not in results[0] and results[1]["evaluation"]["n"] == 3
    assert sum(name.startswith("eval:") for name in told) == 2 * 2 * 3
    assert len(set(_ids(algo))) == 2


def _finished(algo: GRPO) -> dict[str, Group]:
    _, untrained = algo.sampling.frontier()
    assert untrained is not None
    return {reply.group.id: reply.group for reply in untrained.finished}


def test_a_stopped_step_keeps_what_was_sampled(
    streamed: GRPOConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    held = threading.Event()
    with streamed.copy().build_algo() as algo:
        poll = algo.runners.poll

        def hold_back(timeout: float) -> list[SampleReply]:
            return [] if held.is_set() else poll(timeout)

        monkeypatch.setattr(algo.runners, "poll", hold_back)
        algo.train()
        trained += _ids(algo)
        held.set()  # nothing comes back any more
        algo.stop_when(lambda: True)
        with pytest.raises(SamplingStopped):
            for _ in range(3):  # two batches may be there already
                algo.train()
                trained += _ids(algo)
        held.clear()
        while len(_finished(algo)) < 2:
            time.sleep(0.01)
        algo.save_to_path(tmp_path / "half")
        step = algo.iteration
        assert algo.between_steps
    kept = read_untrained(tmp_path / "half")
    assert kept is not None
    finished = {reply.group.id: reply.group for reply in kept.finished}
    with GRPO.from_checkpoint(tmp_path / "half") as again:
        assert again.iteration == step
        assert _finished(again).keys() == finished.keys()  # before anything was sampled
        for _ in range(6 - step):
            again.train()
            trained += _ids(again)
            for group in groups_of(again):
                if group.id in finished:  # these very episodes, and no new ones
                    old = finished[group.id].samples
                    assert [t.ids_T.tolist() for t in group.samples] == [
                        t.ids_T.tolist() for t in old
                    ]
                    assert [t.reward for t in group.samples] == [t.reward for t in old]
    assert finished.keys() <= set(trained)
    assert sorted(trained) == sorted(f"0:letter-{c}" for c in LETTERS)


def test_ctrl_c_keeps_finished_groups_in_the_checkpoint_and_resume_trains_them(
    streamed: GRPOConfig, tmp_path: Path
) -> None:
    class Interrupting(PlainDisplay):
        def show(self, result: Mapping[str, Any]) -> None:
            if result["training_iteration"] == 2:
                os.kill(os.getpid(), signal.SIGINT)

    config = streamed.reporting(checkpoint_interval=2)
    folder = tmp_path / "run"
    outcome = TrainingRun(config.copy(), folder, Interrupting(6, io.StringIO())).execute()
    assert outcome.interrupted and outcome.checkpoint is not None
    assert outcome.result["training_iteration"] == 2
    untrained = read_untrained(outcome.checkpoint)
    assert untrained is not None and len(untrained.requests) == 4
    display = PlainDisplay(6, io.StringIO())
    TrainingRun(config.copy(), folder, display, resume=True).execute()
    store = RolloutStore(folder / "rollouts.db")
    trained = Counter(name for _, name, _ in stored_samples(store))
    store.close()
    assert trained == dict.fromkeys((f"0:letter-{c}" for c in LETTERS), 4)


def test_restoring_abandons_what_runs_and_takes_up_the_checkpoint(
    streamed: GRPOConfig, tmp_path: Path
) -> None:
    with streamed.build_algo() as algo:
        algo.train()
        first = _ids(algo)
        algo.save_to_path(tmp_path / "one")
        for _ in range(2):
            algo.train()
        algo.restore_from_path(tmp_path / "one")
        rest = []
        for _ in range(5):
            algo.train()
            rest += _ids(algo)
    assert sorted(first + rest) == sorted(f"0:letter-{c}" for c in LETTERS)


@pytest.mark.parametrize("change", [{"max_staleness": 0}, {"groups_per_batch": 3}])
def test_a_checkpoint_that_does_not_fit_is_refused(
    streamed: GRPOConfig, tmp_path: Path, change: dict[str, Any]
) -> None:
    with streamed.copy().build_algo() as algo:
        algo.train()
        algo.save_to_path(tmp_path / "one")
    with pytest.raises(OrchError, match=r"ahead of the learner.*resume"):
        GRPO.from_checkpoint(tmp_path / "one", config=streamed.copy().training(**change))


def test_groups_without_spread_are_replaced_and_counted(
    streamed: GRPOConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config = streamed.environment(env_config={"flat": True}).training(
        zero_variance="resample", max_resample_rounds=2
    )
    seen: Counter[str] = Counter()
    with config.build_algo() as algo:
        for _ in range(3):
            result = algo.train()
            seen.update(_ids(algo))
            # Two in the batch, and never more than two rounds of two beside them.
            assert 2 <= len(_ids(algo)) <= 6
            assert result["env_runners"]["groups"]["resampled"] == len(_ids(algo)) - 2
    assert set(seen.values()) == {1}
    assert sum(seen.values()) > 6
    assert "nothing could be learned" in caplog.text


def test_a_problem_of_the_sampling_thread_ends_the_step(
    streamed: GRPOConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with streamed.build_algo() as algo:

        def broken(timeout: float) -> list[SampleReply]:
            raise OrchError("no env runner is left")

        monkeypatch.setattr(algo.runners, "poll", broken)
        with pytest.raises(OrchError, match="no env runner is left"):
            algo.train()
        with pytest.raises(OrchError, match="no env runner is left"):
            algo.train()


def test_it_learns_what_the_reward_asks_for(toy_config: GRPOConfig) -> None:
    config = toy_config.environment(env_config={"tasks": "a", "turns": 1}).training(
        groups_per_batch=2, group_size=16, lr=2e-2, iterations=20, max_staleness=1
    )
    with config.build_algo() as algo:
        returns = [algo.train()["env_runners"]["episode_return_mean"] for _ in range(20)]
    assert returns[0] < 0.4
    assert returns[-1] > 0.8  # which weights sampled a group is up to the clock: 0.95 or more
