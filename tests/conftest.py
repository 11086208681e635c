"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is; speed is measured in benchmarks.
settings.register_profile(
    "no-deadline", settings.get_profile(settings.get_current_profile_name()), deadline=None
)
settings.load_profile("no-deadline")

_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of third-party data; the test skips where it is not at hand."""
    folder = Path(os.environ.get("ORCH_SHARED_DATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"third-party data not found at {folder} (set ORCH_SHARED_DATA)")
    return folder
