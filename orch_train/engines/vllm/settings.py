"""What ``rollouts.engine_config`` may say about a vLLM engine; light, without vLLM or torch.

Few settings under their own names, each with a default that is right on a CPU and on a GPU;
anything else of vLLM's own engine arguments can be set through ``engine_args``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orch_env.types import OrchError

_OURS = frozenset(
    {
        "model",
        "dtype",
        "max_model_len",
        "logprobs_mode",
        "worker_extension_cls",
        "weight_transfer_config",
        "enable_prefix_caching",
        "tensor_parallel_size",
        "gpu_memory_utilization",
        "max_num_seqs",
        "enforce_eager",
        "kv_cache_memory_bytes",
    }
)


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """Settings of one engine.

    Attributes:
        model: folder or hub id.
        dtype: ``float32`` or ``bfloat16``.
        max_model_len: most tokens of prompt and answer together; memory for at least this many
            must fit into the KV cache.
        tensor_parallel_size: GPUs that share one model; the runner needs as many
            (``env_runners.num_gpus_per_env_runner``).
        gpu_memory_utilization: share of a GPU's memory that vLLM may take, 0..1; lower it where
            the learner lives on the same GPU. Without meaning on a CPU.
        kv_cache_gib: size of the KV cache in GiB; ``None`` takes 1 on a CPU, and on a GPU what
            ``gpu_memory_utilization`` leaves.
        max_num_seqs: requests that are sampled at the same time; ``None`` takes the runner's
            number of environments.
        enforce_eager: no compilation and no CUDA graphs: starts within seconds, samples slower.
            ``None``: eager on a CPU, compiled on a GPU.
        enable_prefix_caching: keep the KV cache of a conversation for its next turn.
        num_threads: compute threads on a CPU.
        recompute_on_sync: in-flight messages compute their KV cache anew when the weights change;
            off, they go on with the old cache (cheaper; no single forward pass reproduces them).
        collective: the workers can be ranks of a collective transfer; a run sets it by
            ``env_runners.weight_sync``.
        check_weights: after each sync compare a checksum of every tensor that arrived.
        start_timeout_s: loading the model and warming up.
        sync_timeout_s: one weight sync.
        hang_timeout_s: an engine that has work and does not answer a heartbeat for this long
            counts as hung.
        engine_args: further arguments of ``vllm.AsyncEngineArgs``, as they are.
    """

    model: str
    dtype: str = "float32"
    max_model_len: int = 4096
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.85
    kv_cache_gib: float | None = None
    max_num_seqs: int = 64
    enforce_eager: bool | None = None
    enable_prefix_caching: bool = True
    num_threads: int = 1
    recompute_on_sync: bool = False
    collective: bool = False
    check_weights: bool = False
    start_timeout_s: float = 600.0
    sync_timeout_s: float = 300.0
    hang_timeout_s: float = 300.0
    engine_args: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("max_model_len", "tensor_parallel_size", "max_num_seqs", "num_threads"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise OrchError(
                    f"rollouts.engine_config.{name} must be a whole number of at least 1, "
                    f"got {getattr(self, name)!r}"
                )
        for name in ("start_timeout_s", "sync_timeout_s", "hang_timeout_s"):
            if not getattr(self, name) > 0:
                raise OrchError(f"rollouts.engine_config.{name} must be above 0 seconds")
        if self.kv_cache_gib is not None and not self.kv_cache_gib > 0:
            raise OrchError("rollouts.engine_config.kv_cache_gib must be above 0")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise OrchError("rollouts.engine_config.gpu_memory_utilization must lie in (0, 1]")
        taken = sorted(_OURS & set(self.engine_args or ()))
        if taken:
            raise OrchError(
                f"rollouts.engine_config.engine_args: {', '.join(taken)} have settings of their "
                "own in rollouts.engine_config, model or rollouts.max_context"
            )
