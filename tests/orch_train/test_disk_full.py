"""A full disk is one clear error; earlier checkpoints are whole, and the run goes on from them."""

from __future__ import annotations

import errno
import io
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from orch_env.types import OrchError
from orch_train import GRPO, GRPOConfig
from orch_train.algorithms.checkpoint import checkpoints
from orch_train.run import metrics_file
from orch_train.run.display import PlainDisplay
from orch_train.run.metrics_file import read_metrics
from orch_train.run.training_run import RunOutcome, TrainingRun
from orch_train.trajectory.store import RolloutStore
from tests.orch_train.replies import stored_samples


def _run(config: GRPOConfig, folder: Path, *, resume: bool = False) -> RunOutcome:
    display = PlainDisplay(config.settings.training.iterations, io.StringIO())
    return TrainingRun(config, folder, display, resume=resume).execute()


def _each_step_once(folder: Path, steps: int) -> None:
    assert [r["training_iteration"] for r in read_metrics(folder)] == list(range(1, steps + 1))
    store = RolloutStore(folder / "rollouts.db")
    stored = Counter((step, group, s.member) for step, group, s in stored_samples(store))
    store.close()
    assert set(stored.values()) == {1}
    assert len({group for _, group, _ in stored}) == 2 * steps  # and no group in two steps


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB: four checkpoints or so of the toy model."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_run_on_a_full_disk_ends_with_one_error_and_resumes_when_there_is_room(
    toy_config: GRPOConfig, small_disk: Path, ahead: int
) -> None:
    config = (
        toy_config.environment(env_config={"tasks": "abcdefghijklmnopqrst"})
        .training(iterations=10, max_staleness=ahead)
        .reporting(checkpoint_interval=1, keep_checkpoints=None)
    )
    folder = small_disk / "run"
    with pytest.raises(OrchError, match="cannot be written"):
        _run(config.copy(), folder)
    whole = checkpoints(folder)
    assert whole
    for _, checkpoint in whole:
        GRPO.from_checkpoint(checkpoint).stop()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert _run(config.copy(), folder, resume=True).result["training_iteration"] == 10
    _each_step_once(folder, 10)


def _no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_checkpoint_that_fails_half_way_leaves_the_one_before(
    toy_config: GRPOConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config.training(max_staleness=1, iterations=3)
    with config.copy().build_algo() as algo:
        algo.train()
        algo.save_to_path(tmp_path / "step")
        before = {p: p.read_bytes() for p in (tmp_path / "step").rglob("*") if p.is_file()}
        algo.train()
        # The learner's part is written by then.
        monkeypatch.setattr("orch_train.sampling.untrained_groups.UntrainedGroups.write", _no_space)
        with pytest.raises(OrchError, match=r"No space left.*earlier checkpoints are whole"):
            algo.save_to_path(tmp_path / "step")
    assert {p: p.read_bytes() for p in (tmp_path / "step").rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


@pytest.mark.parametrize("victim", ["rollouts", "metrics"])
def test_a_step_that_could_not_be_recorded_is_done_again_on_resume(
    toy_config: GRPOConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    """The checkpoint never runs ahead of what stands in the folder."""
    config = (
        toy_config.environment(env_config={"tasks": "abcdefghijkl"})
        .training(iterations=4)
        .reporting(checkpoint_interval=2)
    )
    steps = []

    def full_after_three(real: Any, problem: Exception) -> Any:
        def write(*args: Any) -> Any:
            steps.append(1)
            if len(steps) == 3:
                raise problem
            return real(*args)

        return write

    if victim == "metrics":
        as_json = metrics_file.plain

        def full_at_three(value: Any) -> Any:
            if isinstance(value, dict) and value.get("training_iteration") == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            return as_json(value)

        monkeypatch.setattr(metrics_file, "plain", full_at_three)
    else:
        damage = OperationalError("INSERT", {}, Exception("database or disk is full"))
        failing = full_after_three(Session.add_all, damage)
        monkeypatch.setattr(Session, "add_all", failing)
    with pytest.raises(OrchError, match=r"cannot be written.*(full|space)"):
        _run(config.copy(), tmp_path / "run")
    assert checkpoints(tmp_path / "run")[-1][0] == 2
    monkeypatch.undo()
    _run(config.copy(), tmp_path / "run", resume=True)
    _each_step_once(tmp_path / "run", 4)
