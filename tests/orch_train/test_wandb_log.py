"""Weights & Biases by a setting.

W&B is a service and no dependency: a module of that name which records its calls stands in for it.
What is tested is what we ask of it and when, never what it answers.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orch_env.cli.main import main
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.run.metrics_file import read_metrics

_FAKE = """
import json, os, pathlib

def _note(*call):
    with open(os.environ["FAKE_WANDB_LOG"], "a") as file:
        file.write(json.dumps(call) + "\\n")

class _Run:
    def define_metric(self, *names, **more): _note("define_metric", names, more)
    def finish(self): _note("finish")
    def log(self, values):
        _note("log", values)
        if os.environ.get("FAKE_WANDB_BREAKS") == "log": raise RuntimeError("connection lost")

def init(**given):
    _note("init", given)
    if os.environ.get("FAKE_WANDB_BREAKS") == "init": raise RuntimeError("no API key\\nat all")
    return _Run()
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The calls to a package ``wandb`` that is really imported."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text(_FAKE)
    log = tmp_path / "calls.jsonl"
    monkeypatch.syspath_prepend(str(tmp_path / "fake"))
    monkeypatch.setenv("FAKE_WANDB_LOG", str(log))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    importlib.invalidate_caches()
    yield log
    sys.modules.pop("wandb", None)


@pytest.fixture
def config_file(toy_config: GRPOConfig, tmp_path: Path) -> Path:
    config = toy_config.training(iterations=2).reporting(
        log_dir=str(tmp_path / "runs"), wandb_project="ships", wandb_mode="offline"
    )
    path = tmp_path / "toy.yaml"
    path.write_text(config.to_yaml())
    return path


def _read(log: Path) -> list[Any]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_every_result_is_logged_under_its_own_step(config_file: Path, calls: Path) -> None:
    assert main(["train", str(config_file)]) == 0
    found = _read(calls)
    run = config_file.parent / "runs" / "toy"
    given = found[0][1]
    assert (given["project"], given["mode"], given["dir"]) == ("ships", "offline", str(run))
    assert given["config"]["training"]["group_size"] == 4
    assert ["define_metric", ["*"], {"step_metric": "training_iteration"}] in found
    logged = [call[1] for call in found if call[0] == "log"]
    results = read_metrics(run)
    assert [v["training_iteration"] for v in logged] == [1, 2]
    assert logged[1]["env_runners/success"] == results[1]["env_runners"]["success"]
    assert found[-1] == ["finish"]


def test_a_resumed_run_goes_on_in_the_same_place(config_file: Path, calls: Path) -> None:
    assert main(["train", str(config_file)]) == 0
    run = config_file.parent / "runs" / "toy"
    assert main(["train", "--resume", str(run), "training.iterations=3"]) == 0
    first, second = [call[1] for call in _read(calls) if call[0] == "init"]
    assert first["id"] == second["id"] and second["resume"] == "allow"


def test_a_service_that_fails_later_does_not_end_the_run(
    config_file: Path,
    calls: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("FAKE_WANDB_BREAKS", "log")
    assert main(["train", str(config_file)]) == 0
    assert len(read_metrics(config_file.parent / "runs" / "toy")) == 2
    assert [call[0] for call in _read(calls)].count("log") == 1
    assert "connection lost" in caplog.text


def test_a_service_that_cannot_start_is_one_line(
    config_file: Path,
    calls: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FAKE_WANDB_BREAKS", "init")
    assert main(["train", str(config_file)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "no API key at all" in last and "wandb_mode=offline" in last


def test_a_missing_package_is_one_line_before_anything_starts(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = importlib.util.find_spec
    monkeypatch.setattr(
        "orch_train.config.validation.find_spec",
        lambda name: None if name == "wandb" else original(name),
    )
    assert main(["train", str(config_file)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "pip install wandb" in said
    assert not (config_file.parent / "runs").exists()


def test_without_the_setting_nothing_is_imported(
    config_file: Path, calls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(config_file), "reporting.wandb_project=null"]) == 0
    assert not calls.exists() and "wandb" not in sys.modules
