"""RLlib's side: the table through the byte view, and Gymnasium's checker on both views."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import gymnasium
from gymnasium.utils.env_checker import check_env

from orch_env.adapters import rllib
from tests.adapters.conformance import SOURCE, Played, Script, report_of


class Rollout:
    """One episode through the byte view, as a module that reads and writes bytes has it."""

    def __init__(self, script: Script) -> None:
        self.env: Any = rllib.make_env({"view": "bytes", "tasks": SOURCE.tasks})
        self.env.reset(seed=script.seed, options={"task_id": script.task_id})
        self.paid = 0.0
        self.actions = 0
        self.info: dict[str, Any] = {}
        self.results: list[str] = []

    def step(self, action: str) -> None:
        """Gymnasium's environments take no step after the end."""
        if "stop_reason" in self.info:
            return
        read, reward, _, _, self.info = self.env.step(self.env.encode(action))
        assert self.env.observation_space.contains(read)
        self.actions += 1
        self.paid += reward
        self.results += [m["content"] for m in self.info["messages"] if m["role"] == "tool"]

    def played(self) -> Played:
        if "stop_reason" not in self.info:
            _, self.paid, _, _, self.info = self.env.unwrapped.stop("output_truncated")
        self.env.close()
        return Played(self.paid, tuple(self.results), self.actions, self.info["stop_reason"])


def perform(scripts: Sequence[Script]) -> list[Played]:
    """In turns: a message of each, then the next of each."""
    rollouts = [Rollout(script) for script in scripts]
    for actions in zip_longest(*(script.actions for script in scripts)):
        for rollout, action in zip(rollouts, actions, strict=True):
            if action is not None:
                rollout.step(action)
    return [rollout.played() for rollout in rollouts]


def checks() -> dict[str, Any]:
    """The table, the checker, and what RLlib does to texts."""
    from ray.rllib.utils.spaces.space_utils import unbatch

    for view in ("indexed", "bytes"):
        check_env(rllib.make_env({"view": view, "tasks": SOURCE.tasks}))
    return {
        **report_of(perform),
        "checked_on": gymnasium.__version__,
        "texts_of_two": unbatch(("Who", "Bah")),
    }


if __name__ == "__main__":
    print(json.dumps(checks()))
