"""A trained model as an ordinary Hugging Face folder, in the dtype that it was trained in.

Checkpoints keep float32 weights, from which training goes on. They are written whole, so a run may
be exported while it trains.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from orch_env.types import OrchError
from orch_train.algorithms.checkpoint import checkpoints, read_metadata, with_stored
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.config.model_folder import model_folder
from orch_train.models.load import EXPORT_DTYPES, write_shard
from orch_train.models.small_files import CONFIG, read_small_files, write_small_files
from orch_train.storage.atomic_folder import written_whole
from orch_train.storage.rescue import first_line
from orch_train.storage.runs import trained_run

Progress = Callable[[int, int], None]
"""Called after each tensor with (tensors done, tensors in all)."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported.

    Attributes:
        path: the folder.
        step: training step of the weights; ``None`` for a warm start, which has no checkpoints.
        dtype: of the weights.
        files: names of the folder's files.
    """

    path: str
    step: int | None
    dtype: str
    files: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def export_model(
    run: Path,
    out: Path,
    *,
    step: int | None = None,
    dtype: str | None = None,
    merge_lora: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write a model folder, whole or not at all.

    Args:
        run: a run's folder, one of its checkpoints, or the folder of a warm start.
        out: the new folder.
        step: of the checkpoint; ``None``: the newest.
        dtype: ``float32``, ``bfloat16`` or ``float16``; ``None``: that of training.
        merge_lora: of a run with LoRA the whole model; otherwise its adapter alone, which loads
            onto the model that the run started from.
        progress: see :data:`Progress`.

    Raises:
        OrchError: there is no such checkpoint, ``out`` exists or cannot be written, or the
            checkpoint is damaged or, if it was asked for by its step, was deleted meanwhile.
    """
    if out.exists():
        raise OrchError(f"{str(out)!r} exists already: choose another --out")
    while True:
        model, found = _find(run, step)
        try:
            return _export(model, found, out, dtype, merge_lora, progress)
        except OrchError:
            # A run that trains deletes old checkpoints: the one that replaced this is as good.
            if _find(run, step)[1] == found:
                raise


def _export(
    model: Path,
    step: int | None,
    out: Path,
    dtype: str | None,
    merge_lora: bool,
    progress: Progress | None,
) -> Exported:
    settings = with_stored(GRPOConfig(), model.parent, None).settings
    dtype = dtype or settings.model.dtype
    adapter = None if merge_lora else model / "adapter"
    with written_whole(out) as partial, _clear_errors(model):
        if adapter is not None and adapter.is_dir():
            _write_adapter(adapter, model, partial, dtype, settings.model.path, progress)
        else:
            _write_weights(model, partial, dtype, progress)
            write_small_files(read_small_files(model), partial, dtype)
        files = [p.relative_to(partial).as_posix() for p in partial.rglob("*") if p.is_file()]
    return Exported(str(out), step, dtype, sorted(files))


@contextmanager
def _clear_errors(model: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as problem:
        raise OrchError(
            f"{problem.filename or model} is gone: a run that trains deletes old checkpoints "
            "(reporting.keep_checkpoints); export again"
        ) from problem
    except (SafetensorError, ValueError) as problem:
        raise OrchError(f"{model} cannot be exported: {first_line(problem)}") from problem


def _find(run: Path, step: int | None) -> tuple[Path, int | None]:
    """The model's folder and its step."""
    run = trained_run(run)
    if (run / "metadata.json").is_file():
        here = {read_metadata(run).training_iteration: run}
    else:
        here = dict(checkpoints(run))
    if here:
        chosen = max(here) if step is None else step
        if chosen in here:
            return here[chosen] / "model", chosen
        there = ", ".join(map(str, sorted(here)))
        raise OrchError(f"{str(run)!r} has no checkpoint of step {step}: it has those of {there}")
    if step is None and (run / "model" / CONFIG).is_file() and (run / "config.yaml").is_file():
        return run / "model", None
    raise OrchError(f"{str(run)!r} has no checkpoint yet")


def _write_weights(model: Path, out: Path, dtype: str, progress: Progress | None) -> None:
    shards = sorted(model.glob("*.safetensors"))
    if not shards:
        raise OrchError(f"{model} holds no *.safetensors")
    size = _cast(shards, out, dtype, progress)
    for index in model.glob("*.safetensors.index.json"):
        told = json.loads(index.read_text(encoding="utf-8"))
        told["metadata"] = {**told.get("metadata", {}), "total_size": size}
        (out / index.name).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _write_adapter(
    adapter: Path, model: Path, out: Path, dtype: str, base: str, progress: Progress | None
) -> None:
    """A and B, and the tokenizer; transformers and peft load the base beside them."""
    _cast(sorted(adapter.glob("*.safetensors")), out, dtype, progress)
    told = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    folder = model_folder(base)
    told["base_model_name_or_path"] = base if folder is None else str(folder.absolute())
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    (out / "adapter_config.json").write_text(text, encoding="utf-8")
    files = read_small_files(model)
    own = {n: files[n] for n in files if n not in (CONFIG, "generation_config.json")}
    write_small_files(own, out, dtype)


def _cast(shards: list[Path], out: Path, dtype: str, progress: Progress | None) -> int:
    """Write each shard in another dtype under the same name; returns the bytes of all tensors."""
    wanted = EXPORT_DTYPES[dtype]
    done = size = total = 0
    for shard in shards:
        with safe_open(shard, "pt") as source:
            total += len(source.keys())
    for shard in shards:
        tensors = {}
        with safe_open(shard, "pt") as source:
            for name in source.keys():  # noqa: SIM118 - it is no mapping
                tensor = source.get_tensor(name)
                cast = tensor.to(wanted) if tensor.is_floating_point() else tensor
                if not cast.isfinite().all() and tensor.isfinite().all():
                    raise OrchError(f"{name} has values beyond {dtype}: choose another --dtype")
                tensors[name] = cast
                size += cast.nbytes
                done += 1
                if progress is not None:
                    progress(done, total)
        write_shard(tensors, out / shard.name)
    return size
