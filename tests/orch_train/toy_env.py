"""A small environment with a graded reward that a random model can climb: write one letter.

``gym.make("tests.orch_train.toy_env:orch_test/Letters-v0")`` works in worker processes too. The
reward is the share of characters like the task's letter (equal modulo 5) among those written, so
that random messages of one group differ and every step has a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import register, registry

from orch_env.env.spaces import TextSpace
from orch_env.types import Episode, OrchError, RewardBreakdown, StopReason, Turn

ENV_ID = "tests.orch_train.toy_env:orch_test/Letters-v0"


@dataclass(frozen=True)
class LetterTask:
    """Write letters like this one."""

    id: str
    letter: str


class LettersEnv(gym.Env[str, str]):
    """``turns`` messages per episode.

    Args:
        tasks: the letters, one task each.
        turns: messages per episode.
        flat: pay every episode the same.
    """

    def __init__(self, tasks: str = "abcdef", turns: int = 2, flat: bool = False) -> None:
        self.action_space = self.observation_space = TextSpace(1 << 20)
        self.tasks = tuple(LetterTask(f"letter-{letter}", letter) for letter in tasks)
        self._turns, self._flat = turns, flat
        self._task = self.tasks[0]
        self._done: list[Turn] = []
        self._seed: int | None = None
        self._reason: StopReason | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        wanted = (options or {}).get("task_id", self.tasks[0].id)
        found = [task for task in self.tasks if task.id == wanted]
        if not found:
            raise OrchError(f"there is no task {wanted!r}")
        self._task, self._done, self._seed, self._reason = found[0], [], seed, None
        messages = [{"role": "user", "content": f"Write {self._task.letter}."}]
        return messages[0]["content"], {"task_id": wanted, "messages": messages, "tools": []}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._done.append(Turn.of(action=action, observation="more"))
        if len(self._done) == self._turns:
            self._reason = StopReason.ANSWERED
        return self._transition()

    def stop(
        self, reason: StopReason, action: str | None = None
    ) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if action:
            self._done.append(Turn.of(action=action))
        self._reason = reason
        return self._transition()

    @property
    def episode(self) -> Episode:
        return Episode(
            self._task.id,
            self._seed,
            tuple(self._done),
            stop_reason=self._reason,
            reward=RewardBreakdown(self._score(), {"share": self._score()}),
        )

    def _score(self) -> float:
        text = "".join(turn.action for turn in self._done)
        like = sum(ord(c) % 5 == ord(self._task.letter) % 5 for c in text)
        return 0.5 if self._flat else like / max(len(text), 1)

    def _transition(self) -> tuple[str, float, bool, bool, dict[str, Any]]:
        info: dict[str, Any] = {
            "task_id": self._task.id,
            "messages": [{"role": "user", "content": "more"}],
        }
        if self._reason is None:
            return "more", 0.0, False, False, info
        info |= {"stop_reason": self._reason.value, "success": self._score() > 0.5}
        terminated = self._reason.terminated
        return "", self._score(), terminated, not terminated, info


if "orch_test/Letters-v0" not in registry:
    register(id="orch_test/Letters-v0", entry_point="tests.orch_train.toy_env:LettersEnv")
