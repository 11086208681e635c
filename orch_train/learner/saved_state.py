"""A learner's state on disk, the same whether one process wrote it or a group.

    model/                 a normal model folder, float32 weights (LoRA: merged, and model/adapter/)
    optimizer.safetensors  moments and step counters, full tensors by parameter name
    adapter.safetensors    LoRA only: A, B and the base weights that they are added to
    rng.safetensors        torch's random state
    learner.json           counters, and the rank and scale of adapters

Tensors are written whole, never as shards: any number of learners reads what any other number
wrote. The base weights of adapted layers are stored because ``W + B A - B A`` is not W to the last
bit, and the model that training started from may be gone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from orch_env.types import OrchError

LEARNER_SCHEMA = 1
_DAMAGE = (OSError, ValueError, TypeError, LookupError, RecursionError, SafetensorError)
COUNTERS = ("num_updates", "num_bad_gradients", "bad_in_a_row")
"""Of the optimizer; states of any age have them."""


@dataclass(frozen=True)
class SavedState:
    """What lies beside the model.

    Attributes:
        counters: of the optimizer.
        settings: ``lora``: rank, alpha and targets of the adapters, or ``None``.
        optimizer: the optimizer's tensors.
        rng: torch's random states by device.
        adapter: the adapters and what they are added to; empty without LoRA.
    """

    counters: Mapping[str, int]
    settings: Mapping[str, Any]
    optimizer: Mapping[str, Tensor]
    rng: Mapping[str, Tensor]
    adapter: Mapping[str, Tensor]


@dataclass(frozen=True)
class SavedOutline:
    """What every rank needs to know of a saved state that the first one has read.

    Attributes:
        counters: of the optimizer.
        optimizer: the optimizer's scalars; ``None`` in place of larger tensors.
        rng: torch's random states by device.
    """

    counters: Mapping[str, int]
    optimizer: Mapping[str, Tensor | None]
    rng: Mapping[str, Tensor]

    @classmethod
    def of(cls, saved: SavedState) -> SavedOutline:
        """The outline of a state."""
        scalars = {key: None if value.ndim else value for key, value in saved.optimizer.items()}
        return cls(saved.counters, scalars, saved.rng)


def write_state(folder: Path, state: SavedState) -> None:
    """Write everything but the model into an existing folder."""
    tensors = {"optimizer": state.optimizer, "rng": state.rng}
    if state.adapter:
        tensors["adapter"] = state.adapter
    for name, values in tensors.items():
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in values.items()},
            folder / f"{name}.safetensors",
        )
    record = {
        "schema": LEARNER_SCHEMA,
        "counters": dict(state.counters),
        "settings": dict(state.settings),
    }
    (folder / "learner.json").write_text(json.dumps(record, indent=2) + "\n")


def read_state(folder: str | os.PathLike[str]) -> SavedState:
    """Read it back.

    Raises:
        OrchError: the folder is missing, damaged, or of another schema.
    """
    source = Path(folder)
    for name in ("learner.json", "optimizer.safetensors", "rng.safetensors"):
        if not (source / name).is_file():
            raise OrchError(f"{str(folder)!r} is no saved learner: {name} is missing")
    adapter = source / "adapter.safetensors"
    try:
        record = json.loads((source / "learner.json").read_text())
        optimizer = load_file(source / "optimizer.safetensors")
        rng = load_file(source / "rng.safetensors")
        adapters = load_file(adapter) if adapter.is_file() else {}
        if not isinstance(record, dict) or record.get("schema") != LEARNER_SCHEMA:
            raise OrchError(f"saved learner {str(folder)!r} has an unknown schema")
        counters = {name: int(value) for name, value in dict(record["counters"]).items()}
        settings = dict(record["settings"])
        lacking = {*COUNTERS} - {*counters} or {"cpu"} - {*rng}
    except _DAMAGE as problem:
        why = f"{type(problem).__name__}: {problem}"
        raise OrchError(f"saved learner {str(folder)!r} is damaged: {why}") from problem
    if lacking:
        raise OrchError(f"saved learner {str(folder)!r} is damaged: it has no {min(lacking)!r}")
    return SavedState(counters, settings, optimizer, rng, adapters)


def random_state() -> dict[str, Tensor]:
    """Torch's random state."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Tensor]) -> None:
    """Undo :func:`random_state`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
