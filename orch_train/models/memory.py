"""How much memory a run will need: an estimate from the model's files alone.

Parameters and the optimizer's state are counted exactly. Key-value caches, activations and logits
depend on lengths, so they are computed from the bounds on these.
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
from orch_train.config.weight_route import shares_weights

_BYTES = {"float32": 4, "bfloat16": 2}
_HIDDEN_KEPT = 7
_MLP_KEPT = 3
"""Values of hidden size and of the MLP's size that one layer keeps per token for the backward
pass: with these the estimate was within a fifth of the peaks that `benchmarks.learner_memory`
measured."""
_LOGITS_AT_ONCE = 1 << 26
"""`orch_train.learner.logprobs.MAX_LOGITS`, here without importing torch."""
_LOGITS_COPIES = 4
"""Of a chunk of logits: itself, its gradient, and two on the way to entropy, in float32."""
_GATHERED_LAYERS = 2
"""Layers of a sharded model that a rank holds completely: one in use, one on its way."""
_LIBRARIES = 600 << 20
"""Resident size of a process that has imported torch and transformers."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the estimate needs to know of a model."""

    parameters: int
    layers: int
    hidden: int
    vocabulary: int
    intermediate: int
    kv_values: int
    """Keys and values per token, over all layers."""
    matrices: tuple[tuple[str, int], ...]
    """Of the body's linear layers: last part of the name, inputs and outputs added up."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes by part.

    Attributes:
        learner: parts of one learner; of several the first, which alone reads and writes whole
            weights and checkpoints.
        runner: parts of one env runner.
        runners: number of runner processes; 0: the runner shares the driver's.
        learners: number of learner processes; 1: the learner is the driver.
    """

    learner: dict[str, int]
    runner: dict[str, int]
    runners: int
    learners: int = 1

    @property
    def total(self) -> int:
        """All processes together."""
        first = sum(self.learner.values())
        others = (self.learners - 1) * (first - self.learner["weights in transit"])
        return first + others + max(1, self.runners) * sum(self.runner.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "learner": self.learner,
            "runner": self.runner,
            "num_env_runners": self.runners,
            "num_learners": self.learners,
            "total": self.total,
        }

    def describe(self) -> str:
        """One line for a person."""
        runners = max(1, self.runners)
        many = f"{self.learners} learners, the first of" if self.learners > 1 else "learner"
        return (
            f"about {_gib(self.total)}: {many} {_gib(sum(self.learner.values()))} "
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
    envs = settings.env_runners.num_envs_per_env_runner
    runner = {
        "weights": 0 if shares_weights(settings) else each * shape.parameters,
        "kv cache": each * shape.kv_values * envs * settings.rollouts.max_context,
        "libraries": _LIBRARIES if settings.env_runners.num_env_runners else 0,
    }
    return MemoryEstimate(
        _learner(settings, shape),
        runner,
        settings.env_runners.num_env_runners,
        max(1, settings.learners.num_learners),
    )


def _learner(settings: Settings, shape: ModelShape) -> dict[str, int]:
    """Parts of one learner at the peak of an update, and what handing weights out adds to it."""
    each, size = _BYTES[settings.model.dtype], max(1, settings.learners.num_learners)
    adapters = _adapters(settings, shape)
    trained = adapters or shape.parameters
    frozen = each * shape.parameters if adapters else 0
    # Alone, a bfloat16 model has float32 masters beside its weights; shards are the masters.
    live = each * trained if each < 4 and size == 1 else 0
    parts = {
        "weights": (frozen + 4 * trained) // size + live,
        # A bfloat16 model's own gradients stand beside their float32 sum until they are added.
        "gradients": 4 * trained // size + live,
        "optimizer": 8 * trained // size,
        "activations": _activations(settings, shape),
        "logits": _logits(settings, shape),
    }
    if size > 1:
        parts["gathered weights"] = _gathered(shape, each, 0 if adapters else 4)
    if settings.training.kl_coeff > 0 and (settings.model.reference or not adapters):
        parts["reference"] = each * shape.parameters
    working = parts["gradients"] + parts["activations"] + parts["logits"]
    # A checkpoint is written from whole float32 weights; the first of several learners also
    # gathers the optimizer's state. The model that it reads and sends at the start is less.
    whole = 4 * shape.parameters + (8 * trained if size > 1 else 0)
    parts["weights in transit"] = max(0, whole - working)
    parts["libraries"] = _LIBRARIES
    return parts


def _adapters(settings: Settings, shape: ModelShape) -> int:
    """Parameters of all LoRA adapters; 0 without LoRA."""
    targets = settings.model.lora_targets
    widths = (w for name, w in shape.matrices if targets == ("all-linear",) or name in targets)
    return settings.model.lora_rank * sum(widths)


def _activations(settings: Settings, shape: ModelShape) -> int:
    tokens = settings.learners.max_tokens_per_microbatch
    layer = _HIDDEN_KEPT * shape.hidden + _MLP_KEPT * shape.intermediate
    if settings.learners.gradient_checkpointing:
        values = shape.layers * shape.hidden + layer
    else:
        values = shape.layers * layer
    return _BYTES[settings.model.dtype] * values * tokens


def _logits(settings: Settings, shape: ModelShape) -> int:
    """Rarely more than half of the tokens are actions."""
    tokens = settings.learners.max_tokens_per_microbatch
    return 4 * _LOGITS_COPIES * min(shape.vocabulary * tokens // 2, _LOGITS_AT_ONCE)


def _gathered(shape: ModelShape, each: int, gradient: int) -> int:
    """What a rank holds completely: the embedding (and its gradient), and a few layers."""
    embedding = shape.vocabulary * shape.hidden
    layer = (shape.parameters - embedding) // shape.layers
    return (each + gradient) * (embedding + _GATHERED_LAYERS * layer)


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
            intermediate=int(config.get("intermediate_size") or 4 * hidden),
            kv_values=2 * layers * kv_heads * head_size,
            matrices=tuple(matrix for file in files for matrix in _matrices(file)),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as problem:
        raise OrchError(
            f"model folder {str(folder)!r} cannot be read: {type(problem).__name__}: {problem}"
        ) from problem


def _parameters(file: Path) -> int:
    """Count the values of a safetensors file."""
    return sum(prod(shape) for shape in _header(file).values())


def _matrices(file: Path) -> list[tuple[str, int]]:
    """The linear layers of a model's body: what LoRA can adapt."""
    found = []
    for name, shape in _header(file).items():
        layer = name.removesuffix(".weight").rpartition(".")[2]
        if len(shape) == 2 and "embed" not in layer and layer != "lm_head":
            found.append((layer, sum(shape)))
    return found


def _header(file: Path) -> dict[str, list[int]]:
    """Shapes by name, from a safetensors header: 8 bytes of length, then JSON."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    size = 8 + length + max((t["data_offsets"][1] for t in header.values()), default=0)
    if size != file.stat().st_size:
        raise ValueError(f"{file.name} is cut off or damaged: copy or download it again")
    return {name: list(t["shape"]) for name, t in header.items()}


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 1 << 30 else f"{count / 2**20:.0f} MiB"


def _parts(parts: dict[str, int]) -> str:
    """The parts that matter: those of at least a twentieth of the whole, largest first."""
    least = sum(parts.values()) / 20
    ranked = sorted(parts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {_gib(size)}" for name, size in ranked if size and size >= least)
