"""How much memory a run will want, from the model's files alone: an estimate before the first step.

Counted exactly: parameters and what the optimizer keeps of each. Counted by formula: key-value
caches, activations and logits, which depend on lengths that are only bounded. The figures are
for planning; they leave out what the libraries themselves take.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from orch_env.types import OrchError
from orch_train.config import Settings

_BYTES = {"float32": 4, "bfloat16": 2}
_ACTIVATIONS_PER_LAYER = 16
"""Values of hidden size that one layer keeps per token for the backward pass, MLP included."""
_LIBRARIES = 500 << 20
"""Resident size of a process that has imported torch and transformers."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the estimate needs to know of a model."""

    parameters: int
    layers: int
    hidden: int
    vocabulary: int
    kv_values: int
    """Keys and values per token, over all layers."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes by part.

    Attributes:
        learner: parts of the driver process.
        runner: parts of one env runner.
        runners: number of runner processes; 0: the runner shares the driver's.
    """

    learner: dict[str, int]
    runner: dict[str, int]
    runners: int

    @property
    def total(self) -> int:
        """All processes together."""
        return sum(self.learner.values()) + max(1, self.runners) * sum(self.runner.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "learner": self.learner,
            "runner": self.runner,
            "num_env_runners": self.runners,
            "total": self.total,
        }

    def describe(self) -> str:
        """One line for a person."""
        runners = max(1, self.runners)
        return (
            f"about {_gib(self.total)}: learner {_gib(sum(self.learner.values()))} "
            f"({_parts(self.learner)}), {runners} runner{'s' * (runners > 1)} of "
            f"{_gib(sum(self.runner.values()))} ({_parts(self.runner)})"
        )


def estimate_memory(settings: Settings, folder: str) -> MemoryEstimate:
    """Estimate what a run of these settings takes.

    Args:
        settings: the whole configuration.
        folder: the model's folder on this machine.

    Raises:
        OrchError: the folder's files cannot be read.
    """
    shape = read_shape(Path(folder))
    each = _BYTES[settings.model.dtype]
    master = 0 if settings.model.dtype == "float32" else 4 * shape.parameters
    tokens = settings.learners.max_tokens_per_microbatch
    layers = 2 if settings.learners.gradient_checkpointing else shape.layers
    learner = {
        "weights": each * shape.parameters + master,
        "gradients": 4 * shape.parameters,
        "optimizer": 8 * shape.parameters,
        # float32 whatever the dtype: in bfloat16, norms and softmax keep upcast copies.
        "activations": 4 * _ACTIVATIONS_PER_LAYER * layers * shape.hidden * tokens,
        # float32, with gradient; rarely more than half of the tokens are actions.
        "logits": 2 * 4 * shape.vocabulary * tokens // 2,
        "weights in transit": each * shape.parameters,
        "libraries": _LIBRARIES,
    }
    envs = settings.env_runners.num_envs_per_env_runner
    runner = {
        "weights": each * shape.parameters,
        "kv cache": each * shape.kv_values * envs * settings.rollouts.max_context,
        "libraries": _LIBRARIES if settings.env_runners.num_env_runners else 0,
    }
    return MemoryEstimate(learner, runner, settings.env_runners.num_env_runners)


def read_shape(folder: Path) -> ModelShape:
    """A model's shape from ``config.json`` and the headers of its safetensors files.

    Raises:
        OrchError: a file is missing or not readable.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = config.get("text_config", config)
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise OrchError(f"model folder {str(folder)!r} has no safetensors files")
        heads = int(config["num_attention_heads"])
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        kv_heads = int(config.get("num_key_value_heads") or heads)
        head_size = int(config.get("head_dim") or hidden // heads)
        return ModelShape(
            parameters=sum(_parameters(file) for file in files),
            layers=layers,
            hidden=hidden,
            vocabulary=int(config["vocab_size"]),
            kv_values=2 * layers * kv_heads * head_size,
        )
    except (OSError, ValueError, KeyError, TypeError, struct.error) as problem:
        raise OrchError(
            f"model folder {str(folder)!r} cannot be read: {type(problem).__name__}: {problem}"
        ) from problem


def _parameters(file: Path) -> int:
    """Count the values of a safetensors file by its header: 8 bytes of length, then JSON."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return sum(prod(t["shape"]) for name, t in header.items() if name != "__metadata__")


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 1 << 30 else f"{count / 2**20:.0f} MiB"


def _parts(parts: dict[str, int]) -> str:
    """The parts that matter: those of at least a twentieth of the whole, largest first."""
    least = sum(parts.values()) / 20
    ranked = sorted(parts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {_gib(size)}" for name, size in ranked if size and size >= least)
