"""Stored pass rates decide how often a task is trained."""

from __future__ import annotations

import pytest

from orch_env import Task
from orch_env.types import OrchError
from orch_train.rollouts.environments import task_weights
from orch_train.sampling.task_order import TaskOrder

TASKS = [f"t{n}" for n in range(40)]


def _task(name: str, rate: float | None) -> Task:
    metadata = {} if rate is None else {"pass_rate": rate}
    return Task(name, ({"role": "user", "content": "?"},), metadata=metadata)


def test_a_task_that_is_solved_half_of_the_time_weighs_most() -> None:
    rates = {"never": 0.0, "seldom": 0.25, "half": 0.5, "always": 1.0}
    weights = task_weights([_task(name, rate) for name, rate in rates.items()])
    assert weights == {"never": 0.1, "seldom": 0.75, "half": 1.0, "always": 0.1}


def test_a_task_without_a_rate_is_in_every_epoch() -> None:
    assert task_weights([_task("known", 0.5), _task("new", None)]) == {"known": 1.0}


def test_weights_without_any_rate_are_refused() -> None:
    with pytest.raises(OrchError, match="orch synth filter"):
        task_weights([_task("new", None)])


def test_tasks_are_drawn_as_often_as_they_weigh() -> None:
    weights = dict.fromkeys(TASKS[:20], 0.25)
    order = TaskOrder(TASKS, seed=1, weights=weights)
    drawn: list[str] = []
    while order.epoch < 40:
        drawn += [draw.task_id for draw in order.draw(1)]
    light = sum(task in weights for task in drawn) / 20 / 40
    heavy = sum(task not in weights for task in drawn) / 20 / 40
    assert heavy == pytest.approx(1.0, abs=0.01)
    assert light == pytest.approx(0.25, abs=0.05)


def test_a_resumed_order_goes_on_with_the_same_tasks() -> None:
    weights = dict.fromkeys(TASKS, 0.4)
    order = TaskOrder(TASKS, seed=2, weights=weights)
    order.draw(23)
    again = TaskOrder(TASKS, seed=0, weights=weights)
    again.restore(order.state())
    assert [d.group for d in again.draw(50)] == [d.group for d in order.draw(50)]


def test_weights_of_one_change_nothing() -> None:
    plain = TaskOrder(TASKS, seed=3).draw(90)
    assert TaskOrder(TASKS, seed=3, weights=dict.fromkeys(TASKS, 1.0)).draw(90) == plain


def test_an_epoch_is_never_empty() -> None:
    order = TaskOrder(["only"], seed=4, weights={"only": 0.01})
    assert [draw.task_id for draw in order.draw(3)] == ["only"] * 3
