"""Inference engines behind one protocol; ``make_engine`` builds them by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orch_env.rewards.compose.user_function import load_function
from orch_env.types import OrchError
from orch_env.types.user_code import MISTAKES, told
from orch_train.engines.protocol import RolloutEngine

# name -> where its factory stands; imported on first use, so that no engine's library is needed
# by users of another.
_FACTORIES: dict[str, str] = {
    "torch": "orch_train.engines.torch.engine:make_torch_engine",
    "vllm": "orch_train.engines.vllm.engine:make_vllm_engine",
    "scripted": "orch_train.engines.scripted:ScriptedEngine",
}


def register_engine(kind: str, factory: str) -> None:
    """Add an engine under a name; ``factory`` is ``module:callable`` and is imported on use."""
    _FACTORIES[kind] = factory


def make_engine(kind: str, **options: Any) -> RolloutEngine:
    """Build a rollout engine.

    Args:
        kind: a registered name: ``torch``, ``vllm`` or ``scripted``.
        options: arguments of that engine's factory.

    Raises:
        OrchError: no engine has this name, it is not where its path says, it does not take these
            options, or it cannot be built from them.
    """
    if kind not in _FACTORIES:
        raise OrchError(f"unknown engine {kind!r}; there are {', '.join(sorted(_FACTORIES))}")
    path = _FACTORIES[kind]
    role = "engine" if path == kind else f"engine {kind!r}:"
    factory: Callable[..., RolloutEngine] = load_function(path, options, takes=(), role=role)
    try:
        return factory(**options)
    except MISTAKES as problem:
        if path.startswith("orch_train."):
            raise
        raise OrchError(f"engine {kind!r} failed with {told(problem)}") from problem
