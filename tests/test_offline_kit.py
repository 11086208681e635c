"""The offline kit: parts come together again, a bad kit is refused, and Ray is never imported."""

from __future__ import annotations

import ensurepip
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import machine
from orch_env.types import OrchError
from tools.offline_kit import build, run

ROOT = Path(__file__).resolve().parents[1]
HERE = ".".join(map(str, sys.version_info[:2]))

WITHOUT_RAY = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
from orch_env.cli.main import cli, exit_code

out, config = sys.argv[1:]
few = ["sft.max_steps=2", f"sft.out={out}/sft"]
assert exit_code(cli, "orch", ["sft", config, *few]) == 0
model = [f"model.path={out}/sft/model", f"reporting.log_dir={out}", "reporting.run_name=grpo"]
small = ["training.iterations=1", "training.groups_per_batch=2", "training.group_size=2"]
assert exit_code(cli, "orch", ["train", config, *model, *small]) == 0
assert "ray" not in sys.modules
"""


def test_the_warm_start_and_training_in_one_process_never_import_ray(tmp_path: Path) -> None:
    config = ROOT / "tools" / "offline_kit" / "configs" / "small.yaml"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, str(tmp_path), str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (tmp_path / "grpo" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["training_iteration"] == 1


def test_the_kit_asks_for_no_torch_transformers_or_ray_and_for_all_else() -> None:
    names = {line.partition(">")[0] for line in build.requirements()}
    assert not names & {"torch", "transformers", "ray"}
    assert {"click", "gymnasium", "pydantic", "ruamel.yaml", "sqlalchemy", "matplotlib"} <= names


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """A small kit of three parts for the Python that runs the test."""
    content = tmp_path / "content"
    (content / "wheels").mkdir(parents=True)
    (content / "wheels" / "one.whl").write_bytes(bytes(range(256)) * 40)
    folder = tmp_path / "kit"
    folder.mkdir()
    archive = tmp_path / "kit.tar"
    build.write_archive(content, archive)
    parts = list(build.split(archive, folder, 9000))
    assert len(parts) == 3
    write_manifest(folder, parts=parts)
    return folder


def write_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "MANIFEST.json"
    given = json.loads(path.read_text()) if path.exists() else {}
    plain = {
        "schema": 1,
        "commit": None,
        "python": HERE,
        "requires": {"torch": build.needed("torch")},
        "install": [],
        "model": None,
        "room_bytes": 20_000,
    }
    path.write_text(json.dumps({**plain, **given, **changes}))


def test_parts_come_together_bit_for_bit(kit: Path, tmp_path: Path) -> None:
    run.unpack(run.read_manifest(kit), kit, tmp_path)
    unpacked = tmp_path / "kit" / "wheels" / "one.whl"
    assert unpacked.read_bytes() == bytes(range(256)) * 40


def refused(kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The one line on stderr; nothing was installed."""
    work = tmp_path / "work"
    given = ["--kit", str(kit), "--work", str(work), *more]
    assert run.main(given) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert not (work / "venv").exists()
    return line


def test_a_damaged_part_is_named_before_anything_is_installed(
    kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = kit / "kit.tar.001"
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    assert "kit.tar.001 is damaged" in refused(kit, tmp_path, capsys, "--small")
    part.unlink()
    assert "copy all 3 parts" in refused(kit, tmp_path, capsys, "--small")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"python": "3.99"}, "python3.99 run.py"),
        ({"requires": {"torch": ">=99,<100"}}, "the package needs >=99,<100"),
        ({"requires": {"a-package-of-no-one": ">=1"}}, "is not installed"),
        ({"schema": 2}, "another version"),
        ({"room_bytes": 1 << 60}, "too little room"),
    ],
)
def test_a_machine_that_will_not_do_is_told_why(
    kit: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    says: str,
) -> None:
    write_manifest(kit, **changes)
    assert says in refused(kit, tmp_path, capsys, "--small")


