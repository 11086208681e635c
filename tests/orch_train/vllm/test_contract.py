"""The part of vLLM that the adapter stands on, held against the installed version.

When a new release moves something, this says what, before a rollout dies of it.
"""

from __future__ import annotations

import dataclasses
import inspect

from orch_train.engines.vllm import adapter
from orch_train.engines.vllm.settings import VllmSettings


def test_the_installed_version_is_a_supported_one() -> None:
    assert adapter.installed_version()


def test_every_call_of_the_adapter_exists_with_its_arguments() -> None:
    from vllm.v1.engine.async_llm import AsyncLLM

    calls: dict[str, set[str]] = {
        "from_engine_args": {"engine_args"},
        "generate": {"prompt", "sampling_params", "request_id"},
        "abort": {"request_id"},
        "resume_generation": set(),
        "init_weight_transfer_engine": {"request"},
        "start_weight_update": set(),
        "update_weights": {"request"},
        "finish_weight_update": {"weight_version"},
        "update_weight_version": {"new_version"},
        "get_weight_version": set(),
        "reset_prefix_cache": {"reset_running_requests"},
        "collective_rpc": {"method", "args"},
        "shutdown": {"timeout"},
    }
    for name, arguments in calls.items():
        there = set(inspect.signature(getattr(AsyncLLM, name)).parameters)
        assert arguments <= there, f"AsyncLLM.{name} lacks {arguments - there}"
    from vllm.v1.engine.core_client import AsyncMPClient

    pause = inspect.signature(AsyncMPClient.pause_scheduler_async).parameters
    assert {"mode", "clear_cache"} <= set(pause)


def test_engine_arguments_and_answers_have_the_fields_that_are_used() -> None:
    from vllm import AsyncEngineArgs
    from vllm.outputs import CompletionOutput, RequestOutput, WeightVersionSpan
    from vllm.sampling_params import SamplingParams as Theirs

    from orch_train.engines.protocol import SamplingParams

    known = {f.name for f in dataclasses.fields(AsyncEngineArgs)}
    for on_cpu in (True, False):
        given = adapter.engine_arguments(VllmSettings("m", kv_cache_gib=1.0), on_cpu)
        assert set(given) <= known
    answer = {f.name for f in dataclasses.fields(CompletionOutput)}
    assert {"token_ids", "logprobs", "finish_reason", "weight_versions"} <= answer
    assert {"version", "start", "end"} <= {f.name for f in dataclasses.fields(WeightVersionSpan)}
    assert "num_cached_tokens" in inspect.signature(RequestOutput.__init__).parameters
    params = adapter.sampling_params(SamplingParams(5, 0.5, (2, 3), 11))
    assert isinstance(params, Theirs)
    assert (params.max_tokens, params.temperature, params.seed) == (5, 0.5, 11)
    assert params.stop_token_ids == [2, 3] and params.ignore_eos and params.logprobs == 0


def test_the_transfer_engine_has_the_lifecycle_of_vllms_own() -> None:
    from vllm.distributed.weight_transfer.base import WeightTransferEngine
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    from orch_train.engines.vllm import worker

    given = adapter.engine_arguments(VllmSettings("m"), on_cpu=True)
    assert given["weight_transfer_config"].backend == worker.BACKEND
    assert WeightTransferEngineFactory._registry[worker.BACKEND]() is worker.SharedMemoryEngine
    assert not inspect.isabstract(worker.SharedMemoryEngine)
    for name in WeightTransferEngine.__abstractmethods__:
        ours = inspect.signature(getattr(worker.SharedMemoryEngine, name))
        theirs = inspect.signature(getattr(WeightTransferEngine, name))
        assert list(ours.parameters) == list(theirs.parameters)
