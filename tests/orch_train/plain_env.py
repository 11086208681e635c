"""A text environment that is plain Gymnasium and nothing more, and the mistakes that users make.

``gym.make("tests.orch_train.plain_env:orch_test/Plain-v0", fault=...)``; a fault is the name of a
method below, or a value that ``step`` returns as its reward.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import register, registry
from gymnasium.spaces import Text

ENV_ID = "tests.orch_train.plain_env:orch_test/Plain-v0"


class PlainEnv(gym.Env[Any, Any]):
    """Say the letter that the question asks for, within two messages."""

    observation_space = action_space = Text(1000)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.letter = str(self.np_random.choice(list("abc")))
        self.said = 0
        return f"Say {self.letter}.", {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.said += 1
        found = self.letter in action
        return "Again.", float(found), found, self.said == 2, {}


class FaultyEnv(PlainEnv):
    """`PlainEnv` with one mistake."""

    def __init__(self, fault: str = "", value: Any = None, tasks: Any = None) -> None:
        self.fault, self.value = fault, value
        if tasks is not None:
            self.tasks = [SimpleNamespace(**t) if isinstance(t, dict) else t for t in tasks]
        if fault == "init":
            raise KeyError("folder")

    def reset(self, **given: Any) -> Any:
        observation, info = super().reset(**given)
        task = (given.get("options") or {}).get("task_id")
        if self.fault == "reset of one task" and task == self.value:
            raise KeyError("no such row")
        if self.fault == "old reset":
            return observation
        if self.fault == "observation":
            return [1, 2], info
        if self.fault == "nothing to read":
            return "", info
        if self.fault == "messages":
            return observation, {"messages": self.value}
        if self.fault == "tools":
            return observation, {"tools": self.value}
        return observation, info

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        if self.fault == "step":
            info["row"]
        if self.fault == "assert":
            assert "a" in action
        if self.fault == "int":
            int(action)
        if self.fault == "reward":
            reward = self.value if self.value != "nan" else float("nan")
        if self.fault in ("terminated", "truncated", "success"):
            info = {self.fault: self.value}
            terminated = info.get("terminated", terminated)
            truncated = info.get("truncated", truncated)
        if self.fault == "raise":
            raise self.value
        if self.fault == "old step":
            return observation, reward, terminated, info
        if self.fault == "silent":
            return "", 0.0, False, False, {}
        if self.fault == "network":
            raise ConnectionError("connection reset by peer")
        if self.fault == "later" and action == "later":
            info["row"]
        return observation, reward, terminated, truncated, info


for name, entry in (("Plain-v0", "PlainEnv"), ("Faulty-v0", "FaultyEnv")):
    if f"orch_test/{name}" not in registry:
        register(id=f"orch_test/{name}", entry_point=f"tests.orch_train.plain_env:{entry}")
