"""The wheel works by itself: in an empty environment, with nothing heavy beside it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("orch_env", "orch_train", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
HEAVY = {"torch", "ray", "transformers", "vllm", "pandas", "datasets", "pydantic", "trl"}

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


ALONE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*words: str | Path, cwd: Path) -> str:
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=cwd, env=ALONE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", "dist", ".", cwd=folder)
    [wheel] = (folder / "dist").iterdir()
    return wheel


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return python


def test_the_wheel_has_the_packages_their_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"orch_env", "orch_train", f"{wheel.name.rsplit('-', 3)[0]}.dist-info"}
    assert {"orch_env/py.typed", "orch_train/py.typed"} <= set(names)
    assert any(name.startswith("orch_env/data/harbour/") for name in names)
    assert wheel.stat().st_size < 9e6  # two bundled models are 5 of them


def test_it_brings_nothing_heavy(python: Path, tmp_path: Path) -> None:
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json", cwd=tmp_path))
    names = {entry["name"].lower() for entry in listed}
    assert "orch-rl" in names and not names & HEAVY and len(names) < 30, sorted(names)


def test_gym_make_and_replay_work_in_it(python: Path, tmp_path: Path) -> None:
    code = (
        "import gymnasium as gym, orch_env, sys\n"
        'env = gym.make("orch_env/ToolOrchestration-v0", tasks="harbour")\n'
        'env.reset(seed=7)\nprint(env.step("Done.")[1])\n'
    )
    assert run(python, "-c", code, cwd=tmp_path) == "0.0\n"
    orch = python.with_name("orch")
    words = ("replay", "--tasks", "harbour", "--policy", "gold", "--limit", "20", "--json")
    there = json.loads(run(orch, *words, cwd=tmp_path))
    here = json.loads(run(sys.executable, "-m", "orch_env.cli.main", *words, cwd=ROOT))
    assert there["success_rate"] == 1.0 and there["digest"] == here["digest"]


def test_a_training_command_says_what_to_install(python: Path, tmp_path: Path) -> None:
    words = [str(python.with_name("orch")), "train", "x.yaml"]
    done = subprocess.run(words, cwd=tmp_path, env=ALONE, capture_output=True, text=True)
    assert done.returncode == 2 and "pip install 'orch-rl[train]'" in done.stderr


def test_it_starts_quickly(python: Path, tmp_path: Path) -> None:
    def seconds(*words: str | Path) -> float:
        """Of the processor, which other work on the machine does not change."""
        times = []
        for _ in range(6):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            run(*words, cwd=tmp_path)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return median(times[1:])  # the first writes the compiled modules

    assert seconds(python, "-c", "import orch_env") - seconds(python, "-c", "pass") <= 0.3
    assert seconds(python.with_name("orch"), "--help") <= 0.6
