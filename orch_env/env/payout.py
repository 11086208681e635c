"""When a score is paid: at the end of an episode, or step by step.

The hard decision: what is paid is the score rounded to a multiple of 2^-40, whatever the reward.
Differences and sums of such numbers are exact in floating point, so the dense form pays, to the
bit, what the terminal form pays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from orch_env.rewards.build.schedule import check_step
from orch_env.rewards.protocol import Reward
from orch_env.types import Episode, OrchError, RewardBreakdown, Task
from orch_env.types.json import JsonObject


class Payout:
    """The account of one episode.

    Args:
        reward: scores the episode.
        verdict: the binary reward, which says whether the task was done.
        dense: pay the change of the score at each step, beginning from 0, instead of all at the
            end. A running episode is scored only then.
        training_step: where the reward has an ``at_step``, the training step whose weights count
            for this episode.

    Attributes:
        paid: sum of what was paid so far.
        breakdown: the final score, ``None`` before the end.
        success: whether the task was done; False before the end.
    """

    def __init__(
        self, reward: Reward, verdict: Reward, *, dense: bool, training_step: int = 0
    ) -> None:
        self._reward = reward
        self._training_step = check_step(training_step)
        self._now = _at_step(reward, training_step)
        self._verdict = verdict
        self._dense = dense
        self.paid = 0.0
        self.breakdown: RewardBreakdown | None = None
        self.success = False

    @classmethod
    def from_names(cls, reward: str | Mapping[str, Any] | Reward, mode: str) -> Payout:
        """Make an account from a preset's name, a reward's configuration, or a reward.

        Raises:
            OrchError: no such reward, or ``mode`` is neither ``terminal`` nor ``dense``.
        """
        from orch_env.rewards.build.configuration import make_reward, verdict_spec

        if mode not in ("terminal", "dense"):
            raise OrchError(f"reward_mode must be 'terminal' or 'dense', got {mode!r}")
        made = reward if callable(reward) else make_reward(reward)
        return cls(made, make_reward(verdict_spec(reward)), dense=mode == "dense")

    def fresh(self, training_step: int | None = None) -> Payout:
        """An empty account with the same terms, or with those of another training step."""
        step = self._training_step if training_step is None else training_step
        if step != self._training_step:
            return Payout(self._reward, self._verdict, dense=self._dense, training_step=step)
        twin = copy.copy(self)
        twin.paid, twin.breakdown, twin.success = 0.0, None, False
        return twin

    def pay(self, task: Task, episode: Episode) -> float:
        """What this step earns; an episode with a stop reason is settled."""
        ended = episode.stop_reason is not None
        if not ended and not self._dense:
            return 0.0
        breakdown = self._now(task, episode)
        total = round(breakdown.total * 2.0**40) * 2.0**-40
        due, self.paid = total - self.paid, total
        if ended:
            self.breakdown = replace(breakdown, total=total)
            self.success = self._verdict(task, episode).total == 1.0
        return due

    def state(self) -> JsonObject:
        """The account as plain data."""
        return {
            "paid": self.paid,
            "reward": self.breakdown.to_dict() if self.breakdown is not None else None,
            "success": self.success,
            "training_step": self._training_step,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what :meth:`state` described."""
        step, reward = check_step(state.get("training_step", 0)), state["reward"]
        if step != self._training_step:
            self._training_step, self._now = step, _at_step(self._reward, step)
        self.breakdown = None if reward is None else RewardBreakdown.from_dict(reward)
        self.paid, self.success = float(state["paid"]), bool(state["success"])

    def copy(self) -> Payout:
        """The same account, apart from this one from now on."""
        return copy.copy(self)


def _at_step(reward: Reward, step: int) -> Reward:
    """The reward with the weights of a training step, if it has such."""
    at_step: Callable[[int], Reward] | None = getattr(reward, "at_step", None)
    return reward if at_step is None else at_step(step)
