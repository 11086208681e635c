"""Load and save models and tokenizers of any standard architecture.

The hard decision: only safetensors and no remote code, so that a model folder can never run
anything; what the transformers library would take from a pickle is refused with its reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from orch_env.types import OrchError
from orch_train.atomic_folder import written_whole

BUNDLED = Path(__file__).parent / "data"
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_Loaded = TypeVar("_Loaded")


def resolve_model(path: str | os.PathLike[str]) -> str:
    """Turn a folder, a bundled model's name or a hub id into what transformers loads.

    Raises:
        OrchError: it is none of the three.
    """
    name = os.fspath(path)
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise OrchError(f"model folder {name!r} has no config.json: it is no saved model")
        return name
    if name.isidentifier() and (BUNDLED / name / "config.json").is_file():
        return str(BUNDLED / name)
    if _HUB_ID.fullmatch(name) and not Path(name).exists():
        return name
    names = sorted(p.parent.name for p in BUNDLED.glob("*/config.json"))
    raise OrchError(
        f"model {name!r} is no folder and no bundled model (bundled: {', '.join(names) or 'none'})"
    )


def load_model(
    path: str | os.PathLike[str],
    dtype: str = "float32",
    device: str | torch.device = "cpu",
    *,
    attention: str = "sdpa",
) -> PreTrainedModel:
    """Load a causal language model.

    Args:
        path: a model folder, a bundled name such as ``"tiny"``, or a hub id (``org/name``; the
            only case in which the network may be used).
        dtype: ``"float32"`` or ``"bfloat16"``.
        device: where the parameters go.
        attention: transformers' name of the attention implementation.

    Returns:
        The model in evaluation mode (dropout off).

    Raises:
        OrchError: nothing there, not safetensors, damaged or incomplete, or not a causal
            language model.
    """
    if dtype not in DTYPES:
        raise OrchError(f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPES)}")
    source = resolve_model(path)

    def load() -> tuple[PreTrainedModel, Mapping[str, Any]]:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=DTYPES[dtype],
            local_files_only=Path(source).is_dir(),
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation=attention,
            output_loading_info=True,
        )
        model, info = loaded
        return model, info

    model, info = _or_clear_error(load, f"model {os.fspath(path)!r}")
    missing = sorted(info["missing_keys"])
    if missing:
        # transformers fills them with random numbers and only warns.
        raise OrchError(
            f"model {os.fspath(path)!r} lacks {len(missing)} tensors, the first is {missing[0]!r}"
        )
    torch.nn.Module.to(model, torch.device(device))
    torch.nn.Module.eval(model)
    return model


def load_tokenizer(path: str | os.PathLike[str]) -> PreTrainedTokenizerBase:
    """Load the tokenizer that lies with a model.

    Raises:
        OrchError: nothing there, or it cannot be read without running its code.
    """
    source = resolve_model(path)

    def load() -> PreTrainedTokenizerBase:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, local_files_only=Path(source).is_dir(), trust_remote_code=False
        )
        return tokenizer

    return _or_clear_error(load, f"tokenizer of {os.fspath(path)!r}")


def load_stop_ids(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Ids that end a message according to the model's ``generation_config.json``.

    Llama 3.1 ends a message that calls a tool with ``<|eom_id|>``, which only this file says.

    Returns:
        The ids; none without such a file.

    Raises:
        OrchError: no model there, or the file is damaged.
    """
    source = resolve_model(path)
    local = Path(source).is_dir()
    if local and not (Path(source) / "generation_config.json").is_file():
        return ()

    def load() -> GenerationConfig:
        return GenerationConfig.from_pretrained(source, local_files_only=local)

    if local:
        found = _or_clear_error(load, f"generation_config.json of {os.fspath(path)!r}").eos_token_id
    else:
        try:
            found = load().eos_token_id
        except OSError:  # the hub says so when there is no such file
            return ()
    return tuple(found) if isinstance(found, list) else () if found is None else (int(found),)


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    folder: str | os.PathLike[str],
    weights: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """Write a model folder (config, safetensors, tokenizer), whole or not at all.

    Args:
        model: gives the configuration, and the weights unless ``weights`` does.
        tokenizer: written beside it; ``None`` leaves it out.
        folder: where; an existing folder of that name is replaced.
        weights: a state dict to write instead of the model's own (master weights, say).

    Returns:
        The folder.

    Raises:
        OrchError: the folder cannot be written.
    """
    with written_whole(folder) as partial:
        with _no_progress_bars():
            model.save_pretrained(partial, state_dict=dict(weights) if weights else None)
        if tokenizer is not None:
            tokenizer.save_pretrained(str(partial))
    return Path(folder)


def _or_clear_error(load: Callable[[], _Loaded], what: str) -> _Loaded:
    try:
        with _no_progress_bars():
            return load()
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as problem:
        # transformers wraps every cause in paragraphs of advice: the first line names the cause.
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        raise OrchError(f"{what} cannot be loaded: {lines[0]}") from problem


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep transformers' own bars off the terminal: a run has a display of its own."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
