"""What our own code costs per turn: rollout, queues, chat rendering; engine and tools take no time.

Part of `benchmarks.overlap` (C5). The engine answers at once with the same few tokens and the
environment with a fixed observation, so what remains is ours. Chat rendering and tokenisation are
reported apart too, since they grow with the text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orch_env.formats import get_format
from orch_env.types import Episode, RewardBreakdown, StopReason
from orch_train.algorithms.grpo_config import GRPOConfig
from orch_train.chat.renderer import ChatRenderer
from orch_train.config import RolloutSettings
from orch_train.engines.protocol import SamplingParams, TokenOutput
from orch_train.models.files import load_tokenizer
from orch_train.rollouts.env_pool import EnvPool
from orch_train.rollouts.episode import run_group
from orch_train.runners.runner_group import LocalRunnerGroup
from orch_train.sampling.ahead import StreamedSampling
from orch_train.sampling.observer import SilentObserver
from orch_train.sampling.task_order import TaskOrder
from orch_train.trajectory.requests import EpisodeRecord, SampleReply, SampleRequest
from orch_train.trajectory.sample import Group, TrainingSample
from orch_train.weight_sync.buckets import Weights

TURNS = 8


@dataclass(frozen=True)
class Overhead:
    """Microseconds per turn of the whole, and of the chat renderer's part in it."""

    per_turn_us: float
    chat_us: float
    turns: int


class _InstantEngine:
    def __init__(self, answer: Sequence[int]) -> None:
        self._output = TokenOutput(tuple(answer), (-0.5,) * len(answer), "stop", (0,) * len(answer))

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingParams, request_id: str
    ) -> TokenOutput:
        return self._output

    def release(self, request_id: str) -> None:
        """Nothing is held."""


class _InstantEnv:
    """Always the same observation; ends after `TURNS` messages."""

    def __init__(self) -> None:
        self._turn, self._task = 0, ""
        self._info: dict[str, Any] = {"messages": [{"role": "user", "content": "Go on."}]}

    @property
    def unwrapped(self) -> _InstantEnv:
        return self

    @property
    def episode(self) -> Episode:
        return Episode(
            self._task, 0, stop_reason=StopReason.ANSWERED, reward=RewardBreakdown(0.0, {})
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self._turn, self._task = 0, (options or {})["task_id"]
        return "", {"messages": [{"role": "user", "content": "Begin."}], "tools": []}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._turn += 1
        over = self._turn == TURNS
        return "", 0.0, over, False, {**self._info, "success": False}

    def close(self) -> None:
        """Nothing is held."""


class _TimedChat:
    """The real renderer with a clock around it."""

    def __init__(self, chat: ChatRenderer) -> None:
        self._chat, self.seconds = chat, 0.0
        self.stop_token_ids = chat.stop_token_ids

    def start(self, *args: Any) -> Any:
        return self._clocked(self._chat.start, *args)

    def observe(self, *args: Any) -> Any:
        return self._clocked(self._chat.observe, *args)

    def decode(self, *args: Any) -> Any:
        return self._clocked(self._chat.decode, *args)

    def _clocked(self, call: Any, *args: Any) -> Any:
        started = time.perf_counter()
        result = call(*args)
        self.seconds += time.perf_counter() - started
        return result


class _Runner:
    """`EnvRunner` with everything instant but our own code."""

    def __init__(self, chat: Any, answer: Sequence[int], places: int) -> None:
        self._chat, self._engine = chat, _InstantEngine(answer)
        self._pool = EnvPool(_InstantEnv, places)
        self._limits = RolloutSettings(max_tokens_per_turn=64, max_context=4096)

    async def sample(self, request: SampleRequest) -> SampleReply:
        engine: Any = self._engine
        return await run_group(self._pool, engine, self._chat, request, limits=self._limits)

    async def serve(self, weights: Weights, version: int) -> int:
        return version

    def stop(self) -> None:
        """Nothing is held."""


class _ReadyRunner:
    """`EnvRunner` whose groups are there at once; the same episodes in each of them."""

    def __init__(self, size: int) -> None:
        self._samples = [TrainingSample(m, reward=float(m)) for m in range(size)]
        for sample in self._samples:
            sample.append_context([1])
            sample.append_action([2], [-0.5], [0])
        self._records = [EpisodeRecord(Episode("t", 0)) for _ in range(size)]

    async def sample(self, request: SampleRequest) -> SampleReply:
        group = Group(request.id, request.task_id, request.env_seed, self._samples)
        return SampleReply(group, self._records)

    async def serve(self, weights: Weights, version: int) -> int:
        return version

    def stop(self) -> None:
        """Nothing is held."""


def queue_seconds(groups: int, size: int, steps: int = 50) -> float:
    """CPU seconds per training step of admission, dispatch, hand-over and metrics."""
    settings = (
        GRPOConfig()
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2 * groups * size)
        .training(groups_per_batch=groups, group_size=size, iterations=steps, max_staleness=1)
        .settings
    )
    runner: Any = _ReadyRunner(size)
    runners = LocalRunnerGroup(runner, settings, {}, 0)
    order = TaskOrder([f"t{i}" for i in range(groups * steps)], 0)
    sampling = StreamedSampling(
        settings,
        runners,
        order,
        step=0,
        version=0,
        observer=SilentObserver(),
        should_stop=lambda: False,
    )
    started = time.process_time()
    try:
        for step in range(steps):
            sampling.next_batch()
            sampling.step_done({}, step + 1)
        return (time.process_time() - started) / steps
    finally:
        sampling.stop()
        runners.stop()


def control_overhead(groups: int = 32, size: int = 8) -> Overhead:
    """Play so many groups and divide the time by their turns."""
    chat = _TimedChat(ChatRenderer(load_tokenizer("tiny"), get_format("hermes")))
    stop = chat.stop_token_ids[0]
    runner: Any = _Runner(chat, [5, 6, 7, 8, stop], groups * size)
    settings = GRPOConfig().training(group_size=size).env_runners(num_env_runners=0).settings
    runners = LocalRunnerGroup(runner, settings, {}, 0)
    requests = [SampleRequest(f"g{i}", f"t{i}", i, i, size) for i in range(groups)]
    try:
        runners.sample(requests[:2])  # imports and caches
        chat.seconds, started = 0.0, time.perf_counter()
        runners.sample(requests)
        seconds = time.perf_counter() - started
    finally:
        runners.stop()
    turns = groups * size * TURNS
    return Overhead(1e6 * seconds / turns, 1e6 * chat.seconds / turns, turns)
