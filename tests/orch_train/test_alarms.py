"""Warnings about a step's data: each on its own signal."""

from __future__ import annotations

import pytest

from orch_train.learner.objective.statistics import alarms

FINE = {"num_optimizer_steps": 1, "mismatch_kl": 0.001, "ratio_ess": 0.99, "ratio_max": 1.2}


@pytest.mark.parametrize(
    ("changes", "synchronous", "says"),
    [
        ({}, True, None),
        ({"num_optimizer_steps": 0, "ratio_ess": 0.0}, True, "no group has a spread"),
        ({"mismatch_kl": 0.06}, True, "engine and learner disagree"),
        ({"mismatch_kl": 0.06}, False, None),
        ({"ratio_ess": 0.4}, True, "effective sample size 0.40"),
        ({"ratio_ess": 0.4, "mismatch_kl": 0.3}, False, "training.correction"),
    ],
)
def test_each_alarm_has_its_signal(
    changes: dict[str, float], synchronous: bool, says: str | None
) -> None:
    got = alarms({**FINE, **changes}, synchronous=synchronous)
    assert len(got) == (says is not None)
    assert says is None or says in got[0]
