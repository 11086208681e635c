"""`orch doctor`: a verdict and a remedy for each check, and nothing that takes it down."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from orch_env.cli import installation
from orch_env.cli.main import main
from orch_train import GRPOConfig
from orch_train.cli import configuration_checks, dry_run
from orch_train.runners.placement import Resources


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the imports in other processes, which take seconds; one test has them."""
    monkeypatch.setattr(installation, "import_failures", lambda names: {})


@pytest.fixture
def config_file(toy_config: GRPOConfig, tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(toy_config.reporting(log_dir=str(tmp_path / "runs")).to_yaml())
    return path


def _doctor(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", *map(str, argv), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] == (code == 0)
    names = [check["name"] for check in report["checks"]]
    assert len(names) == len(set(names)), "every line has its own name"
    for check in report["checks"]:
        assert check["detail"] and (check["ok"] or check["remedy"]), check
    return code, {check["name"]: check for check in report["checks"]}


def test_a_sound_installation_is_ready(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    code, checks = _doctor(capsys)
    assert code == 0
    assert {"python", "torch", "ray", "vllm", "devices", "shared memory", "disk"} <= set(checks)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("ready")


def test_a_sound_configuration_is_ready(
    quick: None, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, checks = _doctor(capsys, config_file)
    assert code == 0
    assert "6 training tasks" in checks["data"]["detail"]
    assert "M parameters" in checks["model"]["detail"]
    assert "only appends" in checks["chat template"]["detail"]
    assert not (config_file.parent / "runs").exists()


def test_what_a_run_needs_becomes_required(
    quick: None,
    config_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = importlib.metadata.version

    def without_ray(name: str) -> str:
        if name == "ray":
            raise importlib.metadata.PackageNotFoundError(name)
        return there(name)

    monkeypatch.setattr(importlib.metadata, "version", without_ray)
    code, checks = _doctor(capsys, config_file)
    assert code == 0 and not checks["ray"]["ok"] and not checks["ray"]["required"]
    code, checks = _doctor(capsys, config_file, "env_runners.num_env_runners=1")
    assert code == 1 and checks["ray"]["required"]
    assert "pip install 'orch-rl[train]'" in checks["ray"]["remedy"]


def test_a_version_outside_the_range_is_named(
    quick: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "99.0" if name == "scipy" else there(name)
    )
    code, checks = _doctor(capsys)
    assert code == 1
    assert "99.0 is outside" in checks["scipy"]["detail"]


@pytest.mark.parametrize(
    ("override", "check", "piece"),
    [
        ("training.lrr=1", "configuration", "did you mean 'lr'"),
        ("model.path=./gone", "configuration", "does not exist"),
        ("environment.env_config.tasks=[]", "data", "IndexError"),
        ("env_runners.num_env_runners=5000", "placement", "5000 env runners"),
    ],
)
def test_a_broken_configuration_is_a_failed_check(
    quick: None,
    config_file: Path,
    capsys: pytest.CaptureFixture[str],
    override: str,
    check: str,
    piece: str,
) -> None:
    code, checks = _doctor(capsys, config_file, override)
    assert code == 1 and not checks[check]["ok"]
    assert piece in checks[check]["detail"]


@pytest.mark.parametrize(
    ("overrides", "cpus"),
    [
        (["learners.num_learners=5"], 5),
        (["learners.num_learners=2", "learners.num_cpus_per_learner=3"], 6),
        (["learners.num_learners=2", "env_runners.num_env_runners=3"], 5),
        (["learners.num_learners=2", "env_runners.num_env_runners=2"], None),
        (["learners.num_learners=1", "env_runners.num_env_runners=4"], 5),
        (["learners.num_learners=0", "env_runners.num_env_runners=4"], None),
    ],
)
def test_learner_actors_and_runners_need_their_cpus_together(
    quick: None,
    config_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    cpus: int | None,
) -> None:
    monkeypatch.setattr(dry_run, "this_machine", lambda: Resources(4.0))
    code, checks = _doctor(capsys, config_file, *overrides)
    found = checks["placement"]
    assert (code, found["ok"]) == ((0, True) if cpus is None else (1, False))
    if cpus is not None:
        assert f"need {cpus} CPU" in found["detail"]
        assert "learners.num_learners" in found["remedy"]


@pytest.mark.parametrize("text", ["training: [", "- a list\n", "\x00", ""])
def test_a_file_that_is_no_configuration_is_a_failed_check(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    code, checks = _doctor(capsys, path)
    assert code == 1 and not checks["configuration"]["ok"]
    assert _doctor(capsys, tmp_path / "nowhere.yaml")[0] == 1


def test_a_template_that_rewrites_is_found(
    quick: None,
    config_file: Path,
    toy_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(toy_model, folder)
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    code, checks = _doctor(capsys, config_file, f"model.path={folder}")
    assert code == 1 and not checks["chat template"]["ok"]


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_too_little_room_is_said_with_what_is_wanted(
    quick: None,
    config_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(1 << 30, 1 << 30, 0))
    code, checks = _doctor(capsys, config_file, "env_runners.num_env_runners=1")
    assert code == 0, "room is advice: the run may be shorter than we think"
    for name in ("disk", "shared memory", "room for checkpoints", "room for weights"):
        assert not checks[name]["ok"] and "wanted" in checks[name]["remedy"]


def test_a_check_that_breaks_is_reported_and_the_others_go_on(
    quick: None,
    config_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("sparks\nand smoke")

    monkeypatch.setattr(installation, "_devices", broken)
    monkeypatch.setattr(configuration_checks, "_template", broken)
    code, checks = _doctor(capsys, config_file)
    assert code == 1
    assert "RuntimeError: sparks and smoke" in checks["devices"]["detail"]
    assert checks["placement"]["ok"]


def test_a_package_that_crashes_or_hangs_does_not_take_the_doctor_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaking.py").write_text("raise ImportError('no operator nms')")
    (tmp_path / "crashing.py").write_text("import os; os.kill(os.getpid(), 11)")
    (tmp_path / "sound.py").write_text("")
    (tmp_path / "hanging.py").write_text("import threading; threading.Event().wait()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = installation.import_failures(["breaking", "crashing", "sound"])
    assert set(found) == {"breaking", "crashing"}
    assert "no operator nms" in found["breaking"]
    assert "-11" in found["crashing"]
    assert "did not end" in installation.import_failures(["hanging"], 0.5)["hanging"]
