"""The learning rate depends on the number of the optimizer step and on nothing else."""

from __future__ import annotations

import math

import pytest

from orch_env.types import OrchError
from orch_train.learner.lr_schedule import SCHEDULES
from orch_train.learner.optimizer import OptimizerSettings


def rates(schedule: str, count: int, **more: int) -> list[float]:
    chosen = OptimizerSettings(lr=1.0, lr_schedule=schedule, **more)  # type: ignore[arg-type]
    return [chosen.lr_at(i) for i in range(count)]


def test_constant_rises_over_the_warm_up_and_stays() -> None:
    assert rates("constant", 6, warmup_updates=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_linear_falls_to_zero_at_the_last_update_and_stays_there() -> None:
    expected = [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert rates("linear", 8, warmup_updates=2, total_updates=6) == expected


def test_cosine_by_hand() -> None:
    # (1 + cos(pi * k / 4)) / 2 for k = 0..4, after two warm-up steps
    expected = [0.5, 1.0, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0.0, 0.0]
    assert rates("cosine", 8, warmup_updates=2, total_updates=6) == pytest.approx(
        expected, abs=1e-15
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_schedule_leaves_the_unit_interval(schedule: str) -> None:
    got = rates(schedule, 50, warmup_updates=3, total_updates=40)
    assert all(0.0 <= rate <= 1.0 for rate in got)
    assert got[2:] == sorted(got[2:], reverse=True)


def test_a_schedule_without_room_to_fall_is_refused() -> None:
    for schedule in ("linear", "cosine"):
        with pytest.raises(OrchError, match="total_updates above warmup_updates"):
            rates(schedule, 1, warmup_updates=6, total_updates=6)
    with pytest.raises(OrchError, match="must be one of constant, linear, cosine"):
        rates("step", 1)
