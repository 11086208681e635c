"""What lies in a model's folder beside its weights: the tokenizer, stop tokens.

This module imports no torch, so a configuration is checked in a second. transformers'
`AutoTokenizer` would load torch only to choose a class. Where the folder's own files leave one
choice, that class is taken directly; it is the one that `AutoTokenizer` takes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from orch_env.types import OrchError
from orch_train.config.model_folder import BUNDLED_MODELS, is_hub_id, model_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# (model_type, tokenizer_class) -> the class that AutoTokenizer takes.
_TOKENIZER_CLASSES = {
    ("llama", "TokenizersBackend"): "TokenizersBackend",
    ("llama", "PreTrainedTokenizerFast"): "TokenizersBackend",
    ("qwen2", "Qwen2Tokenizer"): "Qwen2Tokenizer",
    ("qwen3", "Qwen2Tokenizer"): "Qwen2Tokenizer",
}

_Loaded = TypeVar("_Loaded")


def resolve_model(path: str | os.PathLike[str]) -> str:
    """What transformers loads for a folder, a bundled model's name or a hub id.

    Raises:
        OrchError: it is none of the three.
    """
    name = os.fspath(path)
    folder = model_folder(name)
    if folder is not None:
        if (folder / "adapter_config.json").is_file():
            # transformers would load the adapter as well, and freeze the model.
            raise OrchError(
                f"model folder {name!r} holds a LoRA adapter (adapter_config.json) beside the "
                "model: merge it first (peft's merge_and_unload), or move it elsewhere"
            )
        return str(folder)
    if Path(name).is_dir():
        raise OrchError(f"model folder {name!r} has no config.json: it is no saved model")
    if is_hub_id(name):
        return name
    names = sorted(p.parent.name for p in BUNDLED_MODELS.glob("*/config.json"))
    raise OrchError(
        f"model {name!r} is no folder and no bundled model (bundled: {', '.join(names) or 'none'})"
    )


def load_tokenizer(path: str | os.PathLike[str]) -> PreTrainedTokenizerBase:
    """Load the tokenizer that lies with a model.

    Raises:
        OrchError: there is none, or it cannot be read without running its code.
    """
    source = resolve_model(path)

    def load() -> PreTrainedTokenizerBase:
        name = _tokenizer_class(Path(source)) or "AutoTokenizer"
        tokenizer: PreTrainedTokenizerBase = getattr(
            import_module("transformers"), name
        ).from_pretrained(source, local_files_only=Path(source).is_dir(), trust_remote_code=False)
        return tokenizer

    return or_clear_error(load, f"tokenizer of {os.fspath(path)!r}")


def load_stop_ids(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Ids that end a message according to the model's ``generation_config.json``.

    Llama 3.1 ends a message that calls a tool with ``<|eom_id|>``, which only this file says.

    Returns:
        The ids; none without such a file.

    Raises:
        OrchError: no model there, or the file is damaged.
    """
    source = resolve_model(path)
    if Path(source).is_dir():
        file = Path(source) / "generation_config.json"
        if not file.is_file():
            return ()
        what = f"generation_config.json of {os.fspath(path)!r}"
        return or_clear_error(lambda: _ids(_read(file).get("eos_token_id")), what)
    from transformers import GenerationConfig

    try:
        return _ids(GenerationConfig.from_pretrained(source).eos_token_id)
    except OSError:  # the hub says so when there is no such file
        return ()


def load_embedding_rows(path: str | os.PathLike[str]) -> int | None:
    """How many token ids a model has an embedding for; ``None`` if its configuration is silent.

    Raises:
        OrchError: no model there, or its ``config.json`` is damaged.
    """
    source = resolve_model(path)

    def load() -> int | None:
        if Path(source).is_dir():
            config = _read(Path(source) / "config.json")
        else:
            from transformers import PretrainedConfig

            config, _ = PretrainedConfig.get_config_dict(source)
        text = config.get("text_config")
        rows = (text if isinstance(text, dict) else config).get("vocab_size")
        return rows if isinstance(rows, int) else None

    return or_clear_error(load, f"config.json of {os.fspath(path)!r}")


def or_clear_error(load: Callable[[], _Loaded], what: str) -> _Loaded:
    """What ``load`` returns.

    Raises:
        OrchError: it failed; of transformers' paragraphs of advice the line with the cause.
    """
    try:
        with no_progress_bars():
            return load()
    except OrchError:
        raise
    except Exception as problem:  # transformers, tokenizers, safetensors: each as it likes
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        # A first line that ends so says nothing by itself.
        said = " ".join(lines[: 4 if lines[0].rstrip().endswith(":") else 1])
        raise OrchError(f"{what} cannot be loaded: {said}") from problem


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers' own bars off the terminal: a run has a display of its own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _tokenizer_class(folder: Path) -> str | None:
    """The class of the tokenizer, where the folder's files leave no choice."""
    files = [folder / name for name in ("config.json", "tokenizer_config.json", "tokenizer.json")]
    if not all(file.is_file() for file in files):
        return None
    model, tokenizer = _read(files[0]), _read(files[1])
    if "auto_map" in tokenizer:
        return None
    kinds = (str(model.get("model_type")), str(tokenizer.get("tokenizer_class")))
    return _TOKENIZER_CLASSES.get(kinds)


def _ids(found: Any) -> tuple[int, ...]:
    if found is None:
        return ()
    return tuple(int(i) for i in found) if isinstance(found, list) else (int(found),)


def _read(file: Path) -> dict[str, Any]:
    data = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ValueError(f"{file.name} holds no object")
    return data
