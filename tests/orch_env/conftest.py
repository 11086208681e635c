"""Fixtures of the property tests: how many examples, and of which tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import strategies as st

from orch_env import open_cache, save_tasks
from orch_env.importers import ImportResult, import_tasks, read_source
from tests.orch_env.booking_worlds import booking_worlds
from tests.orch_env.property_tiers import FEW, MANY
from tests.orch_env.reward_world import World
from tests.orch_env.reward_worlds import worlds

BOOKING = Path("complexfuncbench") / "ComplexFuncBench.public.jsonl.gz"


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
def booking_import(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ImportResult, Path]:
    """The public benchmark, imported once: what came of it, and the cache. Not to be written."""
    db = tmp_path_factory.mktemp("booking") / "booking.db"
    with open_cache(db, write=True) as cache:
        result = import_tasks(read_source(shared_data / BOOKING), cache)
    return result, db


@pytest.fixture(scope="session")
def booking_files(booking_import: tuple[ImportResult, Path]) -> tuple[str, str]:
    """Task file and cache of the public benchmark. Not to be written."""
    result, db = booking_import
    tasks = db.with_name("booking.jsonl")
    save_tasks(result.tasks, tasks)
    return str(tasks), str(db)


@pytest.fixture(scope="session")
def booking(booking_import: tuple[ImportResult, Path]) -> list[World]:
    """The real tasks as worlds; skips where the third-party data is not at hand."""
    result, db = booking_import
    return booking_worlds(result.tasks, db)


@pytest.fixture(params=["generated", pytest.param("booking", marks=pytest.mark.shared_data)])
def tasks(request: pytest.FixtureRequest) -> st.SearchStrategy[World]:
    """Generated tasks with gold calls, or the real ones."""
    if request.param == "generated":
        return worlds()
    return st.sampled_from(request.getfixturevalue("booking"))
