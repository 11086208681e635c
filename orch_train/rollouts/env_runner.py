"""One rollout worker: its own engine, its own environments, one event loop.

The same class runs as a Ray actor and in process. Every call to `sample` plays one group; many
run at the same time on the one loop, so the engine batches across groups and a finished group
leaves at once. `sample` returns a group or the reason why there is none, and never raises: a
failure is sorted where it happens, into mistakes in data, code or configuration (futile to
repeat) and infrastructure (repeat elsewhere). Neither ever becomes a reward.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any

from orch_env.types import OrchError
from orch_env.types.user_code import is_mistake, place_of
from orch_train.chat.renderer import make_chat
from orch_train.config import Settings
from orch_train.config.weight_route import weight_sync
from orch_train.engines.protocol import EngineError, RolloutEngine
from orch_train.metrics.engines import EngineReader
from orch_train.rollouts.env_pool import EnvPool
from orch_train.rollouts.environments import EnvFactory
from orch_train.rollouts.episode import run_group
from orch_train.trajectory.requests import SampleFailure, SampleReply, SampleRequest
from orch_train.weight_sync.buckets import Weights
from orch_train.weight_sync.collective import BroadcastJob, TransferError, WeightReceiver
from orch_train.weight_sync.object_store import PackedWeights, unpack
from orch_train.weight_sync.protocol import ReceivesBroadcasts


@dataclass(frozen=True, slots=True)
class StartReply:
    """How a runner's start went.

    Attributes:
        pid: its process id.
        failure: why it cannot work, if so.
        user_error: the data or the configuration is at fault; another start is futile.
    """

    pid: int
    failure: str | None = None
    user_error: OrchError | None = None


@dataclass(frozen=True, slots=True)
class ReceiveReply:
    """How a broadcast ended for one runner.

    Attributes:
        failure: why the weights did not arrive; the runner goes on with those that it has.
    """

    failure: str | None = None


class EnvRunner:
    """Plays groups with its own engine and environments.

    Args:
        settings: the whole configuration.
        index: number of this runner, from 0; for messages only.
        engine: use this engine instead of building the configured one.

    Attributes:
        training_envs: environments of the training tasks.
        held_out_envs: environments of the held-out tasks.

    Raises:
        OrchError: the model, a task file or the cache is not usable.
    """

    def __init__(
        self, settings: Settings, index: int = 0, *, engine: RolloutEngine | None = None
    ) -> None:
        self._index = index
        self._limits, runners = settings.rollouts, settings.env_runners
        self._chat = make_chat(settings)
        self._engine = engine if engine is not None else _make_engine(settings)
        self._reader = EngineReader(self._engine)
        size, limit = runners.num_envs_per_env_runner, runners.env_step_timeout_s
        self.training_envs = EnvPool(
            EnvFactory(settings, held_out=False), size, step_timeout_s=limit
        )
        self.held_out_envs = EnvPool(
            EnvFactory(settings, held_out=True), size, step_timeout_s=limit
        )

    async def sample(self, request: SampleRequest) -> SampleReply | SampleFailure:
        """Play one group to its end."""
        pool = self.held_out_envs if request.held_out else self.training_envs
        try:
            reply = await run_group(pool, self._engine, self._chat, request, limits=self._limits)
        except OrchError as problem:
            return _mistake(problem, request)
        except Exception as problem:  # a mistake ends the run; what is left is infrastructure
            if is_mistake(problem):
                return _mistake(OrchError(_describe(problem, self._index)), request)
            engine_failed = isinstance(problem, EngineError)
            return SampleFailure(_describe(problem, self._index), engine_failed)
        reply.engine = self._reader.since_last()
        reply.tool_timeouts = pool.take_timeouts()
        return reply

    async def serve(self, weights: Weights, version: int) -> int:
        """Sample with these weights from now on; returns the version."""
        await self._engine.sync(weights, version)
        return self._engine.version

    async def receive(self, receiver: WeightReceiver, job: BroadcastJob, version: int) -> int:
        """Receive weights with all other runners, then serve them; returns the version.

        They are complete before an engine of this process sees any. Episodes go on meanwhile.

        Raises:
            TransferError: they did not all arrive; the engine serves what it served.
            EngineError: the engine could not load them and is of no further use.
        """
        if isinstance(self._engine, ReceivesBroadcasts):
            await self._engine.receive(job, version)
            return self._engine.version
        return await self.serve(await asyncio.to_thread(receiver.receive, job), version)

    def stop(self) -> None:
        """Close the environments and the engine."""
        self.training_envs.close()
        self.held_out_envs.close()
        self._engine.close()


class EnvRunnerActor:
    """The body of a Ray actor: an `EnvRunner` that is started by a call.

    Args:
        settings: the whole configuration.
        index: number of this runner.
    """

    def __init__(self, settings: Settings, index: int) -> None:
        self._settings, self._index = settings, index
        self._runner: EnvRunner | None = None
        self._receiver = WeightReceiver()

    def build(self) -> EnvRunner:
        """Make the runner; separate so that tests can put another engine in."""
        return EnvRunner(self._settings, self._index)

    async def start(self, packed: PackedWeights, version: int) -> StartReply:
        """Load everything and serve the given weights; the outcome is a value, never raised.

        Ray has resolved the object reference, so the weights are mapped memory.
        """
        try:
            # Ray's own OMP_NUM_THREADS comes too late where unpickling has imported torch.
            limit_threads(max(1, int(self._settings.env_runners.num_cpus_per_env_runner)))
            self._runner = self.build()
            await self._runner.serve(unpack(packed), version)
        except OrchError as problem:
            return StartReply(os.getpid(), user_error=problem)
        except Exception as problem:  # not raised: Ray would wrap it beyond recognition
            described = _describe(problem, self._index)
            if is_mistake(problem):
                return StartReply(os.getpid(), user_error=OrchError(described))
            return StartReply(os.getpid(), failure=described)
        return StartReply(os.getpid())

    async def sample(self, request: SampleRequest) -> SampleReply | SampleFailure:
        """Play one group."""
        return await self._started().sample(request)

    async def set_weights(self, packed: PackedWeights, version: int) -> int:
        """Serve a version out of the object store; returns it."""
        return await self._started().serve(unpack(packed), version)

    async def receive_weights(self, job: BroadcastJob, version: int) -> ReceiveReply:
        """Take part in a broadcast and serve the version that it brings."""
        runner = self._started()
        try:
            await runner.receive(self._receiver, job, version)
        except TransferError as problem:
            return ReceiveReply(failure=str(problem))
        return ReceiveReply()

    def ping(self) -> int:
        """A sign of life: the process id. Runs on a thread of its own."""
        return os.getpid()

    def stop(self) -> None:
        """Close environments and engine."""
        if self._runner is not None:
            self._runner.stop()
            self._runner = None

    def _started(self) -> EnvRunner:
        if self._runner is None:
            raise EngineError(f"runner {self._index} was not started")
        return self._runner


def _describe(problem: Exception, index: int) -> str:
    """One line: what failed, on which runner, where in the code."""
    place = place_of(problem)
    where = f", {place}" if place else ""
    return f"{type(problem).__name__}: {problem} (runner {index}{where})"


def _mistake(problem: OrchError, request: SampleRequest) -> SampleFailure:
    """A failure that would come back: the run ends with it, and with the task."""
    if repr(request.task_id) not in str(problem):
        problem = OrchError(f"task {request.task_id!r}: {problem}")
    return SampleFailure(str(problem), user_error=problem)


def limit_threads(count: int) -> None:
    """Bound torch's compute threads in this process."""
    import torch

    torch.set_num_threads(count)


def _make_engine(settings: Settings) -> RolloutEngine:
    from orch_train.engines import make_engine, register_engine

    kind, runners = settings.rollouts.engine, settings.env_runners
    if ":" in kind:
        register_engine(kind, kind)
    options: dict[str, Any] = dict(settings.rollouts.engine_config)
    if kind == "torch":
        options.setdefault("max_batch", runners.num_envs_per_env_runner)
        if runners.num_env_runners > 0:
            options.setdefault("num_threads", max(1, int(runners.num_cpus_per_env_runner)))
        options["device"] = "cuda" if runners.num_gpus_per_env_runner > 0 else "cpu"
    elif kind == "vllm":
        options.setdefault("max_num_seqs", runners.num_envs_per_env_runner)
        options.setdefault("max_model_len", settings.rollouts.max_context)
        options.setdefault("tensor_parallel_size", runners.tensor_parallel_size)
        options.setdefault("collective", weight_sync(settings) == "collective")
        options.setdefault("num_threads", max(1, int(runners.num_cpus_per_env_runner)))
    if kind in ("torch", "vllm"):
        options |= {"dtype": settings.model.dtype, "model": settings.model.path}
    return make_engine(kind, **options)
