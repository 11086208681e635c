"""SkyRL-gym's side of the conformance table, and rollouts as SkyRL's generator drives them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import Any

import skyrl_gym

from orch_env.adapters import skyrl
from tests.adapters.conformance import SOURCE, Played, Script, report_of
from tests.adapters.two_hundred import cases

RESULT = re.compile(r"<tool_response>\n(.*?)\n</tool_response>", re.DOTALL)


class Rollout:
    """One trajectory: made, driven and closed as `SkyRLGymGenerator.agent_loop` does."""

    def __init__(self, script: Script) -> None:
        row = {"task_id": script.task_id, "seed": script.seed, "max_turns": SOURCE.max_turns}
        self.env: Any = skyrl_gym.make("orch_env", env_config={}, extras=row)
        self.prompt, _ = self.env.init(SOURCE.prompt(script.task_id))
        self.script = script
        self.paid = 0.0
        self.actions = 0
        self.done = False
        self.results: list[str] = []

    def step(self, action: str) -> None:
        """Also after the end, which the generator never does."""
        out = self.env.step(action)
        self.actions += not self.done
        self.paid += out["reward"]
        self.done = out["done"]
        self.results += [r for m in out["observations"] for r in RESULT.findall(m["content"])]

    def played(self) -> Played:
        metrics = self.env.get_metrics()
        self.env.close()
        reward = self.paid if self.done else metrics["reward"]
        return Played(reward, tuple(self.results), self.actions, metrics["stop_reason"])


def perform(scripts: Sequence[Script]) -> list[Played]:
    """In turns: a message of each, then the next of each."""
    rollouts = [Rollout(script) for script in scripts]
    for actions in zip_longest(*(script.actions for script in scripts)):
        for rollout, action in zip(rollouts, actions, strict=True):
            if action is not None:
                rollout.step(action)
    return [rollout.played() for rollout in rollouts]


def on_a_pool() -> dict[str, int]:
    """The 200 episodes at once, each call on whichever of 8 threads is free."""
    scripts = [Script(c.policy, c.task_id, c.actions, c.seed) for c in cases()]
    with ThreadPoolExecutor(8) as pool:
        rollouts = list(pool.map(Rollout, scripts))
        for actions in zip_longest(*(script.actions for script in scripts)):
            turn = [(r, a) for r, a in zip(rollouts, actions, strict=True) if a is not None]
            list(pool.map(lambda pair: pair[0].step(pair[1]), turn))
        played = list(pool.map(Rollout.played, rollouts))
    equal = sum(one.reward == c.total for one, c in zip(played, cases(), strict=True))
    return {"episodes": len(played), "equal": equal}


if __name__ == "__main__":
    skyrl.register(tasks=SOURCE.tasks)
    print(json.dumps({**report_of(perform), "pool": on_a_pool()}))
