"""A checkpoint that cannot be written costs no weights, and is one clear line."""

from __future__ import annotations

import errno
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orch_env.cli.main import main
from orch_env.types import OrchError
from orch_train import GRPO, GRPOConfig
from orch_train.algorithms.checkpoint import checkpoints
from orch_train.learner import learner as learner_module
from orch_train.learner.group.learner_rank import LearnerRank
from orch_train.learner.learner import Learner
from orch_train.models.files import load_tokenizer
from orch_train.models.load import load_model
from orch_train.run.display import PlainDisplay
from orch_train.run.training_run import TrainingRun
from orch_train.sft.trainer import SFTTrainer
from orch_train.storage.rescue import rescue
from tests.orch_train.small_models import small_llama


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def _run(config: GRPOConfig, folder: Path) -> str:
    """What a run that cannot be saved says: its error, then its notes."""
    said = io.StringIO()
    display = PlainDisplay(config.settings.training.iterations, said)
    with pytest.raises(OrchError) as told:
        TrainingRun(config, folder, display).execute()
    assert "\n" not in str(told.value)
    return f"{told.value}\n{said.getvalue()}"


def _raise(problem: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise problem

    return fail


def test_an_optimizer_that_cannot_be_written_costs_the_optimizer_alone(
    toy_config: GRPOConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of a class that no library documents, at the end of the run."""
    monkeypatch.setattr(learner_module, "write_state", _raise(AttributeError("no such thing")))
    told = _run(toy_config.training(iterations=2), tmp_path / "run")
    place = tmp_path / "run" / "rescued-step_2"
    assert "step_2' cannot be written (AttributeError: no such thing)" in told
    assert f"the model was saved in {str(place)!r} (the optimizer's state could not" in told
    assert load_tokenizer(place / "model").chat_template
    assert not torch.equal(
        load_model(place / "model").lm_head.weight,
        load_model(toy_config.settings.model.path).lm_head.weight,
    ), "the weights are the trained ones"
    assert checkpoints(tmp_path / "run") == []
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == []


def test_names_that_cannot_be_converted_are_kept_and_the_model_still_loads(
    toy_config: GRPOConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = _raise(RuntimeError("cannot revert\nfor many reasons"))
    monkeypatch.setattr("orch_train.models.load.revert_weight_conversion", failing)
    config = toy_config.training(iterations=2).reporting(checkpoint_interval=1)
    told = _run(config, tmp_path / "run")
    assert "step_1' cannot be written (RuntimeError: cannot revert)" in told
    assert told.count("cannot be written") == 1, "it is tried once, and told once"
    load_model(tmp_path / "run" / "rescued-step_1" / "model")
    assert (tmp_path / "run" / "rescued-step_1" / "optimizer.safetensors").is_file()


def test_without_room_in_the_runs_folder_the_weights_go_to_the_temporary_files(
    toy_config: GRPOConfig, tmp_path: Path, temporary_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    def full(tensors: Any, file: Path, **others: Any) -> None:
        if temporary_files not in file.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(tensors, file, **others)

    monkeypatch.setattr("orch_train.models.load.save_file", full)
    told = _run(toy_config.training(iterations=1), tmp_path / "run")
    place = temporary_files / "orch-run-rescued-step_1"
    assert "No space left on device" in told and f"was saved in {str(place)!r}" in told
    load_model(place / "model")
    assert not (tmp_path / "run" / "rescued-step_1").exists()


def test_an_evaluation_that_fails_at_the_end_costs_no_weights(
    toy_config: GRPOConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = _raise(OrchError("the held-out tasks are gone"))
    monkeypatch.setattr("orch_train.algorithms.grpo.evaluate_policy", failing)
    config = toy_config.training(iterations=1).evaluation(tasks="xy", evaluation_interval=1)
    told = _run(config, tmp_path / "run")
    assert told.startswith("the held-out tasks are gone\n")
    assert "step 1 is not recorded; the model was saved in" in told
    load_model(tmp_path / "run" / "rescued-step_1" / "model")


@pytest.mark.parametrize("becomes", ["moved", "replaced", "deleted"])
@pytest.mark.parametrize("when", ["in a step", "before the last checkpoint"])
def test_a_folder_that_is_moved_during_a_run_gets_no_second_one_under_its_name(
    toy_config: GRPOConfig,
    tmp_path: Path,
    temporary_files: Path,
    monkeypatch: pytest.MonkeyPatch,
    becomes: str,
    when: str,
) -> None:
    run, method = tmp_path / "run", "train" if when == "in a step" else "save_to_path"
    inner = getattr(GRPO, method)

    def moving(algo: GRPO, *args: Any) -> Any:
        result = inner(algo, *args)
        if run.exists():
            run.rename(tmp_path / "moved")
            if becomes == "replaced":
                run.mkdir()
            if becomes == "deleted":
                shutil.rmtree(tmp_path / "moved")
        return result

    monkeypatch.setattr(GRPO, method, moving)
    told = _run(toy_config.training(iterations=2).reporting(checkpoint_interval=1), run)
    assert told.startswith(f"run folder {str(run)!r} was moved, replaced or deleted while the run")
    assert "the model was saved in" in told
    assert run.exists() == (becomes == "replaced")
    assert not list(run.glob("checkpoints")) and not list(run.glob("*.json*"))
    place = run if becomes == "replaced" else temporary_files
    (rescued,) = place.glob("*rescued-step_*")
    load_model(rescued / "model")


def test_a_place_that_is_taken_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    told = rescue(tmp_path / "there", {"the model": lambda place: (place / "m").write_text("x")})
    assert "there-2" in told and list((tmp_path / "there").iterdir()) == []
    told = rescue(tmp_path / "new", {"the model": _raise(MemoryError())})
    assert told == "the model could not be saved elsewhere either (MemoryError)"
    assert not (tmp_path / "new").exists()


def test_a_learner_actor_outlives_whatever_a_library_raises_in_saving() -> None:
    """Any other error would end the group, and with it the weights that are nowhere else."""
    rank = LearnerRank(0, 1)
    rank.learner = Learner(small_llama(), GRPOConfig().settings)
    rank.learner.save = rank.learner.save_model = _raise(ValueError("odd"))  # type: ignore[method-assign]
    for save in (rank.save, rank.save_model):
        with pytest.raises(OrchError, match="ValueError: odd"):
            save("anywhere")


def test_a_warm_start_that_cannot_be_saved_says_where_its_weights_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = SFTTrainer(small_llama(), GRPOConfig().settings)
    monkeypatch.setattr("orch_train.models.load.write_small_files", _raise(KeyError("vocab")))
    with pytest.raises(OrchError, match=r"model' cannot be written \(KeyError: 'vocab'\); the mod"):
        trainer.save(tmp_path / "sft" / "model")
    assert (tmp_path / "sft" / "rescued" / "model" / "model.safetensors").is_file()


def test_a_warm_start_whose_evaluation_fails_keeps_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate(*_: Any, **__: Any) -> Any:
        raise OrchError("a runner is gone")

    monkeypatch.setattr("orch_train.sft.warm_start.evaluate_policy", evaluate)
    out = tmp_path / "sft"
    keys = ("max_steps=2", "eval_every=2", "num_tasks=4", "eval_at_start=false", f"out={out}")
    overrides = ["env_runners.num_env_runners=0", *(f"sft.{key}" for key in keys)]
    assert main(["sft", "configs/quickstart.yaml", *overrides]) == 2
    said = capsys.readouterr().err
    assert f"the model as of step 2 was saved in {out / 'model'}" in said.replace("\n", "")
    assert said.rstrip().endswith("orch: a runner is gone")
    load_model(out / "model")
