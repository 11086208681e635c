"""Models on disk: whole folders of safetensors, and clear words about everything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from orch_env.types import OrchError
from orch_train.config.model_folder import BUNDLED_MODELS
from orch_train.models.files import _TOKENIZER_CLASSES, load_tokenizer
from orch_train.models.load import load_model, save_model
from orch_train.storage.atomic_folder import written_whole
from tests.orch_train.small_models import byte_tokenizer, small_llama


def test_a_model_folder_round_trips_with_its_tokenizer(tmp_path: Path) -> None:
    model, tokenizer = small_llama(), byte_tokenizer()
    save_model(model, tmp_path / "m", {})
    tokenizer.save_pretrained(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert not again.training
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    text = "Größe <tool_call>\n{}"
    other = load_tokenizer(tmp_path / "m")
    assert other.encode(text) == tokenizer.encode(text)
    assert other.chat_template == tokenizer.chat_template
    assert load_model(tmp_path / "m", "bfloat16").dtype == torch.bfloat16


def test_nothing_is_read_from_a_pickle(tmp_path: Path) -> None:
    model = small_llama()
    save_model(model, tmp_path / "m", {})
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(OrchError, match="cannot be loaded"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize(
    ("path", "says"),
    [("no_such_model", "no folder and no bundled model"), ("./a/b/c", "no folder")],
)
def test_a_missing_model_is_one_clear_line(path: str, says: str) -> None:
    with pytest.raises(OrchError, match=says):
        load_model(path)
    with pytest.raises(OrchError, match=says):
        load_tokenizer(path)


def test_a_folder_that_is_no_model_and_a_damaged_one_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(OrchError, match=r"no config\.json"):
        load_model(tmp_path / "empty")
    save_model(small_llama(), tmp_path / "m", {})
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(OrchError, match="cannot be loaded"):
        load_model(tmp_path / "m")
    save_model(small_llama(), tmp_path / "m", {})
    incomplete = {k: v for k, v in load_file(weights).items() if "layers.1.mlp" not in k}
    save_file(incomplete, weights, metadata={"format": "pt"})
    with pytest.raises(OrchError, match=r"lacks 3 tensors.*layers\.1\.mlp"):
        load_model(tmp_path / "m")
    with pytest.raises(OrchError, match="float16"):
        load_model(tmp_path / "m", "float16")


def test_a_write_that_fails_leaves_the_old_folder_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "state"
    with written_whole(target) as partial:
        (partial / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), written_whole(target) as partial:
        (partial / "a").write_text("new")
        raise ZeroDivisionError
    assert (target / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(OrchError, match="in the way"), written_whole(tmp_path / "file"):
        pass


def test_the_tokenizer_is_the_one_that_auto_tokenizer_loads(tmp_path: Path) -> None:
    def compare(folder: Path) -> None:
        ours, theirs = (
            load_tokenizer(folder),
            AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
        )
        assert type(ours) is type(theirs)
        assert ours.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
        assert ours.init_kwargs == theirs.init_kwargs
        assert ours.chat_template == theirs.chat_template and ours.chat_template

    compare(BUNDLED_MODELS / "tiny")
    config, tokens = tmp_path / "config.json", tmp_path / "tokenizer_config.json"
    save_model(small_llama(), tmp_path, {})
    byte_tokenizer().save_pretrained(tmp_path)
    for model, tokenizer in [*_TOKENIZER_CLASSES, ("llama", "GPT2Tokenizer")]:
        config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": model}))
        named = {"tokenizer_class": tokenizer}
        tokens.write_text(json.dumps(json.loads(tokens.read_text()) | named))
        compare(tmp_path)
