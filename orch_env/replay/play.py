"""Play a policy, one episode or a task list, and sum up what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orch_env.env import ToolOrchestrationEnv
from orch_env.episodes import StoredEpisode, digest_of
from orch_env.replay.policies import Policy
from orch_env.types import InfrastructureError, OrchError, StopReason, Task
from orch_env.types.json import JsonObject


@dataclass(frozen=True, slots=True)
class Replayed:
    """One played episode.

    Attributes:
        stored: the episode, with its task and the environment's settings.
        success: whether the task was done (binary reward 1).
    """

    stored: StoredEpisode
    success: bool


class Playable(Protocol):
    """An environment as far as playing needs it."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        ...

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take one assistant message."""
        ...


TRIES = 3
"""How often an episode is begun that infrastructure ends: it is never scored."""


def play(env: Playable, policy: Policy, task: Task, *, seed: int = 0) -> dict[str, Any]:
    """Play one episode to its end; again from the start where infrastructure ended it.

    Args:
        env: an environment that has a task of this id.
        policy: what to play.
        task: the task, as the policy is given it.
        seed: the episode's seed.

    Returns:
        The last ``info``.

    Raises:
        OrchError: infrastructure ended each of several tries.
    """
    problem = ""
    for _ in range(TRIES):
        try:
            info = _play_once(env, policy, task, seed)
        except InfrastructureError as lost:  # no server could be had
            problem = str(lost)
            continue
        if info.get("stop_reason") != StopReason.INFRASTRUCTURE:
            return info
        problem = str(info.get("problem", ""))
    raise OrchError(f"task {task.id!r}: infrastructure ended {TRIES} tries, the last by: {problem}")


def _play_once(env: Playable, policy: Policy, task: Task, seed: int) -> dict[str, Any]:
    observation, info = env.reset(seed=seed, options={"task_id": task.id})
    policy.start(task)
    ended = False
    while not ended:
        observation, _, terminated, truncated, info = env.step(policy.act(observation, info))
        ended = terminated or truncated
    return info


def replay(
    env: ToolOrchestrationEnv, policy: Policy, tasks: Iterable[Task], *, seed: int = 0
) -> Iterator[Replayed]:
    """Play each task once, in order.

    Args:
        env: an environment that has these tasks.
        policy: what to play.
        tasks: the tasks, as the policy is given them.
        seed: every episode's seed.
    """
    for task in tasks:
        info = play(env, policy, task, seed=seed)
        stored = StoredEpisode(env.episode, env.task, env.settings)
        yield Replayed(stored, success=bool(info["success"]))


def turns_of_gold(task: Task) -> int:
    """Messages that the gold policy needs: its steps, and an answer per user turn."""
    return sum(1 for step in task.gold if step) + len(task.followups) + 1


def summarise(played: Sequence[Replayed], seconds: float) -> JsonObject:
    """The summary of ``orch replay --json``.

    Args:
        played: at least one episode, in the tasks' order.
        seconds: wall time of all steps.
    """
    episodes = [one.stored.episode for one in played]
    rewards = [episode.reward.total for episode in episodes if episode.reward is not None]
    steps = sum(len(episode.turns) for episode in episodes)
    reasons = Counter(str(episode.stop_reason) for episode in episodes)
    return {
        "tasks": len(played),
        "success_rate": sum(one.success for one in played) / len(played),
        "reward_mean": sum(rewards) / len(rewards),
        "reward_min": min(rewards),
        "reward_max": max(rewards),
        "stop_reasons": dict(sorted(reasons.items())),
        "steps_per_s": steps / seconds if seconds > 0 else 0.0,
        "digest": digest_of(episodes),
    }
