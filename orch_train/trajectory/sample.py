"""One training sample, token in, token out: what the engine sampled is never encoded again.

The prompt of each turn is the sample's own stream. Only what was observed is stored; masks and
positions follow from `turns`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orch_env.types import Episode, StopReason

NO_VERSION = -1


@dataclass(slots=True, eq=False)
class TrainingSample:
    """The stream of one episode (T tokens, N of them sampled, in K messages) and its score.

    Attributes:
        member: index within the group, from 0.
        ids_T: token ids, prompt and observations included; int32.
        turns: half-open ``(start, end)`` of each message in ``ids_T``; int32 of shape (K, 2).
        logprobs_N: log-probability (natural log) of each sampled token under the policy that
            sampled it, at the sampling temperature; float32.
        versions_N: weight version that sampled each of them; int32.
        reward: total reward that the learner uses.
        success: the task's verdict (binary reward equals 1).
        stop_reason: why the episode ended.
        turn_rewards: what each turn earned, where the reward says so.
        advantages_N: advantage (or another weight) of each sampled token, float32; empty until
            the learner fills it in.
    """

    member: int = 0
    ids_T: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    turns: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 2), np.int32))
    logprobs_N: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    versions_N: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    reward: float = 0.0
    success: bool = False
    stop_reason: StopReason | None = None
    turn_rewards: Sequence[float] | None = None
    advantages_N: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    def __len__(self) -> int:
        return len(self.ids_T)

    @property
    def num_actions(self) -> int:
        """Number of sampled tokens, N."""
        return len(self.logprobs_N)

    @property
    def num_trained(self) -> int:
        """Tokens up to the last sampled one; what follows predicts nothing that is trained."""
        return int(self.turns[-1, 1]) if len(self.turns) else 0

    @property
    def mask_T(self) -> NDArray[np.bool_]:
        """True where the model sampled the token."""
        mask_T = np.zeros(len(self), bool)
        for start, end in self.turns:
            mask_T[start:end] = True
        return mask_T

    @property
    def actions_N(self) -> NDArray[np.int64]:
        """Positions of the sampled tokens in ``ids_T``, rising."""
        return np.flatnonzero(self.mask_T)

    @property
    def logprobs_T(self) -> NDArray[np.float32]:
        """``logprobs_N`` by position; NaN elsewhere, so that a misuse is no silent zero."""
        return self._by_position(self.logprobs_N, np.nan)

    @property
    def versions_T(self) -> NDArray[np.int32]:
        """``versions_N`` by position; `NO_VERSION` elsewhere."""
        return self._by_position(self.versions_N, NO_VERSION)

    @property
    def oldest_version(self) -> int:
        """The oldest weight version that sampled a token here; `NO_VERSION` if none did."""
        return int(self.versions_N.min()) if len(self.versions_N) else NO_VERSION

    def append_context(self, ids: ArrayLike) -> None:
        """Append tokens that the model reads: the prompt, an observation, template markup."""
        self.ids_T = np.concatenate([self.ids_T, np.asarray(ids, np.int32)])

    def append_action(
        self, ids: Sequence[int], logprobs: ArrayLike, versions: Sequence[int]
    ) -> None:
        """Append the tokens of one sampled message.

        Raises:
            ValueError: the three differ in length, or a log-probability is not finite or above 0;
                nothing was appended.
        """
        logprobs_n = np.asarray(logprobs, np.float32)
        _check_action(len(ids), logprobs_n, len(versions))
        start = len(self.ids_T)
        self.append_context(ids)
        turn = np.array(((start, len(self.ids_T)),), np.int32)
        self.turns = np.concatenate((self.turns, turn))
        self.logprobs_N = np.concatenate((self.logprobs_N, logprobs_n))
        self.versions_N = np.concatenate((self.versions_N, np.asarray(versions, np.int32)))

    def score(self, episode: Episode, reward: float, *, success: bool) -> None:
        """Take what the learner needs from the episode that this is the stream of."""
        self.reward, self.success, self.stop_reason = reward, success, episode.stop_reason
        self.turn_rewards = episode.reward.turns if episode.reward is not None else None

    def weighted(self, advantages: ArrayLike) -> TrainingSample:
        """A copy with an advantage for all of its sampled tokens, or for each; data is shared."""
        return replace(self, advantages_N=np.full(self.num_actions, advantages, np.float32))

    def check(self) -> None:
        """Raise ``ValueError`` unless turns are in order and in bounds and streams are aligned."""
        starts_K, ends_K = self.turns[:, 0], self.turns[:, 1]
        if {x.ndim for x in (self.ids_T, self.logprobs_N, self.versions_N)} != {1}:
            raise ValueError("a token stream is no flat list")
        if not ((starts_K[1:] >= ends_K[:-1]).all() and (starts_K <= ends_K).all()):
            raise ValueError("the turns are not in order")
        if len(self.turns) and not 0 <= starts_K[0] <= ends_K[-1] <= len(self):
            raise ValueError(f"the turns exceed the stream of {len(self)} tokens")
        _check_action(int((ends_K - starts_K).sum()), self.logprobs_N, len(self.versions_N))

    def _by_position(self, values_N: NDArray[Any], elsewhere: float) -> NDArray[Any]:
        values_T = np.full(len(self), elsewhere, values_N.dtype)
        values_T[self.mask_T] = values_N
        return values_T


def _check_action(tokens: int, logprobs_N: NDArray[np.float32], versions: int) -> None:
    """Raise ``ValueError`` unless there are as many of each, and probabilities are such."""
    if not tokens == len(logprobs_N) == versions:
        raise ValueError(
            f"token streams are not aligned: {tokens} sampled tokens, {len(logprobs_N)} "
            f"log-probabilities, {versions} versions"
        )
    # NaN fails the first comparison.
    if not ((logprobs_N <= 1e-6).all() and (logprobs_N > -np.inf).all()):
        raise ValueError("a sampled token's log-probability must be finite and at most 0")


@dataclass(slots=True)
class Group:
    """The samples of one task that are compared with each other; never split.

    Attributes:
        id: the group's name.
        task_id: the task.
        seed: that every member's environment was reset with.
        samples: in member order.
    """

    id: str
    task_id: str
    seed: int
    samples: list[TrainingSample]

    @property
    def rewards(self) -> list[float]:
        """Rewards in member order."""
        return [sample.reward for sample in self.samples]

    @property
    def is_uniform(self) -> bool:
        """Whether all rewards are the same number, so that it teaches nothing."""
        return len(set(self.rewards)) <= 1
