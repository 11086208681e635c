"""`orch export`: a run's model in the dtype of training, beside the files it came with."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from orch_env.cli.main import main
from orch_env.types import OrchError
from orch_train import GRPO, GRPOConfig
from orch_train.algorithms import export
from orch_train.algorithms.checkpoint import checkpoint_folder
from orch_train.algorithms.export import export_model


@pytest.fixture(scope="module", params=["plain", "lora"])
def run(request: pytest.FixtureRequest, toy_model: Path, tmp_path_factory: Any) -> Path:
    """A run's folder with the checkpoints of steps 0 and 1, trained in bfloat16."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    config = (
        GRPOConfig()
        .environment(
            "tests.orch_train.toy_env:orch_test/Letters-v0", env_config={"tasks": "abcdef"}
        )
        .model(str(toy_model), dtype="bfloat16", lora_rank=2 * (request.param == "lora"))
        .rollouts(max_tokens_per_turn=12, max_context=256)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=16)
        .training(groups_per_batch=2, group_size=4, lr=3e-2, advantage="group_std")
    )
    with GRPO(config) as algo:
        algo.save_to_path(checkpoint_folder(folder, 0))
        algo.train()
        algo.save_to_path(checkpoint_folder(folder, 1))
    (folder / "config.yaml").write_text(config.to_yaml())
    return folder


def test_the_whole_model_is_exported_as_it_was_trained(
    run: Path, tmp_path: Path, toy_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", str(run), "--merge-lora", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "path": str(out),
        "step": 1,
        "dtype": "bfloat16",
        "files": sorted(p.name for p in out.iterdir()),
    }
    exported = load_file(out / "model.safetensors")
    assert {tensor.dtype for tensor in exported.values()} == {torch.bfloat16}
    master = load_file(checkpoint_folder(run, 1) / "model" / "model.safetensors")
    assert all(torch.equal(exported[name], master[name].bfloat16()) for name in master)
    model = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert model.dtype == torch.bfloat16
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (out / name).read_bytes() == (toy_model / name).read_bytes()
    mode = stat.S_IMODE((out / "model.safetensors").stat().st_mode)
    assert mode == stat.S_IMODE((out / "config.json").stat().st_mode)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_lora_run_exports_its_adapter_unless_it_is_merged(
    run: Path, tmp_path: Path, toy_model: Path
) -> None:
    done = export_model(run, tmp_path / "own", dtype="float32")
    merged = export_model(run, tmp_path / "merged", dtype="float32", merge_lora=True)
    if not (checkpoint_folder(run, 1) / "model" / "adapter").exists():
        assert done.files == merged.files and "config.json" in done.files
        return
    assert "adapter_model.safetensors" in done.files and "config.json" not in done.files
    told = json.loads((tmp_path / "own" / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == str(toy_model)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        logits = [
            AutoModelForCausalLM.from_pretrained(tmp_path / name).eval()(ids).logits
            for name in ("own", "merged")
        ]
        base = AutoModelForCausalLM.from_pretrained(toy_model).eval()(ids).logits
    # The base that was trained on was rounded to bfloat16.
    rounding, trained = (float((a - logits[1]).abs().max()) for a in (logits[0], base))
    assert rounding < 0.05 < trained / 3
    assert len(AutoTokenizer.from_pretrained(tmp_path / "own")) > 100


def test_an_earlier_step_another_dtype_a_checkpoint_and_a_warm_start(
    run: Path, tmp_path: Path, toy_model: Path
) -> None:
    start = load_file(toy_model / "model.safetensors")
    first = export_model(run, tmp_path / "a", step=0, dtype="float16", merge_lora=True)
    assert (first.step, first.dtype) == (0, "float16")
    halves = load_file(tmp_path / "a" / "model.safetensors")
    lora = (checkpoint_folder(run, 0) / "model" / "adapter").exists()
    for name, value in start.items():  # adapters are trained beside a base of bfloat16
        assert torch.equal(halves[name], (value.bfloat16() if lora else value).half())
    assert json.loads((tmp_path / "a" / "config.json").read_text())["dtype"] == "float16"
    assert export_model(checkpoint_folder(run, 0), tmp_path / "b").step == 0
    warm = tmp_path / "warm"
    warm.mkdir()
    (warm / "model").symlink_to(toy_model)
    (warm / "config.yaml").write_text((run / "config.yaml").read_text())
    assert export_model(warm, tmp_path / "c").step is None


def test_shards_stay_shards(run: Path, tmp_path: Path) -> None:
    model = checkpoint_folder(run, 1) / "model"
    other = tmp_path / "run" / "model"
    AutoModelForCausalLM.from_pretrained(model).save_pretrained(other, max_shard_size="60KB")
    (other.parent / "config.yaml").write_text((run / "config.yaml").read_text())
    done = export_model(other.parent, tmp_path / "out")
    shards = [name for name in done.files if name.endswith(".safetensors")]
    assert len(shards) > 1 and "model.safetensors.index.json" in done.files
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert again.dtype == torch.bfloat16


def test_a_checkpoint_that_a_live_run_deletes_is_replaced_by_the_newest(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = tmp_path / "live"
    shutil.copytree(checkpoint_folder(run, 0), checkpoint_folder(live, 0), symlinks=True)
    (live / "config.yaml").write_text((run / "config.yaml").read_text())
    deleted: list[Path] = []
    real = export.read_small_files

    def just_then(model: Path) -> Any:
        if not deleted:
            shutil.copytree(checkpoint_folder(run, 1), checkpoint_folder(live, 1), symlinks=True)
            deleted.append(checkpoint_folder(live, 0))
            shutil.rmtree(deleted[0])
        return real(model)

    monkeypatch.setattr(export, "read_small_files", just_then)
    assert export_model(live, tmp_path / "out").step == 1
    assert deleted and AutoTokenizer.from_pretrained(tmp_path / "out")
    with pytest.raises(OrchError, match="no checkpoint of step 0"):
        export_model(live, tmp_path / "other", step=0)


def test_what_cannot_be_exported_is_one_clear_line_and_leaves_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: str) -> str:
        before = sorted(os.listdir(tmp_path))
        assert main(["export", *arguments]) == 2
        told = capsys.readouterr().err
        assert sorted(os.listdir(tmp_path)) == before and told.count("\n") == 1
        return told

    (tmp_path / "there").mkdir()
    out = ("--out", str(tmp_path / "out"))
    assert "exists already" in refuse(str(run), "--out", str(tmp_path / "there"))
    assert "no checkpoint of step 7: it has those of 0, 1" in refuse(str(run), "--step", "7", *out)
    several = [tmp_path / "runs" / name for name in ("a", "b")]
    for folder in several:
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
    named = ", ".join(map(str, several))
    assert f"name one of them: {named}" in refuse(str(tmp_path / "runs"), *out)
    assert "does not exist" in refuse(str(tmp_path / "nowhere"), *out)
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / "config.yaml").write_text((run / "config.yaml").read_text())
    assert "has no checkpoint yet" in refuse(str(tmp_path / "young"), *out)
    assert "'float8'" in refuse(str(run), "--dtype", "float8", *out)
    damaged = tmp_path / "young" / "model"
    damaged.mkdir()
    (damaged / "config.json").write_text("{}")
    (damaged / "model.safetensors").write_bytes(b"short")
    assert "cannot be exported" in refuse(str(tmp_path / "young"), *out)
    (damaged / "model.safetensors").unlink()
    (damaged / "model.safetensors").symlink_to("gone")
    assert "is gone: a run that trains deletes old checkpoints" in refuse(
        str(tmp_path / "young"), *out
    )
