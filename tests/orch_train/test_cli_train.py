"""`orch train` and `orch sft` as a user meets them: files, exit codes, one line per mistake."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
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
from orch_train.storage.run_folder import own
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


def test_a_run_goes_on_from_within_its_folder(
    config_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _orch("train", config_file, "training.iterations=1") == 0
    monkeypatch.chdir(tmp_path / "runs" / "toy")
    for run in (".", "checkpoints/.."):
        assert _orch("train", "--resume", run, "training.iterations=1") == 0
        assert str(tmp_path / "runs" / "toy-model") in capsys.readouterr().err


@pytest.mark.parametrize("setting", ["reporting.log_dir", "reporting.run_name", "model.path"])
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_name_that_no_file_system_takes_is_one_clear_line(
    config_file: Path, capsys: pytest.CaptureFixture[str], setting: str, more: list[str]
) -> None:
    assert _orch("train", config_file, f"{setting}={'x' * 300}", *more) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("orch: ") and "File name too long" in line


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
    used = tmp_path / "used"
    used.mkdir()
    (used / "a file").write_text("")
    named = [f"reporting.log_dir={tmp_path}", "reporting.run_name=used"]
    cases: list[tuple[list[str], str]] = [
        (["train", str(config_file), *named], f"go on with --resume {used}"),
        (["train", str(config_file), "reporting.log_dir=/proc/x"], "cannot be made or written"),
        (["sft", str(harbour), f"sft.out={used}"], "used already"),
        (["sft", str(harbour), f"sft.out={config_file}/x"], "cannot be made or written"),
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


def test_several_missing_files_are_a_line_each_below_one_that_is_complete(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "missing.yaml"
    config = GRPOConfig().environment(env_config={"tasks": "gone.jsonl", "cache": "gone.db"})
    path.write_text(config.model("./gone").to_yaml())
    for command in (["train", path], ["train", path, "--dry-run"], ["sft", path]):
        assert _orch(*command) == 2
        first, *items = capsys.readouterr().err.splitlines()
        assert "3 problems: 3 files are missing" in first and str(Path.cwd()) in first
        settings = ("model.path", "environment.env_config.tasks", "environment.env_config.cache")
        for setting, item in zip(settings, items, strict=True):
            assert setting in first and item.startswith(f"  {setting}: ") and "gone" in item


def test_a_live_run_is_neither_resumed_nor_taken_by_its_name(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "toy"
    assert _orch("train", config_file, "training.iterations=1") == 0
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with own(run):
        for command in (
            ["train", "--resume", run, "training.iterations=2"],
            ["train", "--resume", run, "training.iterations=2", "--dry-run"],
            ["train", config_file, "reporting.run_name=toy"],
        ):
            capsys.readouterr()
            assert _orch(*command) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert f"in use by process {os.getpid()} on {socket.gethostname()}" in line
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_a_dry_run_says_what_a_resume_changes_and_what_it_cannot(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "toy"
    assert _orch("train", config_file, "training.iterations=1") == 0
    capsys.readouterr()
    resume = ("train", "--resume", run, "--dry-run", "training.iterations=2")
    assert _orch(*resume, "training.lr=0.5", "learners.num_cpus_per_learner=1") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"# run folder: goes on in {run}\n")
    assert "# changed from step 2 on:\n#   training.lr: 0.003 -> 0.5\n" in out
    assert _orch(*resume, "training.lr=0.5", "--json") == 0
    changed = _json(capsys)["resume"]
    assert changed["step"] == 1 and changed["learned"][0] == "training.lr: 0.003 -> 0.5"
    assert _orch(*resume, "model.path=tiny") == 2
    assert "cannot change model.path" in capsys.readouterr().err


def test_a_start_that_fails_after_the_checks_leaves_no_folder(
    config_file: Path, toy_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(toy_model, broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "model_type": "of a later version"}))
    assert _orch("train", config_file, f"model.path={broken}") == 2
    assert "run folder: " in capsys.readouterr().err, "it was there while the model was loaded"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["train", "sft"])
def test_help_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _orch(command, "--help") == 0
    out = capsys.readouterr().out
    assert "Examples:" in out and f"orch {command} configs/" in out


@pytest.mark.parametrize(
    ("name", "runners"),
    [
        ("SIGINT", 0),
        pytest.param("SIGINT", 1, marks=pytest.mark.long),
        pytest.param("SIGHUP", 0, marks=pytest.mark.long),
        pytest.param("SIGHUP", 1, marks=pytest.mark.long),
    ],
)
def test_a_signal_saves_a_checkpoint_and_exits_130(
    config_file: Path, tmp_path: Path, name: str, runners: int
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
                    os.killpg(process.pid, signal.Signals[name])
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


@pytest.mark.long
def test_a_terminal_that_closes_saves_a_checkpoint(config_file: Path, tmp_path: Path) -> None:
    """Nothing can be written to it any more, and it may be told twice."""
    command = [sys.executable, "-m", "orch_env.cli.main", "train", str(config_file)]
    command += ["training.iterations=100000", "reporting.checkpoint_interval=0"]
    pid, terminal = pty.fork()
    if not pid:
        os.execvpe(command[0], command, _ENV)
    metrics = tmp_path / "runs" / "toy" / "metrics.jsonl"
    while not metrics.is_file() or metrics.read_text().count("\n") < 3:
        os.read(terminal, 1 << 16)  # waits until something was said
    os.close(terminal)
    os.kill(pid, signal.SIGHUP)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    ((step, _),) = checkpoints(metrics.parent)
    assert step == read_metrics(metrics.parent)[-1]["training_iteration"] >= 3
    assert json.loads((metrics.parent / "summary.json").read_text())["interrupted"] is True


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("named", "times"), [(True, 20), (False, 5)])
def test_runs_that_are_started_together_do_not_mix(
    config_file: Path, tmp_path: Path, named: bool, times: int
) -> None:
    rates = (1e-3, 2e-3)
    for attempt in range(times):
        place = tmp_path / str(attempt)
        common = [f"reporting.log_dir={place}", *(["reporting.run_name=toy"] if named else [])]
        command = [sys.executable, "-m", "orch_env.cli.main", "train", str(config_file), *common]
        started = [
            subprocess.Popen(
                [*command, f"training.lr={rate}"], env=_ENV, stderr=subprocess.PIPE, text=True
            )
            for rate in rates
        ]
        errors = [process.communicate()[1] for process in started]
        codes = [process.returncode for process in started]
        assert sorted(codes) == ([0, 2] if named else [0, 0]), errors
        folders = ["toy"] if named else ["toy", "toy-2"]
        assert sorted(path.name for path in place.iterdir()) == folders
        for folder in (place / name for name in folders):
            results = read_metrics(folder)
            assert [r["training_iteration"] for r in results] == [1, 2]
            (rate,) = {r["learners"]["default_policy"]["lr"] for r in results}
            assert GRPOConfig().from_yaml(folder / "config.yaml").settings.training.lr == rate
            assert not (folder / "owner.json").exists()
        if named:
            assert rates[codes.index(0)] == rate
            line = errors[codes.index(2)].splitlines()[-1]
            # On a busy machine the winner may have ended before the other one looks.
            assert "in use by process" in line or "used already" in line
            assert "Traceback" not in errors[codes.index(2)]


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
