"""What holds for every adapter: importing it pulls no framework, and what it needs is said."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from importlib.metadata import version

import pytest

import orch_env.adapters
from orch_env.adapters import require
from orch_env.types import OrchError

NAMES = [module.name for module in pkgutil.iter_modules(orch_env.adapters.__path__)]
FRAMEWORKS = [
    "datasets",
    "gem",
    "mcp",
    "nemo_gym",
    "openenv",
    "ray",
    "skyrl_gym",
    "torch",
    "transformers",
    "trl",
    "verifiers",
    "verl",
]


def test_importing_the_adapters_imports_no_framework() -> None:
    code = (
        "import importlib, json, sys\n"
        f"for name in {NAMES}: importlib.import_module('orch_env.adapters.' + name)\n"
        f"print(json.dumps([name for name in {FRAMEWORKS} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_framework_that_is_missing_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(ImportError, match=r"needs no-such-framework.*pip install 'orch-rl\[trl\]'"):
        require("no_such", extra="trl", package="no-such-framework", known=("1", "2"))


@pytest.mark.parametrize("known", [("0.1", "0.2"), ("999", "1000")])
def test_an_unknown_version_of_a_framework_is_one_clear_line(known: tuple[str, str]) -> None:
    with pytest.raises(OrchError) as problem:
        require("numpy", extra="gem", package="numpy", known=known)
    said = str(problem.value)
    assert version("numpy") in said and known[0] in said and "orch-rl[gem]" in said
    assert "\n" not in said


def test_a_known_version_is_imported() -> None:
    assert require("json", extra="gem", package="numpy", known=("1.0", "999")) is json
