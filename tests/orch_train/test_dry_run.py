"""What a dry run says about batches, data, template, placement and room."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orch_env.cli.installation import may_have_gpus
from orch_env.cli.main import main
from orch_train import GRPOConfig
from orch_train.cli.preflight import describe_batch, describe_data, placement
from orch_train.config import Settings
from orch_train.rollouts.environments import TaskIds
from orch_train.runners.placement import Resources

ONE_NODE = Resources(96, 8)


def _training(**values: Any) -> Any:
    return GRPOConfig().training(**values).settings


def _placement(settings: Settings, machine: Resources) -> dict[str, Any]:
    found: dict[str, Any] = placement(settings, machine).record["placement"]
    return found


def test_the_three_batch_numbers_are_said_in_episodes() -> None:
    settings = _training(iterations=10, groups_per_batch=16, group_size=8, updates_per_batch=2)
    found = describe_batch(settings, 320)
    assert found["episodes_per_step"] == 128
    assert found["episodes_in_all"] == 1280
    assert found["passes_over_the_tasks"] == 0.5
    assert "16 tasks x 8 episodes = 128 episodes" in found["words"]
    assert "2 optimizer steps on all of them" in found["words"]
    uneven = describe_batch(_training(groups_per_batch=1, group_size=8, updates_per_batch=3), 4)
    assert "3 optimizer steps on all of them" in uneven["words"]


def test_an_evaluation_is_counted_in_episodes() -> None:
    settings = (
        GRPOConfig()
        .evaluation(tasks="x", temperatures=[1.0, 0.0], samples_per_task=4, pass_at=[4])
        .settings
    )
    found = describe_data(settings, TaskIds(("a", "b", "c"), ("c", "d")))
    assert found["episodes_per_evaluation"] == (4 + 1) * 2
    assert found["held_out_also_trained_on"] == 1


def test_a_large_configuration_can_be_looked_at_on_a_small_machine() -> None:
    config = GRPOConfig().env_runners(num_env_runners=8, num_gpus_per_env_runner=1)
    there = _placement(config.settings, ONE_NODE)
    assert there["fits_here"] and there["layout"] == "separate" and len(there["bundles"]) == 8
    here = _placement(config.settings, Resources(2))
    assert here["fits_here"] is False and "do not fit" in here["words"]
    cluster = config.env_runners(ray_address="10.0.0.1:6379")
    assert _placement(cluster.settings, Resources(2))["fits_here"] is None


def test_without_runners_there_is_no_ray() -> None:
    config = GRPOConfig().env_runners(num_env_runners=0)
    words = _placement(config.settings, ONE_NODE)["words"]
    assert "in this process" in words and words.endswith("no Ray")
    assert "a tool that never returns would stop the run" in words
    for safe in (
        config.env_runners(env_step_timeout_s=30),
        GRPOConfig().env_runners(num_env_runners=1),
    ):
        assert "never returns" not in _placement(safe.settings, ONE_NODE)["words"]


def test_everything_stands_in_one_object(
    toy_config: GRPOConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(toy_config.reporting(log_dir=str(tmp_path / "runs")).to_yaml())
    assert main(["train", str(path), "--dry-run", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown) == {"config", "memory", "template", "batch", "data", "placement"}
    assert shown["data"]["training_tasks"] == 6
    assert shown["template"]["prefix_preserving"] is True
    assert len(shown["template"]["stop_tokens"]) == len(shown["template"]["stop_token_ids"]) > 0
    assert main(["train", str(path), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "# data: 6 training tasks" in said and "samples 2 tasks x 4 episodes" in said
    assert "# placement: sampling in this process" in said and "# room for checkpoints: " in said
    assert not (tmp_path / "runs").exists()


def test_what_matters_stands_above_the_settings_that_were_chosen(
    toy_config: GRPOConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(toy_config.reporting(log_dir=str(tmp_path / "runs")).to_yaml())
    assert main(["train", str(path), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"# run folder: a new one in {tmp_path / 'runs'}"
    facts = [line.startswith("# ") for line in lines]
    assert facts == sorted(facts, reverse=True) and len(lines) < 45
    (tmp_path / "again.yaml").write_text("\n".join(lines))
    again = GRPOConfig().from_yaml(tmp_path / "again.yaml")
    assert again.settings == GRPOConfig().from_yaml(path).settings


_LOADED = """
import sys
from orch_env.cli.main import main

code = main(sys.argv[1:])
heavy = ("torch", "ray", "vllm", "scipy.optimize", "transformers.modeling_utils")
print(code, *[name for name in heavy if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.skipif(may_have_gpus(), reason="torch is asked for the GPUs of this machine")
@pytest.mark.parametrize(
    "arguments",
    [["train", "configs/quickstart.yaml", "--dry-run"], ["--help"], ["train", "--help"]],
)
def test_what_only_looks_at_a_run_loads_no_torch_and_no_ray(arguments: list[str]) -> None:
    command = [sys.executable, "-c", _LOADED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr.split("\n")[-2] == "0", done.stderr
