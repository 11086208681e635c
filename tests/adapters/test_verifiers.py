"""verifiers: the table, its own checks, and an evaluation of a model behind a real endpoint."""

from __future__ import annotations

import importlib.util

import pytest

from orch_env.adapters import verifiers
from orch_env.adapters.verifiers import gold_succeeds
from orch_env.session import EpisodeSource
from tests.adapters.conformance import SOURCE, check_report
from tests.adapters.other_python import output_of, run_with


@pytest.mark.skipif(
    importlib.util.find_spec("verifiers") is not None, reason="verifiers is installed here"
)
def test_the_first_use_without_verifiers_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"pip install 'orch-rl\[verifiers\]'"):
        _ = verifiers.OrchTaskset


def test_gold_does_a_task_and_fails_under_a_limit_that_it_does_not_fit() -> None:
    task_id = "crane-train-000"
    assert gold_succeeds(SOURCE, task_id)
    assert not gold_succeeds(EpisodeSource(SOURCE.tasks, max_tool_calls=1), task_id)


@pytest.mark.adapters
def test_verifiers_passes_the_table_and_earns_what_the_environment_pays() -> None:
    check_report(run_with("verifiers", "tests.adapters.verifiers_conformance"), whole=200)


@pytest.mark.adapters
def test_the_example_checks_gold_of_three_tasks() -> None:
    assert output_of("verifiers", "examples/verifiers_taskset.py").count("gold does it: True") == 3


@pytest.mark.adapters
@pytest.mark.long
def test_vf_validate_passes_and_vf_eval_gives_gold_its_reward() -> None:
    found = run_with("verifiers", "tests.adapters.verifiers_eval", "2")
    for check in ("gold", "noop"):
        assert found["checks"][check]["valid"] == 2
        assert sum(found["checks"][check].values()) == 2
    assert len(found["rollouts"]) == 2
    for rollout in found["rollouts"]:
        assert rollout["rewards"]["orch_reward"]["score"] == 1.0
        assert (rollout["stop_condition"], rollout["errors"]) == ("agent_completed", [])
    offered = [tool.to_openai() for tool in SOURCE.tools("crane-train-000")]
    assert found["asked"]["tools"] == offered
