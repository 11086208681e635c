"""orch_train: GRPO for language models that call tools, in RLlib's shape.

Importing is light: torch, ray and transformers load with the first algorithm that is built.

    >>> from orch_train import GRPOConfig
    >>> config = GRPOConfig().from_yaml("configs/quickstart.yaml")
    >>> algo = config.build_algo()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orch_train.algorithms.grpo import GRPO
    from orch_train.algorithms.grpo_config import GRPOConfig

_LAZY = {"GRPO": "orch_train.algorithms.grpo", "GRPOConfig": "orch_train.algorithms.grpo_config"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'orch_train' has no attribute {name!r}")


__all__ = ["GRPO", "GRPOConfig"]
