"""The quick start end to end, in miniature: the shipped model, world and configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orch_env import OrchError
from orch_train.cli.quickstart import CONFIG, MEASURES, run_quickstart, show_table
from orch_train.storage.run_folder import own_new

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "env_runners.num_env_runners=0",
    "training.iterations=1",
    "training.groups_per_batch=2",
    "training.group_size=2",
    "evaluation.num_tasks=4",
    "evaluation.evaluation_interval=1",
    "sft.num_tasks=8",
    "sft.max_steps=2",
    "sft.max_seconds=null",
    "reporting.tensorboard=false",
)


def test_it_measures_before_and_after_and_sets_an_earlier_run_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "quickstart"
    out.mkdir()
    (out / "summary.json").write_text("an earlier run")
    summary = run_quickstart(seed=3, out=out, config=ROOT / CONFIG, overrides=SMALL)
    assert json.loads((out / "summary.json").read_text()) == summary
    assert (tmp_path / "quickstart-2" / "summary.json").read_text() == "an earlier run"
    assert summary["seed"] == 3
    assert set(summary["seconds"]) == {"setup", "sft", "grpo"}
    for moment in ("before", "after"):
        assert summary[moment]["n"] == 4
        assert all(0.0 <= summary[moment][name] <= 1.0 for name in MEASURES)
    assert (out / "sft" / "model" / "config.json").is_file()
    assert (out / "grpo" / "checkpoints" / "step_1").is_dir()
    show_table(summary)
    assert "4 held-out tasks" in capsys.readouterr().out


def test_a_wrong_setting_is_found_before_an_earlier_run_is_touched(tmp_path: Path) -> None:
    out = tmp_path / "quickstart"
    out.mkdir()
    with pytest.raises(OrchError, match="did you mean 'lr'"):
        run_quickstart(seed=0, out=out, config=ROOT / CONFIG, overrides=("training.lrr=1",))
    assert list(tmp_path.iterdir()) == [out]


def test_a_run_that_goes_on_in_the_folder_is_not_set_aside(tmp_path: Path) -> None:
    out = tmp_path / "quickstart"
    with own_new(out / "grpo"), pytest.raises(OrchError, match="in use by process"):
        run_quickstart(seed=0, out=out, config=ROOT / CONFIG, overrides=SMALL)
    assert not list(tmp_path.iterdir())
