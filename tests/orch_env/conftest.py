"""Fixtures of the property tests: how many examples, and of which tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.orch_env.booking_worlds import booking_worlds
from tests.orch_env.property_tiers import FEW, MANY
from tests.orch_env.reward_world import World
from tests.orch_env.reward_worlds import worlds


@pytest.fixture(
    params=[
        pytest.param(FEW, id="few"),
        pytest.param(MANY, id="many", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ]
)
def examples(request: pytest.FixtureRequest) -> int:
    """How many examples a property is checked on."""
    return int(request.param)


@pytest.fixture(scope="session")
def booking(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[World]:
    """The real tasks; skips where the third-party data is not at hand."""
    return booking_worlds(shared_data, tmp_path_factory.mktemp("booking"))


@pytest.fixture(params=["generated", pytest.param("booking", marks=pytest.mark.shared_data)])
def tasks(request: pytest.FixtureRequest) -> st.SearchStrategy[World]:
    """Generated tasks with gold calls, or the real ones."""
    if request.param == "generated":
        return worlds()
    return st.sampled_from(request.getfixturevalue("booking"))
