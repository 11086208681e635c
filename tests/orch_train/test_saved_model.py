"""What loads can be saved: every small file is taken over as it is, and loads again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import load_file
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from orch_env.types import OrchError
from orch_train.models.files import load_stop_ids, load_tokenizer
from orch_train.models.load import load_model, save_model
from orch_train.models.memory import read_shape
from orch_train.models.small_files import check_small_files, read_small_files, with_dtype
from tests.orch_train.small_models import byte_tokenizer, small_llama


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model folder to be made odd."""
    folder = tmp_path / "source"
    tokenizer = byte_tokenizer()
    save_model(small_llama(vocabulary=len(tokenizer)), folder, {})
    tokenizer.save_pretrained(folder)
    return folder


def _json(name: str, **keys: Any) -> Callable[[Path], None]:
    """Lay keys over a JSON file of the folder."""

    def change(folder: Path) -> None:
        file = folder / name
        data = json.loads(file.read_text()) if file.is_file() else {}
        file.write_text(json.dumps({**data, **keys}, indent=4))

    return change


def _custom_code(folder: Path) -> None:
    _json("config.json", auto_map={"AutoModelForCausalLM": "modeling_own.OwnModel"})(folder)
    (folder / "modeling_own.py").write_text("raise SystemExit('this code must never run')\n")


def _named_templates(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ messages }}\n")


def _template_in_the_configuration(folder: Path) -> None:
    text = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    named = [{"name": "default", "template": text}, {"name": "tool_use", "template": "{{ tools }}"}]
    _json("tokenizer_config.json", chat_template=named)(folder)


def _legacy_tokens(folder: Path) -> None:
    _json("special_tokens_map.json", eos_token={"content": "<|im_end|>", "lstrip": True})(folder)
    _json("added_tokens.json", **{"<|im_end|>": 2})(folder)


def _tokenizer_json_alone(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()


def _vocabulary_and_merges(folder: Path) -> None:
    """A byte-level BPE in the files that came before tokenizer.json."""
    told = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = told["model"]["vocab"] | {t["content"]: t["id"] for t in told["added_tokens"]}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer.json").unlink()
    _json("tokenizer_config.json", tokenizer_class="GPT2Tokenizer")(folder)


def _read_only(folder: Path) -> None:
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)


def _like_a_hub_cache(folder: Path) -> None:
    """Every file is a link to a blob."""
    blobs = folder.with_name("blobs")
    folder.rename(blobs)
    folder.mkdir()
    for number, file in enumerate(sorted(blobs.iterdir())):
        blob = file.rename(blobs / str(number))
        (folder / file.name).symlink_to(os.path.relpath(blob, folder))


