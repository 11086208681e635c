"""The driver is killed with SIGKILL in the middle of asynchronous training, and started again.

No finished group that a checkpoint holds is lost, none is trained twice, and none is left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from orch_train import GRPOConfig
from orch_train.algorithms.checkpoint import checkpoints, read_untrained
from orch_train.run.metrics_file import read_metrics
from orch_train.sampling.untrained_groups import UntrainedGroups
from orch_train.storage.run_folder import write_text
from orch_train.trajectory.store import RolloutStore
from tests.orch_train.replies import stored_samples

_DRIVER = """
import sys
import threading
from pathlib import Path
from orch_train import GRPOConfig
from orch_train.run.display import PlainDisplay
from orch_train.run.training_run import TrainingRun

class Waiting(PlainDisplay):
    def show(self, result):
        super().show(result)
        if result["training_iteration"] == int(sys.argv[3]):
            threading.Event().wait()

config = GRPOConfig().from_yaml(sys.argv[1])
folder = Path(sys.argv[2])
display = Waiting(config.settings.training.iterations)
TrainingRun(config, folder, display, resume=folder.exists()).execute()
"""
_TASKS = "abcdefghijklmnopqrstuvwxyzABCDEF"


def _driver(config: Path, folder: Path, last: int = 0) -> subprocess.Popen[bytes]:
    """Train in another process; ``last`` is a step that it does not get past."""
    command = [sys.executable, "-c", _DRIVER, str(config), str(folder), str(last)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)


def _newest_with_finished(folder: Path) -> UntrainedGroups | None:
    """What the newest checkpoint holds that holds finished groups; later ones are taken away."""
    for _, checkpoint in reversed(checkpoints(folder)):
        held = read_untrained(checkpoint)
        if held is not None and held.finished:
            return held
        shutil.rmtree(checkpoint)
    return None


@pytest.mark.parametrize(
    ("ahead", "kills"),
    [
        (2, (4,)),
        pytest.param(2, (3, 8, 11), marks=pytest.mark.long),
        pytest.param(0, (3, 8), marks=pytest.mark.long),
    ],
)
def test_a_killed_driver_goes_on_where_its_checkpoint_stands(
    toy_config: GRPOConfig, tmp_path: Path, ahead: int, kills: tuple[int, ...]
) -> None:
    config = (
        toy_config.environment(env_config={"tasks": _TASKS})
        .training(iterations=16, max_staleness=ahead)
        .reporting(checkpoint_interval=1, keep_checkpoints=None)
    )
    write_text(tmp_path / "config.yaml", config.to_yaml())
    folder = tmp_path / "run"
    kept: dict[str, list[tuple[int, ...]]] = {}
    for goal in kills:
        driver = _driver(tmp_path / "config.yaml", folder, goal + 2)
        while not any(step >= goal for step, _ in checkpoints(folder)):
            assert driver.poll() is None, "the driver ended by itself"
            time.sleep(0.005)  # watching another process, which says nothing
        driver.kill()
        driver.wait()
        if ahead:
            held = _newest_with_finished(folder)
            assert held is not None
            for group in (reply.group for reply in held.finished):
                kept[group.id] = [tuple(t.ids_T.tolist()) for t in group.samples]
    assert _driver(tmp_path / "config.yaml", folder).wait() == 0

    assert [r["training_iteration"] for r in read_metrics(folder)] == list(range(1, 17))
    store = RolloutStore(folder / "rollouts.db")
    rows = [(step, name, tuple(s.ids_T.tolist())) for step, name, s in stored_samples(store)]
    store.close()
    steps = Counter((step, group) for step, group, _ in rows)
    assert set(steps.values()) == {4}  # whole groups
    assert sorted(group for _, group in steps) == sorted(f"0:letter-{c}" for c in _TASKS)
    for name, episodes in kept.items():
        assert [ids for _, group, ids in rows if group == name] == episodes
