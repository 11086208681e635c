"""Builds the vLLM engine by name, from the options of a configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from orch_train.engines.vllm.adapter import installed_version
from orch_train.engines.vllm.settings import VllmSettings


def make_vllm_engine(
    model: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    max_model_len: int = 4096,
    tensor_parallel_size: int = 1,
    gpu_memory_utilization: float = 0.85,
    kv_cache_gib: float | None = None,
    max_num_seqs: int = 64,
    enforce_eager: bool | None = None,
    enable_prefix_caching: bool = True,
    num_threads: int = 1,
    recompute_on_sync: bool = False,
    collective: bool = False,
    check_weights: bool = False,
    start_timeout_s: float = 600.0,
    sync_timeout_s: float = 300.0,
    hang_timeout_s: float = 300.0,
    engine_args: Mapping[str, Any] | None = None,
) -> Any:
    """Start a vLLM engine; the arguments are those of `VllmSettings`.

    Raises:
        OrchError: vLLM is missing or of an unsupported version, there is no such model, or a
            setting is out of range.
        EngineError: vLLM could not start.
    """
    installed_version()
    from orch_train.engines.vllm.engine import VllmEngine
    from orch_train.models.files import resolve_model

    return VllmEngine(
        VllmSettings(
            model=resolve_model(model),
            dtype=dtype,
            max_model_len=max_model_len,
            tensor_parallel_size=tensor_parallel_size,
            gpu_memory_utilization=gpu_memory_utilization,
            kv_cache_gib=kv_cache_gib,
            max_num_seqs=max_num_seqs,
            enforce_eager=enforce_eager,
            enable_prefix_caching=enable_prefix_caching,
            num_threads=num_threads,
            recompute_on_sync=recompute_on_sync,
            collective=collective,
            check_weights=check_weights,
            start_timeout_s=start_timeout_s,
            sync_timeout_s=sync_timeout_s,
            hang_timeout_s=hang_timeout_s,
            engine_args=dict(engine_args or {}),
        )
    )
