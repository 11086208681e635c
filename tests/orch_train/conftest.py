"""Fixtures of the training tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Before torch or Ray start: several processes share few cores, and OpenMP spins on them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import pytest


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """One Ray on this machine for all tests that need it; `address="local"` joins no other."""
    ray = pytest.importorskip("ray")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 << 20,
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()
