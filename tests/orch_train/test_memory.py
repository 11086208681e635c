"""The estimate before a run: exact where it counts, near where it guesses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.learner_memory import measure
from orch_train import GRPOConfig
from orch_train.learner.learner import Learner
from orch_train.models.memory import MemoryEstimate, estimate_memory, read_shape
from tests.orch_train.settings_of import settings_of
from tests.orch_train.small_models import small_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "small"
    small_llama().save_pretrained(folder)
    return folder


def estimate(folder: Path, /, **groups: dict[str, Any]) -> MemoryEstimate:
    config = GRPOConfig().from_dict(groups).model(str(folder))
    return estimate_memory(config.settings, str(folder))


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "v_proj")])
def test_adapters_are_counted_as_peft_makes_them(model: Path, targets: tuple[str, ...]) -> None:
    learner = Learner(small_llama(), settings_of(lora_rank=4, lora_targets=targets))
    adapters = sum(p.numel() for p in learner.model.parameters() if p.requires_grad)
    shape = read_shape(model)
    found = estimate(model, model={"lora_rank": 4, "lora_targets": targets}).learner
    assert found["optimizer"] == 8 * adapters
    assert found["weights"] == 4 * (shape.parameters + adapters)
    assert found["gradients"] == 4 * adapters


def test_several_learners_share_weights_gradients_and_moments(model: Path) -> None:
    one, two = estimate(model), estimate(model, learners={"num_learners": 2})
    for part in ("weights", "gradients", "optimizer"):
        assert two.learner[part] == pytest.approx(one.learner[part] / 2, abs=1)
    assert two.learner["gathered weights"] > 0 and "gathered weights" not in one.learner
    assert two.learner["activations"] == one.learner["activations"]
    assert two.to_dict()["num_learners"] == 2 and "2 learners, the first" in two.describe()


def test_whole_weights_are_on_the_first_of_several_learners_alone(model: Path) -> None:
    """With micro-batches so small that whole weights are what is largest."""
    four = estimate(model, learners={"num_learners": 4, "max_tokens_per_microbatch": 1})
    whole, parts = four.learner["weights in transit"], sum(four.learner.values())
    assert whole > 4 * read_shape(model).parameters
    assert four.total == parts + 3 * (parts - whole) + sum(four.runner.values())


def test_a_reference_costs_a_model_except_with_adapters(model: Path) -> None:
    penalty: dict[str, Any] = {"training": {"kl_coeff": 0.1}}
    parameters = read_shape(model).parameters
    assert estimate(model, **penalty).learner["reference"] == 4 * parameters
    assert "reference" not in estimate(model, model={"lora_rank": 4}, **penalty).learner
    assert "reference" not in estimate(model).learner


def test_recomputing_and_bfloat16_save_activations(model: Path) -> None:
    plain = estimate(model).learner["activations"]
    recomputed = estimate(model, learners={"gradient_checkpointing": True}).learner
    assert recomputed["activations"] < 0.7 * plain
    assert estimate(model, model={"dtype": "bfloat16"}).learner["activations"] == plain // 2


@pytest.mark.long
@pytest.mark.parametrize("case", ["float32", "float32, recomputed", "float32, 2 learners"])
def test_the_estimate_is_near_the_real_peak(tmp_path: Path, case: str) -> None:
    from benchmarks.learner_memory import in_process, write_model

    folder = tmp_path / "tiny"
    in_process(write_model, str(folder), "tiny")
    row = measure(folder, "tiny", case)
    assert 0.7 < row["predicted_mib"] / row["actual_mib"] < 1.4
