"""`orch doctor`: a verdict and a remedy for each check, and nothing that takes it down."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from orch_env.cli.installation import (
    Check,
    Package,
    disk,
    import_failures,
    installation_checks,
    run_check,
    shared_memory,
)
from orch_env.cli.main import main
from orch_train import GRPOConfig
from orch_train.cli.preflight import placement, required_packages
from orch_train.cli.run_arguments import read_config
from orch_train.runners.placement import Resources


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


def test_a_sound_installation_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    code, checks = _doctor(capsys)
    assert code == 0
    assert {"python", "torch", "ray", "vllm", "devices", "shared memory", "disk"} <= set(checks)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("ready")


def test_a_sound_configuration_is_ready(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, checks = _doctor(capsys, config_file)
    assert code == 0
    assert "6 training tasks" in checks["data"]["detail"]
    assert "M parameters" in checks["model"]["detail"]
    assert "only appends" in checks["chat template"]["detail"]
    assert not (config_file.parent / "runs").exists()


def test_what_a_run_needs_becomes_required(config_file: Path) -> None:
    missing = Package("not_installed_anywhere", "a test", "orch-rl[train]")
    for required in (False, True):
        found = installation_checks([missing.name] if required else [], [missing])
        check = next(check for check in found if check.name == missing.name)
        assert not check.ok and check.required is required
        assert "pip install 'orch-rl[train]'" in check.remedy
    assert "ray" not in required_packages(str(config_file), [])
    assert "ray" in required_packages(str(config_file), ["env_runners.num_env_runners=1"])


def test_a_version_outside_the_range_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "scipy-99.0.dist-info" / "METADATA"
    record.parent.mkdir()
    record.write_text("Metadata-Version: 2.1\nName: scipy\nVersion: 99.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
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
        ("reporting.log_dir=/proc/x", "run folder", "cannot be made or written"),
    ],
)
def test_a_broken_configuration_is_a_failed_check(
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
    config_file: Path, overrides: list[str], cpus: int | None
) -> None:
    found = placement(read_config(str(config_file), overrides, None).settings, Resources(4.0)).check
    assert found.ok == (cpus is None) and found.required
    if cpus is not None:
        assert f"need {cpus} CPU" in found.detail
        assert "learners.num_learners" in found.remedy


@pytest.mark.parametrize("text", ["training: [", "- a list\n", "\x00", ""])
def test_a_file_that_is_no_configuration_is_a_failed_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    code, checks = _doctor(capsys, path)
    assert code == 1 and not checks["configuration"]["ok"]
    assert _doctor(capsys, tmp_path / "nowhere.yaml")[0] == 1


def test_a_template_that_rewrites_is_found(
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


def test_too_little_room_is_said_with_what_is_wanted(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, checks = _doctor(capsys, config_file, "reporting.keep_checkpoints=1000000000")
    assert code == 0, "room is advice: the run may be shorter than we think"
    for found in (
        Check(**checks["room for checkpoints"]),
        disk(tmp_path / "new", 1 << 60),
        shared_memory(1 << 60),
    ):
        assert not found.ok and not found.required and "wanted" in found.remedy


def test_a_check_that_breaks_is_reported_in_one_line() -> None:
    def broken() -> Check:
        raise RuntimeError("sparks\nand smoke")

    found = run_check("devices", True, broken)
    assert not found.ok and found.required and found.remedy
    assert found.detail == "could not be checked: RuntimeError: sparks and smoke"


def test_the_checks_after_one_that_fails_go_on(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, checks = _doctor(capsys, config_file, "environment.env_config.tasks=[]")
    assert code == 1 and not checks["data"]["ok"]
    assert checks["model"]["ok"] and checks["placement"]["ok"]


def test_missing_files_are_listed_and_the_checks_that_need_none_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "missing.yaml"
    path.write_text(
        GRPOConfig()
        .environment(env_config={"tasks": "gone.jsonl", "cache": "gone.db"})
        .model("./gone")
        .env_runners(num_env_runners=8, num_gpus_per_env_runner=8)
        .to_yaml()
    )
    code, checks = _doctor(capsys, path)
    assert code == 1 and "3 files are missing" in checks["configuration"]["detail"]
    for setting in ("model.path", "environment.env_config.tasks", "environment.env_config.cache"):
        assert not checks[setting]["ok"] and "gone" in checks[setting]["detail"]
    assert not checks["placement"]["ok"] and "8 GPU" in checks["placement"]["detail"]
    assert checks["run folder"]["ok"]
    assert not {"data", "model", "chat template"} & set(checks), "they could say nothing else"
    code, checks = _doctor(capsys, path, "model.path=tiny")
    assert checks["model"]["ok"] and "chat template" not in checks


def test_missing_files_are_told_beside_settings_that_do_not_fit(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ("training.lr=-1", "model.path=./gone", "model.reference=./gone")
    _, checks = _doctor(capsys, config_file, *wrong)
    detail = checks["configuration"]["detail"]
    assert "training.lr" in detail and "folder './gone' does not exist" in detail
    assert "model.reference: './gone' is no folder" in detail


def test_a_package_that_crashes_or_hangs_does_not_take_the_doctor_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaking.py").write_text("raise ImportError('no operator nms')")
    (tmp_path / "crashing.py").write_text("import os; os.kill(os.getpid(), 11)")
    (tmp_path / "sound.py").write_text("")
    (tmp_path / "hanging.py").write_text("import threading; threading.Event().wait()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = import_failures(("breaking", "crashing", "sound"))
    assert set(found) == {"breaking", "crashing"}
    assert "no operator nms" in found["breaking"]
    assert "-11" in found["crashing"]
    assert "did not end" in import_failures(("hanging",), 0.5)["hanging"]
