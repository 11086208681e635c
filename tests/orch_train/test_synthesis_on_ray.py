"""A synthesis job on Ray Data gives the bytes that it gives without Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from orch_env.synthesis.pipeline.run import run_job
from tests.orch_env.synthesis.tours import tours_cache, tours_config


@pytest.mark.long
def test_a_job_on_ray_ends_with_the_same_bytes(tmp_path: Path, ray_local: None) -> None:
    pytest.importorskip("pandas", reason="Ray Data needs pandas: pip install 'ray[data]'")
    cache = tours_cache(tmp_path / "tours.db")
    for name in ("local", "ray"):
        run_job(tours_config(cache, tmp_path / name, runner=name, processes=2))
    for part in ("templates.jsonl", "tasks.jsonl", "tasks-test.jsonl", "README.md"):
        assert (tmp_path / "ray" / part).read_bytes() == (tmp_path / "local" / part).read_bytes()
