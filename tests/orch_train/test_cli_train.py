"""`orch train` and `orch sft` as a user meets them: files, exit codes, one line per mistake."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orch_env.cli.main import main
from orch_train import GRPOConfig
from orch_train.algorithms.checkpoint import checkpoints
from orch_train.run.metrics_file import read_metrics
from tests.journeys import next_commands

_ROOT = Path(__file__).resolve().parents[2]
_ENV = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def config_file(toy_config: GRPOConfig, tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    config = toy_config.training(iterations=2).reporting(log_dir=str(tmp_path / "runs"))
    path.write_text(config.to_yaml())
    return path


def _orch(*argv: str | Path) -> int:
    return main([str(a) for a in argv])


def _json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Standard output, which must be one JSON object and nothing else."""
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_training_prints_the_last_result(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _orch("train", config_file, "training.iterations=3", "--json") == 0
    printed = _json(capsys)
    assert printed["training_iteration"] == 3
    assert printed == read_metrics(tmp_path / "runs" / "toy")[-1]


def test_without_json_a_person_is_told_where_things_are(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _orch("train", config_file) == 0
    said = capsys.readouterr()
    assert str(tmp_path / "runs" / "toy" / "checkpoints" / "step_2") in said.out
    assert "step 2/2" in said.err and "M parameters; about" in said.err


def test_runs_are_numbered_and_never_overwritten(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert _orch("train", config_file, "training.iterations=1") == 0
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"toy", "toy-2"}
    assert _orch("train", config_file, "reporting.run_name=toy") == 2
    assert "--resume" in capsys.readouterr().err.splitlines()[-1]


def test_a_run_goes_on_where_it_stopped(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "toy"
    assert _orch("train", config_file) == 0
    assert _orch("train", "--resume", run, "training.iterations=4", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["training_iteration"] == 4
    assert [r["training_iteration"] for r in read_metrics(run)] == [1, 2, 3, 4]


def test_a_dry_run_checks_everything_and_leaves_nothing(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _orch("train", config_file, "training.lr=2e-6", "--dry-run") == 0
    out = capsys.readouterr().out
    assert yaml.safe_load(out)["training"]["lr"] == 2e-6
    assert "M parameters; about" in out and "# chat template: only appends" in out
    assert _orch("train", config_file, "--dry-run", "--json") == 0
    shown = _json(capsys)
    assert shown["memory"]["total"] > 0
    assert shown["template"]["longest_prompt"] < 256
    assert not (tmp_path / "runs").exists()


def test_mistakes_are_one_line_and_exit_2_before_torch_is_imported(
    config_file: Path, tmp_path: Path, toy_model: Path
) -> None:
    (tmp_path / "broken.yaml").write_text("training: [")
    (tmp_path / "corrupt.db").write_bytes(b"SQLite format 3\0" + b"garbage" * 100)
    harbour = tmp_path / "harbour.yaml"
    harbour.write_text(
        GRPOConfig()
        .environment(env_config={"tasks": "harbour/train"})
        .model(str(toy_model))
        .to_yaml()
    )
    cases: list[tuple[list[str], str]] = [
        (["train"], "configuration file is needed"),
        (["train", "nowhere.yaml"], "does not exist"),
        (["train", str(tmp_path / "broken.yaml")], "not valid YAML"),
        (["train", str(config_file), "training.lrr=1"], "did you mean 'lr'"),
        (["train", str(config_file), "training.lr"], "group.key=value"),
        (["train", str(config_file), "model.path=./nowhere"], "does not exist"),
        (["train", "--resume", str(tmp_path)], "no run folder"),
        (["train", str(harbour), "environment.env_config.tasks=gone.jsonl"], "gone.jsonl"),
        (
            ["train", str(harbour), f"environment.env_config.cache={tmp_path / 'corrupt.db'}"],
            "corrupt.db",
        ),
        (["sft", str(harbour), "sft.max_epochs=null"], "a bound is needed"),
        (["sft", str(harbour), "environment.env_config.reward=papre"], "papre"),
    ]
    code = (
        "import json, sys\n"
        "from orch_env.cli.main import main\n"
        "for argv in json.load(sys.stdin):\n"
        "    code = main(argv)\n"
        "    heavy = [m for m in ('torch', 'ray', 'transformers') if m in sys.modules]\n"
        "    print(json.dumps([code, heavy]), flush=True)\n"
        "    print('--', file=sys.stderr, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([argv for argv, _ in cases]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=_ENV,
        check=True,
    )
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    messages = done.stderr.split("--\n")[:-1]
    for (argv, piece), outcome, message in zip(cases, outcomes, messages, strict=True):
        assert outcome == [2, []], argv
        assert message.count("\n") == 1 and piece in message, argv
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["train", "sft"])
def test_help_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _orch(command, "--help") == 0
    out = capsys.readouterr().out
    assert "Examples:" in out and f"orch {command} configs/" in out


@pytest.mark.parametrize("runners", [0, pytest.param(1, marks=pytest.mark.long)])
def test_ctrl_c_saves_a_checkpoint_and_exits_130(
    config_file: Path, tmp_path: Path, runners: int
) -> None:
    """The signal goes to the whole process group, as a terminal sends it."""
    command = [
        *(sys.executable, "-m", "orch_env.cli.main", "train", str(config_file), "--json"),
        "training.iterations=100000",
        "reporting.checkpoint_interval=0",
        f"env_runners.num_env_runners={runners}",
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=_ENV,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None and process.stdout is not None
        try:
            for line in process.stderr:
                if line.startswith("step 3/"):
                    os.killpg(process.pid, signal.SIGINT)
                    break
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    run = tmp_path / "runs" / "toy"
    assert process.returncode == 130, err
    assert f"go on with: orch train --resume {run}" in err
    assert "Traceback" not in err
    (step, folder), *_ = checkpoints(run)
    assert step >= 3
    assert json.loads(out) == read_metrics(run)[-1]
    assert read_metrics(run)[-1]["training_iteration"] == step
    assert json.loads((run / "summary.json").read_text())["interrupted"] is True
    assert (folder / "model" / "model.safetensors").is_file()


# -- warm start ------------------------------------------------------------------------------


@pytest.fixture
def sft_file(toy_model: Path, tmp_path: Path) -> Path:
    """A short warm start on the harbour; its prompts are long in bytes."""
    model = tmp_path / "model"
    shutil.copytree(toy_model, model)
    shape = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(shape | {"max_position_embeddings": 16384}))
    config = (
        GRPOConfig()
        .environment(env_config={"tasks": "harbour/train"})
        .model(str(tmp_path / "warm" / "model"))
        .rollouts(max_tokens_per_turn=4, max_context=8192)
        .env_runners(num_env_runners=0)
        .evaluation(tasks="harbour/heldout", num_tasks=2, temperatures=[1.0])
        .sft(
            model=str(model),
            out=str(tmp_path / "warm"),
            num_tasks=4,
            corruption=0.5,
            batch_size=2,
            max_steps=2,
            eval_every=2,
        )
        .reporting(log_dir=str(tmp_path / "runs"))
    )
    path = tmp_path / "warm.yaml"
    path.write_text(config.to_yaml())
    return path


def test_a_warm_start_leaves_a_model_to_train_on(
    sft_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _orch("train", sft_file, "--dry-run") == 2
    assert "`orch sft` with this configuration makes it" in capsys.readouterr().err

    assert _orch("sft", sft_file, "--json") == 0
    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert summary["steps"] == 2 and summary["stop"] == "max_steps"
    assert summary["demonstrations"]["demonstrations"] == 4
    assert set(summary["evaluations"][0]) >= {"success", "reward_mean", "call_accuracy"}
    assert "loss" in said.err
    folder = tmp_path / "warm"
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml",
        "demonstrations.json",
        "metrics.jsonl",
        "summary.json",
        "model",
    }
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2

    assert _orch("train", sft_file, "--dry-run") == 0
    [start] = next_commands(capsys.readouterr().err)
    assert start == ["train", str(sft_file)] and _orch(*start, "--dry-run") == 0
    assert _orch("sft", sft_file) == 2
    assert "used already" in capsys.readouterr().err.splitlines()[-1]
