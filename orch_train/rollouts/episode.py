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

The hard decision: failures of engine, environment code or tokenizer are infrastructure. They
propagate as exceptions and the group is never yielded; nothing here turns one into a reward.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter, time
from typing import Any

from orch_env.types import OrchError, StopReason
from orch_train.chat.renderer import ChatRenderer
from orch_train.engines.protocol import EngineError, RolloutEngine, SamplingParams, TokenOutput
from orch_train.rollouts.env_pool import EnvCaller, EnvPool, on_the_loop
from orch_train.rollouts.environment import RolloutEnv
from orch_train.trajectory.token_trace import TokenTrace
from orch_train.trajectory.trajectory import Group, Trajectory


@dataclass(frozen=True, slots=True)
class RolloutLimits:
    """How much a model may write and read in one episode.

    Attributes:
        max_tokens_per_turn: tokens of one message, stop token included, at least 1.
        max_context: tokens of the whole stream, at most the model's context length.
        min_tokens_per_turn: a turn starts only if the context leaves this many tokens for it.
        temperature: sampling temperature; 0 is greedy.
    """

    max_tokens_per_turn: int = 512
    max_context: int = 4096
    min_tokens_per_turn: int = 1
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.max_tokens_per_turn < 1 or self.min_tokens_per_turn < 1:
            raise OrchError("max_tokens_per_turn and min_tokens_per_turn must be at least 1")
        if self.max_context < 2:
            raise OrchError(f"max_context must be at least 2, got {self.max_context}")
        if self.temperature < 0:
            raise OrchError(f"temperature must not be negative, got {self.temperature}")


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """One group to roll out: the same task and environment seed, several samples.

    Attributes:
        id: unique name of the group.
        task_id: the task.
        env_seed: seed that every member resets its environment with.
        sample_seed: base of the members' sampling seeds.
        size: number of members, at least 1.
        training_step: number of training steps done, for rewards whose weights follow a schedule;
            all members share it, and a group that is given out again keeps it.
    """

    id: str
    task_id: str
    env_seed: int
    sample_seed: int
    size: int = 1
    training_step: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise OrchError(f"group {self.id!r} needs at least one member, got {self.size}")


def turn_seed(base: int, group: str, member: int, turn: int) -> int:
    """The sampling seed of one message: 63 bits of BLAKE2b, the same on every machine.

    Args:
        base: the run's or request's base seed.
        group: id of the group.
        member: index within the group.
        turn: index of the message within the episode.
    """
    text = f"{base}\x1f{group}\x1f{member}\x1f{turn}"
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


async def run_episode(
    env: RolloutEnv,
    engine: RolloutEngine,
    chat: ChatRenderer,
    *,
    task_id: str,
    env_seed: int,
    sample_seed: int,
    limits: RolloutLimits,
    group: str = "",
    member: int = 0,
    training_step: int = 0,
    caller: EnvCaller = on_the_loop,
) -> Trajectory:
    """Play one episode to its end.

    Args:
        env: the environment; it is reset here and may be used again afterwards.
        engine: samples the messages; the episode's cache is released at the end, whatever comes.
        chat: renders prompts and observations.
        task_id: the task.
        env_seed: seed of the environment, shared by the members of a group.
        sample_seed: base of the sampling seeds, see :func:`turn_seed`.
        limits: token limits and temperature.
        group: id of the episode's group.
        member: index within the group.
        training_step: handed to environments that have a ``set_training_step``.
        caller: runs the environment's calls.

    Returns:
        The scored trajectory; its reward is the sum of the step rewards, so that terminal and
        dense reward modes agree. ``timings`` holds the seconds spent waiting for the engine
        (``generate``) and inside the environment (``env``).

    Raises:
        EngineError: the engine failed.
        EnvTimeout: the environment did not answer in time; it must not be used again.
        Exception: whatever the environment raised; the episode must be discarded.
    """
    request_id = f"{group}/{member}"
    run = _Run(env, caller)
    try:
        info = await run.reset(task_id, env_seed, training_step)
        run.trace.append_context(chat.start(info["messages"], info.get("tools") or ()))
        while True:
            room = limits.max_context - len(run.trace)
            if room < limits.min_tokens_per_turn:
                await run.stop(StopReason.CONTEXT_OVERFLOW, "")
                break
            sampling = SamplingParams(
                max_tokens=min(room, limits.max_tokens_per_turn),
                temperature=limits.temperature,
                stop_token_ids=chat.stop_token_ids,
                seed=turn_seed(sample_seed, group, member, len(run.trace.turns)),
            )
            with run.timed("generate"):
                output = await engine.generate(run.trace.ids, sampling, request_id)
            _check_output(output, sampling, request_id)
            run.trace.append_action(output.token_ids, output.logprobs, output.versions)
            text = chat.decode(output.token_ids)
            if output.finish_reason == "length":
                await run.stop(StopReason.OUTPUT_TRUNCATED, text)
                break
            if await run.step(text):
                break
            run.trace.append_context(chat.observe(run.info["messages"]))
    finally:
        engine.release(request_id)
    return run.trajectory(task_id, group, member)