def _sharded(folder: Path) -> None:
    model = load_model(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1


ODD: dict[str, Callable[[Path], None]] = {
    "sampling parameters without sampling": _json(
        "generation_config.json", do_sample=False, temperature=0.6, top_p=0.9, eos_token_id=[2, 0]
    ),
    "generation: lists, nulls, unknown keys": _json(
        "generation_config.json",
        temperature=None,
        bad_words_ids=[[5], [6, 7]],
        suppress_tokens=[1, 2],
        of_a_later_version={"deep": [None, 1e-06]},
    ),
    "generation: contradictions": _json(
        "generation_config.json", num_beams=1, early_stopping=True, num_return_sequences=4
    ),
    "sampling parameters in config.json": _json(
        "config.json", temperature=0.7, do_sample=True, max_length=4096
    ),
    "unknown keys": _json("config.json", of_a_later_version=[{"a": 1e-06}], torch_dtype="float16"),
    "custom code": _custom_code,
    "a folder of named templates": _named_templates,
    "named templates in tokenizer_config.json": _template_in_the_configuration,
    "legacy token files": _legacy_tokens,
    "tokenizer.json alone": _tokenizer_json_alone,
    "vocabulary and merges": _vocabulary_and_merges,
    "read-only": _read_only,
    "links, as in a hub's cache": _like_a_hub_cache,
    "sharded": _sharded,
    "licence": lambda folder: (folder / "LICENSE").write_bytes(b"\xff free\r\n") and None,
}


@pytest.mark.parametrize("odd", ODD)
def test_a_model_that_loads_can_be_saved_when_its_folder_is_gone(
    source: Path, tmp_path: Path, odd: str
) -> None:
    ODD[odd](source)
    model, tokenizer = load_model(source, "bfloat16"), load_tokenizer(source)
    stops = load_stop_ids(source)
    checked = check_small_files(source)
    files = read_small_files(source)
    assert sorted(checked) == sorted(files)
    source.chmod(0o755)
    shutil.rmtree(source)
    saved = save_model(model, tmp_path / "saved", files)
    for name, content in files.items():
        written = (saved / name).read_bytes()
        if name == "config.json":
            assert json.loads(written) == json.loads(with_dtype(content, "bfloat16"))
        else:
            assert written == content
    weights = load_model(saved, "bfloat16").state_dict()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    again = load_tokenizer(saved)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.chat_template == tokenizer.chat_template
    assert again.encode("Größe <|im_end|>") == tokenizer.encode("Größe <|im_end|>")
    assert load_stop_ids(saved) == stops
    assert os.access(saved / "config.json", os.W_OK)


def test_a_configuration_changes_only_where_it_names_another_dtype() -> None:
    odd = b'{ "torch_dtype":"bfloat16","eps":1e-06,\r\n "deep":{"b":[1.50]} }'
    assert with_dtype(odd, "bfloat16") == odd
    changed = json.loads(with_dtype(odd, "float32"))
    assert changed == json.loads(odd) | {"torch_dtype": "float32"}
    assert json.loads(with_dtype(b"{}", "float32")) == {"dtype": "float32"}


def test_weights_and_what_trainers_leave_are_not_taken_over(source: Path) -> None:
    before = set(read_small_files(source))
    for name in (
        *("pytorch_model.bin", "optimizer.pt", "model.gguf", "model.safetensors.index.json"),
        *("README.md", ".gitattributes", "trainer_state.json"),
    ):
        (source / name).write_text("{}")
    (source / "original").mkdir()
    (source / "original" / "params.json").write_text("{}")
    (source / "nowhere.json").symlink_to("gone")
    assert set(read_small_files(source)) == before


def test_a_model_with_an_adapter_beside_it_is_refused_before_it_is_frozen(source: Path) -> None:
    (source / "adapter_config.json").write_text("{}")
    for load in (load_model, load_tokenizer, check_small_files):
        with pytest.raises(OrchError, match=r"adapter_config\.json.*merge"):
            load(source)


@pytest.mark.parametrize("stop", [[[1]], [None], {"a": 1}, "abc"])
def test_stop_tokens_that_are_none_are_one_clear_line(source: Path, stop: Any) -> None:
    _json("generation_config.json", eos_token_id=stop)(source)
    with pytest.raises(OrchError, match=r"generation_config\.json of .* cannot be loaded: "):
        check_small_files(source)


@pytest.mark.parametrize(
    ("name", "content"), [("added_tokens.json", "[]"), ("tokenizer.json", '{"model": []}')]
)
def test_whatever_a_tokenizers_files_make_a_library_raise_is_one_clear_line(
    source: Path, name: str, content: str
) -> None:
    (source / name).write_text(content)
    with pytest.raises(OrchError, match=r"tokenizer of .* cannot be loaded: ") as caught:
        load_tokenizer(source)
    assert "\n" not in str(caught.value)


def test_a_missing_tokenizer_is_told_with_its_reason(source: Path) -> None:
    (source / "tokenizer.json").unlink()
    with pytest.raises(OrchError, match="cannot be loaded: ") as caught:
        load_tokenizer(source)
    assert not str(caught.value).endswith(":")


def test_a_configuration_of_the_wrong_types_is_one_clear_line(source: Path) -> None:
    _json("config.json", max_position_embeddings="1024")(source)
    with pytest.raises(OrchError, match=r"model .* cannot be loaded: .*max_position_embeddings"):
        load_model(source)


@pytest.mark.parametrize("size", [-1, 1, -5000])
def test_weights_that_were_cut_off_in_a_download_are_found_without_loading_them(
    source: Path, size: int
) -> None:
    file = source / "model.safetensors"
    read_shape(source)
    content = file.read_bytes()
    file.write_bytes(content + b"x" if size > 0 else content[:size])
    with pytest.raises(OrchError, match=r"model\.safetensors is cut off or damaged"):
        read_shape(source)


def test_a_tokenizer_that_needs_more_than_its_small_files_is_found_before_training(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orch_train.models.small_files._MOST_BYTES", 3000)
    with pytest.raises(OrchError, match="could not be saved so that it loads again"):
        check_small_files(source)


def test_weights_keep_the_names_of_the_released_model(tmp_path: Path) -> None:
    """In memory the experts of a layer are one tensor; a released folder has one per expert."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "moe_intermediate_size": 8, "head_dim": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    experts = {"num_experts": 4, "num_experts_per_tok": 2}
    config = Qwen3MoeConfig(vocab_size=32, num_hidden_layers=2, **sizes, **heads, **experts)
    Qwen3MoeForCausalLM(config).save_pretrained(tmp_path / "theirs")
    model = load_model(tmp_path / "theirs")
    ours = save_model(model, tmp_path / "ours", read_small_files(tmp_path / "theirs"))
    theirs = tmp_path / "theirs"
    one, other = (f / "model.safetensors" for f in (ours, theirs))
    names = [set(load_file(file)) for file in (one, other)]
    assert names[0] == names[1] and any("experts.3." in name for name in names[0])
    again = load_model(ours).state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())


def test_many_weights_are_written_in_shards_with_an_index(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(state: dict[str, torch.Tensor]) -> Any:
        return split_torch_state_dict_into_shards(state, max_shard_size="20KB")

    monkeypatch.setattr("orch_train.models.load.split_torch_state_dict_into_shards", small)
    model = load_model(source)
    saved = save_model(model, tmp_path / "saved", read_small_files(source))
    assert len(list(saved.glob("model-*.safetensors"))) > 1
    weights = load_model(saved).state_dict()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
