"""The learning rate depends on the number of optimizer steps that were due, and on nothing else."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from orch_env.types import OrchError
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.config import Settings, SFTGroupSettings, TrainingSettings
from orch_train.learner.learner import Learner
from orch_train.learner.optimizer import lr_at, schedule_change
from tests.orch_train.small_models import group_of, random_groups, random_sample, small_llama

SCHEDULES = ("constant", "linear", "cosine")


def rates(schedule: Any, count: int, warmup: int = 0, total: int = 1) -> list[float]:
    chosen = TrainingSettings(
        lr=1.0, lr_schedule=schedule, lr_warmup_updates=warmup, iterations=total
    )
    return [lr_at(chosen, i) for i in range(count)]


def test_constant_rises_over_the_warm_up_and_stays() -> None:
    assert rates("constant", 6, warmup=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_the_warm_start_rises_and_stays() -> None:
    chosen = SFTGroupSettings(lr=1.0, lr_warmup_updates=4)
    assert [lr_at(chosen, i) for i in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_linear_falls_to_zero_after_the_last_update_and_stays_there() -> None:
    expected = [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert rates("linear", 8, warmup=2, total=6) == expected


def test_several_updates_of_a_batch_are_steps_of_the_schedule() -> None:
    chosen = TrainingSettings(lr=1.0, lr_schedule="linear", iterations=2, updates_per_batch=2)
    assert [lr_at(chosen, i) for i in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_cosine_by_hand() -> None:
    # (1 + cos(pi * k / 4)) / 2 for k = 0..4, after two warm-up steps
    expected = [0.5, 1.0, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0.0, 0.0]
    assert rates("cosine", 8, warmup=2, total=6) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_schedule_leaves_the_unit_interval(schedule: str) -> None:
    got = rates(schedule, 50, warmup=3, total=40)
    assert all(0.0 <= rate <= 1.0 for rate in got)
    assert got[2:] == sorted(got[2:], reverse=True)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_without_room_to_fall_is_refused(schedule: Any) -> None:
    config = GRPOConfig().training(lr_schedule=schedule, lr_warmup_updates=6, iterations=6)
    with pytest.raises(OrchError, match="lr_warmup_updates"):
        config.validate()


def test_a_schedule_ends_with_the_iterations_whatever_became_of_each() -> None:
    """Flat groups, dropped groups and gradients that are not finite take no optimizer step."""
    flat = [group_of([random_sample(random.Random(i)) for i in range(4)], [1.0] * 4)]
    for zero_variance in ("keep", "drop"):
        chosen = _linear(iterations=6, zero_variance=zero_variance)
        learner = Learner(small_llama(), chosen)
        for step in range(6):
            learned = learner.update(flat if step in (0, 1, 3) else random_groups(step))
            assert learned["num_optimizer_steps"] == (step not in (0, 1, 3))
            assert learned["lr"] == pytest.approx((6 - step) / 6)
    learner = Learner(small_llama(), _linear(iterations=4))
    with torch.no_grad():
        hurt = next(learner.model.parameters())
        kept, hurt[:] = hurt.clone(), float("nan")
    assert learner.update(random_groups(0))["num_optimizer_steps"] == 0
    with torch.no_grad():
        hurt[:] = kept
    assert learner.update(random_groups(1))["lr"] == 0.75


def test_a_resumed_schedule_stands_at_the_iteration_in_any_number_of_updates(
    tmp_path: Path,
) -> None:
    flat = [group_of([random_sample(random.Random(i)) for i in range(4)], [1.0] * 4)]
    first = Learner(small_llama(), _linear(iterations=8, updates_per_batch=2))
    for groups in (random_groups(0), flat, random_groups(1)):
        first.update(groups)
    first.save(tmp_path / "learner")
    for updates in (1, 2, 4):
        chosen = _linear(iterations=8, updates_per_batch=updates)
        again = Learner(small_llama(seed=1), chosen)
        again.load(tmp_path / "learner")
        total, due = 8 * updates, 4 * updates - 1  # the last update of the fourth iteration
        assert again.update(random_groups(2))["lr"] == pytest.approx((total - due) / total)


def _linear(**training: Any) -> Settings:
    config = GRPOConfig().training(lr=1.0, lr_schedule="linear", **training)
    return config.learners(max_tokens_per_microbatch=4096).settings


def test_a_resume_with_other_iterations_says_what_becomes_of_the_rate() -> None:
    before = _linear(iterations=10).training
    longer = schedule_change(before, _linear(iterations=20).training, 5)
    assert "linear" in longer and "20 iterations (it was 10)" in longer
    assert "goes on at 0.75, it would have been at 0.5" in longer
    assert not schedule_change(before, before, 5)
    steady = [GRPOConfig().training(iterations=n).settings.training for n in (10, 20)]
    assert not schedule_change(steady[0], steady[1], 5)
