"""`RolloutEngine` over vLLM.

Nothing is repaired. A dead core, a core that stopped answering, and a weight sync that failed half
way all end in the same state, a failed engine whose every call raises `EngineError`; the runner is
then replaced as a whole, engine and weights from scratch. So an engine either serves a version it
was given in full, or it serves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from time import perf_counter
from typing import Any

import torch

from orch_env.types import OrchError
from orch_train.engines.protocol import BadRequest, EngineError, SamplingParams, TokenOutput
from orch_train.engines.vllm.adapter import VllmAdapter
from orch_train.engines.vllm.settings import VllmSettings
from orch_train.models.files import resolve_model
from orch_train.weight_sync.buckets import Weights
from orch_train.weight_sync.collective import BroadcastJob, TransferError
from orch_train.weight_sync.shared_memory import Manifest, SharedWriter


class VllmEngine:
    """Serves a model through vLLM's ``AsyncLLM``, in processes of its own.

    Results do not repeat bit for bit: requests have seeds of their own, but the numbers behind
    them depend in the last digits on which requests shared a batch.

    Args:
        settings: see `VllmSettings`.

    Raises:
        OrchError: vLLM is missing, of another version, or does not know an argument.
        EngineError: it could not start.

    Example:
        >>> engine = VllmEngine(VllmSettings("models/my-model"))           # doctest: +SKIP
        >>> await engine.sync(weights, version=0)                          # doctest: +SKIP
        >>> out = await engine.generate([1, 2, 3], SamplingParams(16), "episode-0")
        ...                                                                # doctest: +SKIP
    """

    def __init__(self, settings: VllmSettings) -> None:
        self._settings = settings
        self._version = 0
        self._syncs = self._prompt_tokens = self._cached_tokens = 0
        self._paused_s = 0.0
        self._numbers = itertools.count()
        self._active: dict[str, str] = {}
        self._writer = SharedWriter()
        self._ready = self._closed = False
        self._problem: str | None = None
        self._failed = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._aborts: set[asyncio.Task[None]] = set()
        try:
            self._adapter = VllmAdapter(settings)
        except OrchError:
            raise
        except Exception as problem:  # anything that vLLM raises while it starts
            raise EngineError(f"vLLM could not start: {_first_line(problem)}") from problem

    @property
    def version(self) -> int:
        return self._version

    @property
    def stats(self) -> dict[str, float]:
        """The counters of `orch_train.metrics.engines.COUNTERS`; prompts count when answered."""
        return {
            **self._adapter.steps.counts,
            "syncs": self._syncs,
            "paused_s": self._paused_s,
            "prompt_tokens": self._prompt_tokens,
            "prefilled_tokens": self._prompt_tokens - self._cached_tokens,
        }

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingParams, request_id: str
    ) -> TokenOutput:
        """Sample one message.

        Raises:
            BadRequest: bad arguments.
            EngineError: a second request of an episode that has one, a failed or closed engine.
            OrchError: a temperature that vLLM does not sample at.
        """
        # A sync that is going on ends first: what begins now reads no older cache.
        async with self._one_at_a_time:
            self._check(prompt_ids, sampling, request_id)
            await self._start()
            name = f"{request_id}#{next(self._numbers)}"
            self._active[request_id] = name
            # Same version, other weights (a restored run) must not share a cache either.
            salt = f"{self._version}.{self._syncs}"
        self._watch = self._watch or asyncio.ensure_future(self._watch_heartbeat())
        try:
            output, cached = await self._or_failure(
                self._adapter.generate(prompt_ids, sampling, name, salt), request_id
            )
            self._prompt_tokens += len(prompt_ids)
            self._cached_tokens += cached
            return output
        finally:
            if self._active.get(request_id) == name:
                del self._active[request_id]

    def release(self, request_id: str) -> None:
        """The episode is over. A request that still runs is aborted.

        Its cached prefix needs no care: vLLM evicts the least recently used blocks.
        """
        name = self._active.pop(request_id, None)
        if name is not None and self._problem is None and not self._closed:
            abort = asyncio.ensure_future(self._adapter.abort(name))
            self._aborts.add(abort)
            abort.add_done_callback(self._aborts.discard)

    async def sync(self, weights: Weights, version: int) -> None:
        """Serve new weights from now on.

        Running messages are frozen meanwhile and go on with the new weights, on their old cache
        unless ``recompute_on_sync`` is set.

        Raises:
            EngineError: any failure; the engine is of no further use then.
        """
        async with self._one_at_a_time:
            self._check_usable()
            async with self._within(self._settings.sync_timeout_s, "a weight sync"):
                await self._start()
                # The worker reads only during an update, and the last one is over: what it reads
                # is never half written, and the engine goes on sampling meanwhile.
                manifest = self._writer.write(
                    weights,
                    getattr(torch, self._settings.dtype),
                    checksums=self._settings.check_weights,
                )
                await self._update(version, [manifest])

    async def receive(self, job: BroadcastJob, version: int) -> None:
        """Receive new weights together with all other runners, and serve them from now on.

        Raises:
            TransferError: the transfer did not begin; the engine serves what it served.
            EngineError: any other failure; the engine is of no further use then.
        """
        async with self._one_at_a_time:
            self._check_usable()
            async with self._within(self._settings.sync_timeout_s, "a weight sync"):
                await self._start()
                refused = await self._adapter.accept(job)
                if refused is None:
                    await self._update(version, [])
        if refused is not None:
            raise TransferError(refused)

    def close(self) -> None:
        """End the engine's processes; waiting requests fail. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._fail("the vLLM engine was closed")
        if self._watch is not None:
            with contextlib.suppress(RuntimeError):  # its event loop is gone already
                self._watch.cancel()
        self._adapter.shutdown()
        self._writer.close()

    async def _update(self, version: int, parts: Sequence[Manifest]) -> None:
        """Freeze running messages, serve the new weights, and go on."""
        started = perf_counter()
        await self._adapter.pause()
        await self._adapter.update_weights(str(version), parts)
        self._version = version
        self._syncs += 1
        if self._settings.recompute_on_sync:
            await self._adapter.forget_cache()
        await self._adapter.resume()
        self._paused_s += perf_counter() - started

    async def _start(self) -> None:
        """What needs the event loop, once; the caller holds the lock."""
        if self._ready:
            return
        async with self._within(self._settings.start_timeout_s, "starting"):
            await self._adapter.end_with_this_process()
            await self._adapter.init_weight_transfer()
            await self._adapter.label(str(self._version))
        self._ready = True

    def _check(self, prompt: Sequence[int], sampling: SamplingParams, request_id: str) -> None:
        self._check_usable()
        if request_id in self._active:
            raise EngineError(f"request {request_id!r}: it has a request already")
        problem = None
        if not len(prompt):
            problem = "the prompt is empty"
        elif min(prompt) < 0 or max(prompt) >= self._adapter.vocabulary:
            problem = f"token ids must lie in 0..{self._adapter.vocabulary - 1}"
        elif sampling.max_tokens < 1 or not 0 <= sampling.temperature < float("inf"):
            problem = f"bad sampling parameters: {sampling}"
        elif len(prompt) + sampling.max_tokens > self._settings.max_model_len:
            problem = (
                f"{len(prompt)} prompt tokens and {sampling.max_tokens} new ones exceed the "
                f"engine's {self._settings.max_model_len} (rollouts.engine_config.max_model_len)"
            )
        if problem is not None:
            raise BadRequest(f"request {request_id!r}: {problem}")

    def _check_usable(self) -> None:
        if self._problem is None and self._adapter.dead:
            self._fail("vLLM's engine core is dead")
        if self._problem is not None:
            raise EngineError(self._problem)

    async def _or_failure(
        self, answer: Coroutine[Any, Any, tuple[TokenOutput, int]], request_id: str
    ) -> tuple[TokenOutput, int]:
        """The answer, or the engine's failure if that comes first."""
        request = asyncio.ensure_future(answer)
        failure = asyncio.ensure_future(self._failed.wait())
        try:
            await asyncio.wait((request, failure), return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                raise EngineError(f"request {request_id!r}: {self._problem}")
            return request.result()
        except (EngineError, OrchError, asyncio.CancelledError):
            raise
        except Exception as problem:  # whatever vLLM raises is infrastructure
            if self._adapter.dead:
                self._fail("vLLM's engine core died")
            # vLLM's own checks of a request raise these; what fails in its core arrives as others.
            bad = isinstance(problem, (TypeError, ValueError)) and not self._adapter.dead
            kind = BadRequest if bad else EngineError
            raise kind(f"request {request_id!r}: {_first_line(problem)}") from problem
        finally:
            failure.cancel()
            if not request.done():
                request.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await asyncio.wait((request,), timeout=1.0)

    @asynccontextmanager
    async def _within(self, seconds: float, what: str) -> AsyncIterator[None]:
        """Whatever fails or takes longer inside leaves a failed engine and an `EngineError`."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except asyncio.CancelledError:
            # Nobody knows how far it came.
            self._fail(f"{what} was cancelled in the middle")
            raise
        except TimeoutError as problem:
            self._fail(f"{what} took more than {seconds:g} s")
            raise EngineError(str(self._problem)) from problem
        except Exception as problem:
            self._fail(f"{what} failed: {_first_line(problem)}")
            raise EngineError(str(self._problem)) from problem

    async def _watch_heartbeat(self) -> None:
        """Ask the engine for a sign of life while it has work; a hung step never answers."""
        patience = self._settings.hang_timeout_s
        while not self._closed and self._problem is None:
            if self._active:
                try:
                    await asyncio.wait_for(self._adapter.heartbeat(), patience)
                except TimeoutError:
                    self._fail(f"vLLM gave no sign of life for {patience:g} s: it counts as hung")
                except Exception as problem:  # a dead core, however it shows
                    self._fail(f"vLLM's engine core does not answer: {_first_line(problem)}")
            await asyncio.sleep(patience / 4)

    def _fail(self, problem: str) -> None:
        if self._problem is None:
            self._problem = problem
            self._failed.set()
            if not self._closed:
                self._adapter.kill()  # what is hung or half loaded holds memory for nothing


def _first_line(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {lines[0]}" if lines else type(problem).__name__


def make_vllm_engine(model: str | os.PathLike[str], **settings: Any) -> VllmEngine:
    """Start a vLLM engine.

    Args:
        model: what :func:`orch_train.models.files.resolve_model` takes.
        settings: the other fields of `VllmSettings`.

    Raises:
        OrchError: vLLM is missing or of an unsupported version, there is no such model or setting,
            or a setting is out of range.
        EngineError: vLLM could not start.
    """
    unknown = settings.keys() - {field.name for field in fields(VllmSettings)}
    if unknown:
        raise OrchError(
            f"rollouts.engine_config: vLLM engines have no {', '.join(sorted(unknown))}"
        )
    return VllmEngine(VllmSettings(resolve_model(model), **settings))
