"""`ToolOrchestrationVectorEnv`: many episodes in one process over one set of open files.

Stepping, batching and the autoreset modes are Gymnasium's own: the class is a ``SyncVectorEnv``,
and both give the same values. What is saved is everything around them: task files, cache handle,
resolved tasks and reward are shared, there are no wrappers per environment, and observations, which
are immutable texts, are not copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gymnasium.vector import AutoresetMode, SyncVectorEnv

from orch_env.env import ToolOrchestrationEnv
from orch_env.types import OrchError


class ToolOrchestrationVectorEnv(SyncVectorEnv):
    """The batched form of :class:`~orch_env.env.ToolOrchestrationEnv`.

    Observations and actions are tuples of ``num_envs`` texts; rewards, terminations and
    truncations are arrays of that length. A group of episodes of one task with one seed is
    ``reset(seed=[s] * num_envs, options={"task_id": ...})``.

    Args:
        num_envs: number of episodes side by side, at least 1.
        autoreset_mode: Gymnasium's ``NextStep`` (default), ``SameStep`` or ``Disabled``.
        arguments: those of :class:`~orch_env.env.ToolOrchestrationEnv`.

    Raises:
        OrchError: as the single environment does, or ``num_envs`` is below 1.

    Examples:
        >>> envs = gym.make_vec("orch_env/ToolOrchestration-v0", num_envs=8, tasks="harbour")
        >>> observations, infos = envs.reset(seed=0)
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        **arguments: Any,
    ) -> None:
        if num_envs < 1:
            raise OrchError(f"num_envs must be at least 1, got {num_envs}")
        first = ToolOrchestrationEnv(**arguments)
        makers: list[Callable[[], ToolOrchestrationEnv]] = [lambda: first]
        makers += [first.sibling] * (num_envs - 1)
        super().__init__(makers, copy=False, autoreset_mode=autoreset_mode)
