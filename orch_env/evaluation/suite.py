"""`Suite`: a benchmark as tasks, what answers their calls, and whose verdict counts.

A benchmark is never an environment of its own. What makes it one is in its backend's sessions and
their capabilities (:mod:`orch_env.backends.protocol`): user turns that appear when the last one
ends, tools that are added at a turn, an end of its own, calls that run although a schema disagrees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from orch_env.backends.protocol import ToolBackend
from orch_env.env import ToolOrchestrationEnv
from orch_env.env.episode_machine import Limits
from orch_env.env.payout import Scorer
from orch_env.rewards.protocol import Reward
from orch_env.types import Task

Backend = TypeVar("Backend", bound=ToolBackend)


@dataclass(frozen=True, slots=True)
class Suite(Generic[Backend]):
    """A benchmark.

    Attributes:
        name: the benchmark's name.
        tasks: its tasks.
        backend: answers their calls; closed by :meth:`close`.
        scorer: judges ended episodes.
        limits: where an episode ends; a limit per user turn stands here.
    """

    name: str
    tasks: tuple[Task, ...]
    backend: Backend
    scorer: Scorer
    limits: Limits = field(default_factory=Limits)

    def env(
        self,
        *,
        reward: str | Mapping[str, Any] | Reward | None = None,
        call_format: str = "hermes",
        render_mode: str | None = None,
    ) -> ToolOrchestrationEnv:
        """An environment over the suite; ``info["score"]`` is the scorer's, at the end.

        Args:
            reward: what is paid; by default the scorer's own reward.
            call_format: how the model writes calls.
            render_mode: see the environment.
        """
        return ToolOrchestrationEnv.from_backend(
            self.tasks,
            self.backend,
            reward=reward,
            scorer=self.scorer,
            call_format=call_format,
            limits=self.limits,
            render_mode=render_mode,
        )

    def close(self) -> None:
        """Close the backend."""
        self.backend.close()
