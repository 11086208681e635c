"""gem's side of the conformance table, its two vector environments and its wrappers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import gem
from gem.wrappers.wrapper_factory import WRAPPER_FACTORY

from orch_env.adapters import gem as orch_gem
from tests.adapters.conformance import SOURCE, Played, Script, report_of

RESULT = re.compile(r"<tool_response>\n(.*?)\n</tool_response>", re.DOTALL)


class Rollout:
    """One episode through gem's own wrapper."""

    def __init__(self, script: Script) -> None:
        self.env: Any = gem.make("orch_env", seed=0)
        self.env.reset(script.seed, task_id=script.task_id)
        self.paid = 0.0
        self.actions = 0
        self.reason: str | None = None
        self.results: list[str] = []

    def step(self, action: str) -> None:
        """Also after the end."""
        read, reward, terminated, truncated, info = self.env.step(action)
        self.actions += self.reason is None
        self.paid += reward
        self.results += RESULT.findall(read)
        if terminated or truncated:
            self.reason = info["stop_reason"]

    def played(self) -> Played:
        over = self.reason is not None
        reward = self.paid if over else self.env.finish()
        self.env.close()
        return Played(reward, tuple(self.results), self.actions, self.reason)


def perform(scripts: Sequence[Script]) -> list[Played]:
    """In turns: a message of each, then the next of each."""
    rollouts = [Rollout(script) for script in scripts]
    for actions in zip_longest(*(script.actions for script in scripts)):
        for rollout, action in zip(rollouts, actions, strict=True):
            if action is not None:
                rollout.step(action)
    return [rollout.played() for rollout in rollouts]


def vectors(threads: bool) -> list[Any]:
    """Forty random steps of eight copies, episodes begun anew as gem does."""
    envs = gem.make_vec(["orch_env"] * 8, async_mode=threads, seed=5)
    read, _ = envs.reset()
    seen: list[Any] = [read]
    for _ in range(40):
        actions = [one.sample_random_action() for one in envs.envs]
        read, rewards, terminations, truncations, _ = envs.step(actions)
        seen.append([read, rewards.tolist(), terminations.tolist(), truncations.tolist()])
    return seen


def wrapped(name: str) -> str:
    """What an environment reads first through one of gem's observation wrappers."""
    env = WRAPPER_FACTORY[name](gem.make("orch_env", seed=0))
    env.reset()
    read, *_ = env.step("<tool_call>{}</tool_call>")
    return str(read)


if __name__ == "__main__":
    orch_gem.register(tasks=SOURCE.tasks)
    report = report_of(perform)
    one, other = vectors(threads=False), vectors(threads=True)
    found = {
        "vector_equal": one == other,
        "vector_ended": sum(any(step[2]) for step in one[1:]),
        "vector_paid": sum(sum(step[1]) for step in one[1:]),
        "concat": "malformed_call" in wrapped("concat_with_action"),
        "tracking": "malformed_call" in wrapped("episode_tracking"),
    }
    print(json.dumps({**report, **found}))