def test_without_the_model_only_the_small_form_runs(
    kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "only --small can run" in refused(kit, tmp_path, capsys)


@pytest.mark.parametrize(
    ("version", "wanted", "within"),
    [
        ("2.13.0+cu130", ">=2.6,<3", True),
        ("2.6", ">=2.6,<3", True),
        ("2.5.1", ">=2.6,<3", False),
        ("3.0.0", ">=2.6,<3", False),
        ("5.19.0", ">=5.16,<5.20", True),
        ("5.20.0", ">=5.16,<5.20", False),
    ],
)
def test_a_version_is_compared_by_its_numbers(version: str, wanted: str, within: bool) -> None:
    assert run.within(version, wanted) is within


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "nothing"], "choose from"),
        (["--smal"], "unrecognized arguments: --smal"),
        (["--small", "--work", "MANIFEST.json/below"], "MANIFEST.json"),
    ],
)
def test_bad_arguments_are_one_line(
    kit: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(kit)
    assert says in refused(kit, tmp_path, capsys, *arguments)


def test_a_damaged_manifest_is_one_line(
    kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kit / "MANIFEST.json"
    path.write_text('{"schema": 1}')
    assert "lacks commit, install" in refused(kit, tmp_path, capsys, "--small")
    path.write_text('{"schema": 1')
    assert "copy the kit again" in refused(kit, tmp_path, capsys, "--small")


def session(work: Path, **changes: Any) -> run.Session:
    (work / "kit").mkdir(exist_ok=True)
    return run.Session(**{"work": work, "form": "small", "kit": "k", "python": PYTHON, **changes})


PYTHON = Path(sys.executable)


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts code in the place of the steps; `OUT` is where it should write its figures."""

    def put(code: str, limit_s: float = 60.0) -> None:
        def make(name: str, work: Path, form: str) -> run.Step:
            out = work / form / "results" / f"{name}.figures.json"
            start = f"from pathlib import Path; OUT = Path({str(out)!r})\n"
            return run.Step(name, "a test", ["-c", start + code], limit_s, out)

        monkeypatch.setattr(run, "make_step", make)

    return put


TRAINED = {
    "training_iteration": 1,
    "env_runners": {"episode_return_mean": 0.5, "success": 0.5, "tokens_per_s": 1.0},
    "learners": {"default_policy": {"tokens_per_s": 1.0}},
}
WRITE = f"OUT.write_text({json.dumps(json.dumps(TRAINED))})\n"


def report(work: Path, form: str = "small") -> dict[str, Any]:
    found = json.loads((work / form / "results" / "results.json").read_text())
    steps: dict[str, Any] = found["steps"]
    return steps


def test_a_step_without_a_figure_has_failed_and_the_next_one_runs(
    tmp_path: Path, pretend: Any
) -> None:
    now = session(tmp_path)
    empty = {"sft": '{"steps": 0, "tokens": 0, "seconds": 0.0, "loss_first": null}', "train": "{}"}
    for name, text in empty.items():
        pretend(f"OUT.write_text({text!r})")
        assert run.run_step(name, now) == "failed"
    pretend("raise SystemExit(3)")
    assert run.run_step("learner", now) == "failed"
    pretend(WRITE)
    assert run.run_step("train", now) == "complete"
    steps = report(tmp_path)
    assert steps["learner"]["exit_code"] == 3 and steps["learner"]["result"] is None
    assert steps["sft"]["result"] is None
    assert steps["train"]["result"]["training_iteration"] == 1


def test_a_step_over_its_limit_is_interrupted_and_keeps_what_it_wrote(
    tmp_path: Path, pretend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LEAST_S", 0.0)
    pretend(WRITE + "import signal; signal.pause()", limit_s=2.0)
    assert run.run_step("train", session(tmp_path)) == "cut short"
    kept = report(tmp_path)["train"]
    assert kept["result"]["training_iteration"] == 1 and kept["exit_code"] != 0


IN_THE_BACKGROUND = """
import sys
from pathlib import Path
from tools.offline_kit import run
run.take_signals()
run.LEAST_S = 0.0
work = Path(sys.argv[1])
out = work / "small" / "results" / "engine.figures.json"
step = run.Step("engine", "a test", ["-c", "import signal; signal.pause()"], 2.0, out)
run.make_step = lambda name, work, form: step
(work / "kit").mkdir()
assert run.run_step("engine", run.Session(work, "small", "k", Path(sys.executable))) == "failed"
"""


def test_a_step_can_be_interrupted_where_the_shell_had_signals_ignored(tmp_path: Path) -> None:
    command = [sys.executable, "-c", IN_THE_BACKGROUND, str(tmp_path)]
    ignoring = ["bash", "-c", "trap '' INT; exec \"$@\"", "bash"]
    done = subprocess.run([*ignoring, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    step = report(tmp_path)["engine"]
    assert step["exit_code"] == -signal.SIGINT and step["seconds"] < run.GRACE_S


def test_a_result_is_not_made_again_unless_asked_or_of_another_form_or_kit(
    tmp_path: Path, pretend: Any
) -> None:
    pretend(WRITE)
    assert run.run_step("train", session(tmp_path)) == "complete"
    pretend("raise SystemExit(3)")
    assert run.run_step("train", session(tmp_path)) == "complete"
    assert run.run_step("train", session(tmp_path, form="gpu")) == "failed"
    assert run.run_step("train", session(tmp_path, kit="another")) == "failed"
    pretend(WRITE)
    assert run.run_step("train", session(tmp_path)) == "complete"
    pretend("raise SystemExit(3)")
    assert run.run_step("train", session(tmp_path, again=True)) == "failed"


def test_all_steps_and_what_they_need_to_stop_fit_in_twenty_minutes(
    tmp_path: Path, pretend: Any
) -> None:
    for form in ("small", "gpu"):
        steps = [run.make_step(name, tmp_path, form) for name in run.NAMES]
        assert sum(step.limit_s + run.GRACE_S for step in steps) <= run.TOTAL_S - 90
    pretend(WRITE)
    over = session(tmp_path, deadline=run.time.monotonic() + run.GRACE_S)
    assert run.run_step("train", over) == "left out"
    assert not (tmp_path / "small").exists()


def test_training_starts_from_the_warm_start_if_there_is_one(tmp_path: Path) -> None:
    plain = run.make_step("train", tmp_path, "gpu").command
    model = tmp_path / "gpu" / "runs" / "sft" / "model"
    model.mkdir(parents=True)
    warm = run.make_step("train", tmp_path, "gpu").command
    assert warm == [*plain, f"model.path={model}"]


def test_a_folder_that_is_no_kit_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OrchError, match="is no kit"):
        build.build(tmp_path, 1 << 20)
    assert (tmp_path / "thesis.txt").exists()


def test_a_report_needs_no_git_and_takes_the_commit_that_the_kit_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ORCH_COMMIT", raising=False)
    assert machine()["commit"] is None
    monkeypatch.setenv("ORCH_COMMIT", "abc-dirty")
    assert (machine()["commit"], machine()["uncommitted_changes"]) == ("abc", True)


@pytest.mark.long
def test_a_kit_installs_and_trains_without_a_network(tmp_path: Path) -> None:
    """Real wheels, a real environment, all four steps; for the Python that runs the test."""
    bundled = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    if not bundled:
        pytest.skip("this Python does not bring pip's wheel")
    wheels = tmp_path / "content" / "wheels"
    wheels.mkdir(parents=True)
    build.own_wheel(wheels)
    shutil.copy(bundled[-1], wheels)
    kit, work = tmp_path / "kit", tmp_path / "work"
    content = wheels.parent
    build.pack(content, kit, 1 << 20, install=["click"], model=False, python=HERE)
    checked = ["sha256sum", "--quiet", "-c", "SHA256SUMS"]
    assert subprocess.run(checked, cwd=kit).returncode == 0
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_REQUIRE_VIRTUALENV": "1"}
    command = [sys.executable, str(kit / "run.py"), "--small", "--work", str(work)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **nowhere}, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (work / "venv" / "bin" / "orch").exists()
    steps = report(work)
    assert list(steps) == list(run.NAMES)
    assert all(step["outcome"] == "complete" for step in steps.values())
    curve = (work / "small" / "results" / "train.metrics.jsonl").read_text().splitlines()
    assert len(curve) == 3
