"""orch_env: a Gymnasium environment for multi-step tool orchestration.

Importing registers ``orch_env/ToolOrchestration-v0``; heavy parts load on first use.

    >>> import gymnasium as gym, orch_env
    >>> env = gym.make("orch_env/ToolOrchestration-v0", tasks="harbour")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from orch_env.types import (
    Episode,
    ErrorType,
    Exchange,
    GoldCall,
    OrchError,
    Provenance,
    RewardBreakdown,
    StopReason,
    Task,
    ToolCall,
    ToolResult,
    ToolSpec,
    Turn,
    ValueRef,
)

if TYPE_CHECKING:
    from orch_env.cache import open_cache
    from orch_env.env import ToolOrchestrationEnv
    from orch_env.rewards import make_reward
    from orch_env.session import EpisodeSession, EpisodeSource
    from orch_env.tasks.files import load_tasks, save_tasks

__version__ = "0.1.0"

_LAZY = {
    "load_tasks": "orch_env.tasks.files",
    "save_tasks": "orch_env.tasks.files",
    "open_cache": "orch_env.cache",
    "make_reward": "orch_env.rewards",
    "ToolOrchestrationEnv": "orch_env.env",
    "EpisodeSource": "orch_env.session",
    "EpisodeSession": "orch_env.session",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'orch_env' has no attribute {name!r}")


def _register() -> None:
    from gymnasium.envs.registration import register, registry

    if "orch_env/ToolOrchestration-v0" not in registry:
        register(
            id="orch_env/ToolOrchestration-v0",
            entry_point="orch_env.env:ToolOrchestrationEnv",
            vector_entry_point="orch_env.env.vector:ToolOrchestrationVectorEnv",
        )


_register()

__all__ = [
    "Episode",
    "EpisodeSession",
    "EpisodeSource",
    "ErrorType",
    "Exchange",
    "GoldCall",
    "OrchError",
    "Provenance",
    "RewardBreakdown",
    "StopReason",
    "Task",
    "ToolCall",
    "ToolOrchestrationEnv",
    "ToolResult",
    "ToolSpec",
    "Turn",
    "ValueRef",
    "__version__",
    "load_tasks",
    "make_reward",
    "open_cache",
    "save_tasks",
]
