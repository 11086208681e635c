"""Load and save models of any standard architecture; `files` reads what lies beside the weights.

Only safetensors are read, and no code that a model brings, so loading a folder can never run
anything. What transformers would read from a pickle is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from orch_env.types import OrchError
from orch_train.models.files import or_clear_error, resolve_model
from orch_train.models.small_files import CONFIG, SmallFiles, write_small_files
from orch_train.storage.atomic_folder import written_whole

WEIGHTS = "model.safetensors"
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}

EXPORT_DTYPES = {**DTYPES, "float16": torch.float16}
"""What a model can be exported in; it is trained in one of the first two."""


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
            # Sampling is ours: what a model's own file says is neither used nor judged.
            generation_config=GenerationConfig(),  # type: ignore[no-untyped-call]
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
    folder: str | os.PathLike[str],
    files: SmallFiles,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """Write a model folder (safetensors and small files), whole or not at all.

    Args:
        model: gives the weights unless ``weights`` does, the dtype that ``config.json`` names, and
            all of ``config.json`` where ``files`` has none of this architecture.
        folder: where; an existing folder of that name is replaced.
        files: what is taken over from the folder that the model was loaded from; may be empty.
        weights: a state dict to write instead of the model's own (master weights, say).

    Returns:
        The folder.

    Raises:
        OrchError: the folder cannot be written.
    """
    with written_whole(folder) as partial:
        write_weights(model, partial, weights)
        write_files(model, partial, files)
    return Path(folder)


def write_weights(
    model: PreTrainedModel, folder: Path, weights: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Write safetensors under the names that the released model has, with an index if sharded.

    ``save_pretrained`` does the same and then writes its own, strictly checked reading of the
    configuration files.
    """
    state = dict(model.state_dict() if weights is None else weights)
    for name in model._keys_to_ignore_on_save or ():
        state.pop(name, None)
    state = remove_tied_weights_from_state_dict(state, model)
    state = revert_weight_conversion(model, state)
    split = split_torch_state_dict_into_shards(state)
    for name, tensors in split.filename_to_tensors.items():
        write_shard({tensor: state[tensor] for tensor in tensors}, folder / name)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index, indent=2) + "\n")


def write_shard(tensors: Mapping[str, torch.Tensor], file: Path) -> None:
    """Write one safetensors file, readable for whom its folder is."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, file, metadata={"format": "pt"})
    file.chmod(file.parent.stat().st_mode & 0o666)  # safetensors makes it private


def rescue_parts(
    model: PreTrainedModel, files: SmallFiles, weights: Mapping[str, torch.Tensor]
) -> dict[str, Callable[[Path], None]]:
    """A model's parts for :func:`~orch_train.storage.rescue.rescue`, written to ``model/``.

    Weights that cannot be written under the released model's names keep the names that they have
    in memory; those load as well for most architectures.
    """

    def write(place: Path) -> None:
        folder = place / "model"
        folder.mkdir(exist_ok=True)
        try:
            write_weights(model, folder, weights)
        except OSError:
            raise
        except Exception:  # transformers' conversions: what they raise is not known
            alone = {id(tensor): name for name, tensor in list(weights.items())[::-1]}
            write_shard({name: weights[name] for name in alone.values()}, folder / WEIGHTS)

    return {
        "the model": write,
        "what lies beside its weights": lambda place: write_files(model, place / "model", files),
    }


def write_files(model: PreTrainedModel, folder: Path, files: SmallFiles) -> None:
    """Write what lies beside the weights; see :func:`save_model`."""
    dtype = str(model.dtype).removeprefix("torch.")
    own = {"architectures": [type(model).__name__]}
    stored = json.loads(files.get(CONFIG, b"{}"))
    # A text model may be loaded out of a larger one's folder.
    if stored.get("model_type") != model.config.model_type:
        made = json.dumps({**own, **json.loads(model.config.to_json_string())})
        files = {**files, CONFIG: made.encode()}
    write_small_files(files, folder, dtype)
