"""Episodes: an environment and an engine in conversation, token in, token out.

The order in which limits are checked, turn by turn:

1. **Context**, before each message: the tokens left are ``max_context`` minus the stream so far.
   Fewer than ``min_tokens_per_turn``: the environment is stopped with ``context_overflow``. An
   opening prompt that is too long ends its episode in the same way, with its reward, and leaves
   the rest of its group alone.
2. **Message length**: a message may have ``max_tokens_per_turn`` tokens, or what the context
   leaves. One that did not end by its stop token stops the environment with
   ``output_truncated``; calls in it are never executed.
3. **The environment's own limits** (turns, tool calls, errors in a row), inside ``step``.

Failures of engine, environment code or tokenizer are infrastructure: they are raised, the group is
never yielded, and none of them becomes a reward.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter, time
from typing import Any

from orch_env.types import InfrastructureError, OrchError, StopReason
from orch_train.chat.renderer import ChatRenderer
from orch_train.config import RolloutSettings
from orch_train.engines.protocol import EngineError, RolloutEngine, SamplingParams, TokenOutput
from orch_train.rollouts.env_pool import EnvPool, HeldEnv
from orch_train.rollouts.environments import RolloutEnv
from orch_train.trajectory.requests import (
    EpisodeRecord,
    SampleReply,
    SampleRequest,
    hashed_seed,
)
from orch_train.trajectory.sample import Group, TrainingSample


def turn_seed(base: int, group: str, member: int, turn: int) -> int:
    """The sampling seed of one message.

    Args:
        base: the run's or request's base seed.
        group: id of the group.
        member: index within the group.
        turn: index of the message within the episode.
    """
    return hashed_seed(f"{base}\x1f{group}\x1f{member}\x1f{turn}")


async def run_group(
    pool: EnvPool,
    engine: RolloutEngine,
    chat: ChatRenderer,
    request: SampleRequest,
    *,
    limits: RolloutSettings,
) -> SampleReply:
    """Roll out one group, its members at the same time as far as the pool allows.

    Any number of groups may share the pool. When a member fails, the others are cancelled.

    Args:
        pool: the environments.
        engine: samples the messages; the cache of each episode is released at its end.
        chat: renders prompts and observations.
        request: the group.
        limits: token limits; the temperature is the request's.

    Returns:
        The scored group. A reward is the sum of the step rewards, so that terminal and dense
        reward modes agree.

    Raises:
        EngineError: the engine failed.
        EnvTimeout: an environment did not answer in time.
        InfrastructureError: an environment lost what answers its tool calls.
        Exception: whatever an environment raised.
    """

    async def play(member: int) -> _Episode:
        async with pool.use() as held:
            episode = _Episode(request, member, held)
            await episode.play(engine, chat, limits)
            return episode

    tasks = [asyncio.ensure_future(play(member)) for member in range(request.size)]
    try:
        episodes = await asyncio.gather(*tasks)
    finally:
        await _cancel(tasks)
    for episode in episodes:
        episode.sample.check()
    return SampleReply(
        Group(request.id, request.task_id, request.env_seed, [e.sample for e in episodes]),
        [e.record for e in episodes],
        worker=f"{platform.node()}:{os.getpid()}",
    )


async def run_groups(
    env_factory: Callable[[], RolloutEnv],
    engine: RolloutEngine,
    chat: ChatRenderer,
    requests: Iterable[SampleRequest],
    *,
    limits: RolloutSettings,
    max_concurrent: int = 128,
) -> AsyncGenerator[SampleReply, None]:
    """Roll out groups, many episodes at a time, and yield each group when it is complete.

    Episodes start in the order of the requests; groups come in the order of completion, their
    members in member order. Environments are made on demand, used again, and closed at the end.
    When any episode fails, the others are cancelled and the failure is raised; closing the
    iterator early cancels them too.

    Args:
        env_factory: makes an environment; called at most ``max_concurrent`` times.
        engine: shared by all episodes.
        chat: shared by all episodes.
        requests: the groups.
        limits: token limits of every episode.
        max_concurrent: number of episodes that run at the same time, at least 1.

    Raises:
        EngineError: the engine failed.
        Exception: whatever an environment raised.
    """
    if max_concurrent < 1:
        raise OrchError(f"max_concurrent must be at least 1, got {max_concurrent}")
    pool = EnvPool(env_factory, max_concurrent)
    pending = [
        asyncio.ensure_future(run_group(pool, engine, chat, r, limits=limits)) for r in requests
    ]
    try:
        for finished in asyncio.as_completed(pending):
            yield await finished
    finally:
        await _cancel(pending)
        pool.close()


class _Episode:
    """One member of a group while it is played; ``sample`` and ``record`` are its results."""

    record: EpisodeRecord

    def __init__(self, request: SampleRequest, member: int, held: HeldEnv) -> None:
        self.sample = TrainingSample(member)
        self._request, self._env, self._caller = request, held.env, held.caller
        self._info: dict[str, Any] = {}
        self._reward = 0.0
        self._spans: list[tuple[str, float, float]] = []

    async def play(
        self, engine: RolloutEngine, chat: ChatRenderer, limits: RolloutSettings
    ) -> None:
        """Play from reset to the last reward."""
        request, sample, env = self._request, self.sample, self._env
        request_id = f"{request.id}/{sample.member}"
        try:
            await self._reset()
            tools = self._info.get("tools") or ()
            sample.append_context(chat.start(self._info["messages"], tools))
            while True:
                room = limits.max_context - len(sample)
                if room < limits.min_tokens_per_turn:
                    await self._step(env.unwrapped.stop, StopReason.CONTEXT_OVERFLOW, "")
                    break
                turn = len(sample.turns)
                sampling = SamplingParams(
                    max_tokens=min(room, limits.max_tokens_per_turn),
                    temperature=request.temperature,
                    stop_token_ids=chat.stop_token_ids,
                    seed=turn_seed(request.sample_seed, request.id, sample.member, turn),
                )
                with self._timed("generate"):
                    output = await engine.generate(sample.ids_T.tolist(), sampling, request_id)
                _append(sample, output, sampling, request_id)
                text = chat.decode(output.token_ids)
                if output.finish_reason == "length":
                    await self._step(env.unwrapped.stop, StopReason.OUTPUT_TRUNCATED, text)
                    break
                if await self._step(env.step, text):
                    break
                sample.append_context(chat.observe(self._info["messages"], tools))
        finally:
            engine.release(request_id)
        self._finish(env.unwrapped)

    async def _reset(self) -> None:
        def call() -> dict[str, Any]:
            set_step = getattr(self._env.unwrapped, "set_training_step", None)
            if set_step is not None:
                set_step(self._request.training_step)
            options = {"task_id": self._request.task_id}
            _, info = self._env.reset(seed=self._request.env_seed, options=options)
            return info

        with self._timed("env"):
            self._info = await self._caller(call)

    async def _step(self, call: Callable[..., Any], *arguments: Any) -> bool:
        """Step the environment, or stop it from outside; whether the episode is over."""
        with self._timed("env"):
            answer = await self._caller(partial(call, *arguments))
        _, reward, terminated, truncated, self._info = answer
        if self._info.get("stop_reason") == StopReason.INFRASTRUCTURE:
            raise InfrastructureError(self._info.get("problem") or "the environment lost its tools")
        self._reward += float(reward)
        return bool(terminated or truncated)

    def _finish(self, env: Any) -> None:
        timings = {"generate": 0.0, "env": 0.0}
        for phase, _, seconds in self._spans:
            timings[phase] += seconds
        tool_seconds = list(getattr(env, "tool_seconds", ()))
        self.record = EpisodeRecord(env.episode, timings, self._spans, tool_seconds)
        self.sample.score(env.episode, self._reward, success=bool(self._info["success"]))

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        """Count the block's time under a phase."""
        start, clock = time(), perf_counter()
        yield
        self._spans.append((phase, start, perf_counter() - clock))


async def _cancel(tasks: Iterable[asyncio.Future[Any]]) -> None:
    unfinished = [t for t in tasks if not t.done()]
    for task in unfinished:
        task.cancel()
    await asyncio.gather(*unfinished, return_exceptions=True)


def _append(
    sample: TrainingSample, output: TokenOutput, sampling: SamplingParams, request_id: str
) -> None:
    """An engine that breaks its promises is an engine failure, found before it trains anything."""
    ids = output.token_ids
    stopped = bool(ids) and ids[-1] in sampling.stop_token_ids
    if not ids or len(ids) > sampling.max_tokens:
        raise EngineError(
            f"request {request_id!r}: {len(ids)} tokens came back for at most {sampling.max_tokens}"
        )
    if stopped != (output.finish_reason == "stop"):
        raise EngineError(
            f"request {request_id!r}: finish reason {output.finish_reason!r} does not fit the last "
            f"token {ids[-1]}"
        )
    try:
        sample.append_action(ids, output.logprobs, output.versions)
    except ValueError as problem:
        raise EngineError(f"request {request_id!r}: {problem}") from problem
