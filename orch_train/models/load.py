"""Load and save models of any standard architecture; `files` reads what lies beside the weights.

Only safetensors are read, and no code that a model brings, so loading a folder can never run
anything. What transformers would read from a pickle is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from orch_env.types import OrchError
from orch_train.models.files import no_progress_bars, or_clear_error, resolve_model
from orch_train.storage.atomic_folder import written_whole

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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
        OrchError: there is none, or it is not safetensors, damaged or incomplete, or not a causal
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

    model, info = or_clear_error(load, f"model {os.fspath(path)!r}")
    missing = sorted(info["missing_keys"])
    if missing:
        # transformers fills them with random numbers and only warns.
        raise OrchError(
            f"model {os.fspath(path)!r} lacks {len(missing)} tensors, the first is {missing[0]!r}"
        )
    torch.nn.Module.to(model, torch.device(device))
    torch.nn.Module.eval(model)
    return model


def load_outline(
    path: str | os.PathLike[str], dtype: str = "float32", *, attention: str = "sdpa"
) -> PreTrainedModel:
    """Build a model's modules without its weights, from ``config.json`` alone.

    Args:
        path: as for :func:`load_model`.
        dtype: likewise.
        attention: likewise.

    Returns:
        The model in evaluation mode on torch's device ``meta``: shapes and names, no values.

    Raises:
        OrchError: there is none, or it is not a causal language model.
    """
    source = resolve_model(path)

    def build() -> PreTrainedModel:
        config = AutoConfig.from_pretrained(
            source, local_files_only=Path(source).is_dir(), trust_remote_code=False
        )
        make: Any = AutoModelForCausalLM.from_config
        with torch.device("meta"):
            model: PreTrainedModel = make(
                config,
                dtype=DTYPES[dtype],
                attn_implementation=attention,
                trust_remote_code=False,
            )
        return model

    model = or_clear_error(build, f"model {os.fspath(path)!r}")
    torch.nn.Module.eval(model)
    return model


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
        with no_progress_bars():
            model.save_pretrained(partial, state_dict=dict(weights) if weights else None)
        if tokenizer is not None:
            tokenizer.save_pretrained(str(partial))
    return Path(folder)
