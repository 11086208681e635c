"""The letters environment with a tool that never returns, once: on whoever finds the file first.

The file ``hang`` in the folder of ``env_config`` is the switch, since runners are other processes.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from gymnasium.envs.registration import register, registry

from tests.orch_train.toy_env import LettersEnv

ENV_ID = "tests.orch_train.hanging_env:orch_test/Hanging-v0"


class HangingEnv(LettersEnv):
    """`LettersEnv`, in a folder that may hold a switch."""

    def __init__(self, folder: str, **options: Any) -> None:
        super().__init__(**options)
        self._switch = Path(folder) / "hang"

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        try:
            self._switch.unlink()
        except FileNotFoundError:
            return super().step(action)
        threading.Event().wait()
        raise AssertionError("nothing sets that event")


if "orch_test/Hanging-v0" not in registry:
    register(id="orch_test/Hanging-v0", entry_point="tests.orch_train.hanging_env:HangingEnv")
