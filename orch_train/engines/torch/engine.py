"""The torch engine: a transformers model, KV-cached and batched, with no further dependency.

Requests that wait on the event loop are gathered and advanced together by one worker thread, so
the loop stays free. Between two runs of decoding steps the driver lets every coroutine that got its
message come back with the next one before it admits anything. With environments that answer at
once, which requests share a batch thus depends on the requests alone and not on timing, and a run
can be repeated bit for bit.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import nn

from orch_env.types import OrchError
from orch_train.engines.protocol import BadRequest, EngineError, SamplingParams, TokenOutput
from orch_train.engines.torch.slot_batch import SlotBatch
from orch_train.engines.torch.slot_table import Row
from orch_train.models.load import load_model
from orch_train.weight_sync.buckets import LiveWeights, Weights

# New requests join a running batch once there are this many of them for each running one:
# reading prompts costs a pass of its own, so a few are worth waiting for.
_ADMIT_SHARE = 0.125
# The event loop runs this many times without a new request before the batch goes on, and at most
# that many times.
_QUIET_TURNS = 4
_MOST_TURNS = 64


@dataclass(slots=True, eq=False)
class _Request:
    row: Row
    answer: asyncio.Future[TokenOutput]


class TorchEngine:
    """Serves a ``transformers`` causal language model with full attention.

    Args:
        model: the model; the engine owns it from now on (its attention is switched, its weights
            are overwritten by :meth:`sync`).
        max_batch: conversations that are held at the same time, sampling or waiting for their
            environment; beyond that the longest unused one is dropped and read again.
        prefill_tokens: most prompt tokens, padding included, of one pass.
        num_threads: torch threads of the worker; ``None`` leaves torch's setting.
        version: label of the weights that the model holds now.

    Raises:
        OrchError: the model has layers that are not plain full attention, or a number is below 1.

    Example:
        >>> engine = TorchEngine(model)                                    # doctest: +SKIP
        >>> out = await engine.generate([1, 2, 3], SamplingParams(16), "episode-0")
        ...                                                                # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        *,
        max_batch: int = 128,
        prefill_tokens: int = 8192,
        num_threads: int | None = None,
        version: int = 0,
    ) -> None:
        if max_batch < 1 or prefill_tokens < 1:
            raise OrchError("max_batch and prefill_tokens must be at least 1")
        model.eval()
        self._batch = SlotBatch(model, max_slots=max_batch, prefill_tokens=prefill_tokens)
        self._batch.version = version
        self._max_batch = max_batch
        config = model.config.get_text_config()
        self._vocabulary = int(config.vocab_size)
        self._max_length = int(config.max_position_embeddings)
        self._worker = ThreadPoolExecutor(
            1,
            thread_name_prefix="torch-engine",
            initializer=partial(_use_threads, num_threads),
        )
        self._shared = False  # whether its weights are a learner's own
        # `_lock` is held while the model computes or its weights change. Whoever wants it for
        # something else than sampling takes `_control` first, and the worker, which looks at it
        # after every step, gives way.
        self._lock = threading.Lock()
        self._control = threading.Lock()
        self._closed = False
        self._should_admit = False
        self._waiting: dict[str, _Request] = {}
        self._running: dict[str, _Request] = {}
        self._to_read_again: list[Row] = []
        self._counts = dict.fromkeys(("waiting", "kv_usage", "syncs", "paused_s"), 0.0)
        self._released: deque[str] = deque()
        self._driver: asyncio.Task[None] | None = None

    @property
    def version(self) -> int:
        return self._batch.version

    @property
    def stats(self) -> dict[str, float]:
        """The counters of `orch_train.metrics.engines.COUNTERS`, and ``cache_bytes``.

        A conversation holds its slot between its messages too: ``kv_usage`` is the share of slots
        that are held. ``cache_bytes`` is what keys and values take now.
        """
        return {
            **self._counts,
            "steps": self._batch.steps,
            "running": self._batch.row_steps,
            "prompt_tokens": self._batch.prompt_tokens,
            "prefilled_tokens": self._batch.prefilled_tokens,
            "cache_bytes": self._batch.cache_bytes,
        }

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingParams, request_id: str
    ) -> TokenOutput:
        """Sample one message.

        Raises:
            BadRequest: bad arguments.
            EngineError: a second request of an episode that has one, a closed engine, or a
                failure of the model.
        """
        self._check(prompt_ids, sampling, request_id)
        loop = asyncio.get_running_loop()
        if self._driver is None or self._driver.done():
            self._driver = loop.create_task(self._drive())
        elif self._driver.get_loop() is not loop:
            raise EngineError("the torch engine is in use on another event loop")
        request = _Request(Row(request_id, prompt_ids, sampling), loop.create_future())
        self._waiting[request_id] = request
        self._should_admit = self._worth_admitting()
        try:
            return await request.answer
        except asyncio.CancelledError:
            self._abandon(request)
            raise

    def release(self, request_id: str) -> None:
        self._released.append(request_id)

    async def sync(self, weights: Weights, version: int) -> None:
        """Serve new weights from now on.

        Messages that are being sampled go on with the new weights, on a cache computed anew by
        them; each token carries the version that sampled it.

        Args:
            weights: names and shapes of the model's state dict; any floating type and device.
            version: label of these weights.

        Raises:
            EngineError: names or shapes do not fit (then nothing was changed), or the engine is
                closed.
        """
        with self._between_steps():
            if self._closed:
                raise EngineError("the torch engine is closed")
            started = perf_counter()
            load_weights(self._batch.model, weights, in_place=not self._shared)
            self._shared = isinstance(weights, LiveWeights)
            self._batch.version = version
            self._to_read_again += self._batch.forget()
            self._counts["syncs"] += 1
            self._counts["paused_s"] += perf_counter() - started

    def close(self) -> None:
        """Free the cache and stop the worker; waiting requests fail. May be called twice."""
        if self._closed:
            return
        self._closed = True
        with self._between_steps():
            self._batch.close()
        self._worker.shutdown(wait=True)

    def _check(self, prompt: Sequence[int], sampling: SamplingParams, request_id: str) -> None:
        if self._closed:
            raise EngineError(f"request {request_id!r}: the torch engine is closed")
        if request_id in self._running or request_id in self._waiting:
            raise EngineError(f"request {request_id!r}: it has a request already")
        problem = None
        if not len(prompt):
            problem = "the prompt is empty"
        elif min(prompt) < 0 or max(prompt) >= self._vocabulary:
            problem = f"token ids must lie in 0..{self._vocabulary - 1}"
        elif sampling.max_tokens < 1 or not 0 <= sampling.temperature < float("inf"):
            problem = f"bad sampling parameters: {sampling}"
        elif len(prompt) + sampling.max_tokens > self._max_length:
            problem = (
                f"{len(prompt)} prompt tokens and {sampling.max_tokens} new ones exceed the "
                f"model's {self._max_length} positions"
            )
        if problem is not None:
            raise BadRequest(f"request {request_id!r}: {problem}")

    async def _drive(self) -> None:
        """Advance all requests until there is none left."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._let_requests_come()
                if self._closed:
                    raise EngineError("the torch engine was closed")
                if not self._waiting and not self._running:
                    return
                admitted = self._take_waiting()
                for row in await loop.run_in_executor(self._worker, self._work, admitted):
                    request = self._running.get(row.request_id)
                    if request is None or request.row is not row:
                        continue  # it was abandoned
                    del self._running[row.request_id]
                    if not request.answer.done():
                        request.answer.set_result(row.output())
        except asyncio.CancelledError:
            self._fail("the torch engine's event loop was stopped", None)
            raise
        except Exception as problem:  # whatever torch or the model raises is infrastructure
            known = isinstance(problem, EngineError)
            self._fail(str(problem) if known else f"sampling failed: {problem!r}", problem)

    async def _let_requests_come(self) -> None:
        """Let coroutines that were answered ask again, until none does any more."""
        quiet, seen = 0, -1
        for _ in range(_MOST_TURNS):
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._waiting) == seen else 0
            seen = len(self._waiting)
            if quiet >= _QUIET_TURNS:
                return

    def _abandon(self, request: _Request) -> None:
        """Drop a request whose caller was cancelled."""
        request_id = request.row.request_id
        for requests in (self._waiting, self._running):
            if requests.get(request_id) is request:
                del requests[request_id]
                self._released.append(request_id)

    def _worth_admitting(self) -> bool:
        running = len(self._running)
        return bool(self._waiting) and (
            running == 0 or len(self._waiting) >= max(1.0, _ADMIT_SHARE * running)
        )

    def _take_waiting(self) -> list[Row]:
        """Move waiting requests to the running ones, as many as there is room for."""
        if not self._worth_admitting():
            return []
        rows: list[Row] = []
        for request_id in list(self._waiting)[: self._max_batch - len(self._running)]:
            request = self._waiting.pop(request_id)
            self._running[request_id] = request
            rows.append(request.row)
        return rows

    def _work(self, admitted: list[Row]) -> list[Row]:
        """One run of steps, in the worker thread."""
        with self._control:  # a sync or close that waits goes first
            pass
        with self._lock:
            if self._closed:
                return []
            try:
                return self._advance(admitted)
            except BaseException:
                self._batch.close()
                raise

    def _advance(self, admitted: list[Row]) -> list[Row]:
        self._should_admit = False
        gone: set[str] = set()
        while self._released:
            gone.add(self._released.popleft())
        for request_id in gone:
            self._batch.table.release(request_id)
        again, self._to_read_again = self._to_read_again, []
        self._batch.admit([*(r for r in again if r.request_id not in gone), *admitted])
        before = self._batch.steps
        done = self._batch.decode(lambda: self._should_admit or self._control.locked())
        steps = self._batch.steps - before
        self._counts["waiting"] += steps * len(self._waiting)
        self._counts["kv_usage"] += steps * self._batch.table.held / self._max_batch
        return done

    @contextmanager
    def _between_steps(self) -> Iterator[None]:
        """Interrupt the worker after its current step, and hold it meanwhile."""
        with self._control, self._lock:
            yield

    def _fail(self, problem: str, cause: BaseException | None) -> None:
        for requests in (self._waiting, self._running):
            for request_id, request in requests.items():
                self._released.append(request_id)
                if not request.answer.done():
                    error = EngineError(f"request {request_id!r}: {problem}")
                    error.__cause__ = cause
                    request.answer.set_exception(error)
            requests.clear()


def _use_threads(count: int | None) -> None:
    if count is not None:
        torch.set_num_threads(count)


def load_weights(model: nn.Module, weights: Weights, *, in_place: bool = True) -> None:
    """Copy weights into a model's own tensors, all of them or none; `LiveWeights` are shared.

    Tied tensors may be given under any one of their names. Type and device are converted; names
    and shapes must fit exactly, and are checked before anything is written.

    Args:
        model: the model.
        weights: state-dict names and tensors.
        in_place: ``False`` where the model's tensors are another one's, which must stay as it is.

    Raises:
        EngineError: a name is unknown or missing, a shape differs, or copying failed.
    """
    own = model.state_dict(keep_vars=True)
    given = {own[name].data_ptr() for name in weights if name in own}
    wrong = {
        "unknown": sorted(weights.keys() - own.keys()),
        "missing": sorted(
            name
            for name, tensor in own.items()
            if name not in weights and tensor.data_ptr() not in given
        ),
        "wrong": [
            f"{name} has shape {tuple(tensor.shape)}, the model wants {tuple(own[name].shape)}"
            for name, tensor in weights.items()
            if name in own and tensor.shape != own[name].shape
        ],
    }
    problems = [
        f"{what} {', '.join(names[:3])}{f' and {len(names) - 3} more' if names[3:] else ''}"
        for what, names in wrong.items()
        if names
    ]
    if problems:
        raise EngineError(f"weights do not fit the served model: {'; '.join(problems)}")
    try:
        with torch.no_grad():
            for name, tensor in weights.items():
                if isinstance(weights, LiveWeights):
                    own[name].data = tensor.to(own[name])  # itself, if type and device agree
                elif in_place:
                    own[name].copy_(tensor)
                else:
                    own[name].data = torch.empty_like(own[name]).copy_(tensor)
    except RuntimeError as problem:
        raise EngineError(f"copying weights failed, the model is unusable: {problem}") from problem


def make_torch_engine(
    model: Any,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    max_batch: int = 128,
    prefill_tokens: int = 8192,
    num_threads: int | None = None,
) -> TorchEngine:
    """Build a torch engine from a model folder, a bundled model's name, or a model.

    Args:
        model: what :func:`orch_train.models.load.load_model` takes, or a model (used as it is).
        dtype: ``float32`` or ``bfloat16``, for a model that is loaded.
        device: ``cpu``, ``cuda``, ..., for a model that is loaded.
        max_batch: see :class:`TorchEngine`.
        prefill_tokens: see :class:`TorchEngine`.
        num_threads: see :class:`TorchEngine`.

    Raises:
        OrchError: there is no such model, or the engine cannot serve it.
    """
    if isinstance(model, (str, os.PathLike)):
        model = load_model(model, dtype, device)
    return TorchEngine(
        model, max_batch=max_batch, prefill_tokens=prefill_tokens, num_threads=num_threads
    )
