"""Runs a module of the tests with the interpreter of another environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_with(environment: str, module: str, *arguments: str, seconds: int = 280) -> Any:
    """Run ``python -m MODULE`` in ``.venv-ENVIRONMENT``; skips the test where there is none.

    Args:
        environment: ``adapters`` for ``.venv-adapters``.
        module: a module with a main part, as ``tests.adapters.trl_conformance``.
        arguments: of its command line.
        seconds: after these it has failed.

    Returns:
        The JSON value in the last line of its stdout.
    """
    said = output_of(environment, "-m", module, *arguments, seconds=seconds)
    return json.loads(said.splitlines()[-1])


def output_of(environment: str, *words: str, seconds: int = 280) -> str:
    """What ``python WORDS`` prints to stdout in ``.venv-ENVIRONMENT``, as :func:`run_with` runs it.

    The repository comes first on the path and is the working directory.
    """
    python = ROOT / f".venv-{environment}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f".venv-{environment} is missing: run `make adapters`")
    done = subprocess.run(
        [python, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"python {' '.join(words)} failed:\n{done.stderr[-4000:]}"
    return done.stdout