async def run_group(
    pool: EnvPool,
    engine: RolloutEngine,
    chat: ChatRenderer,
    request: GroupRequest,
    *,
    limits: RolloutLimits,
) -> Group:
    """Roll out one group, its members at the same time as far as the pool allows.

    Any number of groups may share the pool. When a member fails, the others are cancelled.

    Raises:
        EngineError: the engine failed.
        Exception: whatever an environment raised.
    """

    async def member_episode(member: int) -> Trajectory:
        async with pool.use() as held:
            return await run_episode(
                held.env,
                engine,
                chat,
                task_id=request.task_id,
                env_seed=request.env_seed,
                sample_seed=request.sample_seed,
                limits=limits,
                group=request.id,
                member=member,
                training_step=request.training_step,
                caller=held.caller,
            )

    trajectories = await _all_or_none([member_episode(m) for m in range(request.size)])
    return Group(request.id, request.task_id, request.env_seed, trajectories)


async def run_groups(
    env_factory: Callable[[], RolloutEnv],
    engine: RolloutEngine,
    chat: ChatRenderer,
    requests: Iterable[GroupRequest],
    *,
    limits: RolloutLimits,
    max_concurrent: int = 128,
) -> AsyncGenerator[Group, None]:
    """Roll out groups, many episodes at a time, and yield each group when it is complete.

    Episodes start in the order of the requests; groups come in the order of completion, their
    members in member order. Environments are made on demand, used again, and closed at the end.
    When any episode fails, the others are cancelled and the failure propagates; so does closing
    the iterator early.

    Args:
        env_factory: makes an environment; called at most ``max_concurrent`` times.
        engine: shared by all episodes.
        chat: shared by all episodes.
        requests: the groups.
        limits: token limits and temperature of every episode.
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


class _Run:
    """The moving parts of one running episode."""

    def __init__(self, env: RolloutEnv, caller: EnvCaller) -> None:
        self.env = env
        self.caller = caller
        self.trace = TokenTrace()
        self.info: dict[str, Any] = {}
        self.reward = 0.0
        self.seconds = {"generate": 0.0, "env": 0.0}
        self.spans: list[tuple[str, float, float]] = []

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Count the block's time under a phase."""
        start, clock = time(), perf_counter()
        yield
        seconds = perf_counter() - clock
        self.seconds[phase] += seconds
        self.spans.append((phase, start, seconds))

    async def reset(self, task_id: str, seed: int, training_step: int) -> dict[str, Any]:
        def call() -> dict[str, Any]:
            set_step = getattr(self.env.unwrapped, "set_training_step", None)
            if set_step is not None:
                set_step(training_step)
            _, info = self.env.reset(seed=seed, options={"task_id": task_id})
            return info

        with self.timed("env"):
            self.info = await self.caller(call)
        return self.info

    async def step(self, text: str) -> bool:
        """Take a message; whether the episode is over."""
        with self.timed("env"):
            answer = await self.caller(lambda: self.env.step(text))
        _, reward, terminated, truncated, self.info = answer
        self.reward += float(reward)
        return bool(terminated or truncated)

    async def stop(self, reason: StopReason, action: str) -> None:
        """End the episode from outside; the environment scores what there is."""
        with self.timed("env"):
            answer = await self.caller(lambda: self.env.unwrapped.stop(reason, action))
        _, reward, _, _, self.info = answer
        self.reward += float(reward)

    def trajectory(self, task_id: str, group: str, member: int) -> Trajectory:
        return Trajectory(
            group=group,
            member=member,
            task_id=task_id,
            episode=self.env.unwrapped.episode,
            trace=self.trace,
            reward=self.reward,
            success=bool(self.info["success"]),
            timings=dict(self.seconds),
            spans=self.spans,
            worker=f"{platform.node()}:{os.getpid()}",
            tool_seconds=list(getattr(self.env.unwrapped, "tool_seconds", ())),
        )


async def _all_or_none(episodes: Iterable[Coroutine[Any, Any, Trajectory]]) -> list[Trajectory]:
    """Results in order; when one fails, the others are cancelled and its failure is raised."""
    tasks = [asyncio.ensure_future(e) for e in episodes]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Iterable[asyncio.Future[Any]]) -> None:
    unfinished = [t for t in tasks if not t.done()]
    for task in unfinished:
        task.cancel()
    await asyncio.gather(*unfinished, return_exceptions=True)


def _check_output(output: TokenOutput, sampling: SamplingParams, request_id: str) -> None:
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
    if not len(ids) == len(output.logprobs) == len(output.versions):
        raise EngineError(f"request {request_id!r}: token streams of different lengths came back")
