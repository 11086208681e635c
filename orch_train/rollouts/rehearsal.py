"""One whole episode before anything heavy is loaded, played by a script instead of a model.

Environments, rewards and judges of a user's own are code that nobody has run yet. An untrained
model writes anything, so the script does too: an answer, nothing, a number, JSON, a broken call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from orch_env.types import OrchError, StopReason
from orch_train.chat.renderer import ChatRenderer
from orch_train.config import Settings
from orch_train.rollouts.env_pool import EnvCaller, EnvThread, EnvTimeout, HeldEnv
from orch_train.rollouts.environments import EnvFactory, told_at_the_start

T = TypeVar("T")

ACTIONS = (
    "I do not know.",
    "",
    "1",
    '{"a": 1}',
    '<tool_call>\n{"name": "nothing", "arguments": {}}\n</tool_call>',
)
"""What the script writes, again and again."""
MOST_MESSAGES = 50
"""An episode that has not ended then is stopped, as a full context would stop it."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What one episode came to.

    Attributes:
        task_id: the task that was played.
        messages: messages that the script wrote.
        reward: the sum of the rewards.
        success: the environment's verdict.
    """

    task_id: str
    messages: int
    reward: float
    success: bool


def rehearse(settings: Settings, chat: ChatRenderer) -> Rehearsed:
    """Play one episode of the first training task, and of the first held-out one.

    Each is followed by the beginning of one that is cut off.

    Returns:
        The training episode.

    Raises:
        OrchError: the environment, its reward or the chat template fails; it says where.
    """
    played = _rehearse(settings, chat, held_out=False)
    if settings.has_held_out:
        _rehearse(settings, chat, held_out=True)
    return played


def _rehearse(settings: Settings, chat: ChatRenderer, *, held_out: bool) -> Rehearsed:
    env: Any = EnvFactory(settings, held_out=held_out)()
    name, limit = settings.environment.env, settings.env_runners.env_step_timeout_s
    held = HeldEnv(env) if limit is None else HeldEnv(env, EnvThread(limit))

    def in_its_thread(what: Callable[[], T]) -> T:
        try:
            return asyncio.run(_answer(held.caller, what))
        except EnvTimeout as problem:
            raise OrchError(f"environment {name!r}: {problem}") from problem

    def call(what: Callable[[], T]) -> T:
        return told_at_the_start(name, what if limit is None else partial(in_its_thread, what))

    try:
        task = env.unwrapped.tasks[0].id
        played = _play(env, chat, task, call)
        call(partial(env.reset, seed=0, options={"task_id": task}))
        call(partial(env.unwrapped.stop, StopReason.OUTPUT_TRUNCATED, "I"))
        call(lambda: (env.unwrapped.episode, getattr(env.unwrapped, "tool_seconds", ())))
        return played
    finally:
        held.close()


async def _answer(caller: EnvCaller, what: Callable[[], T]) -> T:
    return await caller(what)


def _play(env: Any, chat: ChatRenderer, task: str, call: Callable[..., Any]) -> Rehearsed:
    if hasattr(env.unwrapped, "set_training_step"):
        call(partial(env.unwrapped.set_training_step, 0))
    _, info = call(partial(env.reset, seed=0, options={"task_id": task}))
    tools = info.get("tools") or ()
    chat.start(info["messages"], tools)
    total, number, done = 0.0, 0, False
    while not done and number < MOST_MESSAGES:
        step = partial(env.step, ACTIONS[number % len(ACTIONS)])
        _, reward, terminated, truncated, info = call(step)
        total, number, done = total + float(reward), number + 1, bool(terminated or truncated)
        if not done:
            chat.observe(info["messages"], tools)
    if not done:
        *_, info = call(partial(env.unwrapped.stop, StopReason.CONTEXT_OVERFLOW, ""))
    call(lambda: env.unwrapped.episode)
    return Rehearsed(task, number, total, bool(info["success"]))
