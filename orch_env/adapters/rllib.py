"""RLlib: the environment in numbers, since RLlib garbles text observations without an error.

RLlib makes one of the two numeric views from its ``env_config``:

    from orch_env.adapters import rllib
    rllib.register("orch_env")
    config.environment("orch_env", env_config={"view": "indexed", "tasks": "harbour"})
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from orch_env.adapters import require
from orch_env.adapters.numeric_views import ByteView, IndexedView
from orch_env.env import ToolOrchestrationEnv
from orch_env.types import OrchError

__all__ = ["ByteView", "IndexedView", "make_env", "register"]


def register(name: str = "orch_env") -> None:
    """Make :func:`make_env` known to RLlib under a name, for ``config.environment(name, ...)``.

    Raises:
        ImportError: RLlib is not installed.
        OrchError: it is of an unknown version.
    """
    require("ray.rllib", extra="rllib", package="ray", known=("2.50", "3"))
    from ray.tune.registry import register_env

    register_env(name, make_env)


def make_env(config: Mapping[str, Any]) -> gym.Env[Any, Any]:
    """An environment from RLlib's ``env_config``.

    Args:
        config: ``view``, ``"indexed"`` or ``"bytes"``; that view's own arguments; the rest are
            arguments of :class:`~orch_env.ToolOrchestrationEnv`.

    Raises:
        OrchError: no view is named, or an argument is wrong.
    """
    arguments = dict(config)
    view = arguments.pop("view", None)
    if view not in ("indexed", "bytes"):
        raise OrchError(
            "RLlib garbles text observations without an error (each environment is given single "
            f"characters): env_config needs 'view', either 'indexed' or 'bytes', got {view!r}"
        )
    names = ("num_candidates", "candidates") if view == "indexed" else ("max_bytes",)
    own = {name: arguments.pop(name) for name in names if name in arguments}
    env = ToolOrchestrationEnv(**arguments)
    return IndexedView(env, **own) if view == "indexed" else ByteView(env, **own)
