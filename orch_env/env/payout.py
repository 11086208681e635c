"""When a score is paid: at the end of an episode, or step by step.

What is paid is the score rounded to a multiple of 2^-40, whatever the reward. Differences and sums
of such numbers are exact in floating point, so the dense form pays, to the bit, what the terminal
form pays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from orch_env.backends.protocol import BackendSession
from orch_env.rewards.compose.schedule import check_step
from orch_env.rewards.presets.binary import BinaryReward
from orch_env.rewards.protocol import Reward
from orch_env.types import Episode, OrchError, RewardBreakdown, Task
from orch_env.types.json import JsonObject


@dataclass(frozen=True, slots=True)
class Score:
    """A benchmark's verdict on an ended episode.

    Attributes:
        success: whether the task was done.
        reward: the verdict as a reward; paid where the environment has no other.
        details: what ``info["score"]`` holds; a verdict per user turn stands here.
    """

    success: bool
    reward: RewardBreakdown
    details: JsonObject


class Scorer(Protocol):
    """Judges an ended episode by what its session knows."""

    def __call__(self, episode: Episode, session: BackendSession) -> Score:
        """The verdict; ``episode.stop_reason`` is set and never ``infrastructure``."""
        ...


class Payout:
    """What one episode is paid.

    Args:
        reward: scores the episode; ``None`` pays what the scorer says, or nothing.
        verdict: says whether the task was done.
        dense: pay the change of the score at each step, beginning from 0, instead of everything at
            the end. A running episode is scored only then.
        scorer: a benchmark's verdict, in place of ``verdict``.

    Attributes:
        paid: sum of what was paid so far.
        breakdown: the final score, ``None`` before the end.
        success: whether the task was done; False before the end.
        details: the scorer's details, ``None`` before the end and without a scorer.
    """

    def __init__(
        self,
        reward: Reward | None,
        verdict: BinaryReward,
        *,
        dense: bool,
        scorer: Scorer | None = None,
    ) -> None:
        self._reward = reward
        self._verdict = verdict
        self._dense = dense
        self._scorer = scorer
        self._go_to_step(0)
        self.paid = 0.0
        self.breakdown: RewardBreakdown | None = None
        self.success = False
        self.details: JsonObject | None = None

    @classmethod
    def from_names(
        cls,
        reward: str | Mapping[str, Any] | Reward | None,
        mode: str,
        scorer: Scorer | None = None,
    ) -> Payout:
        """Make one from a preset's name, a reward's configuration, or a reward.

        Raises:
            OrchError: no such reward, ``mode`` is neither ``terminal`` nor ``dense``, or nothing
                says what to pay.
        """
        from orch_env.rewards.compose.configuration import make_reward, verdict_spec

        if mode not in ("terminal", "dense"):
            raise OrchError(f"reward_mode must be 'terminal' or 'dense', got {mode!r}")
        if reward is None and (scorer is None or mode == "dense"):
            raise OrchError("name a reward: only a benchmark's score is paid without, at the end")
        made = reward if reward is None or callable(reward) else make_reward(reward)
        verdict = cast(BinaryReward, make_reward(verdict_spec(reward)))
        return cls(made, verdict, dense=mode == "dense", scorer=scorer)

    @classmethod
    def nothing(cls) -> Payout:
        """Pays 0 and judges nothing: for play without a task."""
        return cls(None, BinaryReward(), dense=False)

    def fresh(self, training_step: int) -> Payout:
        """The same terms with the weights of a training step, and nothing paid yet."""
        twin = copy.copy(self)
        twin.paid, twin.breakdown, twin.success, twin.details = 0.0, None, False, None
        if check_step(training_step) != self._training_step:
            twin._go_to_step(training_step)
        return twin

    def due(self, ended: bool) -> bool:
        """Whether a step pays anything, so that the episode must be looked at."""
        return ended or self._dense

    def pay(self, task: Task, episode: Episode, session: BackendSession) -> float:
        """What a step earns for which something is due; a stop reason settles the episode."""
        if self._reward is None and self._scorer is None:
            return 0.0
        ended = episode.stop_reason is not None
        score = self._scorer(episode, session) if ended and self._scorer is not None else None
        if self._now is not None:
            breakdown = self._now(task, episode)
        else:
            assert score is not None
            breakdown = score.reward
        total = round(breakdown.total * 2.0**40) * 2.0**-40
        due, self.paid = total - self.paid, total
        if ended:
            rounded = breakdown.total == total
            self.breakdown = breakdown if rounded else replace(breakdown, total=total)
            if score is None:
                self.success = self._verdict.succeeds(task, episode)
            else:
                self.success, self.details = score.success, score.details
        return due

    def state(self) -> JsonObject:
        """What was paid, as plain data."""
        return {
            "paid": self.paid,
            "reward": self.breakdown.to_dict() if self.breakdown is not None else None,
            "success": self.success,
            "training_step": self._training_step,
        }

    def restored(self, state: Mapping[str, Any]) -> Payout:
        """The same terms with what :meth:`state` described."""
        twin = self.fresh(state.get("training_step", 0))
        reward = state["reward"]
        twin.breakdown = None if reward is None else RewardBreakdown.from_dict(reward)
        twin.paid, twin.success = float(state["paid"]), bool(state["success"])
        return twin

    def copy(self) -> Payout:
        """The same, apart from this one from now on."""
        return copy.copy(self)

    def _go_to_step(self, step: int) -> None:
        at_step: Callable[[int], Reward] | None = getattr(self._reward, "at_step", None)
        self._training_step = step
        self._now = self._reward if at_step is None else at_step(step)
