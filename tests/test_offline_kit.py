"""The offline kit: parts come together again, a bad kit is refused, and Ray is never imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
        "unpacked_bytes": 20_000,
    }
    path.write_text(json.dumps({**plain, **given, **changes}))


def test_parts_come_together_bit_for_bit(kit: Path, tmp_path: Path) -> None:
    run.unpack(run.read_manifest(kit), kit, tmp_path)
    unpacked = tmp_path / "kit" / "wheels" / "one.whl"
    assert unpacked.read_bytes() == bytes(range(256)) * 40


def refused(kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The one line on stderr; nothing was installed."""
    work = tmp_path / "work"
    assert run.main(["--kit", str(kit), "--work", str(work), *more]) == 2
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


def test_a_step_that_fails_has_no_result_and_the_time_limits_fit_in_twenty_minutes(
    tmp_path: Path,
) -> None:
    options = type("Options", (), {"work": tmp_path, "again": False, "small": True})
    (tmp_path / "kit").mkdir()
    manifest = {"commit": None, "requires": {}}
    wrong = run.Step("wrong", "fails", ["-c", "raise SystemExit(3)"], 30)
    right = run.Step("train", "works", ["-c", f"print({json.dumps(json.dumps(RESULT))})"], 30)
    assert not run.run_step(wrong, Path(sys.executable), manifest, options)
    assert run.run_step(right, Path(sys.executable), manifest, options)
    report = json.loads((tmp_path / "results" / "results.json").read_text())["steps"]
    assert report["wrong"]["exit_code"] == 3 and not report["wrong"]["ok"]
    assert report["train"]["result"]["training_iteration"] == 1
    for small in (True, False):
        assert sum(step.limit_s for step in run.steps(tmp_path, small=small)) <= 19 * 60


RESULT = {
    "training_iteration": 1,
    "env_runners": {"episode_return_mean": 0.5, "success": 0.5, "tokens_per_s": 1.0},
    "learners": {"default_policy": {"tokens_per_s": 1.0}},
}
