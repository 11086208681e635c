"""The ordinary tier draws the same examples in every run; tests marked `long` explore."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from tests.orch_env.property_tiers import FEW, hold

ROOT = Path(__file__).resolve().parent.parent
ANYTHING = st.text(max_size=20) | st.integers() | st.floats(allow_nan=False)
AT_IMPORT = settings(max_examples=10)
"""What `@settings` above a test makes: it follows the profile of that moment."""


def drawn() -> list[Any]:
    """The examples of a property that is made here and now."""
    seen: list[Any] = []
    hold(FEW, seen.append, ANYTHING)
    return seen


def test_an_ordinary_test_draws_the_same_examples_each_time() -> None:
    assert drawn() == drawn()


@pytest.mark.long
def test_a_long_test_draws_new_examples_each_time() -> None:
    assert drawn() != drawn()


def test_settings_made_at_import_are_derandomised() -> None:
    assert AT_IMPORT.derandomize and AT_IMPORT.database is None


def test_what_is_drawn_does_not_depend_on_the_modules_that_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = drawn()
    source = tmp_path / "loaded.py"
    source.write_text("\n".join(f"A{n} = {1000 + n}, 'word{n}', {n}.0625" for n in range(99)))
    loaded = ModuleType("loaded")
    loaded.__file__ = str(source)
    monkeypatch.setitem(sys.modules, "loaded", loaded)
    assert drawn() == before


def test_what_is_drawn_depends_neither_on_the_process_nor_on_the_order_of_sets() -> None:
    script = """
        import tests.conftest
        from tests.orch_env.property_tiers import hold
        from tests.orch_env.reward_worlds import worlds
        hold(60, print, worlds())
    """
    one, other = (python("-c", dedent(script), hash_seed=seed) for seed in ("1", "2"))
    assert one.returncode == 0, one.stderr
    assert one.stdout.count("World(") >= 60
    assert one.stdout == other.stdout


def python(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    """Run Python in the repository's root, in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
    )


def pytest_of(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)


def test_the_mark_alone_makes_a_test_explore() -> None:
    test = test_a_long_test_draws_new_examples_each_time.__name__
    run = pytest_of("-m", "long", f"{__file__}::{test}")
    assert run.returncode == 0, run.stdout
    assert "1 passed" in run.stdout


def test_a_long_test_that_could_not_explore_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "test_wrong.py"
    wrong.write_text(
        "import pytest\n"
        "from hypothesis import given, strategies as st\n"
        "@pytest.mark.long\n"
        "@given(st.booleans())\n"
        "def test_wrong(value): pass\n"
    )
    run = pytest_of("-p", "tests.conftest", "--rootdir", str(ROOT), str(wrong))
    assert run.returncode == pytest.ExitCode.USAGE_ERROR, run.stdout
    assert "test_wrong is marked long" in run.stdout + run.stderr
