"""The files in configs/: every one resolves, says what is missing, and holds what it claims."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orch_env.types import OrchError
from orch_train import GRPOConfig
from orch_train.cli.preflight import describe_batch, learning_rate
from orch_train.config import Settings
from orch_train.config.published_rates import PUBLISHED_RATES, published_rate
from orch_train.runners.placement import Demand, Resources, plan

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
JOBS = {"synthesis.yaml"}
"""Of `orch synth run`; the others are of training."""
FILES = sorted(path.name for path in CONFIGS.glob("*.yaml") if path.name not in JOBS)
ONE_NODE = Resources(96, 8)


def _settings(name: str) -> Settings:
    return GRPOConfig().from_yaml(CONFIGS / name).settings


def test_there_is_one_for_each_kind_of_machine() -> None:
    assert set(FILES) >= {
        "quickstart.yaml",
        "servers.yaml",
        "booking_smollm2.yaml",
        "qwen3_8b_8gpu.yaml",
        "prove.yaml",
        "ray_cluster.yaml",
    }


@pytest.mark.parametrize("name", FILES)
def test_what_is_missing_is_a_file_and_never_a_key(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an empty folder: bundled data and models are found, all else is named as missing."""
    settings = _settings(name)
    monkeypatch.chdir(tmp_path)
    expected = [] if settings.model.path in {"tiny", "reader"} else ["model.path"]
    if settings.environment.env_config["tasks"] not in {"harbour", "servers"}:
        expected += ["environment.env_config.tasks", "environment.env_config.cache"]
        expected += ["evaluation.tasks"] if settings.evaluation.tasks else []
    config = GRPOConfig().from_yaml(CONFIGS / name)
    if not expected:
        config.validate()
        return
    with pytest.raises(OrchError) as caught:
        config.validate()
    message = str(caught.value)
    assert message.count("does not exist") == len(expected)
    assert all(f"{key}: f" in message for key in expected), message


@pytest.mark.parametrize("name", FILES)
def test_a_file_teaches_and_says_where_it_never_ran(name: str) -> None:
    text = (CONFIGS / name).read_text()
    assert text.startswith("# ") and f"orch train configs/{name}" in text
    settings = _settings(name)
    wants_gpus = (
        settings.env_runners.num_gpus_per_env_runner or settings.learners.num_gpus_per_learner
    )
    assert bool(wants_gpus) == ("NOT RUN HERE" in text)


@pytest.mark.parametrize("name", FILES)
def test_commands_in_comments_name_keys_that_exist(name: str) -> None:
    fields = type(Settings()).model_fields
    text = (CONFIGS / name).read_text()
    for group, key in re.findall(r"\b([a-z_]+)\.([a-z_]+)=", text):
        assert group in fields and key in type(getattr(Settings(), group)).model_fields


def test_qwen3_has_the_papers_hyper_parameters() -> None:
    settings = _settings("qwen3_8b_8gpu.yaml")
    training, rollouts = settings.training, settings.rollouts
    assert (training.lr, training.kl_coeff, training.loss) == (1e-6, 1e-3, "grpo")
    assert (training.groups_per_batch, training.group_size) == (16, 16)
    assert rollouts.max_context == 12_384 + 16_384
    assert settings.environment.env_config["max_turns"] == 20
    assert rollouts.engine == "vllm"
    assert describe_batch(settings, 100)["episodes_per_step"] == 256


def test_prove_has_the_papers_hyper_parameters() -> None:
    settings = _settings("prove.yaml")
    training = settings.training
    assert (training.kl_coeff, training.iterations) == (0.01, 350)
    assert (training.groups_per_batch, training.group_size) == (16, 16)
    assert settings.rollouts.max_context == 12_384 + 16_384
    assert settings.environment.env_config["reward"] == "prove"
    assert settings.environment.env_config["max_turns"] == 10
    assert training.lr == published_rate(settings.model.path) == 1e-6


@pytest.mark.parametrize(
    ("path", "lr", "noted"),
    [
        ("models/Qwen3-8B", 1e-6, "5e-08"),
        ("models/qwen3-8b", 5e-8, None),
        ("Qwen/Qwen2.5-7B-Instruct", 1e-6, "3e-07"),
        ("ibm-granite/granite-4.1-8b", 5e-7, "3e-07"),
        ("Qwen/Qwen3-4B-Instruct-2507", 2e-6, "1e-06"),
        ("Qwen/Qwen3-4B-Instruct-2507", 1e-6, None),
        ("tiny", 1.0, None),
    ],
)
def test_a_rate_above_the_published_one_is_noted(path: str, lr: float, noted: str | None) -> None:
    config = GRPOConfig().model(path).training(lr=lr)
    check = learning_rate(config.settings).check
    assert check.ok == (noted is None) and not check.required
    if noted is not None:
        assert f"above the {noted} that PROVE (arXiv 2606.03892)" in check.detail
        assert learning_rate(config.model(lora_rank=8).settings).check.ok


def test_every_published_rate_stands_in_the_file_of_its_paper() -> None:
    text = (CONFIGS / "prove.yaml").read_text().lower()
    for name, rate in PUBLISHED_RATES.items():
        found = re.search(rf"^  # +{re.escape(name)} +(\S+)$", text, re.MULTILINE)
        assert found is not None and float(found[1]) == rate, name


@pytest.mark.parametrize(
    ("name", "machines", "used"),
    [
        ("qwen3_8b_8gpu.yaml", [ONE_NODE], 8),
        ("ray_cluster.yaml", [ONE_NODE, ONE_NODE], 16),
        ("prove.yaml", [Resources(16, 3)], 3),
    ],
)
def test_files_for_gpus_fit_the_machines_that_they_are_for(
    name: str, machines: list[Resources], used: int
) -> None:
    settings = _settings(name)
    layout = plan(Demand.of(settings), settings.env_runners.placement, machines)
    assert sum(bundle.gpus for bundle in layout.bundles) == used
    # A micro-batch must hold a whole episode, or the learner would refuse it in the first step.
    assert settings.learners.max_tokens_per_microbatch >= settings.rollouts.max_context
