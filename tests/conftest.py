"""Fixtures shared by all tests, and how properties draw their examples.

The ordinary tier draws the same examples each time, so that `make test` says the same each time.
Tests marked `long` explore: they draw new examples in every run, and a failure prints how to
repeat it. A property of the long tier is drawn inside its test, as `property_tiers.hold` does.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

settings.register_profile(
    "ordinary",
    settings.get_profile("default"),
    derandomize=True,
    database=None,
    print_blob=True,
    # How long an example takes says how busy the machine is; speed is measured in benchmarks.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("exploring", settings.get_profile("ordinary"), derandomize=False)
settings.load_profile("ordinary")

# Hypothesis also draws constants out of the source of every module that is loaded by then, and has
# no setting for it. What a test draws would depend on the tests that ran before it.
providers._get_local_constants = lambda: providers._local_constants

# What a script starts in the background, or under nohup, ignores these, and so would its children.
for _number, _default in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _default)

_ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Let tests of the long tier explore; settings made inside a test follow the profile."""
    profile = settings.get_current_profile_name()
    if item.get_closest_marker("long") is not None:
        settings.load_profile("exploring")
    try:
        yield
    finally:
        settings.load_profile(profile)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a long test that could not explore: `@given` fixes its settings at import."""
    for item in items:
        given = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if given and item.get_closest_marker("long") is not None:
            raise pytest.UsageError(
                f"{item.nodeid} is marked long and would draw the same examples each time: "
                "write its property inside the test, see tests/orch_env/property_tiers.py"
            )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where pytest-xdist shares the tests out, a file stays in one process, in its order.

    So does a folder of the trainer's tests: they share one Ray, and their clocks should not meet.
    (xdist's own groups, `--dist loadgroup`, have no effect with pytest 9.2, without a word.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return file.rpartition("/")[0] if "orch_train/" in file else file

    return ByFile(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of third-party data; the test skips where it is not at hand."""
    folder = Path(os.environ.get("ORCH_SHARED_DATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"third-party data not found at {folder} (set ORCH_SHARED_DATA)")
    return folder
