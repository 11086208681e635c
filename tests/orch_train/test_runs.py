"""What a RUN argument means: a run, a checkpoint's run, or a folder with one run that fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from orch_env.types import OrchError
from orch_train.evaluation.policy import checkpoint_model
from orch_train.storage.runs import RunKind, kind_of, newest_model, one_run, runs_in, trained_run
from orch_train.viewer.run_list import RunList
from tests.orch_train.viewer_runs import make_quickstart, make_run, make_warm_start


def _with_checkpoints(run: Path, *steps: int) -> Path:
    for step in steps:
        (run / "checkpoints" / f"step_{step}" / "model").mkdir(parents=True)
        (run / "checkpoints" / f"step_{step}" / "metadata.json").write_text("{}")
        (run / "checkpoints" / f"step_{step}" / "config.yaml").write_text("{}")
    return run


def test_the_one_run_of_a_folder_is_meant_however_deep(tmp_path: Path) -> None:
    folder = make_quickstart(tmp_path / "all" / "quickstart")
    _with_checkpoints(folder / "grpo", 2, 10)
    assert runs_in(tmp_path / "all") == [folder / "grpo", folder / "sft"]
    for given in (tmp_path / "all", folder, folder / "grpo"):
        assert one_run(given) == folder / "grpo"
        assert newest_model(given) == folder / "grpo/checkpoints/step_10/model"
        assert checkpoint_model(str(given)) == str(folder / "grpo/checkpoints/step_10/model")
    assert trained_run(folder / "grpo/checkpoints/step_2") == folder / "grpo/checkpoints/step_2"


def test_a_warm_start_alone_lends_its_model_and_cannot_be_resumed(tmp_path: Path) -> None:
    run = make_warm_start(tmp_path / "base-sft")
    assert newest_model(run) == newest_model(tmp_path) == run / "model"
    with pytest.raises(OrchError, match=f"a warm start .*model.path={run / 'model'}"):
        one_run(run)


def test_a_warm_start_is_known_before_its_first_result(tmp_path: Path) -> None:
    for name in ("sft", "grpo"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("{}")
    (tmp_path / "sft" / "demonstrations.json").write_text("{}")
    assert kind_of(tmp_path / "sft") is RunKind.WARM_START
    assert one_run(tmp_path) == tmp_path / "grpo"
    with pytest.raises(OrchError, match="has no model yet"):
        newest_model(tmp_path / "grpo")


def test_a_model_that_was_exported_into_its_run_makes_it_no_warm_start(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "model").mkdir()
    assert kind_of(tmp_path) is RunKind.WARM_START
    (tmp_path / "checkpoints").mkdir()
    assert kind_of(tmp_path) is RunKind.GRPO


def test_several_runs_are_named_and_none_is_guessed(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "a b", 1), make_run(tmp_path / "c", 0)
    with pytest.raises(OrchError) as problem:
        one_run(tmp_path)
    assert str(first) in str(problem.value) and str(second) in str(problem.value)


def test_what_is_no_run_is_told_as_what_it_is(tmp_path: Path) -> None:
    run = _with_checkpoints(make_run(tmp_path / "quickstart", 1), 1)
    (tmp_path / "empty").mkdir()
    for given, told in (
        (run / "checkpoints" / "step_1", f"is a checkpoint: name its run, {run}"),
        (run / "metrics.jsonl", "is a file"),
        (tmp_path / "empty", "there is no run below it"),
        (tmp_path / "quikstart", "did you mean 'quickstart'"),
        (tmp_path / "no" / "such" / "place", "does not exist"),
    ):
        with pytest.raises(OrchError, match=told):
            one_run(given)
        with pytest.raises(OrchError, match=told):
            RunList(given)


def test_a_link_to_a_run_is_no_second_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "z", 1)
    (tmp_path / "runs" / "latest").symlink_to(run, target_is_directory=True)
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs", target_is_directory=True)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "runs", target_is_directory=True)
    assert runs_in(tmp_path / "runs") == [run]
    assert one_run(tmp_path / "elsewhere") == tmp_path / "elsewhere" / "z"
